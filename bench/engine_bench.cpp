// engine_bench: what the small steps of a post cost (Google Benchmark).
//
//   lane_post_and_drain     one thread: a work request into a lane and out of it, by number of pieces
//   lane_round_trip         two threads: a request posted over a lane, drained by the other thread, its completion written to
//                           memory and seen there; the way of a send in dedicated mode, with nothing else around it
//   completion_round_trip   two threads: a completion written and seen, and one back
//   region_find             a registered region looked up by address, by number of regions; the same one each time
//   region_find_any         another one each time
//   handle_find             a socket found by its descriptor, by number of sockets, another one each time
//
// engine_bench [--rounds N] [--json FILE] [Google Benchmark's options]. JSON (FILE "-": standard output instead of the
// table): program, sentinels (round_trip_ns, overwrite_ns_per_line, placement; before each round and after the last, none where
// there is one CPU), and results: what, parameter (the number after the slash, absent where there is none), ns
// (median of the rounds) and rounds_ns. Of registrations registration_bench measures more.
//
// Exit status: 0; 1 if nothing was measured; 2 for a wrong option.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string_view>
#include <thread>

#include "bench/clock.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/handoff.hpp"
#include "bench/program.hpp"
#include "engine/lane.hpp"
#include "engine/memory_region.hpp"
#include "provider/socket_table.hpp"

namespace sanpoll::bench {
namespace {

using engine::Lane;
using engine::RegionTable;
using engine::WorkRequest;

constexpr std::uint32_t kLaneSlots = 256;
constexpr std::size_t kPlaces = 4096;

const CpuChoice& cpus() {
    static const CpuChoice choice = choose_pair(read_topology(allowed_cpus()));
    return choice;
}

// Numbers below `count` in an order that no predictor guesses.
std::vector<std::uint64_t> any_order(std::uint64_t count) {
    std::mt19937_64 random(1);
    std::vector<std::uint64_t> all(kPlaces);
    for (std::uint64_t& one : all)
        one = random() % count;
    return all;
}

WorkRequest request_of(std::uint32_t pieces) {
    WorkRequest request{};
    request.sge_count = static_cast<std::uint8_t>(pieces);
    request.length = 64;
    return request;
}

void lane_post_and_drain(benchmark::State& state) {
    const auto lane = std::make_unique<Lane>(kLaneSlots);
    const auto pieces = static_cast<std::uint32_t>(state.range(0));
    WorkRequest request = request_of(pieces);
    WorkRequest drained;
    for (auto _ : state) {
        ++request.context;
        if (!lane->has_room(pieces)) {
            state.SkipWithError("the lane is full");
            break;
        }
        lane->push(request);
        if (!lane->front(drained)) {
            state.SkipWithError("the lane is empty");
            break;
        }
        lane->pop(drained);
        benchmark::DoNotOptimize(drained.context);
    }
}

// What a WSAOVERLAPPED is to the core and its poster: written and seen, in a line of its own.
struct alignas(128) Written {
    std::atomic<std::uint64_t> state{0};
    std::uint64_t bytes = 0;

    void write(std::uint64_t value) noexcept {
        bytes = value;
        state.store(value, std::memory_order_release);  // pairs with the acquire in seen()
    }
    [[nodiscard]] bool seen(std::uint64_t value) const noexcept {
        return state.load(std::memory_order_acquire) == value;  // pairs with the release in write()
    }
};

// Both threads pause between two looks, as an idle core does: without it the looks of one kept the other from writing for
// a microsecond and more at a time on an Intel host.
//
// The other thread, for as long as a measurement takes. `turn` is copied, and must refer to nothing on the measuring
// thread's stack: that shares lines with what is written there all the time.
template <typename Turn>
class Partner {
public:
    explicit Partner(Turn turn)
        : thread_([this, turn]() mutable {
              pin_this_thread(cpus().client);
              // Pairs with the release in the destructor.
              while (!stop_.load(std::memory_order_acquire)) {
                  turn();
                  cpu_pause();
              }
          }) {
        pin_this_thread(cpus().server);
    }
    ~Partner() {
        stop_.store(true, std::memory_order_release);  // pairs with the thread's acquire
        thread_.join();
    }
    Partner(const Partner&) = delete;
    Partner& operator=(const Partner&) = delete;

private:
    alignas(128) std::atomic<bool> stop_{false};
    std::thread thread_;
};

bool lacks_a_cpu(benchmark::State& state) {
    if (cpus().server != cpus().client) return false;
    state.SkipWithError("needs two CPUs");
    return true;
}

void lane_round_trip(benchmark::State& state) {
    if (lacks_a_cpu(state)) return;
    const auto lane = std::make_unique<Lane>(kLaneSlots);
    const auto written = std::make_unique<Written>();
    WorkRequest request = request_of(1);
    Partner core([from = lane.get(), to = written.get()] {
        WorkRequest drained;
        if (from->front(drained)) {
            from->pop(drained);
            to->write(drained.context);
        }
    });
    for (auto _ : state) {
        ++request.context;
        while (!lane->has_room(1)) {
        }
        lane->push(request);
        while (!written->seen(request.context))
            cpu_pause();
    }
}

void completion_round_trip(benchmark::State& state) {
    if (lacks_a_cpu(state)) return;
    const auto there = std::make_unique<Written>();
    const auto back = std::make_unique<Written>();
    Partner other([from = there.get(), to = back.get(), answered = std::uint64_t{0}]() mutable {
        if (from->seen(answered + 1)) to->write(++answered);
    });
    std::uint64_t number = 0;
    for (auto _ : state) {
        there->write(++number);
        while (!back->seen(number))
            cpu_pause();
    }
}

constexpr std::uint64_t kBase = 0x7F0000000000;
constexpr std::uint64_t kStride = 8192;

void region_lookup(benchmark::State& state, bool any) {
    RegionTable table;
    for (std::int64_t i = 0; i < state.range(0); ++i)
        (void)table.add(kBase + static_cast<std::uint64_t>(i) * kStride, 4096, engine::kRead);
    const auto order = any_order(any ? static_cast<std::uint64_t>(state.range(0)) : 1);
    std::size_t i = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(
            table.find(kBase + order[i++ % kPlaces] * kStride, 64, engine::kRead));
}
void region_find(benchmark::State& state) { region_lookup(state, false); }
void region_find_any(benchmark::State& state) { region_lookup(state, true); }

void handle_find(benchmark::State& state) {
    const auto table = std::make_unique<provider::SocketTable>();
    std::vector<SOCKET> descriptors(static_cast<std::size_t>(state.range(0)));
    for (SOCKET& descriptor : descriptors) {
        if (table->allocate(descriptor) == nullptr) {
            state.SkipWithError("no room for a socket");
            return;
        }
    }
    const auto order = any_order(descriptors.size());
    std::size_t i = 0;
    for (auto _ : state)
        benchmark::DoNotOptimize(table->find(descriptors[order[i++ % kPlaces]]).socket);
}

BENCHMARK(lane_post_and_drain)->Arg(1)->Arg(2)->Arg(8);
BENCHMARK(lane_round_trip);
BENCHMARK(completion_round_trip);
BENCHMARK(region_find)->Arg(10)->Arg(10000);
BENCHMARK(region_find_any)->Arg(10)->Arg(1000)->Arg(10000);
BENCHMARK(handle_find)->Arg(1)->Arg(100)->Arg(10000);

// Keeps each round's time, by name, in the order of the first round.
class Collector final : public benchmark::BenchmarkReporter {
public:
    struct Series {
        std::string name;
        std::vector<double> rounds;

        [[nodiscard]] double median() const {
            std::vector<double> sorted = rounds;
            std::sort(sorted.begin(), sorted.end());
            return (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
        }
    };

    bool ReportContext(const Context&) override { return true; }
    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            if (run.error_occurred) {
                GetErrorStream() << run.benchmark_name() << ": " << run.error_message << "\n";
                continue;
            }
            const std::string name = run.benchmark_name();
            auto at = std::find_if(series.begin(), series.end(),
                                   [&](const Series& one) { return one.name == name; });
            if (at == series.end()) at = series.insert(at, Series{name, {}});
            at->rounds.push_back(run.GetAdjustedRealTime());
        }
    }

    std::vector<Series> series;
};

nlohmann::json json_of(const std::vector<Collector::Series>& all) {
    nlohmann::json results = nlohmann::json::array();
    for (const auto& series : all) {
        const std::size_t slash = series.name.find('/');
        nlohmann::json row{{"what", series.name.substr(0, slash)},
                           {"ns", series.median()},
                           {"rounds_ns", series.rounds}};
        if (slash != std::string::npos)
            row["parameter"] = std::stoll(series.name.substr(slash + 1));
        results.push_back(row);
    }
    return results;
}

// `lists`: names, instead of measurements.
int measure(int rounds, const std::string& json_file, bool lists) {
    const Clock clock = Clock::calibrate();
    nlohmann::json sentinels = nlohmann::json::array();
    const auto sentinel = [&] {
        if (cpus().server == cpus().client) return;
        sentinels.push_back(measure_handoff(clock, cpus().server, cpus().client));
    };
    Collector collector;
    for (int round = 0; round < rounds; ++round) {
        sentinel();
        benchmark::RunSpecifiedBenchmarks(&collector);
        if (collector.series.empty()) break;
    }
    sentinel();
    benchmark::Shutdown();
    // Names were listed, or Google Benchmark has said why there is nothing.
    if (collector.series.empty()) return lists ? 0 : 1;

    const nlohmann::json result{{"program", "engine_bench"},
                                {"cpus", {cpus().server, cpus().client}},
                                {"sentinels", sentinels},
                                {"results", json_of(collector.series)}};
    if (json_file == "-") {
        fmt::print("{}\n", result.dump(2));
        return 0;
    }
    fmt::print("{:<28} {:>10} {:>20}\n", "", "median, ns", "range of the rounds");
    for (const auto& series : collector.series) {
        const auto [low, high] = std::minmax_element(series.rounds.begin(), series.rounds.end());
        fmt::print("{:<28} {:>10.1f} {:>20}\n", series.name, series.median(),
                   fmt::format("{:.1f} - {:.1f}", *low, *high));
    }
    for (const auto& one : sentinels)
        fmt::print("one line's round trip {:.0f} ns, {}\n", one["round_trip_ns"].get<double>(),
                   one["placement"].get<std::string>());
    if (!json_file.empty() && !(std::ofstream(json_file) << result.dump(2) << "\n").flush()) {
        fmt::print(stderr, "engine_bench: cannot write '{}'\n", json_file);
        return 1;
    }
    return 0;
}

int run(int argc, char** argv) {
    const bool lists = std::any_of(argv, argv + argc, [](const char* argument) {
        return std::string_view(argument).starts_with("--benchmark_list_tests");
    });
    // The shortest that gives steady figures; who wants longer says so.
    std::vector<char*> arguments(argv, argv + argc);
    char min_time[] = "--benchmark_min_time=0.05";
    arguments.insert(arguments.begin() + 1, min_time);
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);
    benchmark::Initialize(&count, arguments.data());
    int rounds = 5;
    std::string json_file;
    CommandLine line("engine_bench", "What the small steps of a post cost");
    line.option("--rounds", rounds, "measurements of each step").within(1, 1000).shows_default();
    line.option("--json", json_file, "write the figures to this file; - is standard output");
    return run_program(line, count, arguments.data(),
                       [&] { return measure(rounds, json_file, lists); });
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) { return sanpoll::bench::run(argc, argv); }
