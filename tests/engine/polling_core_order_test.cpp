// The order in which posts reach a port: that of the calls, whatever threads and lanes they come by.
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "engine/polling_core.hpp"
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

TEST(PollingCoreOrder, ARequestWaitsForItsPredecessorInAnotherLane) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    // Whichever lane is looked at first: one of the two orders makes the later post come first.
    for (std::uint64_t i = 0; i < 6; ++i) {
        post_elsewhere(socket, i, 1);
    }
    for (int turns = 0; bench.port.posted.size() < 6; ++turns) {
        ASSERT_LT(turns, 10);
        (void)bench.core.turn();
    }
    bench.core.release();
    EXPECT_EQ(contexts(bench.port.posted), counting(6));
    EXPECT_EQ(socket.record.completed, counting(6));
    EXPECT_GT(bench.core.counters().lane_stalls.value(), 0U);
}

// A look in vain costs the poster a line, so a core of its own takes as many as are likely to be there.
TEST(PollingCoreOrder, ADedicatedCoreTakesMoreOfALaneThatIsNeverFoundEmpty) {
    CoreBench bench(dedicated_config());
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    for (int round = 0; round < 2; ++round) {
        bench.port.posted.clear();
        for (std::uint64_t i = 0; i < 100; ++i) {
            ASSERT_EQ(socket.post(i), Status::kOk);
        }
        for (const std::size_t sum : {1U, 3U, 7U, 15U, 31U, 63U, 95U, 100U}) {
            EXPECT_TRUE(bench.core.turn());
            EXPECT_EQ(bench.port.posted.size(), sum);
        }
        EXPECT_EQ(contexts(bench.port.posted), counting(100));
        EXPECT_FALSE(bench.core.turn());
    }
    bench.core.release();
}

TEST(PollingCoreOrder, AWaitingRequestHoldsUpOtherSocketsOfItsLaneOnly) {
    CoreBench bench(inline_config());
    FakeSocket socket(bench.core, bench.port);
    FakeSocket other(bench.core, bench.port);
    // A post that was admitted and has not arrived yet.
    const auto missing = socket.gate.enter(socket.generation());
    ASSERT_EQ(missing, 0U);
    ASSERT_TRUE(bench.core.try_acquire());
    post_elsewhere(socket, 1, 1);
    post_elsewhere(other, 100, 3);
    for (int i = 0; i < 5; ++i) {
        (void)bench.core.turn();
    }
    EXPECT_EQ(other.record.completed.size(), 3U);
    EXPECT_TRUE(socket.record.completed.empty());
    WorkRequest request{};
    request.endpoint = &socket.endpoint();
    request.context = socket.record.context_base;
    request.sequence = *missing;
    Lane* lane = LaneRegistry::find_or_make(bench.core, bench.config.lane_slots);
    ASSERT_NE(lane, nullptr);
    lane->push(request);
    for (int i = 0; i < 5; ++i) {
        (void)bench.core.turn();
    }
    bench.core.release();
    EXPECT_EQ(socket.record.completed, (std::vector<std::uint64_t>{0, 1}));
}

// Threads hand the socket to and fro under a lock of their own; the order in which they call is the
// order in which the requests must reach the port.
void hand_to_and_fro(CoreBench& bench, std::uint64_t posts, std::uint8_t flags) {
    FakeSocket socket(bench.core, bench.port);
    std::mutex turn;
    std::uint64_t next = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 random(static_cast<unsigned>(t));
            for (;;) {
                std::uint32_t burst = random() % 4 + 1;
                const std::lock_guard lock(turn);
                while (burst-- > 0) {
                    if (next == posts) {
                        return;
                    }
                    post_patiently(socket, next, flags, random() % (kMaxSges + 1));
                    ++next;
                }
            }
        });
    }
    std::atomic<bool> stop{false};
    std::thread turner([&] {  // takes the token away now and then
        while (!stop.load()) {
            bench.core.poll_once();
            std::this_thread::yield();
        }
    });
    for (std::thread& thread : threads) {
        thread.join();
    }
    stop.store(true);
    turner.join();
    EXPECT_EQ(socket.close(), posts);
    EXPECT_TRUE(eventually([&] { return socket.record.closures() == 1; }));
    EXPECT_EQ(contexts(bench.port.posted), counting(posts));
    EXPECT_EQ((flags & kNotify) != 0 ? socket.record.notified : socket.record.completed,
              counting(posts));
    EXPECT_EQ(bench.port.intruders.load(), 0);
}

TEST(PollingCoreOrder, ThreadsThatHandASocketToAndFroInline) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    hand_to_and_fro(bench, scaled(100000), 0);
}

TEST(PollingCoreOrder, ThreadsThatHandASocketToAndFroInlineNotified) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    hand_to_and_fro(bench, scaled(50000), kNotify);
}

TEST(PollingCoreOrder, ThreadsThatHandASocketToAndFroDedicated) {
    CoreBench bench(dedicated_config());
    ASSERT_EQ(bench.start(), "");
    hand_to_and_fro(bench, scaled(100000), 0);
}

TEST(PollingCoreOrder, ThreadsThatHandASocketToAndFroDedicatedNotified) {
    CoreBench bench(dedicated_config());
    ASSERT_EQ(bench.start(), "");
    hand_to_and_fro(bench, scaled(50000), kNotify);
}

}  // namespace
}  // namespace sanpoll::engine
