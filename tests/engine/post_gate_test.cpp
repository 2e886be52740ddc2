#include "engine/post_gate.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using State = PostGate::State;

TEST(PostGate, IsFreeWhenNew) {
    PostGate gate;
    EXPECT_EQ(gate.view().generation, 0U);
    EXPECT_EQ(gate.view().state, State::kShut);
    EXPECT_EQ(gate.view().sequence, 0U);
}

TEST(PostGate, LiveGenerationsAreOddAndFreeOnesEven) {
    PostGate gate;
    for (std::uint32_t life = 0; life < 5; ++life) {
        const std::uint32_t generation = gate.revive();
        EXPECT_EQ(generation, 2 * life + 1);
        EXPECT_EQ(gate.generation(), generation);
        ASSERT_TRUE(gate.close(generation).has_value());
        EXPECT_EQ(gate.generation(), generation + 1);
    }
}

TEST(PostGate, AFreeGateRefusesEveryGeneration) {
    PostGate gate;
    const std::uint32_t old = gate.revive();
    ASSERT_TRUE(gate.open(old));
    ASSERT_TRUE(gate.close(old).has_value());
    for (std::uint32_t generation = 0; generation < 8; ++generation) {
        EXPECT_FALSE(gate.enter(generation).has_value()) << generation;
    }
}

TEST(PostGate, ShutRefusesEntry) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    EXPECT_FALSE(gate.enter(generation).has_value());
    EXPECT_EQ(gate.view().sequence, 0U);
}

TEST(PostGate, OpenNumbersTheEntries) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    ASSERT_TRUE(gate.open(generation));
    for (std::uint32_t i = 0; i < 100; ++i) {
        EXPECT_EQ(gate.enter(generation), i);
    }
    EXPECT_EQ(gate.view().sequence, 100U);
}

TEST(PostGate, AStaleGenerationIsRefusedEverywhere) {
    PostGate gate;
    const std::uint32_t old = gate.revive();
    ASSERT_TRUE(gate.open(old));
    ASSERT_TRUE(gate.close(old).has_value());
    const std::uint32_t generation = gate.revive();
    EXPECT_FALSE(gate.open(old));
    ASSERT_TRUE(gate.open(generation));
    EXPECT_FALSE(gate.enter(old).has_value());
    EXPECT_FALSE(gate.break_off(old, State::kReset));
    EXPECT_FALSE(gate.close(old).has_value());
    EXPECT_EQ(gate.view().state, State::kOpen);
    EXPECT_EQ(gate.enter(generation), 0U);
}

TEST(PostGate, ALookTellsWhoseItIs) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    EXPECT_TRUE(PostGate::is_of(gate.look(), generation));
    EXPECT_FALSE(PostGate::is_open(gate.look()));
    ASSERT_TRUE(gate.open(generation));
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(gate.enter(generation).has_value());
    }
    const std::uint64_t word = gate.look();
    EXPECT_TRUE(PostGate::is_open(word));
    EXPECT_TRUE(PostGate::is_open_for(word, generation));
    EXPECT_EQ(PostGate::sequence_of(word), 5U);
    EXPECT_FALSE(PostGate::is_of(word, generation + 2));
    EXPECT_FALSE(PostGate::is_open_for(word, generation + 2));
    // What no gate has must not be cut to what this one has.
    for (const std::uint32_t bit : {1U << 30, 1U << 31}) {
        EXPECT_FALSE(PostGate::is_of(word, generation | bit));
        EXPECT_FALSE(PostGate::is_open_for(word, generation | bit));
        EXPECT_FALSE(gate.enter(generation | bit).has_value());
    }
    ASSERT_TRUE(gate.break_off(generation, State::kReset));
    EXPECT_TRUE(PostGate::is_of(gate.look(), generation));
    EXPECT_FALSE(PostGate::is_open_for(gate.look(), generation));
}

// ---- the direct way ---------------------------------------------------------------------------------

constexpr std::uint64_t kHandle = 0x500000007;

// Open and direct, `posts` admitted.
void open_direct(PostGate& gate, std::uint32_t& generation, std::uint32_t posts = 0) {
    generation = gate.revive();
    ASSERT_TRUE(gate.open(generation));
    for (std::uint32_t i = 0; i < posts; ++i) {
        ASSERT_EQ(gate.enter(generation), i);
    }
    gate.let_direct(kHandle, generation, posts);
    ASSERT_TRUE(gate.is_direct(kHandle));
}

TEST(PostGate, IsDirectForNobodyUntilItIsLet) {
    PostGate gate;
    EXPECT_FALSE(gate.is_direct(kHandle));
    std::uint32_t generation = 0;
    ASSERT_NO_FATAL_FAILURE(open_direct(gate, generation));
    EXPECT_FALSE(gate.is_direct(kHandle + 1));
    EXPECT_EQ(gate.enter(generation), 0U) << "who takes effect at once does not end it";
    EXPECT_TRUE(gate.is_direct(kHandle));
}

TEST(PostGate, IsNotLetDirectWhileSomethingIsOnItsWay) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    gate.let_direct(kHandle, generation, 0);
    EXPECT_FALSE(gate.is_direct(kHandle)) << "it is shut";
    ASSERT_TRUE(gate.open(generation));
    ASSERT_EQ(gate.enter(generation), 0U);
    gate.let_direct(kHandle, generation, 0);
    EXPECT_FALSE(gate.is_direct(kHandle)) << "one was admitted beyond those that have taken effect";
    gate.let_direct(kHandle, generation + 2, 1);
    EXPECT_FALSE(gate.is_direct(kHandle)) << "it is another one's";
    gate.let_direct(kHandle, generation, 1);
    EXPECT_TRUE(gate.is_direct(kHandle));
}

TEST(PostGate, EveryChangeEndsTheDirectWay) {
    PostGate gate;
    std::uint32_t generation = 0;
    ASSERT_NO_FATAL_FAILURE(open_direct(gate, generation, 2));
    EXPECT_EQ(gate.enter_behind(generation), 2U);
    EXPECT_FALSE(gate.is_direct(kHandle));
    gate.let_direct(kHandle, generation, 3);
    ASSERT_TRUE(gate.is_direct(kHandle));
    EXPECT_EQ(gate.suspend(generation), 3U);
    EXPECT_FALSE(gate.is_direct(kHandle));
    ASSERT_TRUE(gate.resume(generation));
    EXPECT_FALSE(gate.is_direct(kHandle));
    gate.let_direct(kHandle, generation, 4);
    ASSERT_TRUE(gate.is_direct(kHandle));
    ASSERT_TRUE(gate.break_off(generation, State::kReset));
    EXPECT_FALSE(gate.is_direct(kHandle));
    ASSERT_TRUE(gate.close(generation).has_value());

    ASSERT_NO_FATAL_FAILURE(open_direct(gate, generation));
    EXPECT_EQ(gate.close(generation)->sequence, 0U);
    EXPECT_FALSE(gate.is_direct(kHandle));
}

// One thread lets it be direct again and again, as the core does, the other ends that: once the last change has been
// made, it is not direct, whatever came in between.
TEST(PostGate, WhatIsChangedWhileItIsLetDirectIsNotMissed) {
    for (std::uint64_t round = 0; round < tests::scaled(500); ++round) {
        PostGate gate;
        std::uint32_t generation = 0;
        ASSERT_NO_FATAL_FAILURE(open_direct(gate, generation));
        std::atomic<bool> stop{false};
        std::thread core([&] {
            while (!stop.load(std::memory_order_relaxed)) {
                gate.let_direct(kHandle, generation, 0);
            }
            gate.let_direct(kHandle, generation, 0);
        });
        if (round % 2 == 0) {
            EXPECT_TRUE(gate.close(generation).has_value());
        } else {
            EXPECT_EQ(gate.enter_behind(generation), 0U);
        }
        stop.store(true, std::memory_order_relaxed);
        core.join();
        EXPECT_FALSE(gate.is_direct(kHandle));
    }
}

TEST(PostGate, OpensOnce) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    EXPECT_TRUE(gate.open(generation));
    EXPECT_FALSE(gate.open(generation));
    ASSERT_TRUE(gate.break_off(generation, State::kFailed));
    EXPECT_FALSE(gate.open(generation));
}

TEST(PostGate, BreakOffKeepsTheSequenceAndRefusesEntry) {
    for (const State state : {State::kReset, State::kFailed}) {
        PostGate gate;
        const std::uint32_t generation = gate.revive();
        ASSERT_TRUE(gate.open(generation));
        ASSERT_TRUE(gate.enter(generation).has_value());
        ASSERT_TRUE(gate.enter(generation).has_value());
        EXPECT_TRUE(gate.break_off(generation, state));
        EXPECT_EQ(gate.view().state, state);
        EXPECT_EQ(gate.view().sequence, 2U);
        EXPECT_FALSE(gate.enter(generation).has_value());
    }
}

TEST(PostGate, BreaksOffOnceAndOnlyWhenOpen) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    EXPECT_FALSE(gate.break_off(generation, State::kReset));
    ASSERT_TRUE(gate.open(generation));
    EXPECT_TRUE(gate.break_off(generation, State::kReset));
    EXPECT_FALSE(gate.break_off(generation, State::kFailed));
    EXPECT_EQ(gate.view().state, State::kReset);
}

TEST(PostGate, CloseTellsWhatItWas) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    ASSERT_TRUE(gate.open(generation));
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(gate.enter(generation).has_value());
    }
    ASSERT_TRUE(gate.break_off(generation, State::kFailed));
    const auto before = gate.close(generation);
    ASSERT_TRUE(before.has_value());
    EXPECT_EQ(before->generation, generation);
    EXPECT_EQ(before->state, State::kFailed);
    EXPECT_EQ(before->sequence, 3U);
    EXPECT_FALSE(gate.close(generation).has_value());
}

TEST(PostGate, SequenceWrapsWithoutTouchingTheRest) {
    // 2^32 entries are too many for a test; this many show that the carry has a field of its own.
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    ASSERT_TRUE(gate.open(generation));
    for (std::uint32_t i = 0; i < 70000; ++i) {
        ASSERT_EQ(gate.enter(generation), i);
    }
    EXPECT_EQ(gate.view().state, State::kOpen);
    EXPECT_EQ(gate.view().generation, generation);
}

TEST(PostGateRace, CloseLearnsTheExactNumberOfAdmittedPosts) {
    constexpr int kThreads = 3;
    const std::uint64_t rounds = tests::scaled(2000);
    PostGate gate;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        const std::uint32_t generation = gate.revive();
        std::vector<std::uint32_t> admitted[kThreads];
        std::atomic<int> running{0};
        std::vector<std::thread> threads;
        if (round == 0 || round % 2 == 1) {
            ASSERT_TRUE(gate.open(generation));
        }
        for (int t = 0; t < kThreads; ++t) {
            threads.emplace_back([&, t] {
                running.fetch_add(1);
                for (std::uint64_t tries = 1; gate.generation() == generation; ++tries) {
                    if (const auto sequence = gate.enter(generation)) {
                        admitted[t].push_back(*sequence);
                    }
                    if (tries % 512 == 0) {
                        std::this_thread::yield();  // who closes may have no processor
                    }
                }
                EXPECT_FALSE(gate.enter(generation).has_value());
            });
        }
        while (running.load() == 0) {
            std::this_thread::yield();
        }
        (void)gate.open(generation);
        for (std::uint64_t spin = 0; spin < round % 50 * 20; ++spin) {
            (void)gate.view();
        }
        if (round % 3 == 0) {
            (void)gate.break_off(generation, State::kReset);
        }
        const auto before = gate.close(generation);
        for (std::thread& thread : threads) {
            thread.join();
        }
        ASSERT_TRUE(before.has_value());
        std::vector<std::uint32_t> all;
        for (const auto& some : admitted) {
            ASSERT_TRUE(std::is_sorted(some.begin(), some.end()));
            all.insert(all.end(), some.begin(), some.end());
        }
        ASSERT_EQ(all.size(), before->sequence) << "round " << round;
        std::sort(all.begin(), all.end());
        for (std::uint32_t i = 0; i < all.size(); ++i) {
            ASSERT_EQ(all[i], i) << "numbers are given out once each";
        }
    }
}

TEST(PostGateRace, OneOfManyClosersWins) {
    const std::uint64_t rounds = tests::scaled(2000);
    PostGate gate;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        const std::uint32_t generation = gate.revive();
        ASSERT_TRUE(gate.open(generation));
        std::atomic<int> winners{0};
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back(
                [&] { winners.fetch_add(gate.close(generation).has_value() ? 1 : 0); });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        ASSERT_EQ(winners.load(), 1);
        ASSERT_EQ(gate.generation(), generation + 1);
    }
}

TEST(PostGate, SuspendShutsBehindTheLastPostAndTakesTheNextNumber) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    EXPECT_FALSE(gate.suspend(generation)) << "it is not open";
    ASSERT_TRUE(gate.open(generation));
    EXPECT_EQ(gate.enter(generation), 0U);
    EXPECT_EQ(gate.enter(generation), 1U);
    EXPECT_EQ(gate.suspend(generation), 2U);
    EXPECT_FALSE(gate.enter(generation));
    EXPECT_FALSE(gate.suspend(generation));
    EXPECT_EQ(gate.view().state, PostGate::State::kShut);
    EXPECT_EQ(gate.generation(), generation) << "the descriptor stays good";
    EXPECT_FALSE(gate.open(generation)) << "only resume() opens it again";
    EXPECT_TRUE(gate.resume(generation));
    EXPECT_EQ(gate.enter(generation), 3U);
}

TEST(PostGate, ASuspendedGateCanBeClosedAndThenNotResumed) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    ASSERT_TRUE(gate.open(generation));
    EXPECT_EQ(gate.suspend(generation), 0U);
    const auto seen = gate.close(generation);
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->state, PostGate::State::kShut);
    EXPECT_EQ(seen->sequence, 1U);
    EXPECT_FALSE(gate.resume(generation));
}

TEST(PostGate, NothingIsSuspendedOfABrokenGate) {
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    ASSERT_TRUE(gate.open(generation));
    ASSERT_TRUE(gate.break_off(generation, PostGate::State::kReset));
    EXPECT_FALSE(gate.suspend(generation));
    EXPECT_FALSE(gate.resume(generation));
}

}  // namespace
}  // namespace sanpoll::engine
