#include "rings/slot.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

namespace sanpoll::rings {
namespace {

TEST(Slot, IsTwoCacheLinesWithTheWordInFront) {
    EXPECT_EQ(offsetof(Slot, sequence), 0U);
    EXPECT_EQ(offsetof(Slot, payload), 4U);
    EXPECT_EQ(sizeof(Slot::payload), kSlotPayload);
    EXPECT_EQ(offsetof(Slot, payload) + kLinePayload, kCacheLine);
    EXPECT_EQ(sizeof(Slot), 2 * kCacheLine);
}

TEST(Slot, NeighboursShareNoPairOfLines) {
    Slot slots[2] = {};
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&slots[0]) % (2 * kCacheLine), 0U);
    EXPECT_EQ(
        reinterpret_cast<std::uintptr_t>(&slots[1]) - reinterpret_cast<std::uintptr_t>(&slots[0]),
        2 * kCacheLine);
}

TEST(SlotIndex, VisitsEverySlotOnceALap) {
    for (std::uint32_t capacity = 1; capacity <= 4096; capacity *= 2) {
        for (const std::uint32_t start :
             {0U, 1U, 77U, std::numeric_limits<std::uint32_t>::max() - capacity / 2}) {
            std::vector<int> visits(capacity);
            for (std::uint32_t i = 0; i < capacity; ++i) {
                const std::uint32_t index = slot_index(start + i, capacity - 1);
                ASSERT_LT(index, capacity);
                ++visits[index];
            }
            for (const int count : visits) {
                ASSERT_EQ(count, 1) << capacity << " slots from " << start;
            }
        }
    }
}

TEST(SlotIndex, IsTheSamePlaceInEveryLap) {
    for (std::uint32_t position = 0; position < 1000; ++position) {
        EXPECT_EQ(slot_index(position, 255), slot_index(position + 256, 255));
        EXPECT_EQ(slot_index(position, 255), slot_index(position + 0xFFFFFF00U, 255));
    }
}

TEST(SlotIndex, NoTwoStepsInARowAreOfTheSameLength) {
    const std::uint32_t mask = 1023;
    for (std::uint32_t position = 0; position < 3 * (mask + 1); ++position) {
        const std::uint32_t step = slot_index(position + 1, mask) - slot_index(position, mask);
        const std::uint32_t next = slot_index(position + 2, mask) - slot_index(position + 1, mask);
        EXPECT_NE(step & mask, next & mask) << position;
    }
}

TEST(ConsumedWord, IsAloneInItsLine) {
    EXPECT_EQ(sizeof(ConsumedWord), kCacheLine);
    EXPECT_EQ(alignof(ConsumedWord), kCacheLine);
}

TEST(LoadOnce, ReadsEveryWidth) {
    const std::uint8_t byte = 0xA5;
    const std::uint16_t half = 0xA55A;
    const std::uint32_t word = 0xDEADBEEF;
    const std::uint64_t wide = 0x0123456789ABCDEF;
    EXPECT_EQ(load_once(byte), byte);
    EXPECT_EQ(load_once(half), half);
    EXPECT_EQ(load_once(word), word);
    EXPECT_EQ(load_once(wide), wide);
}

}  // namespace
}  // namespace sanpoll::rings
