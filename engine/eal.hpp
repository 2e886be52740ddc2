// DPDK's environment layer: started when a dedicated core is wanted, and not before.
#pragma once

#include <string>

#include "engine/config.hpp"

namespace sanpoll::engine::eal {

/// Makes the calling thread an lcore pinned on `cpu`; starts the EAL at the first call in the process.
/// Returns an empty string or what is wrong and how to mend it. Blocks (about 0.15 s the first time).
///
/// Why registered threads and not EAL worker lcores: the EAL can be started once in a process and its
/// worker set cannot be changed afterwards, while the provider may be started again with other cores.
/// The EAL is a private copy inside this library: a host process that runs an EAL of its own keeps it
/// untouched. It is started in a thread of its own, because it pins its caller.
[[nodiscard]] std::string adopt_this_thread(const Config& config, int cpu);

/// The calling thread is no lcore any more.
void release_this_thread() noexcept;

/// Whether the EAL runs, and how it got its memory ("hugepages", "ordinary pages", "not started").
[[nodiscard]] std::string state();

}  // namespace sanpoll::engine::eal
