#include "engine/clock.hpp"

#include <gtest/gtest.h>

namespace sanpoll::engine {
namespace {

TEST(Clock, SteadyNeverGoesBack) {
    Clock& clock = Clock::steady();
    std::uint64_t last = clock.now_ns();
    EXPECT_NE(last, 0U);
    for (int i = 0; i < 10000; ++i) {
        const std::uint64_t now = clock.now_ns();
        ASSERT_GE(now, last);
        last = now;
    }
}

TEST(Clock, SteadyMovesOn) {
    Clock& clock = Clock::steady();
    const std::uint64_t start = clock.now_ns();
    std::uint64_t tries = 0;
    while (clock.now_ns() == start && ++tries < 1000000000) {
    }
    EXPECT_GT(clock.now_ns(), start);
}

TEST(Clock, SteadyIsOneForAll) { EXPECT_EQ(&Clock::steady(), &Clock::steady()); }

}  // namespace
}  // namespace sanpoll::engine
