// The memory of one arena, as the kernel gives it.
#pragma once

#include <cstdint>

#include "engine/memory/arena.hpp"

namespace sanpoll::engine::memory {

/// Maps `arena.size` bytes aligned to kArenaAlignment, of the kind that `arena.shareable`, `arena.pages`
/// and `arena.numa_node` say, and fills in `base` and `fd`. Control plane; blocks. False and a refusal if
/// the kernel does not give it: then nothing is left behind. A NUMA node that cannot be preferred is none.
[[nodiscard]] bool map_arena(Arena& arena, Refusal& refusal);

/// Whether this kernel can seal the files of arenas against writers to come (F_SEAL_FUTURE_WRITE, Linux 5.1).
[[nodiscard]] bool writers_can_be_kept_out() noexcept;

void unmap_arena(const Arena& arena) noexcept;

/// In a forked child: a copy of its own in place of the parent's memory. Async-signal-safe.
void detach_arena(const Arena& arena) noexcept;

}  // namespace sanpoll::engine::memory
