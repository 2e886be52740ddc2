// How connections and links end, each step by hand.
#include <gtest/gtest.h>

#include "engine/fabric/shm/shm_port.hpp"
#include "tests/engine/fabric/shm/shm_port_fixture.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::Socket;

TEST_F(ShmPortTest, CloseEndsWhatIsPendingOnBothSides) {
    for (std::uint64_t i = 0; i < 30; ++i) {
        a_.send_number(i, 1000);  // no credit
        a_.receive(100);
        b_.send_number(i, 100000);  // announced, and longer than any receive
    }
    ports_.settle();
    a_.close();
    for (const Operation& operation : a_.operations) {
        ASSERT_EQ(operation.ends.load(), 1);
        ASSERT_TRUE(operation.status == Status::kAborted ||
                    operation.status == Status::kMessageTooLong);
    }
    EXPECT_EQ(a_.closures.load(), 1);
    ports_.settle();
    for (const Operation& operation : b_.operations) {
        ASSERT_EQ(operation.ends.load(), 1);
        ASSERT_EQ(operation.status, Status::kReset);
    }
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
    EXPECT_EQ(b_.closures.load(), 0) << "the owner closes it";
    b_.receive(10);
    EXPECT_EQ(b_.last, Status::kNotOpen);
    b_.close();
    ports_.settle();
    EXPECT_EQ(b_.closures.load(), 1);
}

TEST_F(ShmPortTest, WhatWasSentBeforeTheCloseIsDeliveredFirst) {
    for (std::uint64_t i = 0; i < 10; ++i) {
        ASSERT_TRUE(a_.send_number(i, i * 28).good());
    }
    a_.close();
    ports_.settle();
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kOpen);
    for (std::uint64_t i = 0; i < 10; ++i) {
        Operation& receive = b_.receive(300);
        ASSERT_EQ(b_.last, Status::kOk) << i;
        ASSERT_TRUE(receive.good()) << i;
        ASSERT_TRUE(receive.content() == message_of(i, i * 28));
    }
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
}

TEST_F(ShmPortTest, WhatIsStillInTheRingAtTheCloseIsDeliveredFirst) {
    std::vector<Operation*> receives;
    for (int i = 0; i < 30; ++i) {
        receives.push_back(&b_.receive(5000));
    }
    ports_.settle();
    for (std::uint64_t i = 0; i < 20; ++i) {
        ASSERT_TRUE(a_.send_number(i, i * 250).good()) << i;
    }
    a_.close();
    ports_.settle();
    for (std::uint64_t i = 0; i < 30; ++i) {
        if (i < 20) {
            ASSERT_TRUE(receives[i]->good()) << i;
            ASSERT_TRUE(receives[i]->content() == message_of(i, i * 250));
        } else {
            ASSERT_EQ(receives[i]->status, Status::kReset) << i;
        }
    }
    expect_all_ended(b_);
}

TEST_F(ShmPortTest, BothSidesMayCloseAtOnce) {
    for (std::uint64_t i = 0; i < 40; ++i) {
        a_.send_number(i, 100);
        b_.send_number(i, 40000);
    }
    a_.close();
    b_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
    EXPECT_EQ(a_.closures.load() + b_.closures.load(), 2);
    EXPECT_EQ(ports_.a.port.counters().lying_peers.value(), 0U);
    EXPECT_EQ(ports_.b.port.counters().lying_peers.value(), 0U);
}

TEST_F(SmallShmPortTest, AFarewellThatFindsNoRoomIsSentLater) {
    for (int i = 0; i < 1000; ++i) {
        b_.receive(0);
    }
    ports_.settle();
    for (std::uint64_t i = 0; i < 1000; ++i) {
        a_.send_number(i, 0);
    }
    // More farewells than the reserve has room for.
    std::deque<Socket> firsts(50);
    std::deque<Socket> seconds(50);
    for (int i = 0; i < 50; ++i) {
        ports_.connect(firsts[static_cast<std::size_t>(i)], seconds[static_cast<std::size_t>(i)]);
    }
    for (Socket& first : firsts) {
        first.close();
        EXPECT_EQ(first.closures.load(), 1);
    }
    ports_.settle();
    for (Socket& second : seconds) {
        EXPECT_EQ(second.gate.view().state, PostGate::State::kReset);
        second.close();
    }
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_F(SmallShmPortTest, ConnectionsComeAndGoManyTimes) {
    // Far more than the table holds at a time: ids are used again with another generation.
    for (std::uint64_t i = 0; i < 1000; ++i) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        Operation& receive = to.receive(100);
        from.send_number(i, 100);
        if (i % 2 == 0) {
            ports_.settle();
            ASSERT_TRUE(receive.good());
        }
        from.close();
        if (i % 3 == 0) {
            ports_.settle();
        }
        to.close();
        ports_.settle();
        ASSERT_EQ(receive.ends.load(), 1);
        ASSERT_EQ(from.closures.load() + to.closures.load(), 2);
    }
    Operation& receive = b_.receive(10);
    a_.send_number(7, 10);
    ports_.settle();
    EXPECT_TRUE(receive.good()) << "the first connection is untouched";
}

TEST_F(SmallShmPortTest, TheTableOfConnectionsIsBounded) {
    Socket owner;
    std::vector<Connection*> made;
    for (std::uint32_t i = 0; i < 2 * ports_.config.max_connections; ++i) {
        if (Connection* one = ports_.a.port.make_connection(owner.owner()); one != nullptr) {
            made.push_back(one);
        }
    }
    EXPECT_EQ(made.size(), ports_.config.max_connections - 1) << "one is in use";
    for (Connection* one : made) {
        ports_.a.port.drop_connection(one);
    }
    Connection* again = ports_.a.port.make_connection(owner.owner());
    EXPECT_NE(again, nullptr);
    ports_.a.port.drop_connection(again);
}

TEST_F(ShmPortTest, TheEndOfTheLinkResetsItsConnectionsAfterDelivery) {
    Operation& first = b_.receive(100);
    Operation& second = b_.receive(100);
    ports_.settle();
    ASSERT_TRUE(a_.send_number(1, 100).good());
    ports_.b.port.remove_link(*ports_.link_b, Status::kReset);  // not yet polled
    ports_.link_b.reset();
    EXPECT_TRUE(first.good());
    EXPECT_TRUE(first.bytes == message_of(1, 100));
    EXPECT_EQ(second.status, Status::kReset);
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
    b_.close();
    EXPECT_EQ(b_.closures.load(), 1);
}

TEST_F(ShmPortTest, AnOwnerThatClosedInTheMeantimeIsNotOpened) {
    Socket owner;
    Connection* connection = ports_.a.port.make_connection(owner.owner());
    ports_.a.port.install(*connection, *ports_.link_a);
    ASSERT_TRUE(owner.gate.close(owner.generation).has_value());
    EXPECT_FALSE(ports_.a.port.establish(*connection, 5));
    ports_.a.port.abandon(*connection);
    ports_.settle();
    EXPECT_EQ(owner.closures.load(), 0);
}

}  // namespace
}  // namespace sanpoll::engine::shm
