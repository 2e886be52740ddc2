// What a run measured, and how it is shown: a table for people, JSON for programs. No figure here is made up:
// everything comes from samples of this run.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/bare_copy.hpp"
#include "bench/cpu_plan.hpp"
#include "bench/handoff.hpp"
#include "bench/latency_histogram.hpp"
#include "bench/ping_options.hpp"
#include "bench/san_socket.hpp"

namespace sanpoll::bench {

// Of one thread and a polling core: what a message to the core and back takes through bare cache lines in the same round
// (bench/core_exchange.hpp), ns. 0: not measured.
struct BareMessage {
    double lines_ns = 0;      // with nothing around them
    double with_work_ns = 0;  // with as many steps on the way as the provider takes
};

// One sample: one transport, one size, one round.
struct PingSample {
    LatencyHistogram round_trips;
    double loop_ns = 0;  // a whole turn of the client's loop, with reposting and bookkeeping
    double messages_per_second = 0;  // 0: not measured
    BareMessage bare;
    BareCopy copy;   // of long messages out of arenas: bare copies of as many as the rate phase has
    Handoff before;  // the sentinel on both sides of the sample
    Handoff after;
    bool moved =
        false;  // the placement changed and did not come back within the allowed repetitions
};

// All rounds of one transport and size.
struct PingSeries {
    bool kernel = false;                          // not the provider: kernel TCP, or another peer
    Completion completion = Completion::kPolled;  // of the provider's receives
    std::string opened_as;                        // what the agents are told
    std::string transport;                        // that, or the fabric of the connection
    std::uint32_t size = 0;
    std::vector<PingSample> samples;
};

// What the provider said of itself.
struct ProviderFacts {
    std::string description;
    std::string path;
    std::vector<std::string> addresses;
    double startup_ms = 0;  // to load the library and start it
    FabricFacts fabric;     // of the latest connection
};

struct PingRun {
    Handoff reference;  // at the start; samples are wanted in this placement
    std::vector<PingSeries> series;
    std::uint64_t repeated = 0;  // samples thrown away because the placement moved
    std::optional<ProviderFacts> provider;
    nlohmann::json missing;  // peers that cannot be used here: {name: why}
    double seconds = 0;
};

// The figures of a series: round trips of all good samples together; rates and hand-offs as medians of the rounds.
// Samples that moved count only if there are no others.
struct PingSummary {
    LatencyHistogram round_trips;
    double half_p50_ns = 0;
    double loop_ns = 0;
    std::optional<double> messages_per_second;
    std::optional<double> handoff_ns;  // one way, around these samples
    std::optional<double> ratio;       // half_p50_ns / handoff_ns
    std::optional<double> bare_ns;     // BareMessage
    std::optional<double> bare_with_work_ns;
    std::optional<double> copied_alone;  // BareCopy
    std::optional<double> copied_by_both;
    std::size_t moved = 0;
};
PingSummary summarize(const PingSeries& series);

// One-way hand-off of the whole run: the median around all good samples; nothing with one CPU.
std::optional<double> run_handoff(const PingRun& run);

std::string table_of(const PingRun& run, const PingOptions& options, const CpuPlan& plan);
nlohmann::json json_of_handoff(const Handoff& handoff);
nlohmann::json json_of(const PingRun& run, const PingOptions& options, const CpuPlan& plan);

}  // namespace sanpoll::bench
