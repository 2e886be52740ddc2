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

class IdleMeasurement {
public:
    explicit IdleMeasurement(const ScaleRun& run)
        : run_(run),
          crew_(run.options, {run.cpus.server, run.one_cpu(), {{"SANPOLL_MODE", "inline"}}},
                {{run.cpus.client, run.one_cpu(), {{"SANPOLL_MODE", "inline"}}}}) {
        crew_.open(1, kReceives, kSends);
        for (const std::size_t idle : run.options.idle)
            rows_.push_back({idle, {}, {}, {}, {}, 0, 0});
        const auto trial = crew_.all({{"do", "ping"}, {"skip", 0}, {"count", kSkip}});
        count_ =
            run.messages_of(trial[0].at("elapsed_ns").get<double>() / static_cast<double>(kSkip));
    }

    void round(unsigned number) {
        Half alone = sample(number, 0);
        for (Row& row : rows_) {
            const auto before = crew_.memory();
            crew_.crowd(row.idle);
            const auto after = crew_.memory();
            if (number == 1) {
                row.bytes_server = grown(before.first, after.first, row.idle);
                row.bytes_client = grown(before.second, after.second, row.idle);
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
            "one busy connection among idle ones, inline: 64 B, half round trip in ns; alone: with "
            "no idle one, before "
            "and after\n{:>6} {:>9} {:>9} {:>9} {:>9} {:>15}   {:>24}\n",
            "idle", "half p50", "half p99", "alone", "ratio", "range", "memory B/end, srv / cl");
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
            section.memory.push_back(
                {{"connections", row.idle},
                 {"receives_posted", run_.options.idle_receives},
                 {"server_bytes_per_connection", row.bytes_server},
                 {"client_bytes_per_connection", row.bytes_client},
                 {"bytes_per_connection", (row.bytes_server + row.bytes_client) / 2}});
            section.table +=
                fmt::format("{:>6} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.3f} {:>15}   {:>24}\n", row.idle,
                            p50.median, spread_of(row.half_p99).median, spread_of(row.alone).median,
                            ratio.median, fmt::format("{:.3f} - {:.3f}", ratio.least, ratio.most),
                            fmt::format("{:.0f} / {:.0f}", row.bytes_server, row.bytes_client));
            if (row.idle == kTargetIdle) {
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
    ScaleCrew crew_;
    std::uint64_t count_ = 0;
    std::vector<Row> rows_;
};

}  // namespace

ScaleSection measure_idle(const ScaleRun& run) {
    IdleMeasurement measurement(run);
    for (unsigned round = 1; round <= run.options.rounds(); ++round)
        measurement.round(round);
    return measurement.result();
}

}  // namespace sanpoll::bench
