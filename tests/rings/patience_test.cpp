#include "rings/patience.hpp"

#include <gtest/gtest.h>

namespace sanpoll::rings {
namespace {

// Plays one question whose answer is there `answer` ticks after it, with a look every `step` ticks. Tells when it is found.
std::uint64_t play(Patience& patience, std::uint64_t& clock, std::uint64_t answer,
                   std::uint64_t step = 1) {
    const std::uint64_t asked = clock;
    patience.begin(clock);
    patience.settle(clock);
    for (;; clock += step) {
        if (patience.waiting() && !patience.over(clock)) continue;
        if (clock - asked >= answer) {
            if (patience.looked_early()) {
                patience.found_late(clock);
            } else {
                patience.found();
            }
            return clock - asked;
        }
        patience.looked_in_vain();
    }
}

TEST(Patience, LooksAtOnceUntilItKnowsBetter) {
    Patience patience;
    patience.begin(100);
    EXPECT_FALSE(patience.waiting());
    EXPECT_EQ(patience.wait(), 0U);
}

TEST(Patience, LearnsWhenTheAnswerComes) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 2000; ++i)
        (void)play(patience, clock, 300);
    EXPECT_GE(patience.wait(), 300 - Patience::kLonger);
    EXPECT_LE(patience.wait(), 300 + Patience::kLonger);
    int early = 0;
    for (int i = 0; i < 1000; ++i) {
        (void)play(patience, clock, 300);
        early += patience.looked_early() ? 1 : 0;
    }
    EXPECT_LE(early, 150) << "few looks are too early";
    EXPECT_GE(early, 1) << "and it goes on learning";
}

TEST(Patience, FollowsAnAnswerThatBecomesQuicker) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 3000; ++i)
        (void)play(patience, clock, 800);
    ASSERT_GE(patience.wait(), 700U);
    for (int i = 0; i < 3000; ++i)
        (void)play(patience, clock, 100);
    EXPECT_LE(patience.wait(), 100 + Patience::kLonger);
}

TEST(Patience, ASlowAnswerNowAndThenChangesNothing) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 4000; ++i)
        (void)play(patience, clock, i % 7 == 0 ? 600 : 200);
    EXPECT_LE(patience.wait(), 200 + 2 * Patience::kLonger);
}

TEST(Patience, AnswersThatTakeLongTeachNothing) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 100; ++i)
        (void)play(patience, clock, Patience::kSlow + 5);
    EXPECT_EQ(patience.wait(), 0U);
}

TEST(Patience, NeverWaitsLongerThanItMay) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 3000; ++i)
        (void)play(patience, clock, Patience::kSlow - 1);
    EXPECT_EQ(patience.wait(), Patience::kMost);
    EXPECT_LE(play(patience, clock, 1), Patience::kMost);
}

TEST(Patience, LearnsForEachSizeOfQuestion) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 2000; ++i) {
        patience.begin(clock, 64);
        patience.looked_in_vain();
        patience.found_late(clock + 300);
        clock += 1000;
    }
    EXPECT_GT(patience.wait(), 0U);
    for (const std::uint32_t length : {65U, 1024U, 4096U, 0xFFFFFFFFU}) {
        patience.begin(clock, length);
        EXPECT_EQ(patience.wait(), 0U) << length;
    }
    patience.begin(clock, 1);
    EXPECT_GT(patience.wait(), 0U) << "a line, like 64 bytes";
}

TEST(Patience, CountsFromWhenTheQuestionIsOut) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 2000; ++i)
        (void)play(patience, clock, 300);
    const std::uint64_t wait = patience.wait();
    patience.begin(clock);
    EXPECT_FALSE(patience.settled());
    EXPECT_FALSE(patience.over(clock + wait)) << "it may be on its way still";
    patience.settle(clock + 50);
    EXPECT_TRUE(patience.settled());
    EXPECT_FALSE(patience.over(clock + 50 + wait - 1));
    EXPECT_TRUE(patience.over(clock + 50 + wait));
    patience.begin(clock + 1000);
    EXPECT_FALSE(patience.settled()) << "this one is not known to be out";
    EXPECT_TRUE(patience.over(clock + 1000 + wait + Patience::kOnItsWay));
}

TEST(Patience, AnExcusedAnswerTeachesNothing) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 2000; ++i)
        (void)play(patience, clock, 300);
    const std::uint64_t wait = patience.wait();
    for (int i = 0; i < 100; ++i) {
        patience.excuse();
        (void)play(patience, clock, 3000);
        ASSERT_EQ(patience.wait(), wait) << "late";
        patience.excuse();
        (void)play(patience, clock, 1);
        ASSERT_EQ(patience.wait(), wait) << "in time";
    }
    for (int i = 0; i < 100; ++i)
        (void)play(patience, clock, 3000);
    EXPECT_GT(patience.wait(), wait) << "one excuse is good for one answer";
}

TEST(Patience, NeverWaitsWhereItIsOfNoUse) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 2000; ++i)
        (void)play(patience, clock, 300);
    EXPECT_FALSE(patience.is_never());
    patience.never();
    EXPECT_TRUE(patience.is_never());
    for (int i = 0; i < 3; ++i) {
        patience.begin(clock += 1000);
        ASSERT_FALSE(patience.waiting());
    }
}

TEST(Patience, IsGivenUpAtOnce) {
    Patience patience;
    std::uint64_t clock = 1000;
    for (int i = 0; i < 2000; ++i)
        (void)play(patience, clock, 300);
    patience.begin(clock);
    ASSERT_TRUE(patience.waiting());
    ASSERT_FALSE(patience.over(clock + 1));
    patience.give_up();
    EXPECT_FALSE(patience.waiting());
    patience.begin(clock + 1000);
    EXPECT_TRUE(patience.waiting()) << "for this once only";
}

TEST(Patience, TheCounterMayWrap) {
    Patience patience;
    std::uint64_t clock = 0 - std::uint64_t{150'000};
    for (int i = 0; i < 2000; ++i)
        (void)play(patience, clock, 300);
    EXPECT_LT(clock, 1'000'000U);
    EXPECT_LE(patience.wait(), 300 + Patience::kLonger);
}

}  // namespace
}  // namespace sanpoll::rings
