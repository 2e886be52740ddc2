// ring_bench: the rings of rings/ beside those of others, and beside bare cache lines, between two pinned threads.
//
// ring_bench [--rounds N] [--json FILE] [Google Benchmark's options]; --benchmark_filter chooses among the names that
// --benchmark_list_tests prints. The CPUs are chosen as sanpoll-ping chooses them. Every round measures every ring
// once, in turn, so that what the machine does meanwhile meets them all; each sample lies between two sentinels.
//
// JSON (FILE "-": standard output instead of the table):
//   program, cpus [a, b], placement of the first sentinel, missing: peers that the build did not find
//   results      for each what ("round_trip", "one_by_one", "bursts_of_32"), element_bytes and ring: its role ("ours",
//                "peer", "raw"), configuration, the median as round_trip_ns or elements_per_second, rounds_moved, and
//                rounds with the same key, moved and the sentinels before and after
//   comparisons  for each cell our best ring, the best peer, times_best_peer (above 1: ours is faster) and, for round
//                trips, times_raw_line (multiple of the raw round trip of one line)
//   sentinels    all of them: round_trip_ns, overwrite_ns_per_line, placement
//
// Exit status: 0; 1 if a ring lost or doubled something, or nothing could be measured; 2 for a wrong option.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string_view>

#include "bench/cpu_placement.hpp"
#include "bench/program.hpp"
#include "bench/ring_report.hpp"

namespace sanpoll::bench {
namespace {

// Google Benchmark's own figures are of no use here: ours are medians of batches.
class Silent final : public benchmark::BenchmarkReporter {
public:
    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>&) override {}
};

struct Kinds {
    std::vector<RingKind> all;
    std::vector<std::string> missing;

    void add(const char* name, std::vector<RingKind> kinds) {
        if (kinds.empty()) missing.emplace_back(name);
        for (RingKind& kind : kinds)
            all.push_back(std::move(kind));
    }
};

Kinds every_kind() {
    Kinds kinds;
    kinds.add("raw lines", raw_lines());
    kinds.add("own rings", own_rings());
    kinds.add("index ring", index_ring());
    kinds.add("rte_ring", rte_ring_barriers());
    kinds.add("rte_ring C11", rte_ring_c11());
    kinds.add("boost", boost_queue());
    kinds.add("moodycamel", moodycamel_queue());
    kinds.add("ck_ring", ck_ring_kinds());
    return kinds;
}

// One benchmark for each cell and ring, all rings of a cell one after the other.
void register_all(const std::vector<RingKind>& kinds, RingStage& stage, RingReport& report) {
    for (const RingPattern pattern :
         {RingPattern::kRoundTrip, RingPattern::kOneByOne, RingPattern::kBursts}) {
        for (const std::size_t bytes : {std::size_t{8}, std::size_t{64}}) {
            for (const RingKind& kind : kinds) {
                const bool raw = kind.role == RingKind::Role::kRaw;
                if ((raw && pattern != RingPattern::kRoundTrip) || kind.make(bytes) == nullptr)
                    continue;
                const auto name = fmt::format("{}/{}/{}", to_string(pattern), bytes, kind.name);
                benchmark::RegisterBenchmark(
                    name.c_str(),
                    [&stage, &report, &kind, bytes, pattern](benchmark::State& state) {
                        for (auto _ : state) {
                            const RingSample sample = stage.measure(kind, bytes, pattern);
                            report.add(kind, bytes, pattern, sample);
                            state.SetIterationTime(sample.ns / 1e9);
                        }
                    })
                    ->UseManualTime()
                    ->Iterations(1);
            }
        }
    }
}

// `lists`: names, instead of measurements.
int measure(int rounds, const std::string& json_file, bool lists) {
    const CpuChoice cpus = choose_pair(read_topology(allowed_cpus()));
    if (cpus.server == cpus.client) {
        fmt::print(stderr,
                   "ring_bench: needs two CPUs, and may use only CPU {}; widen its "
                   "affinity (taskset, cpuset)\n",
                   cpus.server);
        return 1;
    }
    const Clock clock = Clock::calibrate();
    RingStage stage(clock, cpus.server, cpus.client);
    const Kinds kinds = every_kind();
    RingReport report;
    register_all(kinds.all, stage, report);
    Silent silent;
    for (int round = 0; round < rounds; ++round) {
        benchmark::RunSpecifiedBenchmarks(&silent);
        if (report.empty()) break;
    }
    benchmark::Shutdown();
    // Names were listed, or nothing fits the filter: Google Benchmark has said so.
    if (report.empty()) return lists ? 0 : 1;

    nlohmann::json result = report.json();
    result["program"] = "ring_bench";
    result["cpus"] = {cpus.server, cpus.client};
    result["placement"] = to_string(stage.first_sentinel().placement);
    result["missing"] = kinds.missing;
    const std::string text = result.dump(2) + "\n";
    if (json_file == "-") {
        fmt::print("{}", text);
    } else {
        fmt::print("CPUs {} and {} ({}), {} rounds; one line's round trip {:.0f} ns, {}\n",
                   cpus.server, cpus.client, cpus.why, rounds, stage.first_sentinel().round_trip_ns,
                   to_string(stage.first_sentinel().placement));
        for (const std::string& name : kinds.missing)
            fmt::print("not installed when this was built: {}\n", name);
        fmt::print("{}", report.table());
        if (!json_file.empty() && !(std::ofstream(json_file) << text).flush()) {
            fmt::print(stderr, "ring_bench: cannot write '{}'\n", json_file);
            return 1;
        }
    }
    if (report.errors() != 0) {
        fmt::print(stderr, "ring_bench: {} elements were lost, doubled or out of order\n",
                   report.errors());
        return 1;
    }
    return 0;
}

int run(int argc, char** argv) {
    const bool lists = std::any_of(argv, argv + argc, [](const char* argument) {
        return std::string_view(argument).starts_with("--benchmark_list_tests");
    });
    benchmark::Initialize(&argc, argv);
    int rounds = 7;
    std::string json_file;
    CommandLine line("ring_bench", "Rings between two CPUs, ours and others'");
    line.option("--rounds", rounds, "samples of each ring").within(1, 1000).shows_default();
    line.option("--json", json_file, "write the figures to this file; - is standard output");
    return run_program(line, argc, argv, [&] { return measure(rounds, json_file, lists); });
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) { return sanpoll::bench::run(argc, argv); }
