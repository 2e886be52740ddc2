#include "bench/sampler.hpp"

#include <gtest/gtest.h>

#include <deque>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

constexpr Handoff kNearBy{120, 60, 4, Placement::kNear};
constexpr Handoff kFarAway{300, 150, 14, Placement::kFar};

// Sentinels that say in turn what they are given, then near for ever.
std::function<Handoff()> sentinel_of(std::deque<Handoff> answers) {
    return [answers]() mutable {
        if (answers.empty()) return kNearBy;
        const Handoff answer = answers.front();
        answers.pop_front();
        return answer;
    };
}

int calls_of(Sampler& sampler) {
    int calls = 0;
    return sampler.take([&] { return ++calls; });
}

TEST(Sampler, TakesASteadySampleOnce) {
    Sampler sampler(sentinel_of({}), "here", 2, 10);
    EXPECT_EQ(calls_of(sampler), 1);
    EXPECT_EQ(sampler.repeated(), 0U);
    EXPECT_EQ(sampler.moved(), 0U);
    EXPECT_EQ(sampler.json().size(), 2U);
    EXPECT_EQ(sampler.json()[0].at("placement"), "near");
    EXPECT_NE(sampler.summary().find("here, near"), std::string::npos) << sampler.summary();
}

TEST(Sampler, TakesAgainWhatMovedMeanwhile) {
    Sampler sampler(sentinel_of({kNearBy, kFarAway, kNearBy, kNearBy}), "here", 2, 10);
    EXPECT_EQ(calls_of(sampler), 2);
    EXPECT_EQ(sampler.repeated(), 1U);
    EXPECT_EQ(sampler.moved(), 0U);
}

TEST(Sampler, ComparesWithTheFirstOfTheRun) {
    Sampler sampler(sentinel_of({kNearBy, kNearBy, kFarAway, kFarAway, kFarAway, kFarAway}), "here",
                    1, 10);
    EXPECT_EQ(calls_of(sampler), 1);
    EXPECT_EQ(calls_of(sampler), 2);
    EXPECT_EQ(sampler.moved(), 1U);
}

TEST(Sampler, RepeatsNoMoreThanItsBudget) {
    Sampler sampler(sentinel_of(std::deque<Handoff>(40, kFarAway)), "here", 5, 3);
    EXPECT_EQ(calls_of(sampler), 1);  // far from the start on: that is the placement then
    Sampler moving(sentinel_of({kNearBy, kFarAway, kFarAway, kFarAway, kFarAway, kFarAway, kFarAway,
                                kFarAway, kNearBy, kFarAway}),
                   "here", 5, 3);
    EXPECT_EQ(calls_of(moving), 4);
    EXPECT_EQ(calls_of(moving), 1);
    EXPECT_EQ(moving.moved(), 2U);
}

TEST(Sampler, OnOneCpuThereIsNothingToCompare) {
    const int cpu = allowed_cpus().front();
    const Clock clock;
    Sampler sampler(clock, cpu, cpu, 2, 10);
    EXPECT_EQ(calls_of(sampler), 1);
    EXPECT_EQ(sampler.json()[1].at("placement"), "one-cpu");
    EXPECT_NE(sampler.summary().find("one CPU"), std::string::npos) << sampler.summary();
}

}  // namespace
}  // namespace sanpoll::bench
