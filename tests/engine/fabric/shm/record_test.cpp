#include "engine/fabric/shm/record.hpp"

#include <gtest/gtest.h>

namespace sanpoll::engine::shm {
namespace {

TEST(Record, SlotsGrowWithTheLength) {
    EXPECT_EQ(slots_for(0), 1U);
    EXPECT_EQ(slots_for(43), 1U);
    EXPECT_EQ(slots_for(44), 1U);
    EXPECT_EQ(slots_for(45), 1U);
    EXPECT_EQ(slots_for(108), 1U);
    EXPECT_EQ(slots_for(109), 2U);
    EXPECT_EQ(slots_for(232), 2U);
    EXPECT_EQ(slots_for(233), 3U);
    EXPECT_EQ(slots_for(356), 3U);
    EXPECT_EQ(slots_for(357), 4U);
}

TEST(Record, AHeaderSurvivesItsWayThroughASlot) {
    for (std::uint32_t kind = 1; kind <= 8; ++kind) {
        alignas(64) std::byte payload[rings::kSlotPayload] = {};
        const RecordHeader in{
            static_cast<RecordKind>(kind), 1, 0, 0xDEADBEEF, 0x01234567, 0x89ABCDEF};
        write_header(payload, in, 5);
        const RecordHeader out = read_header(payload);
        EXPECT_EQ(out.kind, in.kind);
        EXPECT_EQ(out.slots, 5);
        EXPECT_EQ(out.turns, 0);
        EXPECT_EQ(out.connection, in.connection);
        EXPECT_EQ(out.length, in.length);
        EXPECT_EQ(out.credit, in.credit);
        for (std::size_t i = sizeof(RecordHeader); i < rings::kSlotPayload; ++i) {
            EXPECT_EQ(payload[i], std::byte{0}) << i;
        }
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
