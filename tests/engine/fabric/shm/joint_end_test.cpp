// Described messages that both ends copy, where one of them is late, leaves or ends.
#include <poll.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "tests/engine/fabric/shm/joint_fixture.hpp"
#include "tests/engine/fabric/shm/swap_by_hand.hpp"
#include "tests/engine/patience.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Operation;
using tests::Socket;

constexpr std::uint32_t kChunk = JobChunks::kBytes;

// ---- a sender that is late --------------------------------------------------------------------------

// The core has nothing to do but to wait. Were the connection among those with something to send, each of its peers would ring
// for room.
TEST_F(JointTest, WhoWaitsForAChunkWaitsForNoRoom) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    Operation& there = receive(b_, kMiB);
    Operation& small = other_a.receive(8);
    send(a_, 1, kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(kMiB));
    for (int i = 0; i < 5; ++i) {
        turn_b();
    }
    other_b.send_number(1, 8);
    const auto rung = [&] {
        pollfd bell{ports_.link_b->own_doorbell(), POLLIN, 0};
        return ::poll(&bell, 1, 0) == 1;
    };
    ports_.b.port.arm();
    for (int i = 0; i < 5 && !small.ended(); ++i) {
        turn_a();
    }
    EXPECT_TRUE(small.good());
    EXPECT_FALSE(rung());
    ports_.b.port.disarm();
    finish_the_chunk();
    turn_b();
    EXPECT_TRUE(there.good());
    other_a.close();
    other_b.close();
    ports_.settle();
}

// The receiver was away, and the sender in time.
TEST_F(JointTest, WhoComesBackLateHasNobodyToBlame) {
    Operation& there = receive(b_, kMiB);
    send(a_, 1, kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(kMiB));
    for (int i = 0; i < 5; ++i) {
        turn_b();
    }
    finish_the_chunk();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    turn_b();
    EXPECT_TRUE(there.good());
    EXPECT_EQ(ports_.link_b->alone_for, 0U);
    ports_.settle();
}

TEST_F(JointTest, WhoWasLateIsNotAskedForAWhile) {
    Operation& there = receive(b_, kMiB);
    send(a_, 1, kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(kMiB));
    for (int i = 0; i < 5; ++i) {
        turn_b();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    turn_b();
    finish_the_chunk();
    ports_.settle();
    EXPECT_TRUE(there.good());
    const std::uint64_t before = by_sender();
    for (const std::uint64_t number : {2U, 3U}) {
        Operation& next = receive(b_, kMiB);
        send(a_, number, kMiB);
        turn_b();
        EXPECT_TRUE(ports_.link_b->job.idle());
        turn_a();
        ports_.settle();
        EXPECT_TRUE(next.good());
    }
    EXPECT_EQ(by_sender(), before);
    ports_.link_b->alone_for = 0;
    Operation& last = receive(b_, kMiB);
    send(a_, 4, kMiB);
    turn_b();
    turn_a();
    ports_.settle();
    EXPECT_TRUE(last.good());
    EXPECT_NE(by_sender(), before);
}

// ---- a receiver that leaves -------------------------------------------------------------------------

TEST_F(JointTest, WhoWantedToLeaveAndStaysCopiesOnAlone) {
    Operation& there = receive(b_, 4 * kMiB);
    Operation& sent = send(a_, 1, 4 * kMiB);
    turn_b();
    turn_a();
    tests::SwapByHand swap(ports_);
    ASSERT_NO_FATAL_FAILURE(swap.begin(b_));
    const std::uint64_t helped = by_sender();
    EXPECT_NE(helped, 0U);
    ASSERT_NO_FATAL_FAILURE(swap.hold_at_once());
    for (int i = 0; i < 20; ++i) {
        turn_a();
        turn_b();
    }
    EXPECT_FALSE(there.ended());
    swap.stay();
    ports_.settle();
    ASSERT_TRUE(there.good() && sent.good());
    EXPECT_TRUE(holds(target(), 1, 4 * kMiB));
    EXPECT_EQ(by_sender(), helped);
}

TEST_F(JointTest, TheNextProcessGetsAllOfWhatWasHalfCopied) {
    for (const int turns : {0, 1, 2, 3}) {
        Socket from;
        Socket to;
        Socket next;
        ports_.connect(from, to);
        Operation& there = receive(to, 4 * kMiB);
        Operation& sent = send(from, 1, 4 * kMiB);
        for (int i = 0; i < turns; ++i) {
            turn_b();
            turn_a();
        }
        tests::SwapByHand swap(ports_);
        ASSERT_NO_FATAL_FAILURE(swap.begin(to));
        turn_a();
        ASSERT_NO_FATAL_FAILURE(swap.hold_at_once());
        ASSERT_NO_FATAL_FAILURE(swap.leave());
        EXPECT_TRUE(there.good());
        EXPECT_EQ(there.length, 0U);
        ASSERT_NO_FATAL_FAILURE(swap.arrive(next));
        Operation& again = receive(next, 4 * kMiB, 4 * kMiB);
        turn_b();
        turn_a();
        ports_.settle();
        ASSERT_TRUE(again.good() && sent.good());
        EXPECT_TRUE(holds(target(4 * kMiB), 1, 4 * kMiB));
        from.close();
        next.close();
        ports_.settle();
    }
}

TEST_F(JointTest, NobodyLeavesWhileThePeerIsAtItsReceive) {
    Operation& there = receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(4 * kMiB));
    tests::SwapByHand swap(ports_);
    ASSERT_NO_FATAL_FAILURE(swap.begin(b_));
    ASSERT_NO_FATAL_FAILURE(swap.hold_at_once());
    Frozen frozen;
    EXPECT_EQ(ports_.b.port.freeze(end_of(b_), swap.counts, frozen), Status::kTransportFailed);
    finish_the_chunk();
    ASSERT_NO_FATAL_FAILURE(swap.leave());
    EXPECT_TRUE(there.ended());
}

// ---- ends while the peer is at a chunk --------------------------------------------------------------

TEST_F(JointTest, ACloseWaitsForTheChunkThatThePeerIsAt) {
    Operation& there = receive(b_, 4 * kMiB);
    Operation& behind = receive(b_, 4 * kMiB, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(4 * kMiB));
    b_.close();
    for (int i = 0; i < 10; ++i) {
        turn_b();
    }
    EXPECT_FALSE(there.ended() || behind.ended());
    EXPECT_EQ(b_.closures.load(), 0);
    EXPECT_FALSE(take_a_chunk(4 * kMiB));  // there are no more
    finish_the_chunk();
    turn_b();
    EXPECT_EQ(there.status, Status::kAborted);
    EXPECT_EQ(behind.status, Status::kAborted);
    EXPECT_EQ(b_.closures.load(), 1);
    ports_.settle();
    expect_all_ended(b_);
    EXPECT_EQ(ports_.b.port.counters().abandoned_uses.value(), 0U);
}

TEST_F(JointTest, ACloseDoesNotWaitForEverForAPeerThatIsStopped) {
    Operation& there = receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(4 * kMiB));
    b_.close();
    ASSERT_TRUE(tests::eventually([&] {
        turn_b();
        return there.ended();
    }));
    EXPECT_EQ(there.status, Status::kAborted);
    EXPECT_EQ(b_.closures.load(), 1);
    EXPECT_EQ(ports_.b.port.counters().abandoned_uses.value(), 1U);
    // And nothing more comes of a peer of which one does not know what it still writes.
    EXPECT_TRUE(ports_.link_b->failed.load());
    EXPECT_TRUE(ports_.link_a->peer_job.given_up());
    finish_the_chunk();
    ports_.settle();
}

TEST_F(JointTest, ABrokenConnectionHoldsItsReceivesSoLong) {
    Operation& there = receive(b_, 4 * kMiB);
    Operation& behind = receive(b_, 4 * kMiB, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(4 * kMiB));
    ports_.b.port.break_link(*ports_.link_b, Status::kReset);
    turn_b();
    EXPECT_FALSE(there.ended() || behind.ended());
    EXPECT_TRUE(ports_.link_b->job.keeps_copying());
    EXPECT_NE(b_.gate.view().state, PostGate::State::kOpen);
    finish_the_chunk();
    EXPECT_FALSE(ports_.link_b->job.keeps_copying());
    turn_b();
    EXPECT_EQ(there.status, Status::kReset);
    EXPECT_EQ(behind.status, Status::kReset);
    b_.close();
    ports_.settle();
    expect_all_ended(b_);
    EXPECT_EQ(b_.closures.load(), 1);
}

TEST_F(JointTest, ACloseOfABrokenOneWaitsToo) {
    Operation& there = receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(4 * kMiB));
    ports_.b.port.break_link(*ports_.link_b, Status::kReset);
    b_.close();
    turn_b();
    EXPECT_FALSE(there.ended());
    EXPECT_EQ(b_.closures.load(), 0);
    finish_the_chunk();
    turn_b();
    EXPECT_TRUE(there.ended());
    EXPECT_EQ(b_.closures.load(), 1);
}

TEST_F(JointTest, ALinkThatGoesEndsWhatWasHeld) {
    for (const bool closes : {false, true}) {
        Socket from;
        Socket to;
        tests::TwoPorts ports(tests::TwoPorts::small_config());
        ports.connect(from, to);
        lend(tests::shareable_arena(0), ports.a, *ports.link_a, ports.b, *ports.link_b, true);
        lend(tests::shareable_arena(1), ports.b, *ports.link_b, ports.a, *ports.link_a, true);
        Operation& there = receive(to, 4 * kMiB);
        send(from, 1, 4 * kMiB);
        (void)ports.b.core.turn();
        ASSERT_TRUE(ports.link_a->peer_job.look());
        ASSERT_NE(ports.link_a->peer_job.claim(4 * kMiB, kChunk).length, 0U);
        if (closes) {
            to.close();
        }
        ports.b.port.remove_link(*ports.link_b, Status::kReset);
        EXPECT_EQ(there.ends.load(), 1);
        ports.link_b.reset();
        if (!closes) {
            to.close();
        }
        (void)ports.b.core.turn();
        EXPECT_EQ(to.closures.load(), 1);
        expect_all_ended(to);
    }
}

// The sender's own end: nothing of its message is under way between two of its turns.
TEST_F(JointTest, ASenderThatClosesInTheMiddleSpoilsNoReceive) {
    Operation& there = receive(b_, 4 * kMiB);
    Operation& sent = send(a_, 1, 4 * kMiB);
    turn_b();
    turn_a();
    const std::uint64_t placed_before = by_sender();
    EXPECT_NE(placed_before, 0U);
    a_.close();
    EXPECT_EQ(sent.status, Status::kAborted);
    std::memset(source(), 0x55, 4 * kMiB);
    for (int i = 0; i < 80; ++i) {
        turn_a();
    }
    EXPECT_EQ(by_sender(), placed_before);
    const auto foreign = [](std::byte one) { return one == std::byte{0x55}; };
    EXPECT_LT(std::count_if(target(2 * kMiB), target(4 * kMiB), foreign), 2 * kMiB / 64);
    ports_.settle();
    EXPECT_TRUE(there.ended());
    EXPECT_EQ(there.status, Status::kReset);
    b_.close();
    ports_.settle();
    expect_all_ended(b_);
}

TEST_F(JointTest, MemoryStaysRegisteredWhileThePeerIsAtIt) {
    Operation& there = receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(4 * kMiB));
    b_.close();
    turn_b();
    EXPECT_FALSE(there.ended());
    EXPECT_FALSE(b_.regions.retire(b_.region));
    finish_the_chunk();
    turn_b();
    EXPECT_TRUE(there.ended());
    EXPECT_TRUE(b_.regions.retire(b_.region));
}

}  // namespace
}  // namespace sanpoll::engine::shm
