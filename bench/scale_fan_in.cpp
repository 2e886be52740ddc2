// Many clients of one server: a thread that looks at each connection in turn.
#include <fmt/format.h>

#include "bench/scale_sections.hpp"
#include "bench/spread.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr std::uint32_t kReceives = 4;
constexpr std::uint32_t kSends = 4;
constexpr std::uint64_t kSkip = 256;
constexpr std::uint64_t kTrial = 1024;

struct Row {
    std::size_t processes = 1;
    std::size_t each = 1;  // connections of a process
    std::vector<double> per_second, half_p50, slowest;
};

struct Echoes {
    double per_second = 0;
    double half_p50 = 0;  // median of the clients'
    double slowest = 0;   // client's time, as a multiple of the quickest one's
};

Echoes echo(ScaleCrew& crew, const Row& row, std::uint64_t count) {
    const std::uint64_t share = count / row.processes;
    const auto told =
        crew.all({{"do", "echo"}, {"skip", kSkip}, {"count", share}, {"threads", 1}}, row.processes,
                 {{"skip", kSkip * row.processes}, {"count", share * row.processes}});
    std::vector<double> halves;
    std::vector<double> times;
    for (const json& one : told) {
        halves.push_back(one.at("p50").get<double>() / 2);
        times.push_back(std::max(one.at("elapsed_ns").get<double>(), 1.0));
    }
    const Spread time = spread_of(times);
    return {static_cast<double>(share * row.processes) * 1e9 / time.most, spread_of(halves).median,
            time.most / time.least};
}

}  // namespace

ScaleSection measure_fan_in(const ScaleRun& run) {
    const std::size_t processes = run.options.client_processes;
    const ChildProcess::Environment environment{{"SANPOLL_MODE", "inline"}};
    const bool shared = processes > 1 || run.one_cpu();
    const std::vector<ScaleCrew::Member> clients(processes, {run.cpus.client, shared, environment});
    ScaleCrew crew(run.options, {run.cpus.server, run.one_cpu(), environment}, clients);
    std::vector<Row> rows{{1, 1, {}, {}, {}},
                          {1, run.options.clients, {}, {}, {}},
                          {processes, run.options.clients / processes, {}, {}, {}}};
    for (unsigned round = 1; round <= run.options.rounds(); ++round) {
        for (Row& row : rows) {
            run.progress.show(fmt::format("round {} of {}, fan-in of {} x {}", round,
                                          run.options.rounds(), row.processes, row.each));
            crew.open(row.each, kReceives, kSends, row.processes);
            const double ns = 1e9 / std::max(echo(crew, row, kTrial).per_second, 1.0);
            const std::uint64_t count = run.messages_of(ns);
            const Echoes seen = run.sampler.take([&] { return echo(crew, row, count); });
            row.per_second.push_back(seen.per_second);
            row.half_p50.push_back(seen.half_p50);
            row.slowest.push_back(seen.slowest);
            crew.close(row.processes);
            run.progress.step();
        }
    }
    crew.dismiss();

    ScaleSection section;
    section.rows = json::array();
    section.table = fmt::format(
        "fan-in, inline: 64 B echoes, one under way on each connection; one thread serves all; the "
        "clients' processes "
        "share a CPU and give it away at each turn\n{:>9} {:>11} {:>10} {:>22} {:>9} {:>22}\n",
        "processes", "connections", "echoes/s", "range", "half p50", "slowest client, times");
    for (const Row& row : rows) {
        const Spread rate = spread_of(row.per_second);
        section.rows.push_back({{"clients", row.processes * row.each},
                                {"processes", row.processes},
                                {"echoes_per_second", rate.median},
                                {"messages_per_second", 2 * rate.median},
                                {"half_p50_ns", spread_of(row.half_p50).median},
                                {"slowest_over_quickest_client", spread_of(row.slowest).median},
                                {"rounds", row.per_second}});
        section.table += fmt::format("{:>9} {:>11} {:>10.0f} {:>22} {:>9.0f} {:>22.2f}\n",
                                     row.processes, row.processes * row.each, rate.median,
                                     fmt::format("{:.0f} - {:.0f}", rate.least, rate.most),
                                     spread_of(row.half_p50).median, spread_of(row.slowest).median);
    }
    return section;
}

}  // namespace sanpoll::bench
