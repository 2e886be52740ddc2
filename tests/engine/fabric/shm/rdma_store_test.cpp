// RDMA into and out of exposed arenas, done by the initiator alone: what goes, what is refused, and what goes by requests.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/engine/fabric/shm/rdma_store_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

TEST_F(RdmaStoreTest, AShortWriteHasEndedWhenItIsPosted) {
    const Exposed to = expose(memory());
    ASSERT_NE(to.place, 0U);
    for (const std::uint32_t length : {0U, 1U, 7U, 8U, 9U, 64U, 100U, 129U, 1000U, 1024U}) {
        std::fill_n(memory(), 2000, std::byte{0x55});
        const Bytes bytes = message_of(length, length);
        EXPECT_TRUE(write(bytes, to, 100).good()) << length;
        EXPECT_EQ(a_.operations.back().length, length);
        EXPECT_TRUE(holds(bytes, 100)) << length;
        EXPECT_EQ(memory()[99], std::byte{0x55});
        EXPECT_EQ(memory()[100 + length], std::byte{0x55});
    }
    EXPECT_EQ(stores(), 10U);
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
}

TEST_F(RdmaStoreTest, AShortReadHasEndedWhenItIsPosted) {
    const Exposed from = expose(memory());
    const Bytes bytes = message_of(1, 500);
    std::copy(bytes.begin(), bytes.end(), memory() + 10);
    Bytes here(500);
    EXPECT_TRUE(rdma(Opcode::kRdmaRead, here.data(), 500, from, 10, {100, 101, 300}).good());
    EXPECT_TRUE(here == bytes);
    EXPECT_EQ(stores(), 1U);
}

TEST_F(RdmaStoreTest, ALongOneIsCopiedABoundedPartATurnAndThePeerDoesNothing) {
    const Exposed to = expose(memory());
    for (const Opcode opcode : {Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        Bytes bytes = message_of(7, kLong);
        if (opcode == Opcode::kRdmaRead) {
            std::fill(bytes.begin(), bytes.end(), std::byte{});
        }
        Operation& operation = rdma(opcode, bytes.data(), kLong, to);
        std::uint64_t before =
            counters().rdma_bytes_stored.value() + counters().rdma_bytes_loaded.value();
        for (int turns = 0; !operation.ended(); ++turns) {
            ASSERT_LT(turns, 100);
            turn_a();
            const std::uint64_t now =
                counters().rdma_bytes_stored.value() + counters().rdma_bytes_loaded.value();
            ASSERT_LE(now - before, 256U << 10);
            before = now;
        }
        EXPECT_TRUE(operation.good());
        EXPECT_TRUE(holds(message_of(7, kLong)));
        EXPECT_TRUE(bytes == message_of(7, kLong));
    }
    EXPECT_EQ(stores(), 2U);
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
}

TEST_F(RdmaStoreTest, RandomRangesAndPiecesGoBothWays) {
    std::mt19937 random(5);
    const Exposed to = expose(memory());
    Bytes expected(memory(), memory() + kLong);
    for (std::uint64_t round = 0; round < tests::scaled(600) + 60; ++round) {
        const std::uint32_t limits[] = {10, 130, 1100, 70000, 600000};
        const std::uint32_t length = random() % limits[round % 5];
        const std::uint32_t offset = random() % (kLong - length + 1);
        std::vector<std::uint32_t> cuts(random() % kMaxSges);
        for (std::uint32_t& cut : cuts) {
            cut = random() % (length + 1);
        }
        std::sort(cuts.begin(), cuts.end());
        Bytes local = message_of(round, length);
        std::copy(local.begin(), local.end(), expected.begin() + offset);
        Operation& there = rdma(Opcode::kRdmaWrite, local.data(), length, to, offset, cuts);
        for (int turns = 0; !there.ended() && turns < 10; ++turns) {
            turn_a();
        }
        ASSERT_TRUE(there.good()) << round;
        ASSERT_TRUE(holds(expected)) << round;
        std::fill(local.begin(), local.end(), std::byte{0xEE});
        Operation& back = rdma(Opcode::kRdmaRead, local.data(), length, to, offset, cuts);
        for (int turns = 0; !back.ended() && turns < 10; ++turns) {
            turn_a();
        }
        ASSERT_TRUE(back.good()) << round;
        ASSERT_TRUE(local == message_of(round, length)) << round;
        a_.operations.clear();
    }
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
}

TEST_F(RdmaStoreTest, AMessageBehindAWriteFindsTheBytesThere) {
    const Exposed to = expose(memory());
    for (std::uint64_t round = 0; round < 50; ++round) {
        Operation& there = b_.receive(10);
        const Bytes bytes = message_of(round, round % 3 == 0 ? kLong : 100);
        write(bytes, to);
        a_.send_number(round, 10);
        for (int turns = 0; !there.ended(); ++turns) {
            ASSERT_LT(turns, 1000);
            turn_b();
            if (there.ended()) {
                ASSERT_TRUE(holds(bytes)) << round;
            }
            turn_a();
        }
    }
}

// The receiver must not see a write before it can see the message before it.
TEST_F(RdmaStoreTest, AWriteDoesNotOvertakeAMessage) {
    const Exposed to = expose(memory());
    std::fill_n(memory(), 200, std::byte{});
    Operation& first = b_.receive(10);
    a_.send_number(1, 10);
    Operation& waits = write(message_of(2, 100), to);
    EXPECT_FALSE(waits.ended());
    EXPECT_FALSE(holds(message_of(2, 100)));
    EXPECT_FALSE(first.ended());
    ports_.settle();
    EXPECT_TRUE(first.good() && waits.good() && holds(message_of(2, 100)));
    EXPECT_EQ(stores(), 0U);
    // All that was sent has been taken.
    EXPECT_TRUE(write(message_of(3, 100), to).good());
    EXPECT_EQ(stores(), 1U);
    Operation& second = b_.receive(10);
    a_.send_number(4, 10);
    turn_b();
    EXPECT_TRUE(second.good());
    EXPECT_TRUE(write(message_of(5, 100), to).good());
    EXPECT_EQ(stores(), 2U);
}

TEST_F(RdmaStoreTest, WhatWasTakenBeforeAnythingWasExposedIsKnownToo) {
    (void)b_.receive(10);
    a_.send_number(1, 10);
    turn_b();
    const Exposed to = expose(memory());
    EXPECT_TRUE(write(message_of(5, 100), to).good());
    EXPECT_EQ(stores(), 1U);
}

TEST_F(RdmaStoreTest, OperationsStayInTheOrderOfTheirPosts) {
    const Exposed to = expose(memory());
    Bytes elsewhere(kLong);
    const Exposed asked = expose(elsewhere.data());
    ASSERT_EQ(asked.place, 0U) << "not in an arena";
    std::mt19937 random(11);
    for (std::uint64_t round = 0; round < 100; ++round) {
        std::vector<Operation*> operations;
        Bytes expected(memory(), memory() + kLong);
        for (int i = 0; i < 6; ++i) {
            const Bytes bytes = message_of(round * 10 + i, random() % 3 == 0 ? 300000 : 500);
            const std::uint32_t offset = random() % 1000;
            const bool there = random() % 2 == 0;
            operations.push_back(&write(bytes, there ? to : asked, offset));
            if (there) {
                std::copy(bytes.begin(), bytes.end(), expected.begin() + offset);
            }
        }
        bool all = false;
        for (int turns = 0; !all; ++turns) {
            ASSERT_LT(turns, 1000);
            random() % 2 == 0 ? turn_a() : turn_b();
            bool ended = true;
            for (const Operation* operation : operations) {
                ASSERT_TRUE(ended || !operation->ended()) << "one has overtaken another";
                ended = operation->ended();
            }
            all = ended;
        }
        ASSERT_TRUE(holds(expected));
        source_.clear();
        a_.operations.clear();
    }
}

// ---- what is refused --------------------------------------------------------------------------------

TEST_F(RdmaStoreTest, ARevokedOneIsRefused) {
    const Exposed to = expose(memory());
    std::fill_n(memory(), 200, std::byte{});
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
    expect_refused(write(message_of(2, 100), to));
    EXPECT_FALSE(holds(message_of(2, 100)));
}

TEST_F(RdmaStoreTest, AnotherRangeAtTheSamePlaceIsNotWritten) {
    const Exposed to = expose(memory(), 1000);
    EXPECT_EQ(b_.remote.remove(to.key, kNonce), Removal::kRemoved);
    const Exposed next = expose(memory() + 5000, 1000);
    ASSERT_EQ(next.place, to.place);
    std::fill_n(memory() + 5000, 200, std::byte{});
    expect_refused(write(message_of(2, 100), to));
    EXPECT_FALSE(holds(message_of(2, 100), 5000));
}

TEST_F(RdmaStoreTest, AWrongNonceIsRefused) {
    const Exposed to = expose(memory());
    Bytes bytes(100);
    expect_refused(rdma(Opcode::kRdmaWrite, bytes.data(), 100, to, 0, {}, kNonce ^ 1));
}

TEST_F(RdmaStoreTest, AWrongKeyIsRefused) {
    Exposed to = expose(memory());
    to.key ^= 1U << 20;
    expect_refused(write(Bytes(100), to));
}

TEST_F(RdmaStoreTest, BeyondTheRangeIsRefused) {
    const Exposed to = expose(memory(), 1000);
    expect_refused(write(Bytes(100), to, 901));
}

TEST_F(RdmaStoreTest, WritingWhatIsToBeReadIsRefused) {
    const Exposed to = expose(memory(), 1000, kRead);
    expect_refused(write(Bytes(100), to));
}

TEST_F(RdmaStoreTest, ReadingWhatIsToBeWrittenIsRefused) {
    const Exposed to = expose(memory(), 1000, kWrite);
    Bytes bytes(100);
    expect_refused(rdma(Opcode::kRdmaRead, bytes.data(), 100, to));
}

TEST_F(RdmaStoreTest, AnotherConnectionsExposureIsRefused) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    RemoteRegions::Table table(1);
    other_b.remote.adopt(table);
    const std::uint32_t key = other_b.remote.add(arena().base, 1000, kRead | kWrite, kNonce);
    std::fill_n(memory(), 200, std::byte{});
    expect_refused(write(message_of(1, 100), {key, other_b.remote.place_of(key)}));
    EXPECT_FALSE(holds(message_of(1, 100)));
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_F(RdmaStoreTest, AHintThatLeadsNowhereCostsOnlyTheShortWay) {
    Exposed to = expose(memory());
    for (const std::uint32_t place : {to.place + 1, kExposureSlots, kExposureSlots + 1, ~0U, 0U}) {
        Operation& operation = write(message_of(place, 100), {to.key, place});
        ports_.settle();
        EXPECT_TRUE(operation.good());
        EXPECT_TRUE(holds(message_of(place, 100)));
    }
    EXPECT_EQ(stores(), 0U);
}

TEST_F(RdmaStoreTest, WhatFindsNoPlaceInTheTableGoesByRequests) {
    for (std::uint32_t i = 0; i < kExposureSlots; ++i) {
        ASSERT_NE(ports_.link_b->shown.show({}), 0U);
    }
    const Exposed to = expose(memory());
    EXPECT_EQ(to.place, 0U);
    Operation& operation = write(message_of(1, 100), to);
    ports_.settle();
    EXPECT_TRUE(operation.good() && holds(message_of(1, 100)));
}

TEST_F(RdmaStoreTest, ALocalBufferThatWasDeregisteredIsRefused) {
    const Exposed to = expose(memory());
    ASSERT_TRUE(a_.regions.retire(a_.region));
    Operation& operation = write(message_of(1, 100), to);
    EXPECT_EQ(operation.status, Status::kBadRegion);
    EXPECT_EQ(operation.ends.load(), 1);
}

class ReadOnlyStoreTest : public RdmaStoreTest {
protected:
    void SetUp() override {
        share(false);
        ports_.connect(a_, b_);
        RemoteRegions::Table table(16);
        b_.remote.adopt(table);
    }
};

TEST_F(ReadOnlyStoreTest, WhatIsMappedForReadingIsReadWithoutThePeerAndWrittenByIt) {
    const Exposed to = expose(memory());
    std::fill_n(memory(), 200, std::byte{});
    Operation& there = write(message_of(1, 100), to);
    EXPECT_FALSE(there.ended());
    ports_.settle();
    EXPECT_TRUE(there.good() && holds(message_of(1, 100)));
    Bytes back(100);
    EXPECT_TRUE(rdma(Opcode::kRdmaRead, back.data(), 100, to).good());
    EXPECT_TRUE(back == message_of(1, 100));
    EXPECT_EQ(stores(), 1U);
}

class UnsharedStoreTest : public RdmaStoreTest {
protected:
    void SetUp() override {
        ports_.connect(a_, b_);
        RemoteRegions::Table table(16);
        b_.remote.adopt(table);
    }
};

TEST_F(UnsharedStoreTest, WithoutSharingNothingIsShown) {
    for (const Sharing sharing : {Sharing::kOffHere, Sharing::kOffThere, Sharing::kOtherUser}) {
        ports_.link_b->sharing = sharing;
        const Exposed to = expose(memory());
        EXPECT_EQ(to.place, 0U);
        Operation& operation = write(message_of(1, 100), to);
        ports_.settle();
        EXPECT_TRUE(operation.good());
    }
    EXPECT_EQ(stores(), 0U);
}

TEST_F(UnsharedStoreTest, AnArenaThatIsNotMappedHereIsAskedFor) {
    ports_.link_b->sharing = Sharing::kNoneYet;
    const Exposed to = expose(memory());
    EXPECT_NE(to.place, 0U);
    Operation& operation = write(message_of(1, 100), to);
    ports_.settle();
    EXPECT_TRUE(operation.good());
    EXPECT_EQ(stores(), 0U);
}

}  // namespace
}  // namespace sanpoll::engine::shm
