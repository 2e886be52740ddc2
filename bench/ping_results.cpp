#include "bench/ping_results.hpp"

#include <algorithm>

namespace sanpoll::bench {
namespace {

using nlohmann::json;

std::optional<double> median(std::vector<double> values) {
    if (values.empty()) return std::nullopt;
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::vector<const PingSample*> samples_that_count(const PingSeries& series) {
    std::vector<const PingSample*> good;
    for (const PingSample& sample : series.samples) {
        if (!sample.moved) good.push_back(&sample);
    }
    if (good.empty()) {
        for (const PingSample& sample : series.samples)
            good.push_back(&sample);
    }
    return good;
}

template <class Get>
std::optional<double> median_of(const std::vector<const PingSample*>& samples, Get&& get) {
    std::vector<double> values;
    for (const PingSample* sample : samples) {
        for (const double value : get(*sample)) {
            if (value > 0) values.push_back(value);
        }
    }
    return median(std::move(values));
}

std::vector<double> handoffs_around(const PingSample& sample) {
    return {sample.before.one_way_ns, sample.after.one_way_ns};
}

json optional_number(const std::optional<double>& value) {
    return value ? json(*value) : json(nullptr);
}

json json_of_provider(const std::optional<ProviderFacts>& provider) {
    if (!provider) return nullptr;
    return {{"description", provider->description},    {"path", provider->path},
            {"addresses", provider->addresses},        {"startup_ms", provider->startup_ms},
            {"fabric", provider->fabric.name},         {"device", provider->fabric.device},
            {"fabric_reason", provider->fabric.reason}};
}

json json_of_round(const PingSample& sample) {
    json round{{"p50_ns", sample.round_trips.quantile(0.5)},
               {"loop_ns", sample.loop_ns},
               {"messages_per_second",
                sample.messages_per_second > 0 ? json(sample.messages_per_second) : json(nullptr)},
               {"moved", sample.moved}};
    if (sample.bare.lines_ns > 0) {
        round["bare_ns"] = sample.bare.lines_ns;
        round["bare_with_work_ns"] = sample.bare.with_work_ns;
    }
    if (sample.copy.alone > 0) {
        round["bare_copy_bytes_per_second"] = sample.copy.alone;
        round["bare_joint_copy_bytes_per_second"] = sample.copy.both;
    }
    round["before"] = json_of_handoff(sample.before);
    round["after"] = json_of_handoff(sample.after);
    return round;
}

json json_of_series(const PingSeries& series, const PingOptions& options) {
    const PingSummary summary = summarize(series);
    const LatencyHistogram& trips = summary.round_trips;
    json result{{"transport", series.transport}, {"size", series.size}};
    result["mode"] = series.kernel ? "kernel" : options.mode;
    result["completion"] = !series.kernel         ? to_string(series.completion)
                           : options.tcp_blocking ? "blocking"
                                                  : "spinning";
    result["rtt_ns"] = {{"p50", trips.quantile(0.5)},  {"p90", trips.quantile(0.9)},
                        {"p99", trips.quantile(0.99)}, {"p999", trips.quantile(0.999)},
                        {"max", trips.max()},          {"min", trips.min()},
                        {"mean", trips.mean()}};
    result["half_rtt_ns"] = summary.half_p50_ns;
    result["loop_ns"] = summary.loop_ns;
    result["handoff_ns"] = optional_number(summary.handoff_ns);
    result["ratio_to_handoff"] = optional_number(summary.ratio);
    if (summary.bare_ns) {
        result["bare_ns"] = *summary.bare_ns;
        result["bare_with_work_ns"] = optional_number(summary.bare_with_work_ns);
    }
    if (summary.copied_alone) {
        result["bare_copy_bytes_per_second"] = *summary.copied_alone;
        result["bare_joint_copy_bytes_per_second"] = optional_number(summary.copied_by_both);
    }
    result["messages_per_second"] = optional_number(summary.messages_per_second);
    result["round_trips"] = trips.total();
    result["histogram"] = trips.buckets();
    for (const PingSample& sample : series.samples)
        result["rounds"].push_back(json_of_round(sample));
    return result;
}

}  // namespace

json json_of_handoff(const Handoff& handoff) {
    return {{"class", to_string(handoff.placement)},
            {"round_trip_ns", handoff.round_trip_ns},
            {"overwrite_ns_per_line", handoff.overwrite_ns_per_line}};
}

PingSummary summarize(const PingSeries& series) {
    PingSummary summary;
    const auto samples = samples_that_count(series);
    for (const PingSample* sample : samples)
        summary.round_trips.merge(sample->round_trips);
    summary.half_p50_ns = static_cast<double>(summary.round_trips.quantile(0.5)) / 2;
    summary.loop_ns =
        median_of(samples, [](const PingSample& s) { return std::vector{s.loop_ns}; }).value_or(0);
    summary.messages_per_second =
        median_of(samples, [](const PingSample& s) { return std::vector{s.messages_per_second}; });
    summary.bare_ns =
        median_of(samples, [](const PingSample& s) { return std::vector{s.bare.lines_ns}; });
    summary.bare_with_work_ns =
        median_of(samples, [](const PingSample& s) { return std::vector{s.bare.with_work_ns}; });
    summary.copied_alone =
        median_of(samples, [](const PingSample& s) { return std::vector{s.copy.alone}; });
    summary.copied_by_both =
        median_of(samples, [](const PingSample& s) { return std::vector{s.copy.both}; });
    summary.handoff_ns = median_of(samples, handoffs_around);
    if (summary.handoff_ns) summary.ratio = summary.half_p50_ns / *summary.handoff_ns;
    for (const PingSample& sample : series.samples)
        summary.moved += sample.moved ? 1 : 0;
    return summary;
}

std::optional<double> run_handoff(const PingRun& run) {
    std::vector<const PingSample*> all;
    for (const PingSeries& series : run.series) {
        for (const PingSample* sample : samples_that_count(series))
            all.push_back(sample);
    }
    return median_of(all, handoffs_around);
}

json json_of(const PingRun& run, const PingOptions& options, const CpuPlan& plan) {
    std::size_t moved = 0;
    json results = json::array();
    for (const PingSeries& series : run.series) {
        results.push_back(json_of_series(series, options));
        moved += summarize(series).moved;
    }
    json placement{{"layout", to_string(options.layout)},
                   {"server_cpu", plan.server < 0 ? json(nullptr) : json(plan.server)},
                   {"client_cpu", plan.client},
                   {"handoff_cpus", {plan.handoff_a, plan.handoff_b}},
                   {"why", plan.why},
                   {"yield", plan.yield},
                   {"samples_repeated", run.repeated},
                   {"samples_moved", moved}};
    placement.update(json_of_handoff(run.reference));
    placement["server_poll_cpus"] = plan.server_poll;
    placement["client_poll_cpus"] = plan.client_poll;
    placement["remarks"] = plan.remarks;
    return {{"handoff_ns", optional_number(run_handoff(run))},
            {"placement", std::move(placement)},
            {"results", std::move(results)},
            {"profile", options.profile.empty() ? "default" : options.profile},
            {"receives", options.receives},
            {"rounds", options.rounds},
            {"seconds", run.seconds},
            {"provider", json_of_provider(run.provider)}};
}

}  // namespace sanpoll::bench
