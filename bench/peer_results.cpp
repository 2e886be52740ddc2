#include "bench/peer_results.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr const char* kOrdinary =
    "the provider over shared memory, buffers in ordinary memory of the process, registered";
constexpr const char* kArena =
    "the provider over shared memory, buffers out of a shareable arena (WSAID_SANPOLL_MEMORY), "
    "registered";

std::string configuration_of(const PingSeries& series, const PingOptions& options,
                             const Peers& peers) {
    if (const Peer* peer = find_peer(peers, series.opened_as)) return peer->configuration;
    return fmt::format("{}; mode {}, completion {}",
                       series.opened_as == "san-arena" ? kArena : kOrdinary, options.mode,
                       to_string(series.completion));
}

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double half_p50(const PingSample& sample) {
    return static_cast<double>(sample.round_trips.quantile(0.5)) / 2;
}

double half_p99(const PingSample& sample) {
    return static_cast<double>(sample.round_trips.quantile(0.99)) / 2;
}

double rate_of(const PingSample& sample) { return sample.messages_per_second; }

using Figure = double (*)(const PingSample&);

std::vector<double> rounds_of(const PingSeries& series, Figure figure) {
    std::vector<double> values;
    for (const PingSample& sample : series.samples)
        values.push_back(figure(sample));
    return values;
}

// Rounds in which either of the two moved count only if there are no others.
std::vector<double> ratios(const PingSeries& ours, const PingSeries& peer, Figure figure,
                           bool less_is_better) {
    std::vector<double> steady;
    std::vector<double> all;
    for (std::size_t i = 0; i < std::min(ours.samples.size(), peer.samples.size()); ++i) {
        const double a = figure(ours.samples[i]);
        const double b = figure(peer.samples[i]);
        if (a <= 0 || b <= 0) continue;
        all.push_back(less_is_better ? b / a : a / b);
        if (!ours.samples[i].moved && !peer.samples[i].moved) steady.push_back(all.back());
    }
    return steady.empty() ? all : steady;
}

double middle_of(const PingSeries& series, Figure figure) {
    std::vector<double> steady;
    for (const PingSample& sample : series.samples) {
        if (!sample.moved) steady.push_back(figure(sample));
    }
    return median(steady.empty() ? rounds_of(series, figure) : steady);
}

std::vector<std::uint32_t> sizes_of(const PingRun& run) {
    std::vector<std::uint32_t> sizes;
    for (const PingSeries& series : run.series) {
        if (std::find(sizes.begin(), sizes.end(), series.size) == sizes.end())
            sizes.push_back(series.size);
    }
    return sizes;
}

void compare(const PingRun& run, const PingSeries& ours, const char* name, Figure figure,
             bool less_is_better, std::vector<PeerComparison>& into) {
    const PingSeries* best = nullptr;
    double best_value = 0;
    for (const PingSeries& series : run.series) {
        if (!series.kernel || series.size != ours.size) continue;
        const double value = middle_of(series, figure);
        if (value <= 0) continue;
        if (best == nullptr || (less_is_better ? value < best_value : value > best_value)) {
            best = &series;
            best_value = value;
        }
    }
    if (best == nullptr) return;
    std::vector<double> each = ratios(ours, *best, figure, less_is_better);
    const double middle = median(each);
    into.push_back({name, ours.size, name_of(ours), middle_of(ours, figure), name_of(*best),
                    best_value, middle, std::move(each)});
}

std::string duration(double ns) {
    if (ns < 10'000) return fmt::format("{:.0f} ns", ns);
    if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
    return fmt::format("{:.2f} ms", ns / 1e6);
}

std::string rate_text(double per_second) {
    if (per_second >= 1e6) return fmt::format("{:.2f} M/s", per_second / 1e6);
    return fmt::format("{:.1f} k/s", per_second / 1e3);
}

std::map<std::string, std::string> skipped(const PingRun& run, const PeerBenchOptions& options) {
    std::map<std::string, std::string> names;
    for (const PeerLeftOut& missing : options.skipped)
        names[missing.name] = missing.why;
    if (run.missing.is_object()) {
        for (const auto& [name, why] : run.missing.items())
            names[name] = why.get<std::string>();
    }
    return names;
}

}  // namespace

std::string name_of(const PingSeries& series) {
    if (series.kernel || series.completion == Completion::kPolled) return series.transport;
    return series.transport + "-" + to_string(series.completion);
}

std::vector<PeerComparison> compare_with_peers(const PingRun& run) {
    std::vector<PeerComparison> all;
    for (const PingSeries& series : run.series) {
        if (series.kernel) continue;
        compare(run, series, "half_p50_ns", half_p50, true, all);
        compare(run, series, "messages_per_second", rate_of, false, all);
    }
    return all;
}

json peer_json_of(const PingRun& run, const PeerBenchOptions& options, const CpuPlan& plan,
                  const Peers& peers) {
    json out = json_of(run, options.ping, plan);
    out["program"] = "peer_bench";
    out["mode"] = options.ping.mode;
    out["fresh"] = options.ping.fresh;
    out["window"] = options.ping.window;
    out["window_bytes"] = options.ping.rate_bytes;
    out["rate_receives"] = options.ping.rate_receives;
    out["skipped"] = skipped(run, options);
    out["sentinels"] = json::array();
    for (std::size_t i = 0; i < run.series.size(); ++i) {
        const PingSeries& series = run.series[i];
        json& result = out["results"][i];
        const double rate = middle_of(series, rate_of);
        const auto bytes = static_cast<double>(series.size);
        result["name"] = name_of(series);
        result["ours"] = !series.kernel;
        if (series.kernel) {
            result["mode"] = "peer";
            result["completion"] = nullptr;
        }
        result["configuration"] = configuration_of(series, options.ping, peers);
        result["half_p50_ns"] = middle_of(series, half_p50);
        result["half_p99_ns"] = middle_of(series, half_p99);
        result["half_p50_ns_rounds"] = rounds_of(series, half_p50);
        result["half_p99_ns_rounds"] = rounds_of(series, half_p99);
        result["messages_per_second"] = rate;
        result["messages_per_second_rounds"] = rounds_of(series, rate_of);
        result["bytes_per_second"] = rate * bytes;
        for (const PingSample& sample : series.samples) {
            result["bytes_per_second_rounds"].push_back(rate_of(sample) * bytes);
            for (const Handoff* sentinel : {&sample.before, &sample.after}) {
                out["sentinels"].push_back(*sentinel);
            }
        }
    }
    out["comparisons"] = json::array();
    for (const PeerComparison& cell : compare_with_peers(run)) {
        out["comparisons"].push_back({{"figure", cell.figure},
                                      {"size", cell.size},
                                      {"ours", cell.ours},
                                      {"our_value", cell.our_value},
                                      {"best_peer", cell.best_peer},
                                      {"best_value", cell.best_value},
                                      {"ratio", cell.ratio},
                                      {"ratio_rounds", cell.ratio_rounds}});
    }
    return out;
}

std::string peer_table_of(const PingRun& run, const PeerBenchOptions& options, const CpuPlan& plan,
                          const Peers& peers) {
    std::string text = fmt::format(
        "CPUs {} and {} ({}); hand-off {:.0f} ns one way ({}); {} rounds, {} samples repeated, "
        "{:.0f} s\n",
        plan.server, plan.client, plan.why, run_handoff(run).value_or(0),
        to_string(run.reference.placement), options.ping.rounds, run.repeated, run.seconds);
    const std::vector<PeerComparison> cells = compare_with_peers(run);
    for (const std::uint32_t size : sizes_of(run)) {
        text += fmt::format("\n{:<16} {:>10} {:>9} {:>10} {:>12} {:>9}   range of the rates\n",
                            format_size(size) + " bytes", "half p50", "/handoff", "half p99",
                            "messages", "GB/s");
        for (const PingSeries& series : run.series) {
            if (series.size != size) continue;
            const double rate = middle_of(series, rate_of);
            const std::vector<double> rates = rounds_of(series, rate_of);
            const auto [least, most] = std::minmax_element(rates.begin(), rates.end());
            const PingSummary summary = summarize(series);
            text += fmt::format(
                "{:<16} {:>10} {:>9} {:>10} {:>12} {:>9.3f}   {} - {}{}\n", name_of(series),
                duration(middle_of(series, half_p50)),
                summary.ratio ? fmt::format("{:.2f}", *summary.ratio) : "-",
                duration(middle_of(series, half_p99)), rate_text(rate),
                rate * static_cast<double>(size) / 1e9, rate_text(*least), rate_text(*most),
                summary.moved == 0 ? "" : fmt::format("  moved: {}", summary.moved));
        }
        for (const PingSeries& series : run.series) {
            const PingSummary summary = summarize(series);
            if (series.size != size || !summary.copied_alone) continue;
            text += fmt::format(
                "  bare copies beside {}: {:.3f} GB/s by the receiver alone, {:.3f} by both ends\n",
                name_of(series), *summary.copied_alone / 1e9,
                summary.copied_by_both.value_or(0) / 1e9);
        }
        for (const PeerComparison& cell : cells) {
            if (cell.size != size) continue;
            const auto [least, most] =
                std::minmax_element(cell.ratio_rounds.begin(), cell.ratio_rounds.end());
            if (cell.ratio_rounds.empty()) continue;
            text += fmt::format("  {} {}: {:.2f} times the best peer, {} ({:.2f} - {:.2f})\n",
                                cell.ours,
                                cell.figure == std::string("half_p50_ns") ? "latency" : "rate",
                                cell.ratio, cell.best_peer, *least, *most);
        }
    }
    text += "\n";
    std::vector<std::string> told;
    for (const PingSeries& series : run.series) {
        const std::string name = name_of(series);
        if (std::find(told.begin(), told.end(), name) != told.end()) continue;
        told.push_back(name);
        text += fmt::format("{}: {}\n", name, configuration_of(series, options.ping, peers));
    }
    for (const auto& [name, why] : skipped(run, options))
        text += fmt::format("{}: skipped, {}\n", name, why);
    for (const std::string& remark : plan.remarks)
        text += remark + "\n";
    return text;
}

}  // namespace sanpoll::bench
