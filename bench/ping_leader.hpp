// Leads a run: rounds in which the transports alternate for every size, the sentinel on both sides of each sample, samples
// repeated that were taken while the host moved the CPUs.
#pragma once

#include "bench/cpu_plan.hpp"
#include "bench/ping_options.hpp"
#include "bench/ping_results.hpp"

namespace sanpoll::bench {

// Throws CrewFault or std::runtime_error with one plain line. The calling process must have one thread.
PingRun lead_run(const PingOptions& options, const CpuPlan& plan);

}  // namespace sanpoll::bench
