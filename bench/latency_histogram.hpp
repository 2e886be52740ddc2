// Histogram of latencies in nanoseconds: log-linear buckets, fixed memory, no allocation while recording.
//
// Contract
//   range       1 ns ... 60 s; what lies outside is counted at the nearest end (0 as 1 ns)
//   resolution  exact below 256 ns, above it a bucket is at most 1/128 (0.79 %) as wide as its values
//   record()    O(1), no branch that depends on the value, no allocation, no system call
//   threads     none: one thread records; merge() what several recorded, when they are done
//
// Layout: every power of two from 128 on is cut into 128 equal buckets, so the bucket number is the top eight
// bits of the value with its exponent in front. Quantiles answer with a bucket's upper end (never better than
// what was measured), except that the largest value is known exactly.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sanpoll::bench {

class LatencyHistogram {
public:
    static constexpr std::uint64_t kLargest = 60'000'000'000;  // 60 s

    // One value; `count` times if given.
    void record(std::uint64_t ns, std::uint64_t count = 1) noexcept {
        ns = std::clamp<std::uint64_t>(ns, 1, kLargest);
        counts_[bucket_of(ns)] += count;
        total_ += count;
        sum_ += ns * count;
        smallest_ = std::min(smallest_, ns);
        largest_ = std::max(largest_, ns);
    }

    // Adds everything that `other` holds.
    void merge(const LatencyHistogram& other) noexcept;

    // Forgets everything.
    void reset() noexcept;

    std::uint64_t total() const noexcept { return total_; }
    std::uint64_t min() const noexcept { return total_ == 0 ? 0 : smallest_; }  // exact
    std::uint64_t max() const noexcept { return largest_; }                     // exact
    double mean() const noexcept;

    // The value that a share `q` (0 ... 1) of all records do not exceed, rounded up to its bucket's upper end;
    // 0 when nothing was recorded.
    std::uint64_t quantile(double q) const noexcept;

    // The buckets that hold something, ascending: {largest value that belongs to the bucket, count}.
    std::vector<std::pair<std::uint64_t, std::uint64_t>> buckets() const;

    // The inverse of buckets(), for histograms that came through a pipe or a file. The exact smallest and largest
    // value and the sum cannot be recovered from buckets; pass them if they are known.
    static LatencyHistogram from_buckets(
        const std::vector<std::pair<std::uint64_t, std::uint64_t>>& buckets,
        std::uint64_t smallest = 0, std::uint64_t largest = 0, std::uint64_t sum = 0);

    std::uint64_t sum() const noexcept { return sum_; }

private:
    static constexpr unsigned kSubBits =
        7;  // 2^7 buckets for each power of two: 1/128 relative width
    static constexpr std::uint64_t kSub = 1ULL << kSubBits;

    static constexpr std::size_t bucket_of(std::uint64_t ns) noexcept {
        const auto exponent =
            static_cast<unsigned>(std::bit_width(ns | kSub)) - 1;  // >= 7, so that shift >= 0
        const unsigned shift = exponent - kSubBits;
        return (static_cast<std::size_t>(shift) << kSubBits) +
               static_cast<std::size_t>(ns >> shift);
    }
    static constexpr std::uint64_t upper_end(std::size_t bucket) noexcept {
        if (bucket < 2 * kSub) return bucket;
        const std::size_t shift = (bucket >> kSubBits) - 1;
        const std::uint64_t top = bucket - (shift << kSubBits);
        return ((top + 1) << shift) - 1;
    }

    static constexpr std::size_t kBuckets =
        ((static_cast<std::size_t>(std::bit_width(kLargest)) - 1 - kSubBits) << kSubBits) +
        2 * kSub;

    std::array<std::uint64_t, kBuckets> counts_{};
    std::uint64_t total_ = 0;
    std::uint64_t sum_ = 0;
    std::uint64_t smallest_ = kLargest;
    std::uint64_t largest_ = 0;
};

}  // namespace sanpoll::bench
