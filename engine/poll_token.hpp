// Who may turn a polling core.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fence.hpp"
#include "rings/one_instruction.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine {

/// A lock that nobody waits for on the data path: threads that poll try it, and go without it if another has
/// it. Only control operations wait. Pollers that spin hold it most of the time, and when one of them loses its
/// processor, it loses it with the token in its hand more often than not; so where threads are more than
/// processors, a thread that waits would come in only by luck. Hence the word `wanted`: while it is
/// raised, pollers give way, that is they yield the processor a few times before each try. Then the token
/// is free nearly always, and whoever waits takes it as soon as it runs. Pollers are not starved: each of
/// their calls gives way a bounded number of times and then tries.
///
/// It can be lent. Nearly always one thread has it again and again, three times a message, with a locked instruction
/// each time (some 10 ns of a round trip of 140, bench/README.md). So a thread that has turned the core many times running gets the token
/// for good: `held_` stays, and the thread takes and leaves it by a word of its own with plain stores. Who else tries
/// takes it back: it crosses the loan out and has the borrower's processor pass a barrier (heavy_fence(), a system call
/// of about a microsecond). Then either it sees the borrower's word raised, and its try was in vain as any other, or
/// the borrower, which looks at the loan again after it has raised its word, sees that it is crossed out. After each
/// such time twice as many turns are needed for the next loan, unless the last one went well for long, so that threads
/// that share a core do without: at most one turn in 256 at first, and ever fewer, is paid for with a barrier.
///
/// Each borrower has a word of its own, in a place that it keeps: kPlaces threads can borrow, whichever come first. It holds
/// the thread, and one more while the thread has the token. The loan is a pointer to the borrower's word, so
/// that to take the token is: load the loan, compare what it points to with this thread, add one, look at the loan
/// again; and to leave it: subtract one. While there is no loan it points to a word that is nobody's.
///
/// A borrower may be stopped between its look at the loan and its store, for as long as the system likes, while others
/// borrow and give back; hence a word for each, which stays where it is as long as the token. A thread is told by where its
/// control block is, so one that has the block of another that has ended has its place too, and cannot be in the midst of
/// anything with it.
///
/// No place is ever given up, not even with the core: where kPlaces threads have borrowed, others do without, and pay the
/// locked instruction. For it must be certain that the thread has ended, and does not only stand still before its store: it would
/// raise a word that is another's by then, who would be seen to hold what it does not, or lose what it holds. Neither its
/// control block nor its number tells: both may be a new thread's, which has the place by then and may be before its store
/// itself. Nor does a barrier: it passes over who stands still. Only the thread could tell, at its end, of all tokens that it has
/// borrowed; but to be called then takes memory, in the midst of the turn that earns the loan, and a library that
/// is not unloaded before. Threads that come and go one after the other mostly have the same few blocks.
class alignas(rings::kCacheLine) PollToken {
public:
    /// How often a poller yields before one try, at most, while the token is wanted.
    static constexpr std::uint32_t kYields = 4;
    /// Threads that can borrow.
    static constexpr std::uint32_t kPlaces = 8;
    /// Turns by one thread before it is lent, at first and at most (a second, or thereabouts).
    static constexpr std::uint32_t kTurnsAtFirst = 256;
    static constexpr std::uint32_t kTurnsAtMost = 1U << 24;

    PollToken() = default;
    PollToken(const PollToken&) = delete;
    PollToken& operator=(const PollToken&) = delete;

    /// What says that somebody has the token: a borrower's word, or the one of all the others.
    using Word = std::atomic<std::uint64_t>;

    /// Any thread. Not recursive: false as well if this thread has it. A system call, once, if it is lent to another
    /// thread.
    [[nodiscard]] bool try_acquire() noexcept {
        Word& lent = *loan_.load(std::memory_order_relaxed);
        if (rings::is_now(lent, this_thread())) {
            return take_lent(lent);
        }
        if (held_.load(std::memory_order_relaxed) == 0) {
            return take_shared();
        }
        return state_.load(std::memory_order_relaxed) != 0 &&
               !rings::is_now(lent, this_thread() + 1) && take_back();
    }
    /// The same for who tries once and hardly ever in vain: calls nothing, takes nothing back, and goes without while it is
    /// wanted. `word` is set to what
    /// leave() needs.
    [[nodiscard, gnu::always_inline]] bool try_at_once(Word*& word) noexcept {
        word = loan_.load(std::memory_order_relaxed);
        if (rings::is_now(*word, this_thread())) [[likely]] {
            return take_lent(*word);
        }
        // Without a look whether it is free, which spares the others the line only if it is taken again and again.
        word = &held_;
        return !wanted() && take_shared();
    }
    /// release() for who knows the word, and has not called note_turn() since.
    [[gnu::always_inline]] static void leave(Word& word) noexcept {
        // Release pairs with the acquire in take_shared() and in take_back(). Nobody else changes the word of who has it:
        // of held_ others set what is set.
        rings::add_alone(word, -1);
    }
    void release() noexcept {
        // Nobody changes the state from shared to another one or back while we have the token.
        const std::uint64_t state = state_.load(std::memory_order_relaxed);
        leave(state != 0 ? places_[place_in(state)] : held_);
    }

    /// The holder turns the core for itself: what a loan is earned with.
    void note_turn() noexcept {
        if (state_.load(std::memory_order_relaxed) != 0) {
            return;
        }
        const std::uint64_t self = this_thread();
        if (last_ != self) {
            last_ = self;
            turns_ = 0;
        } else if (++turns_ >= turns_needed_) [[unlikely]] {
            lend(self);
        }
    }
    /// The holder is a thread that does so for others: not to be lent at the moment.
    void note_other_turn() noexcept { last_ = 0; }
    /// The holder begins something new with it: what became of earlier loans no longer counts.
    void forget_loans() noexcept {
        last_ = 0;
        turns_ = 0;
        turns_needed_ = kTurnsAtFirst;
    }

    /// What a poller calls before it tries. Costs a load from the line that it needs next anyway. Returns
    /// how often it has yielded; 0, without a system call, unless somebody waits.
    std::uint32_t give_way() noexcept { return wanted() ? yield_to_waiter() : 0; }

    /// Waits for the token, and meanwhile makes pollers give way. For control operations: blocks.
    void acquire_first() noexcept;
    /// Waits for the token without asking anybody to give way: whoever has it does the caller's work.
    void acquire_patiently() noexcept;

    /// Somebody waits in acquire_first().
    [[nodiscard]] bool wanted() const noexcept {
        // Relaxed, pairs with the relaxed additions in acquire_first(): a hint. Whoever misses it for a
        // while takes the token once more; nothing is ordered by it.
        return wanted_.load(std::memory_order_relaxed) != 0;
    }
    /// Whether it is lent to this thread; a snapshot.
    [[nodiscard]] bool is_lent_to_us() const noexcept {
        return thread_of(*loan_.load(std::memory_order_relaxed)) == this_thread();
    }

private:
    // What has become of the last loan: 0 if the token is shared, else one of these, the place, and the number of the
    // loan, so that what was read of one is not mistaken for another.
    //
    //   0 --lend()--> kLent --take_back()--> kCrossedOut --fenced--> kGivenBack --the borrower has left it--> 0
    //
    // From 0 by the holder, to kCrossedOut by one of those who try, to 0 by who becomes the holder.
    enum Phase : std::uint64_t { kLent = 1, kCrossedOut = 2, kGivenBack = 3 };
    static constexpr std::uint64_t kPhases = 4;
    static constexpr std::uint64_t kOneLoan = kPhases * kPlaces;
    [[nodiscard]] static std::uint64_t phase_in(std::uint64_t state) noexcept {
        return state % kPhases;
    }
    [[nodiscard]] static std::uint64_t place_in(std::uint64_t state) noexcept {
        return state / kPhases % kPlaces;
    }

    // Where the thread's own control block is: its lowest bits are 0.
    static std::uint64_t this_thread() noexcept {
        return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
    }
    [[nodiscard]] static std::uint64_t thread_of(const Word& word) noexcept {
        return word.load(std::memory_order_relaxed) & ~std::uint64_t{1};
    }

    [[nodiscard]] bool take_shared() noexcept {
        // Acquire pairs with the release in leave(): the new holder sees all that the last one did. Of the lowest
        // bit only, which compilers make one instruction that tests and sets.
        return (held_.fetch_or(1, std::memory_order_acquire) & 1U) == 0;
    }
    // `word` is this thread's, which writes it and nobody else, and says that the thread does not have the token.
    [[nodiscard, gnu::always_inline]] bool take_lent(Word& word) noexcept {
        rings::add_alone(word, 1);
        light_fence();  // the look comes after the store: pairs with the heavy fence in take_back()
        if (rings::is_now(loan_, &word)) [[likely]] {
            return true;
        }
        // Nobody who sees it raised for this moment takes it for more than a try in vain.
        rings::add_alone(word, -1);
        return false;
    }
    [[nodiscard]] bool take_back() noexcept;
    void lend(std::uint64_t thread) noexcept;
    [[nodiscard]] std::uint32_t place_of(std::uint64_t thread) noexcept;
    std::uint32_t yield_to_waiter() noexcept;

    static inline Word nobody_{0};  // as no thread's control block is there

    // The borrower's word. To a place by the holder, before state_; away from it by who crosses the loan out.
    std::atomic<Word*> loan_{&nobody_};
    Word held_{0};                          // 1 while somebody has it, and while it is lent
    std::atomic<std::uint64_t> state_{0};   // see Phase
    std::atomic<std::uint32_t> wanted_{0};  // threads in acquire_first(); in the line of `loan_`

    // The holder's.
    std::uint32_t turns_ = 0;    // of `last_`, without another's between
    std::uint64_t last_ = 0;     // who turned the core last
    std::uint64_t loans_ = 0;    // how many there were, times kOneLoan
    std::uint64_t lent_at_ = 0;  // ticks; read by who takes it back
    std::uint32_t turns_needed_ = kTurnsAtFirst;

    alignas(rings::kCacheLine) Word places_[kPlaces]{};  // the borrowers' words
};

static_assert(sizeof(PollToken) == 2 * rings::kCacheLine);

/// Tokens that are never freed: a thread may try one, on its way into a call, when the core that it was of has ended. Then
/// it is held, or another core's, whose holder finds that what it wanted is not that core's. Any thread; takes a lock.
class TokenPool {
public:
    /// One that is held: the caller's. Throws std::bad_alloc.
    [[nodiscard]] static PollToken& take();
    /// `token` is held by the caller, and by nobody ever again until take() hands it out.
    static void give(PollToken& token) noexcept;
};

}  // namespace sanpoll::engine
