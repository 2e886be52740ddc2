#include "bench/core_exchange.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

constexpr CoreExchangeEffort kLittle{20, 300};

TEST(CoreExchange, WalksAsManySteps) {
    EXPECT_EQ(walk(5, 0), 5U);
    EXPECT_EQ(walk(5, 7), 12U);
    EXPECT_EQ(walk(5, 8), 13U);
    EXPECT_EQ(walk(5, 1003), 1008U);
}

TEST(CoreExchange, CarriesMessagesOfEveryLengthThatASlotHolds) {
    const auto cpus = allowed_cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "one CPU only";
    const Clock clock = Clock::calibrate();
    for (const std::uint32_t size : {0U, 1U, 8U, 64U}) {
        SCOPED_TRACE(size);
        // Throws when one comes damaged.
        const CoreExchange seen =
            measure_core_exchange(clock, cpus[0], cpus[1], size, kProvidersWork, kLittle);
        EXPECT_EQ(seen.turns.total(), kLittle.turns) << "those that only tried a wait do not count";
        EXPECT_GT(seen.half_p50_ns(), 0.0);
    }
}

TEST(CoreExchange, GoesOnBehindTheLastSlotOfALap) {
    const auto cpus = allowed_cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "one CPU only";
    const CoreExchange seen =
        measure_core_exchange(Clock::calibrate(), cpus[0], cpus[1], 64, {}, {1, 3000});
    EXPECT_EQ(seen.turns.total(), 3000U);
}

TEST(CoreExchange, MeasuresNothingOnOneCpu) {
    const CoreExchange seen = measure_core_exchange(Clock(), 0, 0, 64, {}, kLittle);
    EXPECT_EQ(seen.turns.total(), 0U);
}

TEST(CoreExchange, RefusesWhatDoesNotComeAlongInASlot) {
    EXPECT_THROW(measure_core_exchange(Clock(), 0, 1, kLongestExchanged + 1, {}, kLittle),
                 std::runtime_error);
}

TEST(CoreExchange, RefusesACpuThatItMayNotUse) {
    const int cpu = allowed_cpus().front();
    EXPECT_THROW(measure_core_exchange(Clock(), cpu, 1 << 20, 64, {}, kLittle), std::runtime_error);
}

}  // namespace
}  // namespace sanpoll::bench
