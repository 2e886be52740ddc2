// The table of a run, as people read it (declared in bench/ping_results.hpp).
#include <fmt/format.h>

#include "bench/ping_results.hpp"

namespace sanpoll::bench {
namespace {

// Nanoseconds with a unit that keeps three to four digits: "212 ns", "14.7 us", "3.21 ms".
std::string duration(double ns) {
    if (ns < 10'000) return fmt::format("{:.0f} ns", ns);
    if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
    if (ns < 1e9) return fmt::format("{:.2f} ms", ns / 1e6);
    return fmt::format("{:.2f} s", ns / 1e9);
}

std::string rate(const std::optional<double>& per_second) {
    if (!per_second) return "-";
    if (*per_second >= 1e6) return fmt::format("{:.2f} M/s", *per_second / 1e6);
    return fmt::format("{:.1f} k/s", *per_second / 1e3);
}

constexpr const char* kRow =
    "{:<5} {:<9} {:<8} {:>5} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>10}{}\n";

std::string row_of(const PingSeries& series, const PingOptions& options) {
    const PingSummary summary = summarize(series);
    const LatencyHistogram& trips = summary.round_trips;
    const auto quantile = [&](double q) {
        return duration(static_cast<double>(trips.quantile(q)));
    };
    return fmt::format(
        fmt::runtime(kRow), series.transport, series.kernel ? "kernel" : options.mode,
        !series.kernel         ? to_string(series.completion)
        : options.tcp_blocking ? "blocking"
                               : "spinning",
        format_size(series.size), quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999),
        duration(static_cast<double>(trips.max())), duration(summary.half_p50_ns),
        summary.ratio ? fmt::format("{:.2f}", *summary.ratio) : "-",
        rate(summary.messages_per_second),
        summary.moved == 0
            ? ""
            : fmt::format("  moved: {} of {}", summary.moved, series.samples.size()));
}

std::string placement_lines(const PingRun& run, const PingOptions& options, const CpuPlan& plan) {
    std::string text;
    switch (options.layout) {
        case Layout::kTwoProcesses:
            text = fmt::format("Placement: server process on CPU {}, client process on CPU {}",
                               plan.server, plan.client);
            break;
        case Layout::kOneProcess:
            text = fmt::format(
                "Placement: one process, server thread on CPU {}, client thread on CPU {}",
                plan.server, plan.client);
            break;
        case Layout::kOneThread:
            text = fmt::format("Placement: one process, one application thread on CPU {}",
                               plan.server);
            break;
        case Layout::kTwoHosts:
            text = fmt::format("Placement: server at {}, client process here on CPU {}",
                               options.connect, plan.client);
            break;
    }
    if (!plan.server_poll.empty()) {
        text += fmt::format("; polling cores on {}", fmt::join(plan.server_poll, ","));
        if (options.layout == Layout::kTwoProcesses)
            text += fmt::format(" and {}", fmt::join(plan.client_poll, ","));
    }
    text += fmt::format(" ({})\n", plan.why);
    if (options.layout == Layout::kTwoHosts) {
        text += "Hand-off: none, between two hosts\n";
    } else if (run.reference.placement == Placement::kOneCpu) {
        text += "Hand-off: none, all on one CPU\n";
    } else {
        text += fmt::format(
            "Hand-off of a cache line between CPU {} and {}: {:.0f} ns one way ({}; {:.1f} ns to "
            "overwrite a line that the "
            "other has read); samples repeated because it moved: {}\n",
            plan.handoff_a, plan.handoff_b, run_handoff(run).value_or(run.reference.one_way_ns),
            to_string(run.reference.placement), run.reference.overwrite_ns_per_line, run.repeated);
    }
    return text;
}

// With both ends in one thread and a polling core beside it, each message goes from the thread to the core and
// back, as a cache line does in a raw round trip; the round trips of the table are two messages.
std::string core_trips(const PingRun& run, const PingOptions& options) {
    std::string text;
    if (options.layout != Layout::kOneThread || options.mode != "dedicated") return text;
    for (const PingSeries& series : run.series) {
        const PingSummary summary = summarize(series);
        if (series.kernel || !summary.ratio) continue;
        text += fmt::format(
            "{}{} bytes from the thread to the polling core and back: {}, {:.2f} times the raw "
            "round "
            "trip of a cache line\n",
            text.empty() ? "\n" : "", series.size, duration(summary.half_p50_ns),
            *summary.ratio / 2);
        if (summary.bare_ns && summary.bare_with_work_ns) {
            const double raw = *summary.handoff_ns * 2;
            text += fmt::format(
                "    bare cache lines, as many of them: {}, {:.2f} times; with as much work on the "
                "way: {}, {:.2f} times\n",
                duration(*summary.bare_ns), *summary.bare_ns / raw,
                duration(*summary.bare_with_work_ns), *summary.bare_with_work_ns / raw);
        }
    }
    return text;
}

}  // namespace

std::string table_of(const PingRun& run, const PingOptions& options, const CpuPlan& plan) {
    std::string text = placement_lines(run, options, plan);
    if (!options.quiet && run.provider) {
        text += fmt::format("Provider: {} ({}), started in {:.1f} ms\n", run.provider->description,
                            run.provider->path, run.provider->startup_ms);
        const FabricFacts& fabric = run.provider->fabric;
        text +=
            fmt::format("Fabric: {}{} ({})\n", fabric.name,
                        fabric.device.empty() ? "" : ", device " + fabric.device, fabric.reason);
    }
    text += "\n";
    text += fmt::format(fmt::runtime(kRow), "over", "mode", "complete", "size", "rtt p50", "p90",
                        "p99", "p99.9", "max", "half p50", "/handoff", "messages", "");
    for (const PingSeries& series : run.series)
        text += row_of(series, options);
    if (!options.quiet) {
        text += core_trips(run, options);
        for (const std::string& remark : plan.remarks)
            text += "\n" + remark + "\n";
    }
    return text;
}

}  // namespace sanpoll::bench
