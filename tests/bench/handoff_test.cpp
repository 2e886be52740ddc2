#include "bench/handoff.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

TEST(Handoff, TellsPlacementsApart) {
    EXPECT_EQ(classify(110, 3.4), Placement::kNear);
    EXPECT_EQ(classify(125, 7.2), Placement::kNear);
    EXPECT_EQ(classify(50, 1.2), Placement::kSmt);
    EXPECT_EQ(classify(300, 15), Placement::kFar);
}

TEST(Handoff, SaysUnknownWhereTheTwoNumbersContradictEachOther) {
    EXPECT_EQ(classify(50, 15), Placement::kUnknown);
    EXPECT_EQ(classify(400, 1.0), Placement::kUnknown);
    EXPECT_EQ(classify(0, 0), Placement::kUnknown);
}

TEST(Handoff, ComparesPlacements) {
    const Handoff near{110, 55, 3.4, Placement::kNear};
    const Handoff also_near{130, 65, 4.0, Placement::kNear};
    const Handoff slower{200, 100, 8.0, Placement::kNear};
    const Handoff far{300, 150, 15, Placement::kFar};
    const Handoff alone{0, 0, 0, Placement::kOneCpu};
    EXPECT_TRUE(same_placement(near, also_near));
    EXPECT_FALSE(same_placement(near, slower));
    EXPECT_FALSE(same_placement(near, far));
    EXPECT_TRUE(same_placement(alone, alone));
    EXPECT_FALSE(same_placement(alone, near));
}

TEST(Handoff, MeasuresNothingOnOneCpu) {
    const Handoff handoff = measure_handoff(Clock(), 0, 0);
    EXPECT_EQ(handoff.placement, Placement::kOneCpu);
    EXPECT_EQ(handoff.one_way_ns, 0);
}

TEST(Handoff, MeasuresBetweenTwoCpus) {
    const auto cpus = allowed_cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "one CPU only";
    const Handoff handoff = measure_handoff(Clock::calibrate(), cpus[0], cpus[1], {5, 500});
    EXPECT_GT(handoff.round_trip_ns, 5);
    EXPECT_DOUBLE_EQ(handoff.one_way_ns * 2, handoff.round_trip_ns);
    EXPECT_GT(handoff.overwrite_ns_per_line, 0.1);
}

TEST(Handoff, RefusesACpuThatItMayNotUse) {
    const int cpu = allowed_cpus().front();
    EXPECT_THROW(measure_handoff(Clock(), cpu, 1 << 20), std::runtime_error);
}

TEST(Clock, TakesItsOwnReadingOff) {
    EXPECT_EQ(Clock().read_ns(), 0.0);
    EXPECT_EQ(Clock().elapsed_ns(100, 1334), 1234U);
    const Clock clock = Clock::calibrate();
    EXPECT_GE(clock.read_ns(), 0.0);
    EXPECT_EQ(clock.elapsed_ns(100, 100), 0U);  // never below nothing
    const std::uint64_t ticks = 1'000'000;
    EXPECT_NEAR(static_cast<double>(clock.elapsed_ns(5, 5 + ticks)),
                static_cast<double>(ticks) * clock.ns_per_tick() - clock.read_ns(), 1.0);
}

// A reading of the clock between two of the system's, however long the CPU is away between them.
struct Bracketed {
    explicit Bracketed(const Clock& clock) : ticks(clock.ticks()) {}
    std::uint64_t before_ns = Clock::monotonic_ns();
    std::uint64_t ticks;
    std::uint64_t after_ns = Clock::monotonic_ns();
};

TEST(Clock, AgreesWithTheSystemsClock) {
    const Clock clock = Clock::calibrate();
    const Bracketed start(clock);
    while (Clock::monotonic_ns() - start.after_ns < 20'000'000)
        cpu_pause();
    const Bracketed stop(clock);
    const auto measured = static_cast<double>(clock.to_ns(stop.ticks - start.ticks));
    EXPECT_GE(measured, 0.98 * static_cast<double>(stop.before_ns - start.after_ns));
    EXPECT_LE(measured, 1.02 * static_cast<double>(stop.after_ns - start.before_ns));
}

TEST(Clock, WorksWithoutTheCounter) {
    const Clock clock;
    EXPECT_FALSE(clock.uses_tsc());
    EXPECT_EQ(clock.to_ns(1234), 1234U);
    EXPECT_EQ(clock.from_ms(2), 2'000'000U);
    const std::uint64_t start = clock.ticks();
    EXPECT_GE(clock.ticks(), start);
}

}  // namespace
}  // namespace sanpoll::bench
