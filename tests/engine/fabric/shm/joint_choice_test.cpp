#include "engine/fabric/shm/joint_choice.hpp"

#include <gtest/gtest.h>

#include <cstdint>

namespace sanpoll::engine::shm {
namespace {

// Messages that take a given time each way; and the first ones after a change of the way ten times that.
struct World {
    std::uint64_t joint_ns = 1000;
    std::uint64_t alone_ns = 1000;
    JointChoice choice;
    bool last = true;
    std::uint32_t since_change = 0;

    bool message(std::uint64_t times = 1) {
        const bool joint = choice.joint();
        since_change = joint == last ? since_change + 1 : 0;
        last = joint;
        const std::uint64_t cold = since_change < JointChoice::kAfterAChange ? 10 : 1;
        choice.took((joint ? joint_ns : alone_ns) * cold * times);
        return joint;
    }
    std::uint32_t joint_ones(std::uint32_t messages) {
        std::uint32_t count = 0;
        for (std::uint32_t i = 0; i < messages; ++i) {
            count += message() ? 1 : 0;
        }
        return count;
    }
};

TEST(JointChoice, BeginsWithBothEnds) {
    World world;
    EXPECT_EQ(world.joint_ones(JointChoice::kRun), JointChoice::kRun);
}

TEST(JointChoice, FindsTheQuickerWaySoon) {
    World alone;
    alone.alone_ns = 800;
    alone.joint_ones(400);
    EXPECT_LE(alone.joint_ones(10000), 800U);
    World joint;
    joint.joint_ns = 800;
    joint.joint_ones(400);
    EXPECT_GE(joint.joint_ones(10000), 9200U);
}

TEST(JointChoice, OneThatIsALittleQuickerIsNoReasonToChange) {
    World world;
    world.alone_ns = 970;
    world.joint_ones(20000);
    EXPECT_GE(world.joint_ones(20000), 19000U);
}

TEST(JointChoice, TrialsBecomeRare) {
    World world;
    world.joint_ones(20000);
    EXPECT_GE(world.joint_ones(20000), 19500U);
}

TEST(JointChoice, ChangesWithTheWorld) {
    World world;
    world.alone_ns = 800;
    world.joint_ones(20000);
    world.alone_ns = 1500;
    world.joint_ones(20000);
    EXPECT_GE(world.joint_ones(10000), 9500U);
}

// Who was not scheduled for a while has not shown anything.
TEST(JointChoice, AMessageThatTookLongChangesNothing) {
    World world;
    for (std::uint32_t i = 0; i < 50000; ++i) {
        (void)world.message(i % 97 == 0 ? 20 : 1);
        world.since_change = JointChoice::kAfterAChange;
    }
    EXPECT_GE(world.joint_ones(10000), 9000U);
}

TEST(JointChoices, TheirRangesAreApart) {
    JointChoices choices;
    JointChoice* const first = &choices.of(JointChoices::kFrom);
    EXPECT_EQ(&choices.of(2 * JointChoices::kFrom - 1), first);
    EXPECT_EQ(&choices.of(2 * JointChoices::kFrom), first + 1);
    EXPECT_EQ(&choices.of(1U << 20), first + 5);
    EXPECT_EQ(&choices.of(~0U), first + 5);
}

}  // namespace
}  // namespace sanpoll::engine::shm
