#include "engine/fabric/shm/message_choice.hpp"

#include <gtest/gtest.h>

#include <cstdint>

#include "tests/engine/fabric/shm/two_ways.hpp"

namespace sanpoll::engine::shm {
namespace {

// Messages that take a given time each way, and the first one after a change of the way ten times that.
struct World : tests::TwoWays<World> {
    explicit World(bool direct = true)
        : tests::TwoWays<World>(7000, 3000), choice(direct), last(direct) {}

    MessageChoice choice;
    bool last;

    bool run(std::uint32_t times = 1) {
        const bool direct = choice.direct();
        const std::uint32_t change = direct == last ? 1 : 10;
        last = direct;
        choice.took(direct, takes(direct) * times * change);
        return direct;
    }
};

TEST(MessageChoice, TriesBothWaysFirstAndTheStagedOneUntilItIsWarm) {
    for (const bool direct : {false, true}) {
        World world(direct);
        EXPECT_EQ(world.direct_ones(40), 0U);
        EXPECT_EQ(world.direct_ones(8), 8U);
    }
}

TEST(MessageChoice, PrefersTheQuickerWay) {
    World untouched;
    untouched.direct_ones(200);
    EXPECT_TRUE(untouched.choice.prefers_direct());
    World fresh;
    fresh.direct_ns = 11000;
    fresh.direct_ones(200);
    EXPECT_FALSE(fresh.choice.prefers_direct());
}

TEST(MessageChoice, OneThatIsALittleQuickerIsNoReasonToChange) {
    World world;
    world.staged_ns = 2800;
    world.direct_ones(20000);
    EXPECT_TRUE(world.choice.prefers_direct());
    World other(false);
    other.staged_ns = 3200;
    other.direct_ones(20000);
    EXPECT_FALSE(other.choice.prefers_direct());
}

TEST(MessageChoice, ATrialIsTwoMessagesAndTrialsBecomeRare) {
    World world;
    world.direct_ones(20000);
    std::uint32_t trials = 0;
    bool last = true;
    for (int i = 0; i < 20 * 4096; ++i) {
        const bool direct = world.run();
        if (!direct && last) {
            ++trials;
        } else if (!direct) {
            EXPECT_TRUE(world.run());  // no third one
        }
        last = direct;
    }
    EXPECT_GE(trials, 15U);
    EXPECT_LE(trials, 21U);
}

TEST(MessageChoice, WhatWasColdAtFirstIsFoundOut) {
    World world;
    world.staged_ns = 40000;
    world.direct_ns = 11000;
    world.direct_ones(30);
    world.staged_ns = 7000;
    world.direct_ones(20);
    EXPECT_FALSE(world.choice.prefers_direct());
}

TEST(MessageChoice, SamplesOfAThreadThatWasNotScheduledChangeNothing) {
    World world;
    world.direct_ones(20000);
    for (int i = 0; i < 2000; ++i) {
        world.run(i % 50 == 0 ? 1000 : 1);
    }
    EXPECT_TRUE(world.choice.prefers_direct());
    EXPECT_GE(world.direct_ones(5000), 4900U);
}

TEST(MessageChoice, FollowsWhenTheSenderBeginsToWriteItsBuffers) {
    World world;
    world.direct_ones(20000);
    world.direct_ns = 12000;
    world.direct_ones(200);
    EXPECT_FALSE(world.choice.prefers_direct());
    world.staged_ns = 6000;
    world.direct_ns = 3000;
    world.direct_ones(3 * 4096);
    EXPECT_TRUE(world.choice.prefers_direct());
}

TEST(MessageChoices, LengthsOfAnotherOrderAreAnotherMatter) {
    MessageChoices choices;
    EXPECT_NE(&choices.of(20000), &choices.of(65536));
    EXPECT_NE(&choices.of(65536), &choices.of(1U << 20));
    EXPECT_EQ(&choices.of(65536), &choices.of(100000));
    EXPECT_EQ(&choices.of(1U << 20), &choices.of(UINT32_MAX));
    EXPECT_EQ(&choices.of(0), &choices.of(32767));
    EXPECT_TRUE(choices.of(65536).prefers_direct());
    EXPECT_FALSE(choices.of(1U << 20).prefers_direct());
}

}  // namespace
}  // namespace sanpoll::engine::shm
