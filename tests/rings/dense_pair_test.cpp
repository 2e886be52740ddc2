#include "rings/dense_pair.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <deque>
#include <random>

namespace sanpoll::rings {
namespace {

struct Half {
    std::uint64_t words[4] = {};
    friend bool operator==(const Half&, const Half&) = default;
};

template <typename T>
class DensePairOf : public testing::Test {};
using Elements = testing::Types<std::uint64_t, Half>;
TYPED_TEST_SUITE(DensePairOf, Elements);

TYPED_TEST(DensePairOf, IsEmptyBothWaysWhenNew) {
    DensePair<TypeParam> pair(16);
    TypeParam value{};
    EXPECT_FALSE(pair.end(0).consumer.try_pop(value));
    EXPECT_FALSE(pair.end(1).consumer.try_pop(value));
}

TYPED_TEST(DensePairOf, WhatOneEndWritesOnlyTheOtherReads) {
    DensePair<TypeParam> pair(16);
    TypeParam question{};
    question = TypeParam{};
    std::memset(static_cast<void*>(&question), 7, sizeof(question));
    ASSERT_TRUE(pair.end(0).producer.try_push(question));
    TypeParam value{};
    EXPECT_FALSE(pair.end(0).consumer.try_pop(value));
    ASSERT_TRUE(pair.end(1).consumer.try_pop(value));
    EXPECT_EQ(value, question);
    EXPECT_FALSE(pair.end(1).consumer.try_pop(value));
}

// The shared lines must not let one direction's words into the other's: random calls both ways, many laps.
TYPED_TEST(DensePairOf, DirectionsDoNotMix) {
    std::mt19937_64 random(11);
    DensePair<TypeParam> pair(32);
    std::deque<TypeParam> model[2];
    for (int step = 0; step < 60'000; ++step) {
        const std::uint32_t way = random() % 2;
        if (random() % 2 == 0) {
            std::array<TypeParam, 11> values;
            for (TypeParam& value : values) {
                const std::uint64_t word = random() % 5 == 0 ? 0 : random();
                std::memset(static_cast<void*>(&value), static_cast<int>(word & 0xFF),
                            sizeof(value));
                std::memcpy(static_cast<void*>(&value), &word, sizeof(word));
            }
            const std::size_t pushed = pair.end(way).producer.push_batch(values);
            model[way].insert(model[way].end(), values.begin(),
                              values.begin() + static_cast<std::ptrdiff_t>(pushed));
        } else {
            std::array<TypeParam, 13> values;
            const std::size_t popped = pair.end(1 - way).consumer.pop_batch(values);
            ASSERT_LE(popped, model[way].size());
            for (std::size_t i = 0; i < popped; ++i) {
                ASSERT_EQ(values[i], model[way].front());
                model[way].pop_front();
            }
        }
    }
}

TEST(DensePair, EndsAreInLinesOfTheirOwn) {
    DensePair<std::uint64_t> pair(16);
    const auto one = reinterpret_cast<std::uintptr_t>(&pair.end(0));
    const auto other = reinterpret_cast<std::uintptr_t>(&pair.end(1));
    EXPECT_EQ(one % kCacheLine, 0U);
    EXPECT_EQ(other % kCacheLine, 0U);
    EXPECT_GE(other - one, sizeof(DenseEnd<std::uint64_t>));
}

}  // namespace
}  // namespace sanpoll::rings
