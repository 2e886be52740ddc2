#include "engine/fence.hpp"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace sanpoll::engine {

namespace {
std::atomic<bool> available{false};
}

bool register_heavy_fence() noexcept {
    const bool registered =
        ::syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
    available.store(registered, std::memory_order_relaxed);
    return registered;
}

bool heavy_fence() noexcept {
    // Our own stores first: the flag must be out before the others are made to pass their barrier.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    return available.load(std::memory_order_relaxed) &&
           ::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool heavy_fence_registered() noexcept { return available.load(std::memory_order_relaxed); }

}  // namespace sanpoll::engine
