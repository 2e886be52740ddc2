#include "engine/notifier.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/core_bench.hpp"
#include "tests/engine/patience.hpp"
#include "tests/engine/thread_state.hpp"

namespace sanpoll::engine {
namespace {

using tests::CoreBench;
using tests::eventually;
using tests::FakeSocket;
using tests::inline_config;

int notifier_thread() {
    int id = 0;
    EXPECT_TRUE(eventually([&] { return (id = tests::thread_named("sanpoll-notify")) != 0; }));
    return id;
}

TEST(Notifier, RunsJobsInOrder) {
    const Config config;
    Notifier notifier(config);
    ASSERT_EQ(notifier.start(), "");
    std::vector<int> order;
    for (int i = 0; i < 1000; ++i) {
        notifier.post([&order, i] { order.push_back(i); });
    }
    notifier.stop();
    std::vector<int> wanted(1000);
    std::iota(wanted.begin(), wanted.end(), 0);
    EXPECT_EQ(order, wanted);
}

TEST(Notifier, JobsRunOnItsThread) {
    const Config config;
    Notifier notifier(config);
    ASSERT_EQ(notifier.start(), "");
    EXPECT_FALSE(notifier.is_this_thread());
    std::atomic<int> there{-1};
    notifier.post([&] { there.store(notifier.is_this_thread() ? 1 : 0); });
    EXPECT_TRUE(eventually([&] { return there.load() != -1; }));
    EXPECT_EQ(there.load(), 1);
}

TEST(Notifier, AJobMayPostAnother) {
    const Config config;
    Notifier notifier(config);
    ASSERT_EQ(notifier.start(), "");
    std::atomic<int> depth{0};
    std::function<void()> job = [&] {
        if (depth.fetch_add(1) < 99) {
            notifier.post(job);
        }
    };
    notifier.post(job);
    EXPECT_TRUE(eventually([&] { return depth.load() == 100; }));
}

TEST(Notifier, JobsOfManyThreadsAllRunOneAtATime) {
    const Config config;
    Notifier notifier(config);
    ASSERT_EQ(notifier.start(), "");
    int count = 0;  // touched on the notifier thread only
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 500; ++i) {
                notifier.post([&] { ++count; });
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    notifier.stop();
    EXPECT_EQ(count, 2000);
}

TEST(Notifier, StopDeliversWhatIsLeft) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    std::atomic<bool> go{false};
    std::atomic<bool> blocked{false};
    int jobs = 0;
    bench.notifier.post([&] {
        blocked.store(true);
        while (!go.load()) {
            std::this_thread::yield();
        }
    });
    ASSERT_TRUE(eventually([&] { return blocked.load(); }));
    for (std::uint64_t i = 0; i < 500; ++i) {
        ASSERT_EQ(socket.post(i, kNotify), Status::kOk);
        bench.notifier.post([&] { ++jobs; });
    }
    std::thread stopper([&] { bench.notifier.stop(); });
    go.store(true);
    stopper.join();
    EXPECT_EQ(jobs, 500);
    EXPECT_EQ(socket.record.notifications(), 500U);
    bench.notifier.stop();
}

TEST(Notifier, StopWithoutStartIsHarmless) {
    const Config config;
    Notifier notifier(config);
    notifier.stop();
}

TEST(Notifier, SleepsWhenIdleAndARingWakesIt) {
    CoreBench bench(inline_config());
    ASSERT_EQ(bench.start(), "");
    FakeSocket socket(bench.core, bench.port);
    const int thread = notifier_thread();
    for (std::uint64_t round = 1; round <= 20; ++round) {
        ASSERT_TRUE(eventually([&] { return tests::thread_sleeps(thread); }));
        ASSERT_EQ(socket.post(round, kNotify), Status::kOk);
        ASSERT_TRUE(eventually([&] { return socket.record.notifications() == round; }));
    }
}

TEST(Notifier, SleepsWhenIdleAndAJobWakesIt) {
    const Config config;
    Notifier notifier(config);
    ASSERT_EQ(notifier.start(), "");
    const int thread = notifier_thread();
    for (int round = 1; round <= 20; ++round) {
        ASSERT_TRUE(eventually([&] { return tests::thread_sleeps(thread); }));
        std::atomic<bool> ran{false};
        notifier.post([&] { ran.store(true); });
        ASSERT_TRUE(eventually([&] { return ran.load(); }));
    }
}

TEST(Notifier, AJobRunsAfterTheNoticesThatCameBeforeIt) {
    // More notices than are taken at a time.
    for (const std::uint64_t notices : {1, 64, 65, 200, 1000}) {
        CoreBench bench(inline_config());
        ASSERT_EQ(bench.start(), "");
        FakeSocket socket(bench.core, bench.port);
        std::atomic<bool> go{false};
        std::atomic<bool> blocked{false};
        bench.notifier.post([&] {
            blocked.store(true);
            while (!go.load()) {
                std::this_thread::yield();
            }
        });
        ASSERT_TRUE(eventually([&] { return blocked.load(); }));
        for (std::uint64_t i = 0; i < notices; ++i) {
            ASSERT_EQ(socket.post(i, kNotify), Status::kOk);
        }
        std::atomic<std::uint64_t> before{~0ULL};
        bench.notifier.post([&] { before.store(socket.record.notifications()); });
        go.store(true);
        ASSERT_TRUE(eventually([&] { return before.load() != ~0ULL; }));
        EXPECT_EQ(before.load(), notices);
    }
}

}  // namespace
}  // namespace sanpoll::engine
