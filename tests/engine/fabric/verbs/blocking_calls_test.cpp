#include "engine/fabric/verbs/blocking_calls.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

namespace sanpoll::engine::verbs {
namespace {

TEST(BlockingCalls, RunsACallOnAnotherThread) {
    BlockingCalls calls;
    std::promise<std::thread::id> ran;
    ASSERT_TRUE(calls.run([&] { ran.set_value(std::this_thread::get_id()); }));
    EXPECT_NE(ran.get_future().get(), std::this_thread::get_id());
}

TEST(BlockingCalls, OneThatWaitsDelaysNoOther) {
    BlockingCalls calls;
    std::promise<void> release;
    const std::shared_future<void> released = release.get_future().share();
    // All threads but one wait; what comes after them has to run all the same.
    for (std::size_t i = 1; i < BlockingCalls::kMostThreads; ++i) {
        ASSERT_TRUE(calls.run([released] { released.wait(); }));
    }
    for (int i = 0; i < 100; ++i) {
        std::promise<void> ran;
        ASSERT_TRUE(calls.run([&] { ran.set_value(); }));
        ran.get_future().wait();
    }
    release.set_value();
}

TEST(BlockingCalls, MoreThanThereAreThreadsWaitTheirTurn) {
    BlockingCalls calls;
    std::promise<void> release;
    const std::shared_future<void> released = release.get_future().share();
    std::atomic<std::size_t> ran{0};
    constexpr std::size_t kCalls = BlockingCalls::kMostThreads * 3;
    for (std::size_t i = 0; i < kCalls; ++i) {
        ASSERT_TRUE(calls.run([released, &ran] {
            released.wait();
            ran.fetch_add(1);
        }));
    }
    release.set_value();
    calls.stop();
    EXPECT_EQ(ran.load(), kCalls) << "also what was queued when it was stopped";
}

TEST(BlockingCalls, ACallMayStartAnother) {
    BlockingCalls calls;
    std::promise<void> inner;
    ASSERT_TRUE(calls.run([&] { EXPECT_TRUE(calls.run([&] { inner.set_value(); })); }));
    inner.get_future().wait();
}

TEST(BlockingCalls, RefusesWhenStopped) {
    BlockingCalls calls;
    calls.stop();
    EXPECT_FALSE(calls.run([] {}));
}

}  // namespace
}  // namespace sanpoll::engine::verbs
