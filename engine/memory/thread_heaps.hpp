// The heaps of one thread, and how much it has taken and given back.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "engine/counter.hpp"
#include "engine/memory/arena.hpp"
#include "engine/memory/mimalloc.hpp"

namespace sanpoll::engine::memory {

/// Written by its thread only; its counters are read by any. It ends before mimalloc hears of the thread's end,
/// because destructors of thread_local objects run before those of pthread keys: mimalloc then abandons what
/// is in use and frees what is not.
struct ThreadHeaps {
    static constexpr std::uint32_t kNone = ~0U;

    std::array<mi_heap_t*, kMaxArenas> heaps{};
    std::array<Counter, kMaxArenas> taken;  // bytes
    std::array<Counter, kMaxArenas> given_back;
    std::array<std::uint32_t, 2> current{kNone,
                                         kNone};  // [shareable]: the arena that last had room

    /// The calling thread's; nullptr if it has none yet or any more.
    [[nodiscard]] static ThreadHeaps* mine() noexcept;
    /// Makes it. nullptr: the thread is ending (ended()), or there is no memory.
    [[nodiscard]] static ThreadHeaps* make() noexcept;
    [[nodiscard]] static bool ended() noexcept;

    /// Accounts a block that was freed by a thread without heaps.
    static void give_back_late(std::uint32_t arena, std::uint64_t bytes) noexcept;
    /// Taken minus given back, of all threads that are or were.
    [[nodiscard]] static std::uint64_t used(std::uint32_t arena) noexcept;
};

namespace detail {
// Plain, so that the common case is one load: an object with a destructor would be asked each time whether
// it is constructed.
extern constinit thread_local ThreadHeaps* thread_heaps;
}  // namespace detail

inline ThreadHeaps* ThreadHeaps::mine() noexcept { return detail::thread_heaps; }

}  // namespace sanpoll::engine::memory
