// Ends of connections and of links while described messages are under way.
#include <cstring>

#include "tests/engine/fabric/shm/described_fixture.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::Socket;

class CopiedMessageEnds : public DescribedTest {};
INSTANTIATE_TEST_SUITE_P(Where, CopiedMessageEnds, testing::Values(Where::kArena, Where::kProcess),
                         name_of);
class DescribedMessageEnds : public DescribedTest {};
INSTANTIATE_TEST_SUITE_P(Where, DescribedMessageEnds,
                         testing::Values(Where::kArena, Where::kProcess, Where::kPieces,
                                         Where::kAuto),
                         name_of);

TEST_P(DescribedMessageEnds, ASenderThatClosesInTheMiddleSpoilsNoReceive) {
    Operation& receive = b_.receive(4 * kMiB);
    Operation& send = send_at(a_, arena(), message_of(1, 4 * kMiB));
    turn_b();
    EXPECT_FALSE(receive.ended());
    a_.close();
    EXPECT_EQ(send.status, Status::kAborted);
    std::memset(arena(), 0x55, 4 * kMiB);
    ports_.settle();
    EXPECT_TRUE(receive.ended());
    EXPECT_EQ(receive.status, Status::kReset);
    b_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
}

// It copies what the memory holds by then, all of it, before it takes the record that says that the sender has
// closed.
TEST_P(CopiedMessageEnds, WhatWasGivenUpBeforeItWasCopiedIsNotReceived) {
    Operation& receive = b_.receive(100000);
    send_at(a_, arena(), message_of(1, 100000));
    a_.close();
    std::memset(arena(), 0x55, 100000);
    turn_b();
    EXPECT_EQ(copied(), 100000U);
    EXPECT_EQ(receive.status, Status::kReset);
    EXPECT_EQ(receive.length, 0U);
}

TEST_P(CopiedMessageEnds, ACloseOfOneConnectionHasTheOthersAsk) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    Operation& mine = send_at(a_, arena(), message_of(1, kMiB));
    Operation& others = send_at(other_a, arena(2 * kMiB), message_of(2, kMiB));
    turn_b();
    other_a.close();  // takes back what it described
    EXPECT_EQ(others.status, Status::kAborted);
    Operation& receive = b_.receive(kMiB);
    for (int i = 0; i < 20; ++i) {
        turn_b();  // copies all of it
    }
    EXPECT_FALSE(receive.ended());
    EXPECT_FALSE(mine.ended());
    turn_a();
    EXPECT_TRUE(mine.good());
    turn_b();
    EXPECT_TRUE(receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, kMiB));
    // The next is described with the new count.
    Operation& next = b_.receive(kMiB);
    send_at(a_, arena(), message_of(3, kMiB));
    for (int i = 0; i < 20; ++i) {
        turn_b();
    }
    EXPECT_TRUE(next.good());
    other_b.close();
    ports_.settle();
}

TEST_P(DescribedMessageEnds, AReceiverThatClosesInTheMiddleResetsTheSender) {
    b_.receive(4 * kMiB);
    Operation& first = send_at(a_, arena(), message_of(1, 4 * kMiB));
    Operation& second = send_at(a_, arena(8 * kMiB), message_of(2, 4 * kMiB));
    turn_b();
    b_.close();
    ports_.settle();
    EXPECT_EQ(first.status, Status::kReset);
    EXPECT_EQ(second.status, Status::kReset);
    a_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_P(CopiedMessageEnds, WhatIsCopiedIsSaidBeforeTheReceiverCloses) {
    Operation& receive = b_.receive(100000);
    Operation& send = send_at(a_, arena(), message_of(1, 100000));
    turn_b();
    EXPECT_TRUE(receive.good());
    b_.close();
    ports_.settle();
    EXPECT_TRUE(send.good());
}

TEST_P(DescribedMessageEnds, ALinkThatGoesInTheMiddleResetsBothEnds) {
    Operation& receive = b_.receive(4 * kMiB);
    Operation& send = send_at(a_, arena(), message_of(1, 4 * kMiB));
    Operation& waiting = send_at(a_, arena(8 * kMiB), message_of(2, 4 * kMiB));
    turn_b();
    ports_.a.port.remove_link(*ports_.link_a, Status::kReset);
    ports_.b.port.remove_link(*ports_.link_b, Status::kReset);
    ports_.link_a.reset();
    ports_.link_b.reset();
    for (const Operation* one : {&receive, &send, &waiting}) {
        EXPECT_EQ(one->ends.load(), 1);
        EXPECT_EQ(one->status, Status::kReset);
    }
}

TEST_P(DescribedMessageEnds, ACloseAtAnyPointEndsEverythingOnce) {
    for (int turns = 0; turns < 24; ++turns) {
        for (const bool by_sender : {false, true}) {
            Socket from;
            Socket to;
            ports_.connect(from, to);
            to.receive(300);
            for (std::uint64_t number = 0; number < 6; ++number) {
                to.receive(2 * kMiB);
                send_at(from, arena(number * 2 * kMiB), message_of(number, 300000));
                from.send_number(number, 300);
            }
            for (int i = 0; i < turns; ++i) {
                (i % 2 == 0 ? turn_b() : turn_a());
            }
            (by_sender ? from : to).close();
            for (int i = 0; i < turns % 5; ++i) {
                turn_b();
            }
            (by_sender ? to : from).close();
            ports_.settle();
            ASSERT_EQ(from.closures.load() + to.closures.load(), 2);
            expect_all_ended(from);
            expect_all_ended(to);
        }
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
