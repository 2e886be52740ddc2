// RDMA over a link, turned by hand: pieces, ranges, what holds a region, and ends in the middle.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>

#include "tests/engine/fabric/shm/two_ports.hpp"
#include "tests/engine/patience.hpp"
#include "tests/rings/scale.hpp"

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

class RdmaLinkTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        const ProcessCopy copy = tests::this_process(GetParam());
        ports_.link_a->copy = copy;
        ports_.link_b->copy = copy;
        ports_.connect(a_, b_);
    }

    /// Exposes memory of b's; as the provider does, with a larger table when there is no room.
    std::uint32_t expose(void* memory, std::uint32_t length,
                         std::uint32_t access = kRead | kWrite) {
        if (b_.remote.full()) {
            RemoteRegions::Table larger(b_.remote.capacity() + 16);
            b_.remote.adopt(larger);
        }
        return b_.remote.add(reinterpret_cast<std::uint64_t>(memory), length, access, kNonce);
    }
    Operation& rdma(Opcode opcode, Bytes bytes, std::uint32_t key, std::uint32_t offset = 0,
                    const std::vector<std::uint32_t>& cuts = {}) {
        return a_.rdma(opcode, {kNonce, key, offset}, std::move(bytes), cuts);
    }
    Operation& write(Bytes bytes, std::uint32_t key, std::uint32_t offset = 0,
                     const std::vector<std::uint32_t>& cuts = {}) {
        return rdma(Opcode::kRdmaWrite, std::move(bytes), key, offset, cuts);
    }
    Operation& read(std::uint32_t length, std::uint32_t key, std::uint32_t offset = 0,
                    const std::vector<std::uint32_t>& cuts = {}) {
        return rdma(Opcode::kRdmaRead, Bytes(length, std::byte{0xEE}), key, offset, cuts);
    }
    void turn_a() { (void)ports_.a.core.turn(); }
    void turn_b() { (void)ports_.b.core.turn(); }

    Socket a_;
    Socket b_;
    TwoPorts ports_{TwoPorts::small_config()};
};

// The peer is another program by now, or another process has its id, and its end has not been noticed yet.
TEST_P(RdmaLinkTest, NothingIsTakenFromAnotherProcessOfTheSameId) {
    if (!GetParam()) {
        GTEST_SKIP() << "nothing is copied between the processes";
    }
    for (const bool writes : {true, false}) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        RemoteRegions::Table table(16);
        to.remote.adopt(table);
        Bytes memory(kLong, std::byte{0});
        const std::uint32_t key = to.remote.add(reinterpret_cast<std::uint64_t>(memory.data()),
                                                kLong, kRead | kWrite, kNonce);
        ++(writes ? ports_.link_b : ports_.link_a)->copy.probe[1];
        for (std::uint64_t number = 0; number < 20; ++number) {
            const Operation& operation = from.rdma(writes ? Opcode::kRdmaWrite : Opcode::kRdmaRead,
                                                   {kNonce, key, 0}, message_of(number, kLong));
            ports_.settle();
            // The one that is at the link's end lives, here: it is asked.
            ASSERT_TRUE(operation.good());
        }
        EXPECT_EQ(ports_.a.port.counters().rdma_bytes_copied.value(), 0U);
        EXPECT_EQ(ports_.b.port.counters().rdma_bytes_copied.value(), 0U);
        --(writes ? ports_.link_b : ports_.link_a)->copy.probe[1];
        from.close();
        to.close();
        ports_.settle();
    }
}

TEST_P(RdmaLinkTest, RandomRangesAndPiecesGoBothWays) {
    Bytes memory(kLong, std::byte{0});
    const std::uint32_t key = expose(memory.data(), kLong);
    std::mt19937 random(5);
    for (std::uint64_t round = 0; round < tests::scaled(600) + 40; ++round) {
        const std::uint32_t limits[] = {50, 400, 20000, 70000, kLong};
        const std::uint32_t length = random() % limits[round % 5];
        const std::uint32_t offset = random() % (kLong - length + 1);
        std::vector<std::uint32_t> cuts(random() % kMaxSges);
        for (std::uint32_t& cut : cuts) {
            cut = random() % (length + 1);
        }
        std::sort(cuts.begin(), cuts.end());
        const Bytes before = memory;
        Operation& there = write(message_of(round, length), key, offset, cuts);
        Operation& back = read(length, key, offset, cuts);
        ports_.settle();
        ASSERT_TRUE(there.good() && back.good()) << round;
        ASSERT_EQ(there.length, length);
        ASSERT_TRUE(back.content() == message_of(round, length)) << round;
        Bytes expected = before;
        std::copy(there.bytes.begin(), there.bytes.end(), expected.begin() + offset);
        ASSERT_TRUE(memory == expected) << round;
        a_.operations.clear();
    }
    const ShmCounters& counters = ports_.b.port.counters();
    EXPECT_EQ(counters.rdma_bytes_copied.value() != 0, GetParam());
    EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kRemoved);
}

TEST_P(RdmaLinkTest, ARegionIsHeldUntilTheTransferHasEnded) {
    Bytes memory(kLong);
    const std::uint32_t key = expose(memory.data(), kLong);
    for (const bool reads : {false, true}) {
        Operation& operation = reads ? read(kLong, key) : write(Bytes(kLong), key);
        turn_b();
        EXPECT_FALSE(operation.ended());
        EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kInUse);
        ports_.settle();
        EXPECT_TRUE(operation.good());
    }
    EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kRemoved);
}

TEST_P(RdmaLinkTest, AWriteThatWasClosedInTheMiddleLetsGoOfTheRegion) {
    Bytes memory(kLong);
    const std::uint32_t key = expose(memory.data(), kLong);
    Operation& operation = write(Bytes(kLong), key);
    turn_b();
    a_.close();
    EXPECT_EQ(operation.status, Status::kAborted);
    ports_.settle();
    EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kRemoved);
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
}

TEST_P(RdmaLinkTest, AReadWhoseOwnerClosedReportsNothing) {
    Bytes memory(kLong, std::byte{1});
    const std::uint32_t key = expose(memory.data(), kLong);
    Operation& operation = read(kLong, key);
    turn_b();  // granted, or served in part
    turn_a();
    b_.close();
    std::fill(memory.begin(), memory.end(), std::byte{2});
    ports_.settle();
    ASSERT_EQ(operation.ends.load(), 1);
    EXPECT_EQ(operation.status, Status::kReset);
    EXPECT_EQ(operation.length, 0U);
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kReset);
}

TEST_P(RdmaLinkTest, AnotherConnectionsEndDoesNotSpoilARead) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    Bytes memory = message_of(3, kLong);
    const std::uint32_t key = expose(memory.data(), kLong);
    // A grant of the other connection is taken back while ours holds.
    RemoteRegions::Table table(1);
    other_b.remote.adopt(table);
    Bytes theirs(kLong);
    const std::uint32_t their_key =
        other_b.remote.add(reinterpret_cast<std::uint64_t>(theirs.data()), kLong, kRead, kNonce);
    Operation& operation = read(kLong, key);
    WorkRequest request{};
    Operation lost;
    lost.bytes.resize(kLong);
    request.opcode = Opcode::kRdmaRead;
    request.context = reinterpret_cast<std::uint64_t>(&lost);
    request.length = kLong;
    set_remote(request, {kNonce, their_key, 0});
    request.sge_count = kRemoteSges + 1;
    request.piece(kRemoteSges) = {reinterpret_cast<std::uint64_t>(lost.bytes.data()), kLong,
                                  other_a.region};
    ASSERT_EQ(
        other_a.core_slot.load()->post(request, other_a.gate, other_a.generation, other_a.slot),
        Status::kOk);
    turn_b();
    other_b.close();
    ports_.settle();
    EXPECT_TRUE(operation.good());
    EXPECT_TRUE(operation.content() == message_of(3, kLong));
    EXPECT_EQ(lost.ends.load(), 1);
    EXPECT_EQ(lost.status, Status::kReset);
    other_a.close();
}

TEST_P(RdmaLinkTest, ARefusalEndsThatConnectionOnBothSides) {
    Bytes memory(1000, std::byte{7});
    const std::uint32_t key = expose(memory.data(), 1000, kRead);
    Operation& theirs = b_.receive(10);
    Operation& ours = a_.receive(10);
    Operation& operation = write(Bytes(100, std::byte{9}), key);
    ports_.settle();
    for (const Operation* one : {&operation, &ours, &theirs}) {
        EXPECT_EQ(one->ends.load(), 1);
        EXPECT_EQ(one->status, Status::kTransportFailed);
    }
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kFailed);
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kFailed);
    EXPECT_TRUE(memory == Bytes(1000, std::byte{7}));
    EXPECT_EQ(ports_.b.port.counters().rdma_refused.value(), 1U);
    EXPECT_FALSE(ports_.link_b->failed.load());
}

TEST_P(RdmaLinkTest, ADeregisteredLocalRegionIsRefusedBeforeAnythingIsAsked) {
    Bytes memory(1000);
    const std::uint32_t key = expose(memory.data(), 1000);
    ASSERT_TRUE(a_.regions.retire(a_.region));
    Operation& operation = write(Bytes(100, std::byte{1}), key);
    EXPECT_EQ(operation.status, Status::kBadRegion);
    ports_.settle();
    EXPECT_TRUE(memory == Bytes(1000));
}

TEST_P(RdmaLinkTest, ATargetThatTakesNothingIsKnockedAt) {
    Bytes memory(kLong);
    const std::uint32_t key = expose(memory.data(), kLong);
    Operation& operation = read(kLong, key);
    char ring = 0;
    EXPECT_TRUE(tests::eventually([&] {
        turn_a();
        return ::recv(ports_.link_b->own_doorbell(), &ring, 1, MSG_DONTWAIT) == 1;
    }));
    EXPECT_GE(ports_.a.port.counters().knocks.value(), 1U);
    ports_.settle();
    EXPECT_TRUE(operation.good());
    EXPECT_EQ(ports_.link_a->awaiting, 0U);
}

TEST_P(RdmaLinkTest, ACoreThatGoesToSleepKnocksBefore) {
    Bytes memory(kLong);
    const std::uint32_t key = expose(memory.data(), kLong);
    Operation& operation = read(kLong, key);
    ports_.a.port.arm();
    char ring = 0;
    EXPECT_EQ(::recv(ports_.link_b->own_doorbell(), &ring, 1, MSG_DONTWAIT), 1);
    ports_.a.port.disarm();
    ports_.settle();
    EXPECT_TRUE(operation.good());
}

INSTANTIATE_TEST_SUITE_P(Copy, RdmaLinkTest, testing::Bool(), [](const auto& one) {
    return std::string(one.param ? "direct" : "staged");
});

// Memory that is gone is an error of the copy and not a crash.
class RdmaFaultTest : public RdmaLinkTest {};

TEST_P(RdmaFaultTest, UnmappedMemoryFailsTheConnectionOnBothSides) {
    for (const bool reads : {true, false}) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        void* hole =
            ::mmap(nullptr, kLong, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(hole, MAP_FAILED);
        Bytes memory(kLong);
        RemoteRegions::Table table(1);
        to.remote.adopt(table);
        const auto exposed = reads ? reinterpret_cast<std::uint64_t>(hole)
                                   : reinterpret_cast<std::uint64_t>(memory.data());
        const auto local = reads ? reinterpret_cast<std::uint64_t>(memory.data())
                                 : reinterpret_cast<std::uint64_t>(hole);
        const std::uint32_t key = to.remote.add(exposed, kLong, kRead | kWrite, kNonce);
        ASSERT_EQ(::munmap(hole, kLong), 0);
        Operation operation;
        WorkRequest request{};
        request.opcode = reads ? Opcode::kRdmaRead : Opcode::kRdmaWrite;
        request.context = reinterpret_cast<std::uint64_t>(&operation);
        request.length = kLong;
        set_remote(request, {kNonce, key, 0});
        request.sge_count = kRemoteSges + 1;
        request.piece(kRemoteSges) = {local, kLong, from.region};
        ASSERT_EQ(from.core_slot.load()->post(request, from.gate, from.generation, from.slot),
                  Status::kOk);
        ports_.settle();
        EXPECT_EQ(operation.status, Status::kTransportFailed);
        EXPECT_EQ(from.gate.view().state, PostGate::State::kFailed);
        EXPECT_EQ(to.gate.view().state, PostGate::State::kFailed);
        EXPECT_FALSE(ports_.link_a->failed.load() || ports_.link_b->failed.load());
        from.close();
        to.close();
        ports_.settle();
    }
}

INSTANTIATE_TEST_SUITE_P(Copy, RdmaFaultTest, testing::Values(true),
                         [](const auto&) { return std::string("direct"); });

}  // namespace
}  // namespace sanpoll::engine::shm
