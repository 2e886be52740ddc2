// Registered heaps: memory for callers that never lies outside an arena.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/memory/arena.hpp"
#include "engine/memory/reason.hpp"

namespace sanpoll::engine::memory {

/// Every thread has a mimalloc heap of its own in each arena that it takes memory from, made when it first
/// does and given back when it ends: what is free then is everybody's, what is in use goes to whichever
/// thread runs short first. A heap takes whole 32 MiB blocks of an arena, so that an arena serves as many
/// threads at once as it has such blocks; when none has room, one more arena is made (arena.hpp).
///
/// A thread that has freed everything may keep one such block of each arena.
///
/// A block larger than 16 MiB takes as many whole 32 MiB of an arena as it needs. Freed by another thread it becomes
/// available only when the thread that allocated it next allocates, or ends.
///
/// All functions: any thread, no exceptions. Mostly they take some 10 to 20 ns and neither lock nor call the kernel;
/// allocate() and resize() do both when a heap has to be made or to grow, and whatever frees waits for
/// threads that are just deleting their heaps (thread_heaps.hpp). Not for polling cores.

/// Cache lines: no two blocks share one, and copies start at its beginning.
inline constexpr std::size_t kDefaultAlignment = 64;
inline constexpr std::size_t kMaxAlignment = 4U << 20;

/// `size` bytes, at least 1, at a multiple of `alignment`, a power of two up to kMaxAlignment (0: the
/// default). Contents are whatever was there. nullptr and a reason if there is no memory:
///   kBadArgument   size or alignment
///   kLimit         the arenas are full, and there may be no more of them
///   kNoHugepages, kNoMemory, kNoDescriptor, kNoLibrary   one more could not be made
///   kForked        this is a forked child of a process that uses heaps
///   kThreadEnds    the thread is ending and has given its heaps back
/// What is wrong and how to mend it is logged: once for a reason, until it is another or arenas are added.
[[nodiscard]] void* allocate(std::size_t size, std::size_t alignment, bool shareable,
                             Reason& reason) noexcept;

/// Takes back a block of any thread; nullptr is nothing to take back. kNone, or kNotOurs (not in an arena:
/// nothing has happened) or kForked. Other addresses than those of allocate() and resize() are the
/// caller's error, as they are with free().
[[nodiscard]] Reason release(void* block) noexcept;

/// Gives a block another size, in place or somewhere else in arenas of the same kind, contents kept as far
/// as both sizes go. nullptr and a reason, of allocate()'s or kNotOurs: then the block is as it was. A
/// block of nullptr is kNotOurs.
[[nodiscard]] void* resize(void* block, std::size_t size, std::size_t alignment,
                           Reason& reason) noexcept;

/// Bytes in blocks that are in use, with what rounding adds. Takes a lock and visits every thread's counts; a
/// moment old. One arena, by its place (Arenas::arena()).
[[nodiscard]] std::uint64_t used_bytes(std::uint32_t arena_index) noexcept;

/// A sentence for people: what a reason means and how to mend it. Never nullptr.
[[nodiscard]] const char* to_words(Reason reason) noexcept;

}  // namespace sanpoll::engine::memory
