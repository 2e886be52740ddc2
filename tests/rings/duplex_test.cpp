#include "rings/duplex.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <random>

namespace sanpoll::rings {
namespace {

template <std::size_t Words>
struct Item {
    std::uint64_t words[Words] = {};
    friend bool operator==(const Item&, const Item&) = default;
    static Item of(std::uint64_t word) {
        Item item;
        for (std::uint64_t& each : item.words)
            each = word++;
        return item;
    }
};

template <typename T>
class DuplexOf : public testing::Test {};
using Elements = testing::Types<Item<1>, Item<7>, Item<8>>;  // with a word to spare, and without
TYPED_TEST_SUITE(DuplexOf, Elements);

TYPED_TEST(DuplexOf, IsEmptyBothWaysWhenNew) {
    Duplex<TypeParam> duplex(16);
    TypeParam value{};
    EXPECT_FALSE(duplex.end(0).try_pop(value));
    EXPECT_FALSE(duplex.end(1).try_pop(value));
}

TYPED_TEST(DuplexOf, WhatOneEndWritesOnlyTheOtherReads) {
    Duplex<TypeParam> duplex(16);
    for (const std::uint32_t way : {0U, 1U, 1U, 0U, 0U}) {
        const TypeParam question = TypeParam::of(77 + way);
        ASSERT_TRUE(duplex.end(way).try_push(question));
        TypeParam value{};
        EXPECT_FALSE(duplex.end(way).try_pop(value));
        ASSERT_TRUE(duplex.end(1 - way).try_pop(value));
        EXPECT_EQ(value, question);
        EXPECT_FALSE(duplex.end(1 - way).try_pop(value));
    }
}

TYPED_TEST(DuplexOf, HoldsItsCapacityAndOneInTheLine) {
    Duplex<TypeParam> duplex(16);
    std::uint64_t pushed = 0;
    while (duplex.end(0).try_push(TypeParam::of(pushed)))
        ++pushed;
    EXPECT_EQ(pushed, 17U);
    for (std::uint64_t i = 0; i < pushed; ++i) {
        TypeParam value{};
        ASSERT_TRUE(duplex.end(1).try_pop(value));
        EXPECT_EQ(value, TypeParam::of(i)) << "in the order of writing";
    }
}

// A line's message that was written behind others waits for them, and those behind it for it.
TYPED_TEST(DuplexOf, LineAndRingsKeepOneOrder) {
    Duplex<TypeParam> duplex(16);
    auto& a = duplex.end(0);
    auto& b = duplex.end(1);
    TypeParam value{};
    ASSERT_TRUE(a.try_push(TypeParam::of(0)));  // the line
    ASSERT_TRUE(a.try_push(TypeParam::of(1)));  // the ring
    ASSERT_TRUE(b.try_pop(value));
    ASSERT_TRUE(b.try_push(TypeParam::of(100)));  // the line again
    ASSERT_TRUE(a.try_pop(value));
    ASSERT_TRUE(a.try_push(TypeParam::of(2)));  // the line, behind one in the ring
    ASSERT_TRUE(a.try_push(TypeParam::of(3)));  // the ring
    for (std::uint64_t i = 1; i <= 3; ++i) {
        ASSERT_TRUE(b.try_pop(value));
        EXPECT_EQ(value, TypeParam::of(i));
    }
    EXPECT_FALSE(b.try_pop(value));
}

TYPED_TEST(DuplexOf, RandomCallsAgreeWithTwoQueues) {
    std::mt19937_64 random(11);
    Duplex<TypeParam> duplex(8);
    std::deque<TypeParam> model[2];
    std::uint64_t full = 0;
    for (int step = 0; step < 200'000; ++step) {
        const std::uint32_t way = random() % 2;
        const std::uint64_t run = random() % 4 == 0 ? random() % 12 : 1;
        const bool push = random() % 2 == 0;
        for (std::uint64_t i = 0; i < run; ++i) {
            if (push) {
                // Few words, so that some are what the line holds already.
                const TypeParam value = TypeParam::of(random() % 3 == 0 ? random() % 2 : random());
                if (duplex.end(way).try_push(value)) {
                    model[way].push_back(value);
                } else {
                    ++full;
                    ASSERT_GE(model[way].size(), 8U);
                }
                continue;
            }
            TypeParam value{};
            const bool popped = duplex.end(1 - way).try_pop(value);
            ASSERT_EQ(popped, !model[way].empty());
            if (popped) {
                ASSERT_EQ(value, model[way].front());
                model[way].pop_front();
            }
        }
    }
    EXPECT_GT(full, 0U);
}

TEST(Duplex, EndsAreInLinesOfTheirOwn) {
    Duplex<std::uint64_t> duplex(16);
    const auto first = reinterpret_cast<std::uintptr_t>(&duplex.end(0));
    const auto second = reinterpret_cast<std::uintptr_t>(&duplex.end(1));
    EXPECT_EQ(first % kSlotStride, 0U);
    EXPECT_GE(second - first, sizeof(duplex.end(0)));
    EXPECT_EQ(second % kSlotStride, 0U);
}

}  // namespace
}  // namespace sanpoll::rings
