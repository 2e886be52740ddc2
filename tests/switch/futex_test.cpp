#include "switch/futex.hpp"

#include <gtest/gtest.h>

#include <mutex>
#include <sanpoll/switch.hpp>
#include <thread>
#include <vector>

namespace sanpoll_switch::detail {
namespace {

TEST(Deadline, InfiniteHasNone) {
    EXPECT_FALSE(deadline_after(WSA_INFINITE).has_value());
    const auto before = Clock::now();
    const Deadline deadline = deadline_after(5000);
    ASSERT_TRUE(deadline.has_value());
    EXPECT_GE(*deadline, before + std::chrono::milliseconds(5000));
}

TEST(WaitBlock, WakeBeforeSleepIsNotLost) {
    WaitBlock block;
    block.arm();
    block.wake();
    const KernelCalls before = kernel_calls();
    EXPECT_TRUE(block.sleep(std::nullopt));
    EXPECT_EQ(kernel_calls().sleeps, before.sleeps);
    EXPECT_EQ(kernel_calls().wakes, before.wakes);
}

TEST(WaitBlock, DeadlineEndsTheSleep) {
    WaitBlock block;
    block.arm();
    EXPECT_FALSE(block.sleep(Clock::now()));
    block.arm();
    EXPECT_FALSE(block.sleep(Clock::now() + std::chrono::milliseconds(1)));
}

TEST(WaitBlock, WakeEndsTheSleep) {
    for (int round = 0; round < 500; ++round) {
        WaitBlock block;
        int written = 0;
        block.arm();
        std::thread waker([&] {
            written = round + 1;
            block.wake();
        });
        EXPECT_TRUE(block.sleep(std::nullopt));
        EXPECT_EQ(written, round + 1);
        waker.join();
    }
}

TEST(SlowPathMutex, AdmitsOneAtATime) {
    SlowPathMutex mutex;
    int count = 0;
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
            for (int k = 0; k < 20000; ++k) {
                const std::lock_guard lock(mutex);
                ++count;
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(count, 80000);
}

TEST(SlowPathMutex, SleeperIsWokenByTheUnlock) {
    SlowPathMutex mutex;
    mutex.lock();
    int guarded = 0;
    std::thread sleeper([&] {
        const std::lock_guard lock(mutex);
        EXPECT_EQ(guarded, 1);
    });
    // Long enough, as a rule, for the other thread to stop spinning; the outcome does not depend on
    // it.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    guarded = 1;
    mutex.unlock();
    sleeper.join();
}

}  // namespace
}  // namespace sanpoll_switch::detail
