// What the control thread does at its time.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <functional>

#include "engine/control_thread.hpp"
#include "tests/engine/control_thread_fixture.hpp"
#include "tests/engine/patience.hpp"

namespace sanpoll::engine {
namespace {

using tests::ControlThreadTest;
using tests::eventually;

TEST_F(ControlThreadTest, ATimerWaitsForItsTime) {
    control_.call([&] { control_.add_timer(100, [this] { log_ += 'x'; }); });
    clock_.advance_ms(99);
    settle();
    EXPECT_EQ(log_, "");
    clock_.advance_ms(1);
    settle();
    EXPECT_EQ(log_, "x");
    clock_.advance_ms(1000);
    settle();
    EXPECT_EQ(log_, "x") << "a timer runs once";
}

TEST_F(ControlThreadTest, TimersRunInTheOrderOfTheirTimes) {
    control_.call([&] {
        control_.add_timer(30, [this] { log_ += 'c'; });
        control_.add_timer(10, [this] { log_ += 'a'; });
        control_.add_timer(20, [this] { log_ += 'b'; });
        control_.add_timer(20, [this] { log_ += 'B'; });
    });
    clock_.advance_ms(50);
    settle();
    EXPECT_EQ(log_, "abBc");
}

TEST_F(ControlThreadTest, ACancelledTimerDoesNotRun) {
    control_.call([&] {
        const std::uint64_t first = control_.add_timer(10, [this] { log_ += 'a'; });
        const std::uint64_t second = control_.add_timer(10, [this] { log_ += 'b'; });
        EXPECT_NE(first, second);
        control_.cancel_timer(first);
        control_.cancel_timer(12345);
    });
    clock_.advance_ms(10);
    settle();
    EXPECT_EQ(log_, "b");
}

TEST_F(ControlThreadTest, ATimerMayCancelOneThatIsDueToo) {
    std::uint64_t second = 0;
    control_.call([&] {
        control_.add_timer(10, [&] {
            log_ += 'a';
            control_.cancel_timer(second);
        });
        second = control_.add_timer(10, [this] { log_ += 'b'; });
    });
    clock_.advance_ms(10);
    settle();
    EXPECT_EQ(log_, "a");
}

TEST_F(ControlThreadTest, ATimerMaySetAnother) {
    control_.call([&] {
        control_.add_timer(10, [this] {
            log_ += 'a';
            control_.add_timer(10, [this] { log_ += 'b'; });
        });
    });
    clock_.advance_ms(10);
    settle();
    EXPECT_EQ(log_, "a");
    clock_.advance_ms(10);
    settle();
    EXPECT_EQ(log_, "ab");
}

TEST(ControlThread, TimersRunByThemselvesOnTheHostsClock) {
    ControlThread control(Clock::steady());
    ASSERT_EQ(control.start(), "");
    std::atomic<int> runs{0};
    control.call([&] { control.add_timer(5, [&] { runs.fetch_add(1); }); });
    EXPECT_TRUE(eventually([&] { return runs.load() == 1; }));
}

TEST(ControlThread, ATimerOfAnotherThreadShortensTheSleep) {
    ControlThread control(Clock::steady());
    ASSERT_EQ(control.start(), "");
    control.call([&] { control.add_timer(3600000, [] {}); });
    std::atomic<int> runs{0};
    for (int i = 1; i <= 3; ++i) {
        control.call([&] { control.add_timer(2, [&] { runs.fetch_add(1); }); });
        EXPECT_TRUE(eventually([&] { return runs.load() == i; }));
    }
}

TEST_F(ControlThreadTest, TasksWithoutEndDoNotKeepTimersWaiting) {
    std::atomic<bool> ran{false};
    std::atomic<bool> stop{false};
    std::function<void()> flood = [&] {
        if (!stop.load()) {
            control_.post(flood);
        }
    };
    control_.post(flood);
    control_.call([&] { control_.add_timer(5, [&] { ran.store(true); }); });
    clock_.advance_ms(5);
    EXPECT_TRUE(eventually([&] { return ran.load(); }));
    stop.store(true);
    settle();
}

}  // namespace
}  // namespace sanpoll::engine
