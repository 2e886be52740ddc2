#include "bench/latency_histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

namespace sanpoll::bench {
namespace {

constexpr std::uint64_t kMinute = 60'000'000'000;

TEST(LatencyHistogram, AnswersZeroWhileEmpty) {
    const LatencyHistogram histogram;
    EXPECT_EQ(histogram.total(), 0U);
    EXPECT_EQ(histogram.quantile(0.5), 0U);
    EXPECT_EQ(histogram.min(), 0U);
    EXPECT_EQ(histogram.max(), 0U);
    EXPECT_EQ(histogram.mean(), 0.0);
    EXPECT_TRUE(histogram.buckets().empty());
}

TEST(LatencyHistogram, IsExactBelow256) {
    for (std::uint64_t ns = 1; ns < 256; ++ns) {
        LatencyHistogram histogram;
        histogram.record(ns);
        histogram.record(kMinute);  // so that the bucket's end is not cut to the largest value
        ASSERT_EQ(histogram.quantile(0.5), ns);
    }
}

TEST(LatencyHistogram, NeverMissesByMoreThanOnePercent) {
    std::vector<std::uint64_t> values;
    for (std::uint64_t power = 1; power < kMinute; power *= 2) {
        for (const std::uint64_t around : {power - 1, power, power + 1, power + power / 3}) {
            if (around >= 1 && around <= kMinute) values.push_back(around);
        }
    }
    for (double ns = 1; ns < static_cast<double>(kMinute); ns *= 1.003) {
        values.push_back(static_cast<std::uint64_t>(ns));
    }
    for (const std::uint64_t ns : values) {
        LatencyHistogram histogram;
        histogram.record(ns);
        histogram.record(kMinute);
        const std::uint64_t answer = histogram.quantile(0.5);
        ASSERT_GE(answer, ns);
        ASSERT_LE(static_cast<double>(answer), static_cast<double>(ns) * 1.01);
    }
}

TEST(LatencyHistogram, CountsWhatLiesOutsideAtTheEnds) {
    LatencyHistogram histogram;
    histogram.record(0);
    histogram.record(kMinute * 10);
    histogram.record(UINT64_MAX);
    EXPECT_EQ(histogram.total(), 3U);
    EXPECT_EQ(histogram.min(), 1U);
    EXPECT_EQ(histogram.max(), kMinute);
    EXPECT_EQ(histogram.quantile(0), 1U);
    EXPECT_EQ(histogram.quantile(1), kMinute);
}

TEST(LatencyHistogram, KeepsTheLargestValueExact) {
    LatencyHistogram histogram;
    histogram.record(1'000'003);
    EXPECT_EQ(histogram.max(), 1'000'003U);
    EXPECT_EQ(histogram.quantile(0.999), 1'000'003U);
    EXPECT_EQ(histogram.mean(), 1'000'003.0);
}

TEST(LatencyHistogram, FindsQuantilesOfALargeSample) {
    std::mt19937_64 random(7);
    std::lognormal_distribution<double> latency(6, 1.5);
    LatencyHistogram histogram;
    std::vector<std::uint64_t> values;
    for (int i = 0; i < 200'000; ++i) {
        const auto ns = static_cast<std::uint64_t>(latency(random)) + 1;
        values.push_back(ns);
        histogram.record(ns);
    }
    std::sort(values.begin(), values.end());
    for (const double q : {0.5, 0.9, 0.99, 0.999, 0.9999}) {
        const auto rank = static_cast<std::size_t>(q * static_cast<double>(values.size())) - 1;
        const auto exact = static_cast<double>(values[rank]);
        const auto answer = static_cast<double>(histogram.quantile(q));
        EXPECT_GE(answer, exact * 0.999) << q;
        EXPECT_LE(answer, exact * 1.011) << q;
    }
}

TEST(LatencyHistogram, MergesAsIfAllHadBeenRecordedTogether) {
    LatencyHistogram first, second, together;
    for (std::uint64_t ns = 1; ns < 100'000; ns += 7) {
        (ns % 2 == 0 ? first : second).record(ns);
        together.record(ns);
    }
    first.merge(second);
    EXPECT_EQ(first.buckets(), together.buckets());
    EXPECT_EQ(first.total(), together.total());
    EXPECT_EQ(first.min(), together.min());
    EXPECT_EQ(first.max(), together.max());
    EXPECT_EQ(first.sum(), together.sum());
}

TEST(LatencyHistogram, MergingWithAnEmptyOneChangesNothing) {
    LatencyHistogram histogram;
    histogram.record(500, 3);
    histogram.merge(LatencyHistogram{});
    EXPECT_EQ(histogram.total(), 3U);
    EXPECT_EQ(histogram.min(), 500U);
    LatencyHistogram empty;
    empty.merge(histogram);
    EXPECT_EQ(empty.min(), 500U);
    EXPECT_EQ(empty.quantile(0.5), 500U);
}

TEST(LatencyHistogram, SurvivesTheWayThroughItsBuckets) {
    LatencyHistogram histogram;
    for (std::uint64_t ns = 3; ns < kMinute; ns = ns * 5 / 3)
        histogram.record(ns, 2);
    const auto copy = LatencyHistogram::from_buckets(histogram.buckets(), histogram.min(),
                                                     histogram.max(), histogram.sum());
    EXPECT_EQ(copy.buckets(), histogram.buckets());
    EXPECT_EQ(copy.total(), histogram.total());
    EXPECT_EQ(copy.min(), histogram.min());
    EXPECT_EQ(copy.max(), histogram.max());
    EXPECT_EQ(copy.mean(), histogram.mean());
}

TEST(LatencyHistogram, ListsBucketsInAscendingOrder) {
    LatencyHistogram histogram;
    for (std::uint64_t ns = 1; ns < 1'000'000; ns += 997)
        histogram.record(ns);
    const auto buckets = histogram.buckets();
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < buckets.size(); ++i) {
        if (i > 0) {
            ASSERT_GT(buckets[i].first, buckets[i - 1].first);
        }
        ASSERT_GT(buckets[i].second, 0U);
        sum += buckets[i].second;
    }
    EXPECT_EQ(sum, histogram.total());
}

TEST(LatencyHistogram, ForgetsEverythingOnReset) {
    LatencyHistogram histogram;
    histogram.record(77);
    histogram.reset();
    EXPECT_EQ(histogram.total(), 0U);
    histogram.record(99);
    EXPECT_EQ(histogram.min(), 99U);
    EXPECT_EQ(histogram.max(), 99U);
}

}  // namespace
}  // namespace sanpoll::bench
