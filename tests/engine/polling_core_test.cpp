#include "engine/polling_core.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/engine/core_bench.hpp"
#include "tests/engine/patience.hpp"
#include "tests/engine/posting.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using tests::contexts;
using tests::CoreBench;
using tests::counting;
using tests::dedicated_config;
using tests::eventually;
using tests::FakeSocket;
using tests::inline_config;
using tests::post_elsewhere;
using tests::post_patiently;
using tests::scaled;

// ---- the token --------------------------------------------------------------------------------------

TEST(PollToken, IsHeldByOne) {
    CoreBench bench(inline_config());
    EXPECT_TRUE(bench.core.try_acquire());
    EXPECT_FALSE(bench.core.try_acquire());
    bench.core.release();
    EXPECT_TRUE(bench.core.try_acquire());
    bench.core.release();
}

TEST(PollToken, PollOnceDoesNothingWithoutIt) {
    CoreBench bench(inline_config());
    ASSERT_TRUE(bench.core.try_acquire());
    bench.core.poll_once();
    EXPECT_EQ(bench.port.polls.load(), 0U);
    bench.core.release();
    bench.core.poll_once();
    EXPECT_EQ(bench.port.polls.load(), 1U);
}

TEST(PollToken, KeepsPortsToOneThreadAtATime) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    const std::uint64_t each = scaled(20000);
    FakeSocket first(bench.core, bench.port);
    FakeSocket second(bench.core, bench.port);
    FakeSocket* const sockets[2] = {&first, &second};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            for (std::uint64_t i = 0; i < each; ++i) {
                if (i % 3 == 0) {
                    bench.core.poll_once();
                }
                post_patiently(*sockets[t % 2], i, i % 5 == 0 ? kNotify : 0);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(first.close(), 2 * each);
    EXPECT_EQ(second.close(), 2 * each);
    // The notices of a socket come before its end; until then its record is written to.
    for (FakeSocket* socket : sockets) {
        EXPECT_TRUE(eventually([&] { return socket->record.closures() == 1; }));
    }
    EXPECT_EQ(bench.port.intruders.load(), 0);
    EXPECT_EQ(bench.port.posted.size(), 4 * each);
}

// ---- posting ----------------------------------------------------------------------------------------

TEST(PollingCorePost, InlineTakesEffectAtOnce) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    for (std::uint64_t i = 0; i < 100; ++i) {
        ASSERT_EQ(socket.post(i), Status::kOk);
        ASSERT_EQ(bench.port.posted.size(), i + 1);
        ASSERT_EQ(bench.port.posted.back().endpoint, &socket.endpoint());
        ASSERT_EQ(bench.port.posted.back().sequence, i);
    }
    EXPECT_EQ(socket.record.completed, counting(100));
    EXPECT_EQ(bench.core.counters().requests.value(), 100U);
    EXPECT_EQ(bench.core.counters().completions.value(), 100U);
}

TEST(PollingCorePost, AShutGateRefusesWithoutAFurtherTrace) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    EXPECT_EQ(socket.close(), 0U);
    EXPECT_EQ(socket.post(1), Status::kNotOpen);
    ASSERT_TRUE(bench.core.try_acquire());
    EXPECT_EQ(socket.post(2), Status::kNotOpen) << "by way of a lane";
    (void)bench.core.turn();
    bench.core.release();
    EXPECT_TRUE(bench.port.posted.empty());
    EXPECT_TRUE(socket.record.completed.empty());
}

TEST(PollingCorePost, GoesByALaneWhileAnotherHoldsTheToken) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    for (std::uint32_t pieces = 0; pieces <= kMaxSges; ++pieces) {
        ASSERT_EQ(socket.post(pieces, 0, pieces), Status::kOk);
    }
    EXPECT_TRUE(bench.port.posted.empty());
    EXPECT_TRUE(bench.core.turn());
    bench.core.release();
    EXPECT_EQ(contexts(bench.port.posted), counting(kMaxSges + 1));
}

TEST(PollingCorePost, AFullLaneIsReportedAndNothingIsAdmitted) {
    Config config;
    config.lane_slots = 16;
    CoreBench bench(config);
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    for (std::uint64_t i = 0; i < 16; ++i) {
        ASSERT_EQ(socket.post(i), Status::kOk);
    }
    EXPECT_EQ(socket.post(16), Status::kFull);
    EXPECT_EQ(socket.gate.view().sequence, 16U);
    (void)bench.core.turn();
    bench.core.release();
    EXPECT_EQ(bench.port.posted.size(), 16U);
    EXPECT_EQ(socket.post(16), Status::kOk);
    EXPECT_EQ(contexts(bench.port.posted), counting(17));
}

TEST(PollingCorePost, ATurnTakesAtMostThirtyTwoFromOneLane) {
    CoreBench bench(inline_config());
    FakeSocket busy(bench.core, bench.port);
    FakeSocket quiet(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    post_elsewhere(busy, 0, 100);
    post_elsewhere(quiet, 1000, 1);
    EXPECT_TRUE(bench.core.turn());
    EXPECT_EQ(bench.port.posted.size(), 33U) << "32 of the one, all of the other";
    EXPECT_EQ(bench.port.last_budget, 64U);
    EXPECT_TRUE(bench.core.turn());
    EXPECT_EQ(bench.port.posted.size(), 65U);
    while (bench.core.turn()) {
    }
    bench.core.release();
    EXPECT_EQ(bench.port.posted.size(), 101U);
    EXPECT_EQ(busy.record.completed, counting(100));
}

// ---- notices ----------------------------------------------------------------------------------------

TEST(PollingCoreNotices, OverflowLosesNoneAndKeepsTheOrder) {
    for (const bool dedicated : {false, true}) {
        Config config = dedicated ? dedicated_config() : inline_config();
        config.notifier_slots = 16;
        CoreBench bench(config);
        ASSERT_EQ(bench.start(), "");
        FakeSocket socket(bench.core, bench.port);
        std::atomic<bool> go{false};
        socket.record.on_notify = [&](const Completion&) {
            while (!go.load()) {
                std::this_thread::yield();
            }
        };
        constexpr std::uint64_t kPosts = 1000;
        for (std::uint64_t i = 0; i < kPosts; ++i) {
            post_patiently(socket, i, kNotify);
        }
        EXPECT_TRUE(eventually([&] { return bench.port.count.load() == kPosts; }));
        go.store(true);
        EXPECT_TRUE(eventually([&] { return socket.record.notifications() == kPosts; }));
        EXPECT_EQ(socket.record.notified, counting(kPosts));
        EXPECT_EQ(bench.core.counters().notifications.value(), kPosts);
    }
}

TEST(PollingCoreNotices, ClosedComesAfterTheLastNotice) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    std::atomic<bool> go{false};
    std::atomic<int> closed_early{0};
    socket.record.on_notify = [&](const Completion&) {
        while (!go.load()) {
            std::this_thread::yield();
        }
        closed_early.fetch_add(socket.record.closures());
    };
    for (std::uint64_t i = 0; i < 10; ++i) {
        ASSERT_EQ(socket.post(i, kNotify), Status::kOk);
    }
    EXPECT_EQ(socket.close(), 10U);
    go.store(true);
    EXPECT_TRUE(eventually([&] { return socket.record.closures() == 1; }));
    EXPECT_EQ(socket.record.notifications(), 10U);
    EXPECT_EQ(closed_early.load(), 0);
}

TEST(PollingCoreNotices, ClosedComesAtOnceIfNothingWasNotified) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    ASSERT_EQ(socket.post(0), Status::kOk);
    EXPECT_EQ(socket.close(), 1U);
    EXPECT_EQ(socket.record.closures(), 1);
}

}  // namespace
}  // namespace sanpoll::engine
