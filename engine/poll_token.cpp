#include "engine/poll_token.hpp"

#include <sched.h>

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <mutex>

namespace sanpoll::engine {

namespace {

// A loan that lasted so long was worth its barrier: some tenth of a second on the processors that have such counters.
constexpr std::uint64_t kLongTicks = std::uint64_t{1} << 28;

}  // namespace

void PollToken::acquire_first() noexcept {
    if (try_acquire()) {
        return;
    }
    // Pairs with the load in wanted().
    wanted_.fetch_add(1, std::memory_order_relaxed);
    acquire_patiently();
    wanted_.fetch_sub(1, std::memory_order_relaxed);
}

void PollToken::acquire_patiently() noexcept {
    for (std::uint32_t tries = 0; !try_acquire(); ++tries) {
        if (tries % 64 == 63) {
            ::sched_yield();
        } else {
            rings::cpu_pause();
        }
    }
}

std::uint32_t PollToken::yield_to_waiter() noexcept {
    std::uint32_t yields = 0;
    while (yields < kYields && wanted()) {
        ::sched_yield();
        ++yields;
    }
    return yields;
}

// kPlaces if there is none. No place is given up: a thread that lives may be about to write its word, however long ago it
// has borrowed.
std::uint32_t PollToken::place_of(std::uint64_t thread) noexcept {
    std::uint32_t place = 0;
    while (place < kPlaces && thread_of(places_[place]) != thread &&
           thread_of(places_[place]) != 0) {
        ++place;
    }
    return place;
}

void PollToken::lend(std::uint64_t thread) noexcept {
    turns_ = 0;
    const std::uint32_t place = thread % 2 == 0 && heavy_fence_registered()
                                    ? place_of(thread)
                                    : kPlaces;  // it could not be taken back
    if (place == kPlaces) {
        turns_needed_ = kTurnsAtMost;  // let us not ask again soon
        return;
    }
    loans_ += kOneLoan;
    lent_at_ = __builtin_ia32_rdtsc();
    // From here on what we hold is the loan. Nobody takes it back before the state says that there is one, so loan_ is
    // not written behind who crosses it out. Release pairs with the acquire in take_back().
    places_[place].store(thread + 1, std::memory_order_relaxed);
    loan_.store(&places_[place], std::memory_order_relaxed);
    state_.store(loans_ + place * kPhases + kLent, std::memory_order_release);
}

bool PollToken::take_back() noexcept {
    // Acquire pairs with the release in lend(), or in here.
    std::uint64_t state = state_.load(std::memory_order_acquire);
    if (state == 0 || phase_in(state) == kCrossedOut) {
        return false;  // it is shared again, or another thread is at it
    }
    if (phase_in(state) == kLent) {
        // Only one of us: what is the holder's is ours while the loan is crossed out, but for what its borrower uses.
        if (!state_.compare_exchange_strong(state, state - kLent + kCrossedOut,
                                            std::memory_order_acq_rel, std::memory_order_relaxed)) {
            return false;
        }
        loan_.store(&nobody_, std::memory_order_relaxed);
        if (!heavy_fence()) [[unlikely]] {
            // It was to be had when the token was lent, and has been forbidden since. No processor keeps a store to
            // itself for so long.
            const timespec moment{0, 1000000};
            ::nanosleep(&moment, nullptr);
        }
        const bool went_well = __builtin_ia32_rdtsc() - lent_at_ >= kLongTicks;
        turns_needed_ = went_well ? kTurnsAtFirst : std::min(turns_needed_ * 2, kTurnsAtMost);
        state += kGivenBack - kLent;
        // Release pairs with the acquire above, of who comes to look whether the borrower has finished.
        state_.store(state, std::memory_order_release);
    }
    // Acquire pairs with the release in leave(): what the borrower did is seen. It will not come back: it sees
    // that the loan is another one.
    if (places_[place_in(state)].load(std::memory_order_acquire) % 2 != 0) {
        return false;
    }
    // held_ is ours now. Only one gets it, and of this loan: its number does not come again.
    return state_.compare_exchange_strong(state, 0, std::memory_order_acq_rel,
                                          std::memory_order_relaxed);
}

namespace {

struct Pooled {
    PollToken token;
    Pooled* next = nullptr;  // among those that are free
};
constinit std::mutex pool_mutex;
constinit Pooled* pool_free = nullptr;

}  // namespace

PollToken& TokenPool::take() {
    const std::lock_guard lock(pool_mutex);
    if (pool_free != nullptr) {
        Pooled* const pooled = pool_free;
        pool_free = pooled->next;
        pooled->token.forget_loans();
        return pooled->token;
    }
    auto* const pooled = new Pooled;
    (void)pooled->token.try_acquire();
    return pooled->token;
}

void TokenPool::give(PollToken& token) noexcept {
    const std::lock_guard lock(pool_mutex);
    static_assert(offsetof(Pooled, token) == 0);
    auto* const pooled = reinterpret_cast<Pooled*>(&token);
    pooled->next = pool_free;
    pool_free = pooled;
}

}  // namespace sanpoll::engine
