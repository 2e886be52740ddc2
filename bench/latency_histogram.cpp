#include "bench/latency_histogram.hpp"

#include <cmath>

namespace sanpoll::bench {

void LatencyHistogram::merge(const LatencyHistogram& other) noexcept {
    for (std::size_t i = 0; i < kBuckets; ++i)
        counts_[i] += other.counts_[i];
    total_ += other.total_;
    sum_ += other.sum_;
    smallest_ = std::min(smallest_, other.smallest_);
    largest_ = std::max(largest_, other.largest_);
}

void LatencyHistogram::reset() noexcept { *this = LatencyHistogram{}; }

double LatencyHistogram::mean() const noexcept {
    return total_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(total_);
}

std::uint64_t LatencyHistogram::quantile(double q) const noexcept {
    if (total_ == 0) return 0;
    q = std::clamp(q, 0.0, 1.0);
    // The rank of the record asked for, counted from one; rounding up makes p50 of {a, b} a, and p100 the last.
    const auto rank = std::clamp<std::uint64_t>(
        static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(total_) - 1e-9)), 1, total_);
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
        seen += counts_[i];
        if (seen >= rank) return std::min(upper_end(i), largest_);
    }
    return largest_;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> LatencyHistogram::buckets() const {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> out;
    for (std::size_t i = 0; i < kBuckets; ++i) {
        if (counts_[i] != 0) out.emplace_back(upper_end(i), counts_[i]);
    }
    return out;
}

LatencyHistogram LatencyHistogram::from_buckets(
    const std::vector<std::pair<std::uint64_t, std::uint64_t>>& buckets, std::uint64_t smallest,
    std::uint64_t largest, std::uint64_t sum) {
    LatencyHistogram histogram;
    for (const auto& [upper, count] : buckets)
        histogram.record(upper, count);
    if (smallest != 0) histogram.smallest_ = smallest;
    if (largest != 0) histogram.largest_ = largest;
    if (sum != 0) histogram.sum_ = sum;
    return histogram;
}

}  // namespace sanpoll::bench
