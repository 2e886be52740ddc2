// What an engine's configuration says about arenas, and what of it has to hold from the start.
#pragma once

#include <string>

#include "engine/config.hpp"
#include "engine/memory/arena.hpp"

namespace sanpoll::engine::memory {

/// Arenas near the first polling core if it is a dedicated one; else near the threads that first touch
/// them, which are those that turn the cores.
[[nodiscard]] ArenaRules rules_of(const Config& config);

/// Takes back what the configuration says of sharing if the kernel cannot keep it: share_arenas = read becomes off where
/// an arena that peers may read could be written by them, too. Why, if so; else an empty string. Before the engine has
/// it, and fabrics tell their peers of it.
[[nodiscard]] std::string settle_sharing(Config& config);

/// Sets the rules for the arenas of `arenas`. With hugepages = required the first shareable arena is made at once,
/// unless there is one: that hugepages are lacking is then an error of the start, and not of some later
/// moment. Otherwise nothing is made before somebody asks. Blocks. An empty string, or what is wrong
/// and how to mend it.
[[nodiscard]] std::string begin(Arenas& arenas, const Config& config);

/// The NUMA node of a CPU; -1 if the host does not say.
[[nodiscard]] int numa_node_of(std::uint32_t cpu);

}  // namespace sanpoll::engine::memory
