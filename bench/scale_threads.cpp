// Application threads over polling cores, dedicated mode.
//
// With four CPUs and more, polling cores, application threads and the server would have CPUs of their own; on two the
// first polling core has the client's CPU to itself, and whoever else spins shares the server's and gives it away at
// each turn. Then the figures are the scheduler's as much as the provider's, and the table says so.
#include <fmt/format.h>

#include "bench/scale_sections.hpp"
#include "bench/spread.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr std::uint32_t kReceives = 8;
constexpr std::uint32_t kSends = 2;
constexpr std::uint64_t kSkip = 256;
constexpr std::uint64_t kTrial = 256;

struct Row {
    std::size_t cores = 1;
    std::size_t threads = 1;
    std::vector<double> per_second, half_p50;
};

void measure_cores(const ScaleRun& run, std::size_t cores, std::vector<Row>& rows) {
    std::vector<int> polling{run.cpus.client};
    if (cores == 2) polling.push_back(run.cpus.server);
    ScaleCrew crew(
        run.options, {run.cpus.server, true, {{"SANPOLL_MODE", "inline"}}},
        {{run.cpus.server,
          true,
          {{"SANPOLL_MODE", "dedicated"}, {"SANPOLL_CORES", format_cpu_list(polling)}}}});
    for (unsigned round = 1; round <= run.options.rounds(); ++round) {
        for (Row& row : rows) {
            if (row.cores != cores) continue;
            run.progress.show(fmt::format("round {} of {}, {} threads over {} polling cores", round,
                                          run.options.rounds(), row.threads, cores));
            crew.open(row.threads, kReceives, kSends);
            const auto echo = [&](std::uint64_t count) {
                return crew
                    .all({{"do", "echo"},
                          {"skip", kSkip},
                          {"count", count},
                          {"threads", row.threads}})
                    .front();
            };
            // The threads' times are with what is skipped.
            const double each = echo(kTrial).at("elapsed_ns").get<double>() / (kTrial + kSkip);
            const std::uint64_t count = run.messages_of(each);
            const json told = run.sampler.take([&] { return echo(count); });
            const double messages = static_cast<double>(row.threads > 1 ? count + kSkip : count);
            row.per_second.push_back(messages * 1e9 /
                                     std::max(told.at("elapsed_ns").get<double>(), 1.0));
            row.half_p50.push_back(told.at("p50").get<double>() / 2);
            crew.close();
            run.progress.step();
        }
    }
    crew.dismiss();
}

}  // namespace

ScaleSection measure_threads(const ScaleRun& run) {
    std::vector<Row> rows;
    for (const std::size_t cores : {1, 2}) {
        for (const std::size_t threads : run.options.threads)
            rows.push_back({cores, threads, {}, {}});
    }
    const std::size_t usable = run.one_cpu() ? 1 : 2;
    for (std::size_t cores = 1; cores <= usable; ++cores)
        measure_cores(run, cores, rows);

    ScaleSection section;
    section.rows = json::array();
    section.table = fmt::format(
        "application threads over polling cores, dedicated: 64 B echoes, one under way a thread; "
        "CPU {} has a polling "
        "core, CPU {} the threads, the server and the second polling core: they take turns\n"
        "{:>6} {:>8} {:>10} {:>22} {:>9}\n",
        run.cpus.client, run.cpus.server, "cores", "threads", "echoes/s", "range", "half p50");
    for (const Row& row : rows) {
        if (row.per_second.empty()) continue;
        const Spread rate = spread_of(row.per_second);
        section.rows.push_back({{"polling_cores", row.cores},
                                {"threads", row.threads},
                                {"cpus", run.one_cpu() ? 1 : 2},
                                {"echoes_per_second", rate.median},
                                {"messages_per_second", 2 * rate.median},
                                {"half_p50_ns", spread_of(row.half_p50).median},
                                {"rounds", row.per_second}});
        section.table += fmt::format(
            "{:>6} {:>8} {:>10.0f} {:>22} {:>9.0f}\n", row.cores, row.threads, rate.median,
            fmt::format("{:.0f} - {:.0f}", rate.least, rate.most), spread_of(row.half_p50).median);
    }
    return section;
}

}  // namespace sanpoll::bench
