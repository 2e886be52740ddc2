#include "engine/light_mutex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>

namespace sanpoll::engine {

// Whoever looks for waiters after our fence has passed its processor sees us; who has looked before has written before that the
// mutex is free, and the exchange finds it so, unless another one has come meanwhile. A holder that the exchange meets
// leaves after it, and so looks after the fence. Who leaves between the exchange and the sleep has changed the word: the
// kernel does not let us sleep.
void LightMutex::wait() noexcept {
    waiting_.fetch_add(1, std::memory_order_seq_cst);
    const bool fenced = heavy_fence();
    while (held_.exchange(1, std::memory_order_acquire) != 0) {
        const timespec moment{0, 1000000};
        (void)::syscall(SYS_futex, &held_, FUTEX_WAIT_PRIVATE, 1, fenced ? nullptr : &moment,
                        nullptr, 0);
    }
    waiting_.fetch_sub(1, std::memory_order_relaxed);
}

void LightMutex::wake_one() noexcept {
    (void)::syscall(SYS_futex, &held_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace sanpoll::engine
