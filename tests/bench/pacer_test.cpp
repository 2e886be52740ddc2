#include "bench/pacer.hpp"

#include <gtest/gtest.h>

namespace sanpoll::bench {
namespace {

// A tick of an uncalibrated clock is a nanosecond.
const Clock kClock;

TEST(Pacer, SpacesMessagesEvenly) {
    const Pacer pacer(kClock, 1000, 1e6);
    EXPECT_EQ(pacer.due(0), 1000U);
    EXPECT_EQ(pacer.due(1), 2000U);
    EXPECT_EQ(pacer.due(7), 8000U);
}

TEST(Pacer, DoesNotAddUpWhatItRounds) {
    // 333.33 ns each: after three million messages exactly a second.
    const Pacer pacer(kClock, 5, 3e6);
    EXPECT_EQ(pacer.due(1), 5U + 333);
    EXPECT_EQ(pacer.due(2), 5U + 667);
    EXPECT_EQ(pacer.due(3'000'000), 5U + 1'000'000'000);
}

TEST(Pacer, WithoutARateAllAreDueAtTheStart) {
    const Pacer pacer(kClock, 77, 0);
    EXPECT_EQ(pacer.due(0), 77U);
    EXPECT_EQ(pacer.due(1'000'000), 77U);
}

}  // namespace
}  // namespace sanpoll::bench
