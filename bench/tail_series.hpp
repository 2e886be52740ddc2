// What tail_bench gathers: the samples of each load, and what is told of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bench/latency_histogram.hpp"
#include "bench/noise_floor.hpp"
#include "bench/spread.hpp"

namespace sanpoll::bench {

// One sample of one load.
struct TailSample {
    LatencyHistogram latencies;
    LatencyHistogram bare;       // at the same rate
    LatencyHistogram bare_busy;  // at the same share of its own peak
    LatencyHistogram ideal;
    LatencyHistogram queued;
    std::vector<Noise> noise;  // before and after
    std::uint64_t held_up = 0;
};

struct Series {
    std::uint32_t bytes = 64;
    unsigned load_percent = 50;
    double per_second = 0;
    double peak_per_second = 0;
    double bare_per_second = 0;  // the same share of the bare exchange's peak
    std::vector<TailSample> samples;

    // Median over the rounds, ns.
    [[nodiscard]] double latency(double quantile) const {
        return median([&](const TailSample& s) { return s.latencies.quantile(quantile); });
    }
    [[nodiscard]] double bare(double quantile) const {
        return median([&](const TailSample& s) { return s.bare.quantile(quantile); });
    }
    [[nodiscard]] double ideal(double quantile) const {
        return median([&](const TailSample& s) { return s.ideal.quantile(quantile); });
    }
    [[nodiscard]] double queued(double quantile) const {
        return median([&](const TailSample& s) { return s.queued.quantile(quantile); });
    }
    [[nodiscard]] double bare_busy(double quantile) const {
        return median([&](const TailSample& s) { return s.bare_busy.quantile(quantile); });
    }
    // Ours over that of the bare exchange of the same round, as busy as ours.
    [[nodiscard]] double p99_beside_bare() const { return median(ratio_of_p99); }
    static double ratio_of_p99(const TailSample& sample) {
        const auto bare = static_cast<double>(sample.bare_busy.quantile(0.99));
        return static_cast<double>(sample.latencies.quantile(0.99)) / std::max(bare, 1.0);
    }
    [[nodiscard]] std::uint64_t held_up() const {
        std::uint64_t all = 0;
        for (const TailSample& sample : samples)
            all += sample.held_up;
        return all;
    }
    template <class Of>
    [[nodiscard]] double median(Of&& of) const {
        std::vector<double> values;
        values.reserve(samples.size());
        for (const TailSample& sample : samples)
            values.push_back(static_cast<double>(of(sample)));
        return spread_of(values).median;
    }
};

struct Peak {
    std::uint32_t bytes = 64;
    std::vector<double> rounds;
    std::vector<double> bare_rounds;
};

}  // namespace sanpoll::bench
