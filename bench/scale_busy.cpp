// A stream over one and over many connections, round robin.
#include <fmt/format.h>

#include "bench/many_loops.hpp"
#include "bench/scale_sections.hpp"
#include "bench/spread.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr std::uint64_t kTrial = 4096;

}  // namespace

ScaleSection measure_busy(const ScaleRun& run) {
    const bool yield = run.one_cpu();
    ScaleCrew crew(run.options, {run.cpus.server, yield, {{"SANPOLL_MODE", "inline"}}},
                   {{run.cpus.client, yield, {{"SANPOLL_MODE", "inline"}}}});
    std::vector<std::vector<double>> costs(run.options.busy.size());
    const auto stream_ns = [&](std::uint64_t count) {
        const json told = crew.all({{"do", "stream"}, {"count", count}}).front();
        return told.at("elapsed_ns").get<double>() / static_cast<double>(count);
    };
    for (unsigned round = 1; round <= run.options.rounds(); ++round) {
        for (std::size_t i = 0; i < costs.size(); ++i) {
            const std::size_t connections = run.options.busy[i];
            run.progress.show(fmt::format("round {} of {}, {} busy connections", round,
                                          run.options.rounds(), connections));
            const std::uint32_t receives = stream_receives(connections);
            // And one for the acknowledgements.
            crew.open(connections + 1, std::max<std::uint32_t>(receives, 8),
                      std::max<std::uint32_t>(receives, 2));
            const std::uint64_t count = run.messages_of(stream_ns(kTrial));
            costs[i].push_back(run.sampler.take([&] { return stream_ns(count); }));
            crew.close();
            run.progress.step();
        }
    }
    crew.dismiss();

    ScaleSection section;
    section.rows = json::array();
    section.table = fmt::format(
        "busy connections round robin, inline: 64 B one way, {} under way in all\n"
        "{:>11} {:>10} {:>9} {:>17}\n",
        kStreamWindow, "connections", "messages/s", "ns each", "range");
    for (std::size_t i = 0; i < costs.size(); ++i) {
        const Spread cost = spread_of(costs[i]);
        section.rows.push_back({{"connections", run.options.busy[i]},
                                {"messages_per_second", 1e9 / cost.median},
                                {"ns_per_message", cost.median},
                                {"rounds", costs[i]}});
        section.table += fmt::format("{:>11} {:>10.0f} {:>9.1f} {:>17}\n", run.options.busy[i],
                                     1e9 / cost.median, cost.median,
                                     fmt::format("{:.1f} - {:.1f}", cost.least, cost.most));
    }
    return section;
}

}  // namespace sanpoll::bench
