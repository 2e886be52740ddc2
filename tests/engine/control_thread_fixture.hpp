// A control thread whose clock the test sets.
#pragma once

#include <gtest/gtest.h>

#include <future>
#include <string>

#include "engine/control_thread.hpp"
#include "tests/engine/manual_clock.hpp"

namespace sanpoll::tests {

class ControlThreadTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(control_.start(), ""); }

    // Everything posted before has run, and due timers too, when this returns.
    void settle() {
        for (int round = 0; round < 2; ++round) {
            std::promise<void> done;
            control_.post([&] { done.set_value(); });
            done.get_future().wait();
        }
        control_.call([] {});
    }

    ManualClock clock_;
    engine::ControlThread control_{clock_};
    std::string log_;  // written on the control thread, read after settle()
};

}  // namespace sanpoll::tests
