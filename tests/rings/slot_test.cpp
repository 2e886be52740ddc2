#include "rings/slot.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace sanpoll::rings {
namespace {

TEST(Slot, IsOneCacheLineWithTheWordInFront) {
    EXPECT_EQ(sizeof(Slot), 64U);
    EXPECT_EQ(alignof(Slot), 64U);
    EXPECT_EQ(offsetof(Slot, sequence), 0U);
    EXPECT_EQ(offsetof(Slot, payload), 4U);
    EXPECT_EQ(sizeof(Slot::payload), kSlotPayload);
}

TEST(Slot, NeighboursShareNoLine) {
    Slot slots[2] = {};
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&slots[0]) % kCacheLine, 0U);
    EXPECT_EQ(
        reinterpret_cast<std::uintptr_t>(&slots[1]) - reinterpret_cast<std::uintptr_t>(&slots[0]),
        kCacheLine);
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
