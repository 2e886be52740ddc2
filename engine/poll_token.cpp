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
std::uint32_t PollToken::place_of(std::uintptr_t thread) noexcept {
    std::uint32_t place = 0;
    while (place < kPlaces && borrowers_[place] != thread && borrowers_[place] != 0) {
        ++place;
    }
    return place;
}

void PollToken::lend(std::uintptr_t thread) noexcept {
    turns_ = 0;
    const std::uint32_t place = thread % kPlaces == 0 && heavy_fence_registered()
                                    ? place_of(thread)
                                    : kPlaces;  // it could not be taken back
    if (place == kPlaces) {
        turns_needed_ = kTurnsAtMost;  // let us not ask again soon
        return;
    }
    borrowers_[place] = thread;
    loans_ += kOneLoan;
    lent_at_ = __builtin_ia32_rdtsc();
    // From here on what we hold is the loan. Release pairs with the acquire in take_back().
    busy_[place].store(1, std::memory_order_relaxed);
    loan_.store(thread + place, std::memory_order_release);
}

bool PollToken::take_back() noexcept {
    // Acquire pairs with the release in lend(), or in here.
    std::uintptr_t loan = loan_.load(std::memory_order_acquire);
    if ((loan & kCrossedOut) != 0 || loan == 0) {
        return false;  // another thread is at it, or it is shared again
    }
    const std::uintptr_t place = loan % kPlaces;
    if ((loan & kGivenBack) == 0) {
        // Only one of us: what is the holder's is ours while the loan is crossed out, but for what its borrower uses.
        if (!loan_.compare_exchange_strong(loan, kCrossedOut + place, std::memory_order_acq_rel,
                                           std::memory_order_relaxed)) {
            return false;
        }
        if (!heavy_fence()) [[unlikely]] {
            // It was to be had when the token was lent, and has been forbidden since. No processor keeps a store to
            // itself for so long.
            const timespec moment{0, 1000000};
            ::nanosleep(&moment, nullptr);
        }
        const bool went_well = __builtin_ia32_rdtsc() - lent_at_ >= kLongTicks;
        turns_needed_ = went_well ? kTurnsAtFirst : std::min(turns_needed_ * 2, kTurnsAtMost);
        loan = kGivenBack + loans_ + place;
        // Release pairs with the acquire above, of who comes to look whether the borrower has finished.
        loan_.store(loan, std::memory_order_release);
    }
    // Acquire pairs with the release in release(): what the borrower did is seen. It will not come back: it sees
    // that the loan is crossed out.
    if (busy_[place].load(std::memory_order_acquire) != 0) {
        return false;
    }
    // held_ is ours now. Only one gets it, and of this loan: its number does not come again.
    return loan_.compare_exchange_strong(loan, 0, std::memory_order_acq_rel,
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
