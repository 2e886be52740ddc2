// RDMA by a copy between the processes, when the right to it is lost: the peer has become another user's or is no longer
// dumpable, a filter of system calls was installed, or the thread that gave the process its name has ended.
#include <gtest/gtest.h>

#include <limits>

#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;
using Removal = RemoteRegions::Removal;

constexpr std::uint32_t kLong = 3U << 20;  // several turns, by either way
constexpr std::uint64_t kNonce = 0x1234567890ABCDEF;

// Whether it writes; a write is copied by its target, a read by who asks for it.
class RdmaRightTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        ports_.link_a->copy = ports_.link_b->copy = tests::this_process();
        ports_.connect(a_, b_);
        RemoteRegions::Table table(4);
        b_.remote.adopt(table);
        key_ = expose();
    }
    [[nodiscard]] static bool writes() { return GetParam(); }
    [[nodiscard]] Link& copying() { return writes() ? *ports_.link_b : *ports_.link_a; }
    std::uint32_t expose() {
        memory_.assign(kLong, std::byte{0});
        return b_.remote.add(reinterpret_cast<std::uint64_t>(memory_.data()), kLong, kRead | kWrite,
                             kNonce);
    }
    Operation& begin(std::uint64_t number) {
        expected_ = message_of(number, kLong);
        if (!writes()) {
            memory_ = expected_;
        }
        return a_.rdma(writes() ? Opcode::kRdmaWrite : Opcode::kRdmaRead, {kNonce, key_, 0},
                       writes() ? expected_ : Bytes(kLong, std::byte{0xEE}));
    }
    [[nodiscard]] bool arrived(const Operation& operation) const {
        return operation.good() && (writes() ? memory_ : operation.bytes) == expected_;
    }
    [[nodiscard]] static engine::Config config() {
        engine::Config made = TwoPorts::small_config();
        made.copy = Copy::kDirect;
        return made;
    }
    void lose() { copying().copy.pid = std::numeric_limits<pid_t>::max(); }
    [[nodiscard]] std::uint64_t copied() {
        return (writes() ? ports_.b : ports_.a).port.counters().rdma_bytes_copied.value();
    }
    [[nodiscard]] std::uint64_t staged() {
        return (writes() ? ports_.a : ports_.b).port.counters().rdma_bytes_staged.value();
    }
    void turn() {
        (void)ports_.a.core.turn();
        (void)ports_.b.core.turn();
    }

    Socket a_;
    Socket b_;
    TwoPorts ports_{config()};
    Bytes memory_;  // b's, exposed
    Bytes expected_;
    std::uint32_t key_ = 0;
};

TEST_P(RdmaRightTest, ItGoesOnThroughTheStagingArea) {
    lose();
    Operation& operation = begin(1);
    ports_.settle();
    EXPECT_TRUE(arrived(operation));
    EXPECT_EQ(copied(), 0U);
    EXPECT_EQ(staged(), kLong);
    EXPECT_TRUE(copying().unreadable);
    EXPECT_EQ(b_.remote.remove(key_, kNonce), Removal::kRemoved) << "nobody uses it any more";
}

TEST_P(RdmaRightTest, AlsoInTheMiddle) {
    Operation& operation = begin(1);
    for (int i = 0; i < 100 && copied() == 0; ++i) {
        turn();
    }
    ASSERT_GT(copied(), 0U);
    ASSERT_LT(copied(), kLong);
    lose();
    ports_.settle();
    EXPECT_TRUE(arrived(operation));
    EXPECT_EQ(staged(), kLong) << "from the beginning";
    EXPECT_EQ(operation.ends.load(), 1);
}

TEST_P(RdmaRightTest, LaterOnesDoNotTryAgain) {
    (void)begin(1);
    ports_.settle();
    const std::uint64_t before = copied();
    ASSERT_EQ(before, kLong);
    lose();
    (void)begin(2);
    ports_.settle();
    copying().copy.pid = ::getpid();  // it would be possible again
    for (std::uint64_t number = 3; number < 30; ++number) {
        const Operation& operation = begin(number);
        ports_.settle();
        ASSERT_TRUE(arrived(operation)) << number;
    }
    EXPECT_EQ(copied(), before);
    EXPECT_TRUE(a_.gate.open_for(a_.generation) && b_.gate.open_for(b_.generation));
}

TEST_P(RdmaRightTest, WhatIsBehindItStaysBehindIt) {
    lose();
    Operation& operation = begin(1);
    a_.send_number(7, 100);
    Operation& received = b_.receive(100);
    bool early = false;
    for (int i = 0; i < 1000 && !received.ended(); ++i) {
        turn();
        early = early || (received.ended() && !operation.ended());
    }
    EXPECT_TRUE(arrived(operation) && received.good());
    EXPECT_FALSE(early);
    EXPECT_TRUE(received.content() == message_of(7, 100));
}

TEST_P(RdmaRightTest, ItMayEndAtAnyMoment) {
    for (int turns = 0; turns < 40; ++turns) {
        for (const bool here : {true, false}) {
            Socket from;
            Socket to;
            ports_.connect(from, to);
            RemoteRegions::Table table(4);
            to.remote.adopt(table);
            const std::uint32_t key = to.remote.add(reinterpret_cast<std::uint64_t>(memory_.data()),
                                                    kLong, kRead | kWrite, kNonce);
            copying().unreadable = ports_.link_a->unreadable_there = false;
            lose();
            const Operation& operation = from.rdma(
                writes() ? Opcode::kRdmaWrite : Opcode::kRdmaRead, {kNonce, key, 0}, Bytes(kLong));
            for (int i = 0; i < turns; ++i) {
                turn();
            }
            (here ? from : to).close();
            ports_.settle();
            (here ? to : from).close();
            ports_.settle();
            ASSERT_EQ(operation.ends.load(), 1);
            ASSERT_EQ(from.closures.load(), 1);
            ASSERT_EQ(to.closures.load(), 1);
            ASSERT_FALSE(ports_.link_a->failed.load() || ports_.link_b->failed.load());
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Operation, RdmaRightTest, testing::Values(true, false),
                         [](const auto& operation) {
                             return std::string(operation.param ? "write" : "read");
                         });

}  // namespace
}  // namespace sanpoll::engine::shm
