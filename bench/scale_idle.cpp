// One busy connection among idle ones, and what the idle ones take of memory.
#include <fmt/format.h>

#include "bench/scale_sections.hpp"
#include "bench/spread.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr std::uint64_t kSkip = 1000;
constexpr std::uint32_t kReceives = 8;
constexpr std::uint32_t kSends = 2;
constexpr double kTarget = 1.1;
constexpr std::size_t kTargetIdle = 10000;
constexpr std::size_t kFewestForMemory = 100;  // a page more or less must not tell

struct Row {
    std::size_t idle = 0;
    std::vector<double> half_p50, half_p99, alone, ratio;
    double bytes_server = 0, bytes_client = 0;  // of memory, each connection
};

struct Half {
    double p50 = 0;
    double p99 = 0;
};

double grown(const json& before, const json& after, std::size_t connections) {
    const double kib =
        after.at("resident_kib").get<double>() - before.at("resident_kib").get<double>();
    return std::max(kib, 0.0) * 1024 / static_cast<double>(connections);
}

// Inline: a process on either CPU. Dedicated: the client's polling core has the client's CPU, its application thread
// shares the server's with the server, and both give it away at each turn.
ScaleCrew crew_of(const ScaleRun& run, bool dedicated) {
    const ChildProcess::Environment own{{"SANPOLL_MODE", "inline"}};
    if (!dedicated) {
        return {run.options,
                {run.cpus.server, run.one_cpu(), own},
                {{run.cpus.client, run.one_cpu(), own}}};
    }
    const ChildProcess::Environment polled{{"SANPOLL_MODE", "dedicated"},
                                           {"SANPOLL_CORES", std::to_string(run.cpus.client)}};
    return {run.options, {run.cpus.server, true, own}, {{run.cpus.server, true, polled}}};
}

class IdleMeasurement {
public:
    IdleMeasurement(const ScaleRun& run, bool dedicated, std::vector<std::size_t> idle)
        : run_(run), dedicated_(dedicated), crew_(crew_of(run, dedicated)) {
        crew_.open(1, kReceives, kSends);
        // Upwards: memory that an earlier crowd has given back counts for a later, larger one.
        std::sort(idle.begin(), idle.end());
        for (const std::size_t count : idle)
            rows_.push_back({count, {}, {}, {}, {}, 0, 0});
        const auto trial = crew_.all({{"do", "ping"}, {"skip", 0}, {"count", kSkip}});
        count_ =
            run.messages_of(trial[0].at("elapsed_ns").get<double>() / static_cast<double>(kSkip));
        empty_ = crew_.memory();
    }

    void round(unsigned number) {
        Half alone = sample(number, 0);
        for (Row& row : rows_) {
            crew_.crowd(row.idle);
            if (number == 1) {
                const auto full = crew_.memory();
                row.bytes_server = grown(empty_.first, full.first, row.idle);
                row.bytes_client = grown(empty_.second, full.second, row.idle);
            }
            const Half among = sample(number, row.idle);
            crew_.disperse();
            const Half alone_again = sample(number, 0);
            row.half_p50.push_back(among.p50);
            row.half_p99.push_back(among.p99);
            row.alone.push_back((alone.p50 + alone_again.p50) / 2);
            row.ratio.push_back(among.p50 / row.alone.back());
            alone = alone_again;
        }
    }

    ScaleSection result() {
        crew_.dismiss();
        ScaleSection section;
        section.rows = json::array();
        section.memory = json::array();
        section.targets = json::array();
        section.table = fmt::format(
            "one busy connection among idle ones, {}: 64 B, half round trip in ns; alone: with "
            "no idle one, before "
            "and after\n{:>6} {:>9} {:>9} {:>9} {:>9} {:>15}   {:>24}\n",
            dedicated_ ? "dedicated" : "inline", "idle", "half p50", "half p99", "alone", "ratio",
            "range", "memory B/end, srv / cl");
        for (const Row& row : rows_) {
            const Spread p50 = spread_of(row.half_p50);
            const Spread ratio = spread_of(row.ratio);
            json rounds = json::array();
            for (std::size_t i = 0; i < row.ratio.size(); ++i) {
                rounds.push_back({{"half_p50_ns", row.half_p50[i]},
                                  {"half_p99_ns", row.half_p99[i]},
                                  {"alone_half_p50_ns", row.alone[i]},
                                  {"ratio_to_alone", row.ratio[i]}});
            }
            section.rows.push_back({{"idle_connections", row.idle},
                                    {"half_p50_ns", p50.median},
                                    {"half_p99_ns", spread_of(row.half_p99).median},
                                    {"alone_half_p50_ns", spread_of(row.alone).median},
                                    {"ratio_to_alone", ratio.median},
                                    {"rounds", rounds}});
            std::string memory = "-";
            if (row.idle >= kFewestForMemory) {
                memory = fmt::format("{:.0f} / {:.0f}", row.bytes_server, row.bytes_client);
                section.memory.push_back(
                    {{"connections", row.idle},
                     {"receives_posted", run_.options.idle_receives},
                     {"server_bytes_per_connection", row.bytes_server},
                     {"client_bytes_per_connection", row.bytes_client},
                     {"bytes_per_connection", (row.bytes_server + row.bytes_client) / 2}});
            }
            section.table += fmt::format(
                "{:>6} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.3f} {:>15}   {:>24}\n", row.idle, p50.median,
                spread_of(row.half_p99).median, spread_of(row.alone).median, ratio.median,
                fmt::format("{:.3f} - {:.3f}", ratio.least, ratio.most), memory);
            if (row.idle == kTargetIdle && !dedicated_) {
                section.targets.push_back(
                    {{"name", "one busy connection among 10,000 idle, of its time alone"},
                     {"value", ratio.median},
                     {"target", kTarget},
                     {"met", ratio.median <= kTarget}});
            }
        }
        return section;
    }

private:
    Half sample(unsigned number, std::size_t idle) {
        run_.progress.show(
            fmt::format("round {} of {}, among {} idle", number, run_.options.rounds(), idle));
        const json told = run_.sampler.take([&] {
            return crew_.all({{"do", "ping"}, {"skip", kSkip}, {"count", count_}}).front();
        });
        run_.progress.step();
        return {told.at("p50").get<double>() / 2, told.at("p99").get<double>() / 2};
    }

    const ScaleRun& run_;
    const bool dedicated_;
    ScaleCrew crew_;
    std::pair<json, json> empty_;  // what is resident without idle connections
    std::uint64_t count_ = 0;
    std::vector<Row> rows_;
};

}  // namespace

ScaleSection measure_idle(const ScaleRun& run) {
    const auto measure = [&](bool dedicated, const std::vector<std::size_t>& idle) {
        IdleMeasurement measurement(run, dedicated, idle);
        for (unsigned round = 1; round <= run.options.rounds(); ++round)
            measurement.round(round);
        return measurement.result();
    };
    ScaleSection section = measure(false, run.options.idle);
    if (run.one_cpu()) return section;
    const std::size_t most = *std::max_element(run.options.idle.begin(), run.options.idle.end());
    ScaleSection dedicated = measure(true, {most});
    section.more = std::move(dedicated.rows);
    section.table += '\n' + dedicated.table;
    return section;
}

}  // namespace sanpoll::bench
