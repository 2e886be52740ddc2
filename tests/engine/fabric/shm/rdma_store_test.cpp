// RDMA into and out of exposed arenas, done by the initiator alone: the peer's core is turned only where a test says so.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <random>
#include <thread>

#include "engine/remote_regions.hpp"
#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;
using Removal = RemoteRegions::Removal;

constexpr std::uint32_t kLong = 3U << 20;
constexpr std::uint64_t kNonce = 0x1234567890ABCDEF;

class RdmaStoreTest : public testing::Test {
protected:
    void SetUp() override {
        share(true);
        ports_.connect(a_, b_);
        RemoteRegions::Table table(64);
        b_.remote.adopt(table);
    }
    void share(bool write) {
        for (Link* link : {ports_.link_a.get(), ports_.link_b.get()}) {
            link->copy = {::getpid(), true, true};
            link->sharing = Sharing::kNoneYet;
        }
        lend(arena(), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a, write);
    }
    [[nodiscard]] static const memory::Arena& arena() { return tests::shareable_arena(1); }
    [[nodiscard]] static std::byte* memory() { return reinterpret_cast<std::byte*>(arena().base); }

    struct Exposed {
        std::uint32_t key;
        std::uint32_t place;
    };
    Exposed expose(void* at, std::uint32_t length = kLong, std::uint32_t access = kRead | kWrite) {
        const std::uint32_t key =
            b_.remote.add(reinterpret_cast<std::uint64_t>(at), length, access, kNonce);
        return {key, b_.remote.place_of(key)};
    }
    Operation& rdma(Opcode opcode, std::byte* local, std::uint32_t length, const Exposed& to,
                    std::uint32_t offset = 0, const std::vector<std::uint32_t>& cuts = {},
                    std::uint64_t nonce = kNonce) {
        Operation& operation = a_.operations.emplace_back();
        WorkRequest request{};
        request.opcode = opcode;
        request.context = reinterpret_cast<std::uint64_t>(&operation);
        request.length = length;
        set_remote(request, {nonce, to.key, offset, to.place});
        request.sge_count = kRemoteSges;
        std::vector<std::uint32_t> ends = cuts;
        ends.push_back(length);
        std::uint32_t start = 0;
        for (const std::uint32_t end : ends) {
            request.piece(request.sge_count++) = {reinterpret_cast<std::uint64_t>(local) + start,
                                                  end - start, a_.region};
            start = end;
        }
        a_.last = a_.core_slot.load()->post(request, a_.gate, a_.generation, a_.slot);
        return operation;
    }
    Operation& write(const Bytes& bytes, const Exposed& to, std::uint32_t offset = 0) {
        source_.push_back(bytes);
        return rdma(Opcode::kRdmaWrite, source_.back().data(),
                    static_cast<std::uint32_t>(bytes.size()), to, offset);
    }
    /// As if the initiator were stopped in the middle of copying a part.
    void begin_part(const Exposed& to) {
        Exposure found;
        ASSERT_TRUE(ports_.link_a->seen.look(to.place, found));
        ASSERT_TRUE(ports_.link_a->seen.begin(to.place, found.state));
    }
    void expect_closed_in_time() {
        for (int i = 0; b_.closures.load() == 0; ++i) {
            ASSERT_LT(i, 100000);
            turn_b();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
    }
    void turn_a() { (void)ports_.a.core.turn(); }
    void turn_b() { (void)ports_.b.core.turn(); }
    [[nodiscard]] const ShmCounters& counters() const { return ports_.a.port.counters(); }
    [[nodiscard]] std::uint64_t stores() const { return counters().rdma_stores.value(); }
    [[nodiscard]] static bool holds(const Bytes& bytes, std::size_t at = 0) {
        return std::equal(bytes.begin(), bytes.end(), memory() + at);
    }
    void expect_refused(Operation& operation) {
        ports_.settle();
        EXPECT_EQ(operation.ends.load(), 1);
        EXPECT_EQ(operation.status, Status::kTransportFailed);
        EXPECT_EQ(stores(), 0U);
    }

    Socket a_;
    Socket b_;
    std::deque<Bytes> source_;
    TwoPorts ports_{TwoPorts::small_config()};
};

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

// ---- in the middle ----------------------------------------------------------------------------------

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
