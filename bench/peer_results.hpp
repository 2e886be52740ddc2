// What a run of peer_bench measured, as JSON and as a table, with the provider beside the best of its peers.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/cpu_plan.hpp"
#include "bench/peer_options.hpp"
#include "bench/ping_results.hpp"

namespace sanpoll::bench {

// One cell: one of ours beside the best peer at one size. ratio > 1: ours is that many times better, as the median of
// the rounds' ratios; the best peer is the one with the best median.
struct PeerComparison {
    const char* figure;  // "half_p50_ns" or "messages_per_second"
    std::uint32_t size;
    std::string ours;
    double our_value;
    std::string best_peer;
    double best_value;
    double ratio;
    std::vector<double> ratio_rounds;
};
std::vector<PeerComparison> compare_with_peers(const PingRun& run);

// How a series is called: its transport, and how its completions are learnt of unless they are polled for.
std::string name_of(const PingSeries& series);

nlohmann::json peer_json_of(const PingRun& run, const PeerBenchOptions& options,
                            const CpuPlan& plan, const Peers& peers);
std::string peer_table_of(const PingRun& run, const PeerBenchOptions& options, const CpuPlan& plan,
                          const Peers& peers);

}  // namespace sanpoll::bench
