// Long messages that the receiver's device reads from where they lie.
#include "tests/engine/fabric/verbs/verbs_rdma_fixture.hpp"

namespace sanpoll::tests {
namespace {

using engine::Opcode;

class VerbsReadMessageTest : public VerbsRdmaFixture {
protected:
    /// Sends `from` and receives it into `into`; whole, once, and no other byte changes.
    void expect_delivery(const std::vector<Piece>& from, const std::vector<Piece>& into,
                         std::uint64_t number) {
        std::fill(far_memory.begin(), far_memory.end(), std::byte{0xEE});
        Bytes expected;
        std::vector<engine::Sge> source;
        std::vector<engine::Sge> room;
        fill(near_memory, 0, kBytes, number);
        for (const Piece& piece : from) {
            const auto at = near_memory.begin() + static_cast<std::ptrdiff_t>(piece.offset);
            expected.insert(expected.end(), at, at + piece.length);
            source.push_back(near_piece(piece));
        }
        for (const Piece& piece : into) {
            room.push_back(far_piece(piece));
        }
        const Operation& receive = message(Opcode::kReceive, room);
        const Operation& send = message(Opcode::kSend, source);
        for (int i = 0; i < 200 && !(receive.ended() && send.ended()); ++i) {
            net->turn(1);
        }
        ASSERT_TRUE(receive.good());
        EXPECT_TRUE(send.good());
        EXPECT_EQ(receive.length, expected.size());
        auto at = expected.begin();
        for (const Piece& piece : into) {
            const auto length = static_cast<std::ptrdiff_t>(
                std::min<std::size_t>(piece.length, static_cast<std::size_t>(expected.end() - at)));
            EXPECT_TRUE(std::equal(at, at + length,
                                   far_memory.begin() + static_cast<std::ptrdiff_t>(piece.offset)));
            at += length;
        }
        EXPECT_EQ(at, expected.end());
    }
    [[nodiscard]] std::uint64_t read_count() const {
        return net->b.port.counters().messages_read.value();
    }
    [[nodiscard]] std::uint64_t pieced_count() const {
        return net->b.port.counters().messages_pieced.value();
    }
};

TEST_F(VerbsReadMessageTest, ALongMessageIsReadIntoTheReceive) {
    open();
    expect_delivery({{3, 100000}}, {{17, 100000}}, 1);
    EXPECT_TRUE(untouched_around(far_memory, 17, 100000));
    expect_delivery({{3, 3000000}}, {{17, 3500000}}, 2);
    EXPECT_TRUE(untouched_around(far_memory, 17, 3000000));
    EXPECT_EQ(read_count(), 2U);
    EXPECT_EQ(pieced_count(), 0U);
}

TEST_F(VerbsReadMessageTest, PiecesOfBothSidesNeedNotMatch) {
    for (const int read_sges : {16, 1}) {
        open(options_with(16, read_sges, 1U << 30));
        expect_delivery({{0, 50000}, {100000, 0}, {200000, 30001}, {400000, 7}},
                        {{0, 10}, {1000, 60000}, {100000, 0}, {200000, 40000}}, 3);
        EXPECT_EQ(read_count(), 1U) << read_sges;
    }
}

TEST_F(VerbsReadMessageTest, OnIwarpTheReceivesMemoryMayBeWrittenByTheAnswer) {
    open(options_with(6, 1, UINT32_MAX, IBV_TRANSPORT_IWARP));
    expect_delivery({{3, 100000}}, {{17, 50000}, {100000, 60000}}, 1);
    EXPECT_EQ(read_count(), 1U);
}

TEST_F(VerbsReadMessageTest, WhatTakesTooManyRequestsComesInPieces) {
    open(options_with(16, 16, 8192));
    expect_delivery({{0, 16 * 8192}}, {{0, 16 * 8192}}, 5);
    EXPECT_EQ(read_count(), 1U);
    expect_delivery({{0, 16 * 8192 + 1}}, {{0, 16 * 8192 + 1}}, 6);
    EXPECT_EQ(read_count(), 1U);
    EXPECT_EQ(pieced_count(), 1U);
}

TEST_F(VerbsReadMessageTest, MemoryThatMayNotBeReadComesInPieces) {
    FakeDevice::Options no_reads;
    no_reads.read_depth = 0;
    open(no_reads);
    expect_delivery({{3, 100000}}, {{17, 100000}}, 1);
    EXPECT_EQ(read_count(), 0U);
    EXPECT_EQ(pieced_count(), 1U);
}

TEST_F(VerbsReadMessageTest, SeveralMayBeUnderWay) {
    open();
    std::vector<Operation*> receives;
    for (std::uint64_t i = 0; i < 8; ++i) {
        fill(near_memory, i * 100000, 100000, 10 + i);
        receives.push_back(&message(Opcode::kReceive, {far_piece({i * 100000, 100000})}));
    }
    net->turn();
    net->net.hold(ends.second->id, true);
    for (std::size_t i = 0; i < 8; ++i) {
        message(Opcode::kSend, {near_piece({i * 100000, 100000})});
    }
    net->turn();
    EXPECT_GE(net->b.port.counters().doorbells.value(), 1U);
    net->net.hold(ends.second->id, false);
    for (int i = 0; i < 100; ++i) {
        net->turn(1);
    }
    for (std::size_t i = 0; i < 8; ++i) {
        EXPECT_TRUE(receives[i]->good()) << i;
        EXPECT_TRUE(holds(far_memory, i * 100000, 100000, 10 + i)) << i;
    }
    EXPECT_EQ(read_count(), 8U);
}

}  // namespace
}  // namespace sanpoll::tests
