#include "engine/poll_token.hpp"

#include <sched.h>

namespace sanpoll::engine {

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

}  // namespace sanpoll::engine
