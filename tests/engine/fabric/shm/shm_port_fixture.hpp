// Two sockets connected through two ports, turned by hand.
#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::engine::shm {

class ShmPortTest : public testing::Test {
protected:
    explicit ShmPortTest(Config config = {}) : ports_(std::move(config)) {}
    void SetUp() override { ports_.connect(a_, b_); }

    // Every operation ended exactly once.
    static void expect_all_ended(const tests::Socket& socket) {
        for (const tests::Operation& operation : socket.operations) {
            ASSERT_EQ(operation.ends.load(), 1);
        }
    }

    tests::Socket a_;  // outlive the ports, which refer to them
    tests::Socket b_;
    tests::TwoPorts ports_;
};

class SmallShmPortTest : public ShmPortTest {
protected:
    SmallShmPortTest() : ShmPortTest(tests::TwoPorts::small_config()) {}
};

}  // namespace sanpoll::engine::shm
