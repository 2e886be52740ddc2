#include "engine/fabric/shm/copy_choice.hpp"

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/engine/fabric/shm/two_ways.hpp"

namespace sanpoll::engine::shm {
namespace {

constexpr std::uint32_t kMiB = 1U << 20;

// Operations that take a given time each way, for a MiB.
struct World : tests::TwoWays<World> {
    World() : tests::TwoWays<World>(30000, 90000) {}

    CopyChoice choice;

    bool run(std::uint32_t length = kMiB) {
        const bool direct = choice.direct(length);
        choice.took(direct, length, takes(direct) * length / kMiB);
        return direct;
    }
};

TEST(CopyChoice, TriesBothWaysFirst) {
    World world;
    EXPECT_TRUE(world.run());
    EXPECT_FALSE(world.run());
}

TEST(CopyChoice, PrefersTheQuickerWay) {
    World near;
    near.direct_ones(2);
    EXPECT_FALSE(near.choice.prefers_direct());
    World far;
    far.staged_ns = 300000;
    far.direct_ones(2);
    EXPECT_TRUE(far.choice.prefers_direct());
}

TEST(CopyChoice, TrialsBecomeRare) {
    World world;
    world.direct_ones(2000);
    EXPECT_LE(world.direct_ones(2560), 10U);
    EXPECT_GE(world.direct_ones(2560), 10U);
}

TEST(CopyChoice, FollowsWhenThePreferredWayBecomesSlow) {
    World world;
    world.direct_ones(2000);
    ASSERT_FALSE(world.choice.prefers_direct());
    world.staged_ns = 300000;
    world.direct_ones(20);
    EXPECT_TRUE(world.choice.prefers_direct());
}

TEST(CopyChoice, FollowsWhenTheOtherWayBecomesQuick) {
    World world;
    world.staged_ns = 300000;
    world.direct_ones(2000);
    ASSERT_TRUE(world.choice.prefers_direct());
    world.staged_ns = 30000;
    world.direct_ones(256 + 10 * 8);
    EXPECT_FALSE(world.choice.prefers_direct());
}

TEST(CopyChoice, WaysOfTheSamePriceAreNotChangedToAndFro) {
    World world;
    world.staged_ns = 88000;
    world.direct_ones(2000);
    EXPECT_GE(world.direct_ones(1000), 990U);
    world.staged_ns = 92000;
    EXPECT_GE(world.direct_ones(1000), 990U);
}

TEST(CopyChoice, OneStallOfTheProcessIsSoonForgotten) {
    World world;
    world.direct_ones(2000);
    world.choice.took(false, kMiB, 20'000'000);
    world.direct_ones(50);
    EXPECT_FALSE(world.choice.prefers_direct());
}

TEST(CopyChoice, ShortOperationsFollowAndAreNotTimed) {
    World world;
    EXPECT_TRUE(world.choice.direct(CopyChoice::kTimed - 1));  // nothing is known yet
    world.choice.took(true, CopyChoice::kTimed - 1, 1);        // would be the quickest by far
    world.direct_ones(2000);
    ASSERT_FALSE(world.choice.prefers_direct());
    for (int i = 0; i < 1000; ++i) {
        ASSERT_FALSE(world.run(CopyChoice::kTimed - 1));
    }
}

TEST(CopyChoice, LengthsAreMadeComparable) {
    World world;
    for (int i = 0; i < 2000; ++i) {
        world.run(i % 2 == 0 ? CopyChoice::kTimed : 64 * kMiB);
    }
    EXPECT_FALSE(world.choice.prefers_direct());
}

TEST(CopyChoice, AnOperationOfNoTimeDoesNotCountAsUnknown) {
    World world;
    world.staged_ns = 0;
    world.direct_ones(2);
    EXPECT_FALSE(world.choice.prefers_direct());
}

}  // namespace
}  // namespace sanpoll::engine::shm
