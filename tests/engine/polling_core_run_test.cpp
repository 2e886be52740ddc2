// What a core runs for others: control operations, and a close among posts.
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "engine/polling_core.hpp"
#include "tests/engine/core_bench.hpp"

namespace sanpoll::engine {
namespace {

using tests::CoreBench;
using tests::dedicated_config;
using tests::FakeSocket;
using tests::inline_config;

struct CountOp final : ControlOp {
    explicit CountOp(PollingCore& target) : core(target) {}
    void run() noexcept override {
        ++runs;
        had_token = !core.try_acquire();
        if (!had_token) {
            core.release();
        }
    }
    PollingCore& core;
    int runs = 0;
    bool had_token = false;
};

TEST(PollingCoreRun, RunsUnderTheTokenAndWaits) {
    for (const bool dedicated : {false, true}) {
        CoreBench bench(dedicated ? dedicated_config() : inline_config());
        ASSERT_EQ(bench.start(), "");
        CountOp op(bench.core);
        for (int i = 1; i <= 100; ++i) {
            bench.core.run(op);
            ASSERT_EQ(op.runs, i);
            ASSERT_TRUE(op.had_token);
        }
    }
}

TEST(PollingCoreRun, AtRestNeedsNoPlaceInTheOrder) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    CountOp op(bench.core);
    std::atomic<Endpoint*> where{&socket.endpoint()};
    const auto at_rest = [&](std::uint32_t generation) {
        return bench.core.run_at_rest(op, socket.gate, generation, where);
    };
    EXPECT_TRUE(at_rest(socket.generation()));
    EXPECT_TRUE(op.had_token);
    ASSERT_EQ(socket.post(0), Status::kOk);
    EXPECT_TRUE(at_rest(socket.generation()));
    EXPECT_EQ(op.runs, 2);

    // Somebody else is the core, a post is on its way, the generation is another, the gate is shut.
    ASSERT_TRUE(bench.core.try_acquire());
    EXPECT_FALSE(at_rest(socket.generation()));
    bench.core.release();
    ASSERT_TRUE(socket.gate.enter(socket.generation()).has_value());
    EXPECT_FALSE(at_rest(socket.generation()));
    ++socket.endpoint().next_sequence;
    EXPECT_TRUE(at_rest(socket.generation()));
    EXPECT_FALSE(at_rest(socket.generation() + 2));
    ASSERT_TRUE(socket.gate.suspend(socket.generation()).has_value());
    EXPECT_FALSE(at_rest(socket.generation()));
    EXPECT_EQ(op.runs, 3);
    EXPECT_TRUE(bench.core.try_acquire()) << "it was given back each time";
    bench.core.release();
}

TEST(PollingCoreRun, ADedicatedCoreIsNeverTakenForAMoment) {
    CoreBench bench(dedicated_config());
    FakeSocket socket(bench.core, bench.port);
    CountOp op(bench.core);
    const std::atomic<Endpoint*> where{&socket.endpoint()};
    EXPECT_FALSE(bench.core.run_at_rest(op, socket.gate, socket.generation(), where));
    EXPECT_EQ(op.runs, 0);
}

// It must not wait behind what this thread has posted: whoever has the control thread's turn runs it.
TEST(PollingCoreRun, ADedicatedCoreRunsItPastPostsThatWait) {
    CoreBench bench(dedicated_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(socket.gate.enter(socket.generation()).has_value());  // a post that is on its way
    ASSERT_EQ(socket.post(0), Status::kOk);                           // waits behind it in our lane
    CountOp op(bench.core);
    bench.core.run(op);
    EXPECT_EQ(op.runs, 1);
    struct ArriveOp final : ControlOp {
        explicit ArriveOp(Endpoint& target) : endpoint(target) {}
        void run() noexcept override { ++endpoint.next_sequence; }
        Endpoint& endpoint;
    } arrive(socket.endpoint());
    bench.core.run(arrive);
    EXPECT_EQ(socket.close(), 2U);
    EXPECT_EQ(socket.record.completions(), 1U);
}

struct AtThreadEnd {
    ~AtThreadEnd() {
        if (action) {
            action();
        }
    }
    std::function<void()> action;
};

TEST(PollingCoreRun, ADedicatedCoreRunsItForAThreadThatEnds) {
    CoreBench bench(dedicated_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    CountOp op(bench.core);
    std::thread([&] {
        // Made before the thread's lane, so it ends after that has been given up.
        thread_local AtThreadEnd end;
        end.action = [&] { bench.core.run(op); };
        EXPECT_EQ(socket.post(0), Status::kOk);
    }).join();
    EXPECT_EQ(op.runs, 1);
    EXPECT_EQ(socket.close(), 1U);
}

// Threads post until the gate shuts; the close must come after every post that was let in, and no other.
void close_among_posts(const Config& config) {
    CoreBench bench(config);
    ASSERT_EQ(bench.start(), "");
    const std::uint64_t rounds = 40;
    std::size_t before = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        FakeSocket socket(bench.core, bench.port);
        std::atomic<std::uint64_t> accepted{0};
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
                for (;;) {
                    const Status status = socket.post(0);
                    if (status == Status::kNotOpen) {
                        return;
                    }
                    accepted.fetch_add(status == Status::kOk ? 1 : 0);
                    if (accepted.load() % 64 == 63 || status == Status::kFull) {
                        std::this_thread::yield();
                    }
                }
            });
        }
        while (accepted.load() < round % 100) {
            std::this_thread::yield();
        }
        const std::uint32_t admitted = socket.close();
        ASSERT_EQ(bench.port.posted_at_close, before + admitted) << round;
        for (std::thread& thread : threads) {
            thread.join();
        }
        ASSERT_EQ(accepted.load(), admitted) << round;
        ASSERT_EQ(socket.record.completions(), admitted);
        ASSERT_EQ(socket.record.closures(), 1);
        before += admitted;
    }
}

TEST(PollingCoreRun, AtItsPlaceInTheOrderInline) { close_among_posts(inline_config()); }

TEST(PollingCoreRun, AtItsPlaceInTheOrderDedicated) { close_among_posts(dedicated_config()); }

}  // namespace
}  // namespace sanpoll::engine
