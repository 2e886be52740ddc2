// RDMA out of arenas that the copying side has mapped: no staging, no system call, and the rules of all other RDMA.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <random>

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

// Both sides have mapped an arena of the other; `copy` is what they may do beside that.
class RdmaArenaTest : public testing::TestWithParam<bool> {
protected:
    void SetUp() override {
        const ProcessCopy copy = tests::this_process(GetParam());
        ports_.link_a->copy = copy;
        ports_.link_b->copy = copy;
        lend(tests::shareable_arena(0), ports_.a, *ports_.link_a, ports_.b, *ports_.link_b);
        lend(tests::shareable_arena(1), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a);
        ports_.connect(a_, b_);
        RemoteRegions::Table table(16);
        b_.remote.adopt(table);
    }
    [[nodiscard]] static std::byte* arena_a() {
        return reinterpret_cast<std::byte*>(tests::shareable_arena(0).base);
    }
    [[nodiscard]] static std::byte* arena_b() {
        return reinterpret_cast<std::byte*>(tests::shareable_arena(1).base);
    }
    std::uint32_t expose(void* memory, std::uint32_t length = kLong) {
        return b_.remote.add(reinterpret_cast<std::uint64_t>(memory), length, kRead | kWrite,
                             kNonce);
    }
    Operation& rdma(Opcode opcode, std::byte* local, std::uint32_t length, std::uint32_t key,
                    std::uint32_t offset = 0, const std::vector<std::uint32_t>& cuts = {}) {
        return a_.rdma_at(opcode, {kNonce, key, offset}, local, length, cuts);
    }
    void turn_a() { (void)ports_.a.core.turn(); }
    void turn_b() { (void)ports_.b.core.turn(); }
    [[nodiscard]] std::uint64_t otherwise() const {
        std::uint64_t bytes = 0;
        for (const tests::Side* side : {&ports_.a, &ports_.b}) {
            bytes += side->port.counters().rdma_bytes_staged.value() +
                     side->port.counters().rdma_bytes_copied.value();
        }
        return bytes;
    }

    Socket a_;
    Socket b_;
    TwoPorts ports_{TwoPorts::small_config()};
};

TEST_P(RdmaArenaTest, RandomRangesAndPiecesGoBothWays) {
    std::mt19937 random(5);
    Bytes elsewhere(kLong);
    const std::uint32_t keys[] = {expose(arena_b()), expose(elsewhere.data())};
    std::byte* const places[] = {arena_b(), elsewhere.data()};
    Bytes local(kLong);
    for (std::uint64_t round = 0; round < tests::scaled(400) + 40; ++round) {
        const std::uint32_t limits[] = {50, 400, 20000, 70000, kLong};
        const std::uint32_t length = random() % limits[round % 5];
        const std::uint32_t offset = random() % (kLong - length + 1);
        const unsigned where = random() % 2;
        const unsigned from = random() % 2;
        std::byte* const source = from == 0 ? arena_a() + random() % 5000 : local.data();
        std::vector<std::uint32_t> cuts(random() % kMaxSges);
        for (std::uint32_t& cut : cuts) {
            cut = random() % (length + 1);
        }
        std::sort(cuts.begin(), cuts.end());
        const Bytes before(places[where], places[where] + kLong);
        const Bytes content = message_of(round, length);
        std::copy(content.begin(), content.end(), source);
        const std::uint64_t staged = otherwise();
        Operation& there = rdma(Opcode::kRdmaWrite, source, length, keys[where], offset, cuts);
        ports_.settle();
        ASSERT_TRUE(there.good()) << round;
        Bytes expected = before;
        std::copy(content.begin(), content.end(), expected.begin() + offset);
        ASSERT_TRUE(Bytes(places[where], places[where] + kLong) == expected) << round;
        if (length > ports_.config.eager_max) {
            ASSERT_EQ(otherwise() == staged, from == 0) << round;
        }
        const std::uint64_t copied = otherwise();
        std::fill_n(source, length, std::byte{0xEE});
        Operation& back = rdma(Opcode::kRdmaRead, source, length, keys[where], offset, cuts);
        ports_.settle();
        ASSERT_TRUE(back.good()) << round;
        ASSERT_TRUE(std::equal(content.begin(), content.end(), source)) << round;
        if (length > ports_.config.eager_max) {
            ASSERT_EQ(otherwise() == copied, where == 0) << round;
        }
        a_.operations.clear();
    }
    for (const std::uint32_t key : keys) {
        EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kRemoved);
    }
}

TEST_P(RdmaArenaTest, ARegionIsHeldUntilTheTransferHasEnded) {
    const std::uint32_t key = expose(arena_b());
    for (const Opcode opcode : {Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        Operation& operation = rdma(opcode, arena_a(), kLong, key);
        turn_b();
        EXPECT_FALSE(operation.ended());
        EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kInUse);
        ports_.settle();
        EXPECT_TRUE(operation.good());
    }
    EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kRemoved);
}

TEST_P(RdmaArenaTest, ATurnCopiesABoundedPart) {
    const std::uint32_t key = expose(arena_b(), 8U << 20);
    for (const Opcode opcode : {Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        Operation& operation = rdma(opcode, arena_a(), 8U << 20, key);
        std::uint64_t before[2] = {ports_.a.port.counters().bytes_from_arenas.value(),
                                   ports_.b.port.counters().bytes_from_arenas.value()};
        for (int turns = 0; !operation.ended(); ++turns) {
            ASSERT_LT(turns, 100);
            int i = 0;
            for (tests::Side* side : {&ports_.a, &ports_.b}) {
                (void)side->core.turn();
                const std::uint64_t now = side->port.counters().bytes_from_arenas.value();
                ASSERT_LE(now - before[i], 512U << 10);  // the second half on a quick machine
                before[i++] = now;
            }
        }
    }
}

TEST_P(RdmaArenaTest, MessagesAndRdmaStayInOrder) {
    const std::uint32_t key = expose(arena_b());
    for (std::uint64_t round = 0; round < 30; ++round) {
        Operation& first = b_.receive(kLong);
        Operation& second = b_.receive(10);
        send_at(a_, arena_a() + kLong, message_of(round, kLong));
        const Bytes content = message_of(round + 100, kLong);
        std::copy(content.begin(), content.end(), arena_a());
        rdma(Opcode::kRdmaWrite, arena_a(), kLong, key);
        a_.send_number(round, 10);
        bool write_was_first = true;
        for (int turns = 0; !second.ended(); ++turns) {
            ASSERT_LT(turns, 1000);
            turn_a();
            turn_b();
            if (second.ended()) {
                write_was_first = std::equal(content.begin(), content.end(), arena_b());
            } else if (!first.ended()) {
                ASSERT_FALSE(std::equal(content.begin(), content.end(), arena_b()));
            }
        }
        EXPECT_TRUE(write_was_first && first.good());
        EXPECT_TRUE(first.content() == message_of(round, kLong));
        std::fill_n(arena_b(), kLong, std::byte{0});
    }
}

TEST_P(RdmaArenaTest, AReadWhoseOwnerClosedReportsNothing) {
    std::fill_n(arena_b(), kLong, std::byte{1});
    const std::uint32_t key = expose(arena_b());
    Operation& operation = rdma(Opcode::kRdmaRead, arena_a(), kLong, key);
    turn_b();  // granted
    turn_a();
    b_.close();
    std::fill_n(arena_b(), kLong, std::byte{2});
    ports_.settle();
    ASSERT_EQ(operation.ends.load(), 1);
    EXPECT_EQ(operation.status, Status::kReset);
    EXPECT_EQ(operation.length, 0U);
}

TEST_P(RdmaArenaTest, AWriteThatWasClosedInTheMiddleLetsGoOfTheRegion) {
    const std::uint32_t key = expose(arena_b());
    Operation& operation = rdma(Opcode::kRdmaWrite, arena_a(), kLong, key);
    turn_b();
    a_.close();
    EXPECT_EQ(operation.status, Status::kAborted);
    ports_.settle();
    EXPECT_EQ(b_.remote.remove(key, kNonce), Removal::kRemoved);
}

INSTANTIATE_TEST_SUITE_P(Beside, RdmaArenaTest, testing::Bool(), [](const auto& one) {
    return std::string(one.param ? "direct" : "staged");
});

}  // namespace
}  // namespace sanpoll::engine::shm
