#include "engine/poll_token.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/engine/core_bench.hpp"
#include "tests/engine/patience.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using tests::CoreBench;
using tests::eventually;
using tests::inline_config;
using tests::scaled;

TEST(PollTokenTest, IsHeldByOne) {
    PollToken token;
    EXPECT_TRUE(token.try_acquire());
    EXPECT_FALSE(token.try_acquire());
    token.release();
    EXPECT_TRUE(token.try_acquire());
}

TEST(PollTokenTest, NobodyGivesWayWhenNobodyWaits) {
    PollToken token;
    EXPECT_FALSE(token.wanted());
    EXPECT_EQ(token.give_way(), 0U);
    ASSERT_TRUE(token.try_acquire());
    EXPECT_EQ(token.give_way(), 0U);
}

TEST(PollTokenTest, WhoFindsItFreeAsksNobodyToGiveWay) {
    PollToken token;
    token.acquire_first();
    EXPECT_FALSE(token.wanted());
    EXPECT_FALSE(token.try_acquire());
}

// The waiter cannot get what the test holds, so the poller gives way as often as it ever does.
TEST(PollTokenTest, APollerGivesWayABoundedNumberOfTimes) {
    PollToken token;
    ASSERT_TRUE(token.try_acquire());
    std::thread waiter([&] {
        token.acquire_first();
        token.release();
    });
    ASSERT_TRUE(eventually([&] { return token.wanted(); }));
    for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(token.give_way(), PollToken::kYields);
    }
    EXPECT_TRUE(token.wanted());
    token.release();
    waiter.join();
    EXPECT_FALSE(token.wanted());
    EXPECT_EQ(token.give_way(), 0U);
}

TEST(PollTokenTest, ItIsWantedUntilTheLastWaiterHasIt) {
    PollToken token;
    ASSERT_TRUE(token.try_acquire());
    std::atomic<bool> go{false};
    std::atomic<int> holders{0};
    std::vector<std::thread> waiters;
    for (int i = 0; i < 2; ++i) {
        waiters.emplace_back([&] {
            token.acquire_first();
            holders.fetch_add(1);
            while (!go.load()) {
                std::this_thread::yield();
            }
            token.release();
        });
    }
    ASSERT_TRUE(eventually([&] { return token.wanted(); }));
    token.release();
    ASSERT_TRUE(eventually([&] { return holders.load() == 1; }));
    // One has it. The other waits, or is about to.
    ASSERT_TRUE(eventually([&] { return token.wanted(); }));
    go.store(true);
    for (std::thread& waiter : waiters) {
        waiter.join();
    }
    EXPECT_EQ(holders.load(), 2);
    EXPECT_FALSE(token.wanted());
}

TEST(PollTokenTest, APatientWaiterAsksNobodyToGiveWay) {
    PollToken token;
    ASSERT_TRUE(token.try_acquire());
    std::atomic<bool> has_it{false};
    std::thread waiter([&] {
        token.acquire_patiently();
        has_it.store(true);
        token.release();
    });
    for (int i = 0; i < 100; ++i) {
        EXPECT_FALSE(token.wanted());
        EXPECT_FALSE(has_it.load());
        std::this_thread::yield();
    }
    token.release();
    waiter.join();
    EXPECT_TRUE(has_it.load());
}

// A holder that looks after wanted tokens, as a core does: the data that the token guards is never torn.
TEST(PollTokenTest, GuardsWhatItGuards) {
    PollToken token;
    std::uint64_t guarded = 0;  // plain: a race would be seen
    const std::uint64_t each = scaled(20000);
    std::atomic<std::uint64_t> polled{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&] {
            for (std::uint64_t i = 0; i < each; ++i) {
                (void)token.give_way();
                if (token.try_acquire()) {
                    ++guarded;
                    token.release();
                    polled.fetch_add(1, std::memory_order_relaxed);
                }
            }
        });
        threads.emplace_back([&] {
            for (std::uint64_t i = 0; i < each / 10; ++i) {
                token.acquire_first();
                ++guarded;
                token.release();
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(guarded, polled.load() + 2 * (each / 10));
}

// ---- on a core --------------------------------------------------------------------------------------

// A port that takes its time, so that whoever polls it holds the token nearly always.
class SlowPort final : public FabricPort {
public:
    [[nodiscard]] std::string_view fabric() const noexcept override { return "slow"; }
    void post(Endpoint&, const WorkRequest&) noexcept override {}
    void close(Endpoint&) noexcept override {}
    std::uint32_t poll(std::uint32_t) noexcept override {
        for (int i = 0; i < 100; ++i) {
            rings::cpu_pause();
        }
        return 1;  // always busy: pollers do not rest between two turns
    }
    void arm() noexcept override {}
    void disarm() noexcept override {}
};

// Many more threads than processors, all of them pollers that never rest; a control operation comes in
// all the same, again and again, and the pollers are not shut out either.
TEST(PollTokenOnACore, ControlOperationsComeInAmongSpinningPollers) {
    CoreBench bench(inline_config());
    SlowPort slow;
    bench.core.add_port(slow);
    std::atomic<bool> stop{false};
    std::vector<std::thread> pollers;
    for (int i = 0; i < 10; ++i) {
        pollers.emplace_back([&] {
            while (!stop.load(std::memory_order_relaxed)) {
                bench.core.poll_once();
            }
        });
    }
    struct Op final : ControlOp {
        void run() noexcept override { ++runs; }
        std::uint64_t runs = 0;
    } op;
    ASSERT_TRUE(eventually([&] { return bench.port.polls.load() > 100; }));
    const std::uint64_t wanted = scaled(4000);
    EXPECT_TRUE(eventually([&] {
        bench.core.run(op);
        return op.runs >= wanted;
    })) << op.runs;
    const std::uint64_t before = bench.port.polls.load();
    EXPECT_TRUE(eventually([&] { return bench.port.polls.load() > before + 100; }));
    stop.store(true);
    for (std::thread& poller : pollers) {
        poller.join();
    }
    EXPECT_EQ(bench.port.intruders.load(), 0);
}

}  // namespace
}  // namespace sanpoll::engine
