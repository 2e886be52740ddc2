#include "bench/noise_floor.hpp"

#include <gtest/gtest.h>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

// A tick of an uncalibrated clock is a nanosecond.
const Clock kClock;

TEST(IdealRoundTrips, CostNothingOnQuietCores) {
    const Noise noise{Stalls({}, 0, 10000), Stalls({}, 0, 10000)};
    const LatencyHistogram histogram = ideal_round_trips(noise, kClock, 1e9 / 100);
    EXPECT_EQ(histogram.total(), 100U);
    EXPECT_EQ(histogram.max(), 1U);  // nothing counts as 1 ns
}

TEST(IdealRoundTrips, WaitForEachCoreInTurn) {
    // Meant for 0, 1000, 2000, 3000, 4000. The second one leaves at 1100 and is answered at 1150; the third one is
    // answered at 2010 and seen at 2300; the last one is meant for a moment at which nothing is in the way.
    const Noise noise{Stalls({{950, 1100}, {2005, 2300}}, 0, 5000),
                      Stalls({{1050, 1150}, {1990, 2010}}, 0, 5000)};
    const LatencyHistogram histogram = ideal_round_trips(noise, kClock, 1e6);
    ASSERT_EQ(histogram.total(), 5U);
    EXPECT_EQ(histogram.quantile(0.6), 1U);
    EXPECT_EQ(histogram.quantile(0.8), 150U);
    EXPECT_EQ(histogram.max(), 300U);
}

TEST(IdealRoundTrips, CountOnlyWhileBothCoresWereWatched) {
    const Noise noise{Stalls({}, 0, 10000), Stalls({}, 4000, 9000)};
    EXPECT_EQ(ideal_round_trips(noise, kClock, 1e6).total(), 5U);
    EXPECT_EQ(ideal_round_trips(noise, kClock, 0).total(), 0U);
}

TEST(IdealRoundTrips, WorkOffWhatWasHeldUpAtTheirRate) {
    // Meant for 0, 100 ... 900; the core is away from 150 to 600, then 100 ns go by between any two: the third one
    // leaves at 600, the last one, the eighth after it, at 1300. None is slower than the one behind which it waits.
    const Noise noise{Stalls({{150, 600}}, 0, 1000), Stalls({}, 0, 1000)};
    EXPECT_EQ(ideal_round_trips(noise, kClock, 1e7).max(), 400U);
    const LatencyHistogram queued = ideal_round_trips(noise, kClock, 1e7, 1e7);
    ASSERT_EQ(queued.total(), 10U);
    EXPECT_EQ(queued.quantile(0.2), 1U);
    EXPECT_EQ(queued.quantile(0.3), 400U);
    EXPECT_EQ(queued.max(), 400U);
    // At twice the rate they catch up: the third is 400 late, the next 350, then 300 ... 50.
    const LatencyHistogram catching_up = ideal_round_trips(noise, kClock, 1e7, 2e7);
    EXPECT_EQ(catching_up.quantile(0.3), 50U);
    EXPECT_EQ(catching_up.max(), 400U);
}

TEST(NoiseFigures, CountGapsByTheirLength) {
    const std::vector<Stalls> stalls{
        Stalls({{0, 900}, {10'000, 12'000}, {20'000, 40'000}}, 0, 500'000'000),
        Stalls({{100'000, 200'000}}, 0, 500'000'000)};
    const NoiseFigures figures = figures_of(stalls, kClock);
    EXPECT_DOUBLE_EQ(figures.seconds, 1);
    EXPECT_DOUBLE_EQ(figures.over_1us_per_second, 3);
    EXPECT_DOUBLE_EQ(figures.over_10us_per_second, 2);
    EXPECT_DOUBLE_EQ(figures.over_50us_per_second, 1);
    EXPECT_EQ(figures.gaps.total(), 3U);
    EXPECT_EQ(figures.gaps.max(), 100'000U);
    EXPECT_NEAR(figures.lost_percent, 0.0122, 1e-9);
}

TEST(NoiseFigures, OfNothingAreZero) { EXPECT_EQ(figures_of({}, kClock).over_1us_per_second, 0); }

TEST(MeasureNoise, WatchesBothCores) {
    const std::vector<int> cpus = allowed_cpus();
    const Clock clock = Clock::calibrate();
    const Noise noise = measure_noise(clock, cpus.front(), cpus.back(), 5);
    // However late either thread was to begin: both were watched over the same time.
    EXPECT_EQ(noise.client.begin(), noise.server.begin());
    EXPECT_GT(ideal_round_trips(noise, clock, 1e6).total(), 4900U);
    for (const Stalls* stalls : {&noise.client, &noise.server}) {
        EXPECT_GE(clock.to_ns(stalls->end() - stalls->begin()), 4'900'000U);
        for (const Gap& gap : stalls->gaps())
            EXPECT_GT(gap.end, gap.begin);
    }
}

TEST(MeasureNoise, RefusesACpuThatIsNotThere) {
    EXPECT_THROW((void)measure_noise(Clock(), allowed_cpus().front(), 1023, 1), std::runtime_error);
}

}  // namespace
}  // namespace sanpoll::bench
