// The dear half of an asymmetric fence.
#pragma once

#include <atomic>

namespace sanpoll::engine {

/// Going to sleep is rare and posting is not, so the sleeper pays for the ordering of both. The poster
/// writes its slot and then reads the sleeper's flag with plain instructions; the sleeper sets its flag,
/// calls heavy_fence() and looks at the slot once more. The fence makes every processor that runs a
/// thread of a registered process pass a full barrier: either the poster sees the flag, or the sleeper
/// sees the slot.
///
/// register_heavy_fence() once per process that posts, before its first post; true if the kernel has it
/// (membarrier, global expedited). heavy_fence() returns false where it has not: then the sleeper must
/// bound its sleep, since a flag may be missed.
bool register_heavy_fence() noexcept;
bool heavy_fence() noexcept;
/// Whether this process is registered: whoever calls heavy_fence(), in whatever process, has our threads pass their
/// barrier. Stays so once it is. Any thread.
[[nodiscard]] bool heavy_fence_registered() noexcept;

/// The poster's half: keeps the compiler from moving the look at the flag before the write. No
/// instruction.
inline void light_fence() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Keeps loads of whatever kind before it from moving behind loads after it: for who reads plain bytes and looks
/// afterwards whether they were the right ones. No instruction on x86. ThreadSanitizer does not know fences.
inline void load_fence() noexcept {
#ifdef __SANITIZE_THREAD__
    light_fence();
#else
    std::atomic_thread_fence(std::memory_order_acquire);
#endif
}

}  // namespace sanpoll::engine
