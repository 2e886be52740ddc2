// Who turns a core when no poster does: the backstop, whoever waits, or the core's own lcore.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

#include "engine/polling_core.hpp"
#include "tests/engine/core_bench.hpp"
#include "tests/engine/patience.hpp"
#include "tests/engine/posting.hpp"
#include "tests/engine/thread_state.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using tests::CoreBench;
using tests::dedicated_config;
using tests::eventually;
using tests::FakeSocket;
using tests::inline_config;
using tests::post_elsewhere;
using tests::post_patiently;
using tests::scaled;

// ---- nobody polls: notified requests must get through all the same ----------------------------------

TEST(PollingCoreBackstop, TakesOverALaneThatItsPosterLeft) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    post_elsewhere(socket, 0, 1, kNotify);
    bench.core.release();
    EXPECT_TRUE(eventually([&] { return socket.record.notifications() == 1; }));
}

TEST(PollingCoreBackstop, TakesOverMoreThanOneTurnTakes) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    post_elsewhere(socket, 0, 200, kNotify);
    bench.core.release();
    EXPECT_TRUE(eventually([&] { return socket.record.notifications() == 200; }))
        << socket.record.notifications();
}

TEST(PollingCoreBackstop, TakesOverLanesThatWaitForEachOther) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(bench.core.try_acquire());
    for (std::uint64_t i = 0; i < 6; ++i) {
        post_elsewhere(socket, i, 1, kNotify);
    }
    bench.core.release();
    EXPECT_TRUE(eventually([&] { return socket.record.notifications() == 6; }))
        << socket.record.notifications();
}

TEST(PollingCoreBackstop, NothingIsLeftInALaneWhenThreadsTakeTurns) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    const std::uint64_t rounds = scaled(5000);
    for (std::uint64_t round = 0; round < 3; ++round) {
        FakeSocket socket(bench.core, bench.port);
        std::vector<std::thread> threads;
        for (int t = 0; t < 3; ++t) {
            threads.emplace_back([&] {
                for (std::uint64_t i = 0; i < rounds; ++i) {
                    post_patiently(socket, i, kNotify);
                }
            });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        // Nobody polls any more.
        EXPECT_TRUE(eventually([&] { return socket.record.notifications() == 3 * rounds; }))
            << socket.record.notifications();
        socket.close();
        EXPECT_TRUE(eventually([&] { return socket.record.closures() == 1; }));
    }
}

TEST(PollingCoreBackstop, SleepsWhenNobodyWaitsToBeTold) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    bench.port.complete_at_once.store(false);
    FakeSocket socket(bench.core, bench.port);
    ASSERT_TRUE(eventually([&] { return tests::thread_named("sanpoll-back") != 0; }));
    const int thread = tests::thread_named("sanpoll-back");
    ASSERT_TRUE(eventually([&] { return tests::thread_sleeps(thread); }));
    for (std::uint64_t i = 0; i < 100; ++i) {
        ASSERT_EQ(socket.post(i), Status::kOk);
    }
    ASSERT_TRUE(eventually([&] { return tests::thread_sleeps(thread); }));
    EXPECT_EQ(bench.core.counters().turns.value(), 0U) << "polled requests wake nobody";
    EXPECT_EQ(bench.port.armed.load(), 0);
}

TEST(PollingCoreBackstop, TurnsTheCoreWhenAPeerKnocksUnasked) {
    CoreBench bench(tests::inline_config());
    ASSERT_EQ(bench.start(), "");
    const int doorbell = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ASSERT_GE(doorbell, 0);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    ASSERT_EQ(::epoll_ctl(bench.core.epoll_fd(), EPOLL_CTL_ADD, doorbell, &event), 0);
    for (int knock = 0; knock < 3; ++knock) {
        const std::uint64_t polls = bench.port.polls.load();
        const std::uint64_t one = 1;
        ASSERT_EQ(::write(doorbell, &one, sizeof(one)), static_cast<ssize_t>(sizeof(one)));
        EXPECT_TRUE(eventually([&] { return bench.port.polls.load() > polls; }));
    }
    ::close(doorbell);
}

TEST(PollingCoreBackstop, PollsWhileANotifiedRequestIsPending) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    bench.port.complete_at_once.store(false);
    FakeSocket socket(bench.core, bench.port);
    ASSERT_EQ(socket.post(7, kNotify), Status::kOk);
    EXPECT_TRUE(eventually([&] { return bench.port.polls.load() > 10; }));
    bench.port.arrivals.store(1);
    EXPECT_TRUE(eventually([&] { return socket.record.notifications() == 1; }));
    const int thread = tests::thread_named("sanpoll-back");
    ASSERT_NE(thread, 0);
    EXPECT_TRUE(eventually([&] { return tests::thread_sleeps(thread); }));
}

TEST(PollingCoreBackstop, ArmsThePortsWhenItSleepsOverAPendingRequest) {
    Config config;
    config.profile = Profile::kEco;
    CoreBench bench(config);
    ASSERT_EQ(bench.start(), "");
    bench.port.complete_at_once.store(false);
    FakeSocket socket(bench.core, bench.port);
    ASSERT_EQ(socket.post(7, kNotify), Status::kOk);
    EXPECT_TRUE(eventually([&] { return bench.port.armed.load() == 1; }));
    EXPECT_TRUE(eventually([&] { return bench.core.counters().sleeps.value() != 0; }));
    bench.port.arrivals.store(1);
    bench.core.wake();
    EXPECT_TRUE(eventually([&] { return socket.record.notifications() == 1; }));
    EXPECT_TRUE(eventually([&] { return bench.port.armed.load() == 0; }));
}

// The turns that go with a few sleeps in a row, with a pending request that nothing ends and nobody who wakes the core.
std::uint64_t turns_of_sleeps(Config config, std::uint64_t sleeps) {
    config.profile = Profile::kBalanced;
    config.spin_us = 200000;  // thousands of turns
    CoreBench bench(config);
    EXPECT_EQ(bench.start(), "");
    bench.port.complete_at_once.store(false);
    FakeSocket socket(bench.core, bench.port);
    EXPECT_EQ(socket.post(7, kNotify), Status::kOk);
    const auto slept = [&] { return bench.core.counters().sleeps.value(); };
    EXPECT_TRUE(eventually([&] { return slept() >= 2; }));  // the post's own call may end the first
    const std::uint64_t first = slept();
    const std::uint64_t turns = bench.core.counters().turns.value();
    EXPECT_TRUE(eventually([&] { return slept() >= first + sleeps; }));
    const std::uint64_t taken = bench.core.counters().turns.value() - turns;
    bench.port.arrivals.store(1);
    bench.core.wake();
    EXPECT_TRUE(eventually([&] { return socket.record.notifications() == 1; }));
    return taken;
}

TEST(PollingCoreBackstop, DoesNotSpinAgainBetweenSleepsThatNobodyEnds) {
    EXPECT_LE(turns_of_sleeps(inline_config(), 4), 4U * 10);
}

TEST(PollingCoreDedicated, DoesNotSpinAgainBetweenSleepsThatNobodyEnds) {
    EXPECT_LE(turns_of_sleeps(dedicated_config(), 4), 4U * 200);
}

// ---- waiting ----------------------------------------------------------------------------------------

// Somebody else completes the request, after the waiter has really gone to sleep.
void wait_asleep(const Config& config) {
    CoreBench bench(config);
    ASSERT_EQ(bench.start(), "");
    bench.port.complete_at_once.store(false);
    FakeSocket socket(bench.core, bench.port);
    for (std::uint64_t round = 1; round <= 10; ++round) {
        ASSERT_EQ(socket.post(round), Status::kOk);
        const int waiter = tests::this_thread_id();
        std::atomic<bool> slept{false};
        std::thread finisher([&] {
            slept.store(eventually([&] { return tests::thread_sleeps(waiter); }));
            bench.port.arrivals.store(1);
            bench.core.wake();
        });
        bench.core.wait_until([&] { return socket.record.completions() == round; });
        finisher.join();
        EXPECT_TRUE(slept.load()) << round;
    }
    EXPECT_EQ(socket.record.completions(), 10U);
}

TEST(PollingCoreWait, SleepsAndIsWokenBalanced) {
    Config config = inline_config();
    config.spin_us = 1;
    wait_asleep(config);
}

TEST(PollingCoreWait, SleepsAndIsWokenEco) {
    Config config = inline_config();
    config.profile = Profile::kEco;
    config.spin_us = 0;
    wait_asleep(config);
}

TEST(PollingCoreWait, SleepsAndIsWokenDedicated) {
    Config config = dedicated_config();
    config.spin_us = 1;
    wait_asleep(config);
}

TEST(PollingCoreWait, ReturnsAtOnceWhenItIsTrueAlready) {
    CoreBench bench(inline_config());
    bench.core.wait_until([] { return true; });
    EXPECT_LE(bench.port.polls.load(), 1U);
}

TEST(PollingCoreWait, TurnsTheCoreItselfFirst) {
    Config config = inline_config();
    config.profile = Profile::kUltra;
    CoreBench bench(config);
    bench.port.complete_at_once.store(false);
    bench.port.arrivals.store(1);
    FakeSocket socket(bench.core, bench.port);
    ASSERT_EQ(socket.post(1), Status::kOk);
    bench.core.wait_until([&] { return socket.record.completions() == 1; });
    EXPECT_GE(bench.port.polls.load(), 1U);
}

// ---- dedicated --------------------------------------------------------------------------------------

TEST(PollingCoreDedicated, HoldsTheTokenAndItsCpu) {
    CoreBench bench(dedicated_config());
    ASSERT_EQ(bench.start(), "");
    EXPECT_TRUE(bench.core.dedicated());
    EXPECT_EQ(bench.core.cpu(), static_cast<int>(tests::last_cpu()));
    EXPECT_TRUE(eventually([&] { return bench.port.polls.load() > 0; }));
    EXPECT_FALSE(bench.core.try_acquire());
}

TEST(PollingCoreDedicated, SleepsWhenIdleAndIsWokenByAPost) {
    for (const Profile profile : {Profile::kBalanced, Profile::kEco}) {
        Config config = dedicated_config();
        config.profile = profile;
        CoreBench bench(config);
        ASSERT_EQ(bench.start(), "");
        FakeSocket socket(bench.core, bench.port);
        for (std::uint64_t round = 1; round <= 5; ++round) {
            const std::uint64_t sleeps = bench.core.counters().sleeps.value();
            ASSERT_TRUE(eventually([&] { return bench.core.counters().sleeps.value() > sleeps; }));
            ASSERT_EQ(socket.post(round), Status::kOk);
            ASSERT_TRUE(eventually([&] { return socket.record.completions() == round; }));
        }
    }
}

TEST(PollingCoreDedicated, AnImpossibleCpuIsRefusedWithTheRemedy) {
    Config config = dedicated_config();
    config.cores = {4095};
    CoreBench bench(config);
    const std::string error = bench.start();
    EXPECT_NE(error.find("SANPOLL_CORES"), std::string::npos) << error;
}

}  // namespace
}  // namespace sanpoll::engine
