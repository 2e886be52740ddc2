// A mutex that costs little where nobody else wants it.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fence.hpp"

namespace sanpoll::engine {

/// Taking and leaving a std::mutex are a locked instruction each, and the second is there only to learn whether
/// anybody waits. Here who leaves writes that and then looks for waiters with plain instructions, and who has to wait
/// pays for the order of both, by heavy_fence(): either the holder sees that somebody waits, or the waiter sees that the
/// mutex is free. So it is for short sections that threads rarely meet in. Where the process is not registered
/// for that fence, a wake may be missed, and a waiter looks again by itself, every millisecond.
///
/// A Lockable of the standard's, without try_lock(): lock() by any thread, blocks; unlock() by the one that holds it.
/// Who leaves it may look at it for a moment after the next holder has come: it is to live on, as a mutex of the
/// standard's need not.
class LightMutex {
public:
    LightMutex() = default;
    LightMutex(const LightMutex&) = delete;
    LightMutex& operator=(const LightMutex&) = delete;

    void lock() noexcept {
        // Acquire pairs with the release in unlock().
        if (held_.exchange(1, std::memory_order_acquire) != 0) [[unlikely]] {
            wait();
        }
    }
    void unlock() noexcept {
        held_.store(0, std::memory_order_release);
        light_fence();  // the look comes after the store: pairs with the heavy fence in wait()
        if (waiting_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
            wake_one();
        }
    }

private:
    void wait() noexcept;
    void wake_one() noexcept;

    std::atomic<std::uint32_t> held_{0};     // a futex
    std::atomic<std::uint32_t> waiting_{0};  // threads in wait()
};

}  // namespace sanpoll::engine
