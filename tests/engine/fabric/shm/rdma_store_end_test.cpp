// RDMA into exposed arenas that is under way when an end closes, deregisters, breaks or is stopped.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "tests/engine/fabric/shm/rdma_store_fixture.hpp"

namespace sanpoll::engine::shm {
namespace {

TEST_F(RdmaStoreTest, TheOwnersTryToDeregisterInTheMiddleChangesNothing) {
    const Exposed to = expose(memory());
    Operation& operation = write(message_of(1, kLong), to);
    for (int i = 0; !operation.ended(); ++i) {
        ASSERT_LT(i, 100);
        EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kInUse);
        turn_a();
    }
    EXPECT_TRUE(operation.good() && holds(message_of(1, kLong)));
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
}

TEST_F(RdmaStoreTest, AnInitiatorThatClosesInTheMiddleLetsGo) {
    const Exposed to = expose(memory());
    Operation& operation = write(Bytes(kLong, std::byte{9}), to);
    turn_a();
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kInUse);
    a_.close();
    EXPECT_EQ(operation.status, Status::kAborted);
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
    std::fill_n(memory(), kLong, std::byte{1});
    ports_.settle();
    EXPECT_TRUE(std::all_of(memory(), memory() + kLong, [](auto b) { return b == std::byte{1}; }));
}

TEST_F(RdmaStoreTest, AnOwnerThatClosesInTheMiddleIsNotWrittenToAfterwards) {
    const Exposed to = expose(memory());
    Operation& operation = write(Bytes(kLong, std::byte{9}), to);
    turn_a();
    b_.close();
    EXPECT_EQ(b_.closures.load(), 1)
        << "the peer is between two parts, and finds out before the next";
    std::fill_n(memory(), kLong, std::byte{1});
    turn_a();
    ports_.settle();
    EXPECT_EQ(operation.ends.load(), 1);
    EXPECT_EQ(operation.status, Status::kReset);
    EXPECT_TRUE(std::all_of(memory(), memory() + kLong, [](auto b) { return b == std::byte{1}; }));
    EXPECT_EQ(ports_.b.port.counters().abandoned_uses.value(), 0U);
}

TEST_F(RdmaStoreTest, AnOwnerThatClosesDoesNotWaitForAStoppedPeerForEver) {
    const Exposed to = expose(memory());
    begin_part(to);  // and then never again
    b_.close();
    EXPECT_EQ(b_.closures.load(), 0) << "the peer is copying";
    expect_closed_in_time();
    EXPECT_EQ(ports_.b.port.counters().abandoned_uses.value(), 1U);
}

TEST_F(RdmaStoreTest, AnOwnerThatClosesWaitsForThePartThatIsBeingCopied) {
    const Exposed to = expose(memory());
    begin_part(to);
    b_.close();
    turn_b();
    EXPECT_EQ(b_.closures.load(), 0);
    ports_.link_a->seen.end(to.place);
    turn_b();
    EXPECT_EQ(b_.closures.load(), 1);
    EXPECT_EQ(ports_.b.port.counters().abandoned_uses.value(), 0U);
}

// Nobody reads what the owner writes: it cannot say farewell, and its application hears of the end all the same.
TEST_F(RdmaStoreTest, AFullRingDoesNotMakeAClosingOwnerWaitForEver) {
    const Exposed to = expose(memory());
    begin_part(to);
    const RecordHeader header{RecordKind::kCredit, 1, 0, ~0U, 0, 0};
    while (ports_.link_b->sender.room_for_control()) {
        ports_.link_b->sender.put_control(header);
    }
    b_.close();
    expect_closed_in_time();
}

// An idle initiator is between two calls of its application, not in the middle of a copy.
TEST_F(RdmaStoreTest, WhoseMemoryIsUsedAgainAfterACloseIsNotWrittenToByALateOne) {
    const Exposed to = expose(memory());
    for (int i = 0; i < 100; ++i) {
        (void)a_.receive(10);
    }
    ports_.settle();
    Operation& operation = write(Bytes(kLong, std::byte{9}), to);
    turn_a();  // a part of it
    for (int i = 0; i < 100; ++i) {
        b_.send_number(i, 10);  // so that the initiator's next turn reads the farewell late
    }
    b_.close();
    expect_closed_in_time();
    std::fill_n(memory(), kLong, std::byte{1});
    const auto untouched = [] {
        return std::all_of(memory(), memory() + kLong, [](auto b) { return b == std::byte{1}; });
    };
    turn_a();
    EXPECT_TRUE(untouched());
    ports_.settle();
    EXPECT_TRUE(untouched());
    EXPECT_EQ(operation.ends.load(), 1);
    EXPECT_EQ(operation.status, Status::kReset);
}

// What a process writes into the table that its peer lets it write to is its own word: it can keep everything that was
// exposed to it from being deregistered, and make every close wait, each for a bounded time.
TEST_F(RdmaStoreTest, APeerThatClaimsToUseEverythingKeepsItButDelaysAClose) {
    std::vector<Exposed> all;
    for (int i = 0; i < 60; ++i) {
        all.push_back(expose(memory() + i * 100, 100));
    }
    for (const Exposed& one : all) {
        begin_part(one);
        ASSERT_EQ(b_.remote.remove(one.key, kNonce), Removal::kInUse);
    }
    b_.close();
    EXPECT_EQ(b_.closures.load(), 0);
    expect_closed_in_time();
    EXPECT_EQ(ports_.b.port.counters().abandoned_uses.value(), 1U);
}

TEST_F(RdmaStoreTest, ALongStoreKeepsTheCoreAwakeUntilItHasEnded) {
    const Exposed to = expose(memory());
    EXPECT_FALSE(ports_.a.core.is_kept_awake());
    Operation& operation = write(Bytes(kLong, std::byte{9}), to);
    while (!operation.ended()) {
        EXPECT_TRUE(ports_.a.core.is_kept_awake());
        turn_a();
    }
    EXPECT_FALSE(ports_.a.core.is_kept_awake());
    (void)write(Bytes(kLong, std::byte{9}), to);
    EXPECT_TRUE(ports_.a.core.is_kept_awake());
    a_.close();
    ports_.settle();
    EXPECT_FALSE(ports_.a.core.is_kept_awake());
}

// The peer lives, and so may its copy.
TEST_F(RdmaStoreTest, AUseOutlivesABrokenLink) {
    const Exposed to = expose(memory());
    begin_part(to);
    ports_.b.port.break_link(*ports_.link_b, Status::kReset);
    EXPECT_TRUE(ports_.link_b->shown.copying_any());
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kInUse);
    Exposure seen;
    EXPECT_FALSE(ports_.link_a->seen.look(to.place, seen)) << "no other begins";
    ports_.link_a->seen.end(to.place);
    EXPECT_FALSE(ports_.link_b->shown.copying_any());
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
}

// remove_link: the peer has closed its end, or has had its time.
TEST_F(RdmaStoreTest, AUseEndsWithTheRemovalOfItsLink) {
    const Exposed to = expose(memory());
    (void)write(Bytes(kLong, std::byte{9}), to);
    turn_a();
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kInUse);
    ports_.b.port.remove_link(*ports_.link_b, Status::kReset);
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
    ports_.link_b.reset();
}

TEST_F(RdmaStoreTest, ABrokenConnectionsMemoryIsNotReached) {
    const Exposed to = expose(memory());
    Bytes bytes(100);
    std::fill_n(memory(), 200, std::byte{});
    // The owner's side breaks it off for a wrong request; the initiator has not heard of it.
    (void)rdma(Opcode::kRdmaWrite, bytes.data(), 100, to, 0, {}, kNonce ^ 1);
    turn_b();
    Exposure seen;
    EXPECT_FALSE(ports_.link_a->seen.look(to.place, seen));
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
}

}  // namespace
}  // namespace sanpoll::engine::shm
