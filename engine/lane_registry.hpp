// Which lanes a thread has, and what becomes of them when the thread or the engine ends.
#pragma once

#include <cstdint>

namespace sanpoll::engine {

class Lane;
class PollingCore;

inline constexpr std::uint32_t kMaxCores = 16;

/// Lanes belong to their core. A thread keeps a list of its own so that it finds them without a lookup,
/// and retires them when it ends; the list is stamped with the engine's epoch, so that lanes of an
/// engine that is gone are forgotten and not touched.
class LaneRegistry {
public:
    /// The calling thread's lane to `core`, made at the first call (that one takes a mutex and
    /// allocates). nullptr when out of memory.
    [[nodiscard]] static Lane* find_or_make(PollingCore& core, std::uint32_t slots) noexcept;

    /// A core was made or is about to go. Off the data path.
    static void forget_all() noexcept;

    /// In a child of fork(): ending threads leave the lanes alone from now on.
    static void abandon_in_child() noexcept;
};

}  // namespace sanpoll::engine
