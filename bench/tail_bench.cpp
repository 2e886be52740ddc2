// tail_bench: latencies of a paced load between two processes, up to its rarest, beside the machine's own noise. See
// bench/README.md.
//
// The peak rate is measured first: echoes with --window of them under way. Then so many percent of it, evenly paced,
// each latency from the moment at which the message was meant to go. In turn with it, some 20 ms each, echoes through
// bare cache lines (bench/bare_exchange.hpp): as many a second, and at the same load of their own peak. That is what the
// machine makes of it. Before and after each sample the noise of both cores.
//
// --json: {"program": "tail_bench", "sentinels": [{round_trip_ns, overwrite_ns_per_line, placement}], "window",
// "rounds", "sample_ms", "repeated", "moved",
// "peak": [{"bytes", "per_second", "rounds": [per second], "bare_per_second", "bare_rounds"}],
// "results": [{"what": "paced echo", "bytes", "load_percent", "rate_per_second", medians of the rounds "p50_ns",
// "p90_ns", "p99_ns", "p999_ns", "max_ns" (round trips), "machine_p99_gap_ns" (p99 of round trips that cost nothing,
// paced likewise on cores with the noise measured), "machine_p999_gap_ns", "machine_queued_p99_ns" (the same where
// what a gap has held up is worked off at no more than the peak rate), "held_up" (messages due while the window
// was full), "bare_p50_ns", "bare_p90_ns", "bare_p99_ns", "bare_p999_ns" (of the bare exchange of as many a second),
// "bare_busy_per_second", "bare_busy_p50_ns", "bare_busy_p99_ns" (of one at the same load of its own peak),
// "p99_beside_bare" (p99 of ours by that of the latter, median of the rounds' ratios), "rounds": [the same of each],
// "histogram": [[upper end in ns, count]] of all rounds, "machine_histogram", "bare_histogram" (as many a second)}],
// "noise": [{"core": "client" | "server", "gaps_over_1us_per_second", "gaps_over_10us_per_second",
// "gaps_over_50us_per_second", "gap_p50_ns", "gap_p99_ns", "longest_gap_ns" (of gaps over 1 us), "lost_percent"}],
// "targets": [{"name", "value", "target", "met"}]}
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "bench/bare_exchange.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/helper_process.hpp"
#include "bench/noise_floor.hpp"
#include "bench/paced_loop.hpp"
#include "bench/program.hpp"
#include "bench/progress.hpp"
#include "bench/sampler.hpp"
#include "bench/san_connection.hpp"
#include "bench/spread.hpp"
#include "bench/tail_series.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr const char* kName = "tail_bench";
constexpr std::uint64_t kSkip = 1000;        // of each slice
constexpr std::uint64_t kPeakTrial = 20000;  // messages that tell how many make a sample
constexpr std::uint64_t kFewest = 1000;      // messages in a slice
constexpr std::uint64_t kSliceMs = 20;       // of a sample, until the bare exchange has its turn
constexpr std::uint32_t kLongest = 4096;

struct Options {
    CommonOptions common;
    std::vector<std::uint32_t> sizes{64, 8};
    std::vector<unsigned> loads{10, 50, 90};
    std::uint32_t window = 64;
    std::uint64_t sample_ms = 0;  // 0: the usual

    [[nodiscard]] unsigned rounds() const {
        return common.rounds != 0 ? common.rounds : (common.quick ? 3 : 7);
    }
    [[nodiscard]] std::uint64_t ms() const {
        return sample_ms != 0 ? sample_ms : (common.quick ? 200 : 500);
    }
    [[nodiscard]] ConnectionShape shape() const {
        return {*std::max_element(sizes.begin(), sizes.end()), window + 1, window + 1};
    }
};

int run_server(const Options& options) {
    std::unique_ptr<sanpoll_switch::Provider> provider;
    std::optional<SanListener> listener;
    SpinRule rule;
    std::unique_ptr<SanConnection> connection;
    std::optional<BareMemory> lines;
    std::optional<BareConnection> bare;
    return obey_leader(options.common.control_fd, [&](const json& command) -> json {
        const std::string what = command.at("do");
        if (what == "start") {
            // Not before: what is in the way is the leader's to tell, in one line.
            provider = load_provider(options.common.library);
            listener.emplace(*provider, "127.0.0.1");
            rule.clock = Clock::calibrate();
            rule.yield = command.at("yield");
            (void)pin_this_thread(command.at("cpu"));
            lines.emplace(command.at("lines"), options.shape().size, options.window);
            bare.emplace(*lines, false, rule);
            return listener->port();
        }
        if (what == "accept") {
            connection = std::make_unique<SanConnection>(listener->accept(), options.shape(),
                                                         Completion::kPolled, rule);
        } else if (what == "serve") {
            serve(*connection, command.at("bytes"), command.at("first"), command.at("count"));
        } else {
            serve(*bare, command.at("bytes"), command.at("first"), command.at("count"));
        }
        return json::object();
    });
}

class Leader {
public:
    explicit Leader(const Options& options)
        : options_(options),
          cpus_(choose_pair(read_topology(allowed_cpus()))),
          server_(HelperProcess::start("server", server_arguments(options))),
          lines_(options.shape().size, options.window),
          provider_(load_provider(options.common.library)) {
        rule_.clock = Clock::calibrate();
        rule_.yield = cpus_.server == cpus_.client;
        const std::uint16_t port = server_.ask({{"do", "start"},
                                                {"cpu", cpus_.server},
                                                {"yield", rule_.yield},
                                                {"lines", lines_.path()}});
        (void)pin_this_thread(cpus_.client);
        server_.tell({{"do", "accept"}});
        connection_ = std::make_unique<SanConnection>(
            SanConnector::begin(*provider_, "127.0.0.1", "127.0.0.1", port).finish(),
            options.shape(), Completion::kPolled, rule_);
        bare_.emplace(lines_, true, rule_);
        (void)server_.hear();
    }

    void run() {
        const std::size_t samples =
            options_.sizes.size() * (3 + options_.loads.size() * options_.rounds());
        Sampler sampler(rule_.clock, cpus_.server, cpus_.client, 2, samples / 3 + 1);
        Progress progress(samples, options_.common.quiet, kName);
        for (const std::uint32_t bytes : options_.sizes) {
            Peak& peak = peaks_.emplace_back(Peak{bytes, {}, {}});
            for (int round = 0; round < 3; ++round) {
                progress.show(fmt::format("peak rate of {} bytes", bytes));
                peak.rounds.push_back(sampler.take([&] { return measure_peak(bytes); }));
                peak.bare_rounds.push_back(sampler.take([&] { return measure_bare_peak(bytes); }));
                progress.step();
            }
            for (const unsigned load : options_.loads) {
                const double most = spread_of(peak.rounds).median;
                const double bare = spread_of(peak.bare_rounds).median;
                series_.push_back({bytes, load, most * load / 100, most, bare * load / 100, {}});
            }
        }
        for (unsigned round = 1; round <= options_.rounds(); ++round) {
            for (Series& series : series_) {
                progress.show(fmt::format("round {} of {}, {} bytes at {} %", round,
                                          options_.rounds(), series.bytes, series.load_percent));
                series.samples.push_back(sampler.take([&] { return measure(series); }));
                progress.step();
            }
        }
        server_.dismiss();
        report(options_.common, figures(sampler), table(sampler));
    }

private:
    static std::vector<std::string> server_arguments(const Options& options) {
        std::string sizes;
        for (const std::uint32_t bytes : options.sizes)
            sizes += (sizes.empty() ? "" : ",") + std::to_string(bytes);
        return {"--library", options.common.library,        "--sizes", sizes,
                "--window",  std::to_string(options.window)};
    }

    // Over whichever of the two `what` the server is told.
    template <class C>
    PacedRun send_over(C& connection, const char* what, std::uint64_t& next, PacedLoad load,
                       LatencyHistogram& latencies) {
        load.first = next;
        load.window = options_.window;
        next += load.skip + load.count;
        server_.tell({{"do", what},
                      {"bytes", load.size},
                      {"first", load.first},
                      {"count", load.skip + load.count}});
        const PacedRun run = send_paced(connection, rule_, load, latencies);
        (void)server_.hear();
        return run;
    }
    PacedRun send(const PacedLoad& load, LatencyHistogram& latencies) {
        return send_over(*connection_, "serve", next_, load, latencies);
    }
    PacedRun send_bare(const PacedLoad& load, LatencyHistogram& latencies) {
        return send_over(*bare_, "serve bare", next_bare_, load, latencies);
    }
    // Echoes a second.
    double measure_peak(std::uint32_t bytes) {
        return peak_of(bytes, [&](const PacedLoad& load, LatencyHistogram& latencies) {
            return send(load, latencies);
        });
    }
    double measure_bare_peak(std::uint32_t bytes) {
        return peak_of(bytes, [&](const PacedLoad& load, LatencyHistogram& latencies) {
            return send_bare(load, latencies);
        });
    }
    template <class Send>
    double peak_of(std::uint32_t bytes, Send&& send) {
        LatencyHistogram unused;
        const auto rate = [&](std::uint64_t count) {
            const PacedLoad load{.size = bytes, .skip = kSkip, .count = count};
            const auto ns = static_cast<double>(send(load, unused).elapsed_ns);
            return static_cast<double>(count) * 1e9 / std::max(ns, 1.0);
        };
        const double first = rate(kPeakTrial);
        return rate(messages_at(first));
    }
    std::uint64_t messages_at(double per_second) const {
        return std::max(
            static_cast<std::uint64_t>(per_second * static_cast<double>(options_.ms()) / 1000),
            kFewest);
    }
    TailSample measure(const Series& series) {
        TailSample sample;
        listen_to_noise(series, sample);
        const std::uint64_t slices = std::max<std::uint64_t>(options_.ms() / kSliceMs, 1);
        const auto slice_at = [&](double per_second) {
            return PacedLoad{.size = series.bytes,
                             .skip = kSkip,
                             .count = std::max(messages_at(per_second) / slices, kFewest),
                             .per_second = per_second};
        };
        for (std::uint64_t slice = 0; slice < slices; ++slice) {
            sample.held_up += send(slice_at(series.per_second), sample.latencies).held_up;
            (void)send_bare(slice_at(series.per_second), sample.bare);
            (void)send_bare(slice_at(series.bare_per_second), sample.bare_busy);
        }
        listen_to_noise(series, sample);
        return sample;
    }
    void listen_to_noise(const Series& series, TailSample& sample) const {
        const Noise& noise = sample.noise.emplace_back(
            measure_noise(rule_.clock, cpus_.client, cpus_.server, options_.ms() / 2 + 1));
        sample.ideal.merge(ideal_round_trips(noise, rule_.clock, series.per_second));
        sample.queued.merge(
            ideal_round_trips(noise, rule_.clock, series.per_second, series.peak_per_second));
    }

    // Twice p50 and the machine's own, which p99 should not exceed.
    static double allowed(const Series& series) {
        return 2 * series.latency(0.5) + series.ideal(0.99);
    }
    static json quantiles(const TailSample& sample) {
        const LatencyHistogram& all = sample.latencies;
        const LatencyHistogram& ideal = sample.ideal;
        return {{"p50_ns", all.quantile(0.5)},
                {"p90_ns", all.quantile(0.9)},
                {"p99_ns", all.quantile(0.99)},
                {"p999_ns", all.quantile(0.999)},
                {"max_ns", all.max()},
                {"bare_p50_ns", sample.bare.quantile(0.5)},
                {"bare_p90_ns", sample.bare.quantile(0.9)},
                {"bare_p99_ns", sample.bare.quantile(0.99)},
                {"bare_p999_ns", sample.bare.quantile(0.999)},
                {"bare_busy_p50_ns", sample.bare_busy.quantile(0.5)},
                {"bare_busy_p99_ns", sample.bare_busy.quantile(0.99)},
                {"p99_beside_bare", Series::ratio_of_p99(sample)},
                {"machine_p99_gap_ns", ideal.quantile(0.99)},
                {"machine_p999_gap_ns", ideal.quantile(0.999)},
                {"machine_queued_p99_ns", sample.queued.quantile(0.99)}};
    }
    NoiseFigures noise_of(bool client) const {
        std::vector<Stalls> stalls;
        for (const Series& series : series_) {
            for (const TailSample& sample : series.samples) {
                for (const Noise& noise : sample.noise)
                    stalls.push_back(client ? noise.client : noise.server);
            }
        }
        return figures_of(stalls, rule_.clock);
    }

    json figures(const Sampler& sampler) const {
        json peaks = json::array();
        for (const Peak& peak : peaks_) {
            peaks.push_back({{"bytes", peak.bytes},
                             {"per_second", spread_of(peak.rounds).median},
                             {"rounds", peak.rounds},
                             {"bare_per_second", spread_of(peak.bare_rounds).median},
                             {"bare_rounds", peak.bare_rounds}});
        }
        json results = json::array();
        json targets = json::array();
        for (const Series& series : series_) {
            LatencyHistogram all;
            LatencyHistogram ideal;
            LatencyHistogram bare;
            json rounds = json::array();
            for (const TailSample& sample : series.samples) {
                all.merge(sample.latencies);
                ideal.merge(sample.ideal);
                bare.merge(sample.bare);
                rounds.push_back(quantiles(sample));
            }
            results.push_back({{"what", "paced echo"},
                               {"bytes", series.bytes},
                               {"load_percent", series.load_percent},
                               {"rate_per_second", series.per_second},
                               {"p50_ns", series.latency(0.5)},
                               {"p90_ns", series.latency(0.9)},
                               {"p99_ns", series.latency(0.99)},
                               {"p999_ns", series.latency(0.999)},
                               {"max_ns", series.latency(1)},
                               {"bare_p50_ns", series.bare(0.5)},
                               {"bare_p90_ns", series.bare(0.9)},
                               {"bare_p99_ns", series.bare(0.99)},
                               {"bare_p999_ns", series.bare(0.999)},
                               {"bare_busy_per_second", series.bare_per_second},
                               {"bare_busy_p50_ns", series.bare_busy(0.5)},
                               {"bare_busy_p99_ns", series.bare_busy(0.99)},
                               {"p99_beside_bare", series.p99_beside_bare()},
                               {"machine_p99_gap_ns", series.ideal(0.99)},
                               {"machine_p999_gap_ns", series.ideal(0.999)},
                               {"machine_queued_p99_ns", series.queued(0.99)},
                               {"held_up", series.held_up()},
                               {"rounds", rounds},
                               {"histogram", all.buckets()},
                               {"machine_histogram", ideal.buckets()},
                               {"bare_histogram", bare.buckets()}});
            if (series.bytes == 64 && series.load_percent == 50) {
                targets.push_back({{"name", "p99 of paced 64 B at half load, ns"},
                                   {"value", series.latency(0.99)},
                                   {"target", allowed(series)},
                                   {"met", series.latency(0.99) <= allowed(series)}});
            }
        }
        json noise = json::array();
        for (const bool client : {true, false}) {
            const NoiseFigures core = noise_of(client);
            noise.push_back({{"core", client ? "client" : "server"},
                             {"gaps_over_1us_per_second", core.over_1us_per_second},
                             {"gaps_over_10us_per_second", core.over_10us_per_second},
                             {"gaps_over_50us_per_second", core.over_50us_per_second},
                             {"gap_p50_ns", core.gaps.quantile(0.5)},
                             {"gap_p99_ns", core.gaps.quantile(0.99)},
                             {"longest_gap_ns", core.gaps.max()},
                             {"lost_percent", core.lost_percent}});
        }
        return {{"program", kName},           {"sentinels", sampler.json()},
                {"window", options_.window},  {"rounds", options_.rounds()},
                {"sample_ms", options_.ms()}, {"repeated", sampler.repeated()},
                {"moved", sampler.moved()},   {"peak", peaks},
                {"results", results},         {"noise", noise},
                {"targets", targets}};
    }

    std::string table(const Sampler& sampler) const {
        std::string text = fmt::format(
            "{} ms a sample, {} rounds; round trips from the intended time in us, medians of the "
            "rounds\n{}\n\n",
            options_.ms(), options_.rounds(), sampler.summary());
        for (const Peak& peak : peaks_) {
            const Spread spread = spread_of(peak.rounds);
            text += fmt::format(
                "peak of {} bytes, {} under way: {:.2f} M echoes/s (range {:.2f} - {:.2f}); "
                "through bare "
                "lines {:.2f}\n",
                peak.bytes, options_.window, spread.median / 1e6, spread.least / 1e6,
                spread.most / 1e6, spread_of(peak.bare_rounds).median / 1e6);
        }
        text += fmt::format("\n{:>5} {:>6} {:>8} {:>7} {:>7} {:>7} {:>15} {:>8} {:>8}\n", "bytes",
                            "load", "M/s", "p50", "p90", "p99", "range", "p99.9", "max");
        for (const Series& series : series_) {
            std::vector<double> p99;
            for (const TailSample& sample : series.samples)
                p99.push_back(static_cast<double>(sample.latencies.quantile(0.99)) / 1000);
            const Spread range = spread_of(p99);
            text += fmt::format(
                "{:>5} {:>4} % {:>8.3f} {:>7.2f} {:>7.2f} {:>7.2f} {:>15} {:>8.1f} {:>8.0f}\n",
                series.bytes, series.load_percent, series.per_second / 1e6,
                series.latency(0.5) / 1000, series.latency(0.9) / 1000, series.latency(0.99) / 1000,
                fmt::format("{:.2f} - {:.2f}", range.least, range.most),
                series.latency(0.999) / 1000, series.latency(1) / 1000);
        }
        text += fmt::format(
            "\n{:>5} {:>6}   {:>13} {:>7}   {:>16} {:>8} {:>7} {:>6}   {:>12} {:>8} {:>9}\n",
            "bytes", "load", "bare, as many", "p99", "bare, as busy:", "M/s", "p99", "ratio",
            "machine: p99", "p99.9", "queued");
        for (const Series& series : series_) {
            text += fmt::format(
                "{:>5} {:>4} %   {:>13} {:>7.2f}   {:>16} {:>8.3f} {:>7.2f} {:>6.2f}   {:>12.2f} "
                "{:>8.1f} "
                "{:>9.2f}\n",
                series.bytes, series.load_percent, "", series.bare(0.99) / 1000, "",
                series.bare_per_second / 1e6, series.bare_busy(0.99) / 1000,
                series.p99_beside_bare(), series.ideal(0.99) / 1000, series.ideal(0.999) / 1000,
                series.queued(0.99) / 1000);
        }
        text +=
            "bare: echoes through bare cache lines, in turn with ours: as many a second, and as "
            "busy, "
            "that is at the same\n  load of their own peak; ratio: of our p99 and that of the "
            "latter, median of "
            "the rounds' own\n"
            "machine: what the cores' own gaps, measured before and after each sample, would make "
            "of round "
            "trips that cost\n  nothing; queued: their p99 if what a gap has held up is worked off "
            "at the peak "
            "rate\n";
        for (const bool client : {true, false}) {
            const NoiseFigures core = noise_of(client);
            text += fmt::format(
                "{} core: gaps over 1 us {:.0f} a second, over 10 us {:.0f}, over 50 us {:.0f}; of "
                "those over 1 us p50 "
                "{:.1f} us, p99 {:.1f} us, longest {:.0f} us; {:.2f} % of the time lost\n",
                client ? "client's" : "server's", core.over_1us_per_second,
                core.over_10us_per_second, core.over_50us_per_second,
                static_cast<double>(core.gaps.quantile(0.5)) / 1000,
                static_cast<double>(core.gaps.quantile(0.99)) / 1000,
                static_cast<double>(core.gaps.max()) / 1000, core.lost_percent);
        }
        for (const Series& series : series_) {
            if (series.load_percent != 50) continue;
            text += fmt::format(
                "{} bytes at half load: p99 {:.2f} us, twice p50 and the machine's p99 gap {:.2f} "
                "us: {}\n",
                series.bytes, series.latency(0.99) / 1000, allowed(series) / 1000,
                series.latency(0.99) <= allowed(series) ? "met" : "not met");
        }
        return text;
    }

    const Options& options_;
    CpuChoice cpus_;
    HelperProcess server_;  // before anything that starts threads
    BareMemory lines_;
    std::unique_ptr<sanpoll_switch::Provider> provider_;
    SpinRule rule_;
    std::unique_ptr<SanConnection> connection_;
    std::uint64_t next_ = 0;  // number of the connection's next message
    std::optional<BareConnection> bare_;
    std::uint64_t next_bare_ = 1;
    std::vector<Peak> peaks_;
    std::vector<Series> series_;
};

int run(const Options& options) {
    if (options.common.control_fd >= 0) return run_server(options);
    check_json_file(options.common);
    Leader(options).run();
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    namespace bench = sanpoll::bench;
    bench::Options options;
    bench::CommandLine line(
        bench::kName, "latencies of a paced load up to its rarest, beside the machine's own noise");
    bench::add_common_options(line, options.common);
    line.option("--sizes", options.sizes, "bytes of a message, up to 4096")
        .comma_separated()
        .within(0, bench::kLongest);
    line.option("--loads", options.loads, "percent of the peak rate")
        .comma_separated()
        .within(1, 100);
    line.option("--window", options.window, "echoes under way at most").within(1, 512);
    line.option("--sample", options.sample_ms, "ms of a sample; 0: as many as are usual")
        .within(0, 60000);
    return bench::run_program(line, argc, argv, [&] { return bench::run(options); });
}
