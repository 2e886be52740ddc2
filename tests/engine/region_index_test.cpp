#include "engine/region_index.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <random>
#include <set>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

struct Range {
    std::uint64_t base;
    std::uint64_t end;
    std::uint32_t value;
    auto operator<=>(const Range&) const = default;
};

std::uint32_t any(std::uint32_t value) { return value; }

std::set<std::uint32_t> overlapping(const RegionIndex& index, std::uint64_t low,
                                    std::uint64_t high) {
    std::set<std::uint32_t> seen;
    index.overlapping(low, high, [&](std::uint32_t value) { seen.insert(value); });
    return seen;
}

TEST(RegionIndex, IsEmptyAtFirstAndAfterTheLastHasGone) {
    RegionIndex index;
    for (int round = 0; round < 3; ++round) {
        EXPECT_EQ(index.find(10, 11, any), 0U);
        EXPECT_TRUE(overlapping(index, 0, ~0ULL).empty());
        EXPECT_FALSE(index.erase(10, 1));
        ASSERT_TRUE(index.insert(10, 20, 1));
        EXPECT_EQ(index.find(10, 20, any), 1U);
        EXPECT_EQ(index.size(), 1U);
        ASSERT_TRUE(index.erase(10, 1));
        EXPECT_EQ(index.size(), 0U);
    }
    index.clear();
    EXPECT_EQ(index.find(10, 11, any), 0U);
}

TEST(RegionIndex, OnlyTheVeryRangeIsErased) {
    RegionIndex index;
    ASSERT_TRUE(index.insert(10, 20, 1));
    EXPECT_FALSE(index.erase(10, 2));
    EXPECT_FALSE(index.erase(11, 1));
    EXPECT_FALSE(index.erase(9, 1));
    EXPECT_EQ(index.size(), 1U);
}

TEST(RegionIndex, TheCallerChoosesAmongThoseThatFit) {
    RegionIndex index;
    ASSERT_TRUE(index.insert(0, 100, 1));
    ASSERT_TRUE(index.insert(10, 90, 2));
    ASSERT_TRUE(index.insert(20, 80, 3));
    std::vector<std::uint32_t> asked;
    EXPECT_EQ(index.find(30, 40,
                         [&](std::uint32_t value) -> std::uint32_t {
                             asked.push_back(value);
                             return value == 1 ? 77 : 0;
                         }),
              77U);
    EXPECT_EQ(asked, (std::vector<std::uint32_t>{3, 2, 1}));
    EXPECT_EQ(index.find(80, 81, any), 2U);
    EXPECT_EQ(index.find(0, 101, any), 0U);
}

TEST(RegionIndex, OneByteInCommonIsAnOverlap) {
    RegionIndex index;
    ASSERT_TRUE(index.insert(10, 20, 1));
    EXPECT_TRUE(overlapping(index, 0, 10).empty());
    EXPECT_EQ(overlapping(index, 0, 11).size(), 1U);
    EXPECT_EQ(overlapping(index, 19, 20).size(), 1U);
    EXPECT_TRUE(overlapping(index, 20, 30).empty());
    EXPECT_TRUE(overlapping(index, 15, 15).empty());
}

TEST(RegionIndex, ManyOfTheSameRangeAreEachFoundAndErased) {
    RegionIndex index;
    for (std::uint32_t value = 1; value <= 1000; ++value) {
        ASSERT_TRUE(index.insert(64, 128, value * 7 % 1009));
    }
    EXPECT_EQ(overlapping(index, 100, 101).size(), 1000U);
    for (std::uint32_t value = 1; value <= 1000; ++value) {
        ASSERT_TRUE(index.erase(64, value * 7 % 1009)) << value;
        ASSERT_FALSE(index.erase(64, value * 7 % 1009)) << value;
    }
    EXPECT_EQ(index.size(), 0U);
}

class RegionIndexModel : public testing::TestWithParam<std::uint64_t> {};

TEST_P(RegionIndexModel, AnswersAsABruteForceSearch) {
    const std::uint64_t seed = GetParam();
    std::mt19937_64 random(seed);
    RegionIndex index;
    std::set<Range> model;
    const std::uint64_t space = seed % 2 == 0 ? 5000 : 1000000;
    const std::uint64_t steps = tests::scaled(6000);
    std::uint32_t next = 1;
    for (std::uint64_t step = 0; step < steps; ++step) {
        // Grows for a while, then shrinks.
        const bool grow = random() % 100 < (step % 3000 < 1500 ? 70U : 30U);
        if (grow || model.empty()) {
            const std::uint64_t base = random() % space;
            const std::uint64_t length =
                random() % 50 == 0 ? random() % space + 1 : random() % 300 + 1;
            model.insert({base, base + length, next});
            ASSERT_TRUE(index.insert(base, base + length, next++));
        } else {
            auto victim = model.lower_bound({random() % space, 0, 0});
            victim = victim == model.end() ? model.begin() : victim;
            ASSERT_TRUE(index.erase(victim->base, victim->value));
            model.erase(victim);
        }
        if (random() % 2000 == 0) {
            index.clear();
            model.clear();
        }
        ASSERT_EQ(index.size(), model.size());
        const std::uint64_t low = random() % space;
        const std::uint64_t high = low + random() % 400;
        std::set<std::uint32_t> overlaps;
        bool contained = false;
        for (const Range& range : model) {
            contained |= range.base <= low && high <= range.end;
            if (range.base < high && low < range.end && low < high) {
                overlaps.insert(range.value);
            }
        }
        const std::uint32_t found = index.find(low, high, any);
        ASSERT_EQ(found != 0, contained) << "step " << step << " seed " << seed;
        if (found != 0) {
            ASSERT_TRUE(std::any_of(model.begin(), model.end(), [&](const Range& range) {
                return range.value == found && range.base <= low && high <= range.end;
            }));
        }
        ASSERT_EQ(overlapping(index, low, high), overlaps) << "step " << step << " seed " << seed;
    }
    std::vector<std::uint32_t> all;
    index.for_each([&](std::uint32_t value) { all.push_back(value); });
    ASSERT_EQ(all.size(), model.size());
    std::size_t at = 0;
    std::vector<Range> sorted(model.begin(), model.end());
    std::sort(sorted.begin(), sorted.end(), [](const Range& a, const Range& b) {
        return std::tie(a.base, a.value) < std::tie(b.base, b.value);
    });
    for (const Range& range : sorted) {
        ASSERT_EQ(all[at++], range.value);
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, RegionIndexModel, testing::Range<std::uint64_t>(1, 7));

TEST(RegionIndexRace, WhatLastsIsFoundWhileTheRestComesAndGoes) {
    constexpr std::uint64_t kLasting = 64;
    RegionIndex index;
    for (std::uint32_t i = 0; i < kLasting; ++i) {
        ASSERT_TRUE(index.insert(i * 1000, i * 1000 + 500, i + 1));
    }
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> looks{0};
    std::atomic<std::uint64_t> wrong{0};
    std::vector<std::thread> readers;
    for (std::uint64_t t = 0; t < 2; ++t) {
        readers.emplace_back([&, t] {
            std::mt19937_64 random(t);
            while (!stop.load(std::memory_order_relaxed)) {
                const std::uint64_t i = random() % kLasting;
                if (index.find(i * 1000 + 100, i * 1000 + 400, any) != i + 1) {
                    wrong.fetch_add(1);
                }
                bool seen = false;
                index.overlapping(i * 1000 + 100, i * 1000 + 101,
                                  [&](std::uint32_t value) { seen |= value == i + 1; });
                if (!seen) {
                    wrong.fetch_add(1);
                }
                looks.fetch_add(1);
            }
        });
    }
    std::mt19937_64 random(5);
    std::set<std::pair<std::uint64_t, std::uint32_t>> passing;
    std::uint32_t next = 1000;
    const std::uint64_t steps = tests::scaled(40000);
    for (std::uint64_t step = 0; step < steps || looks.load() < 1000; ++step) {
        if (passing.empty() || random() % 1000 < (step % 4000 < 2000 ? 600U : 400U)) {
            const std::uint64_t base = random() % kLasting * 1000 + 500 + random() % 400;
            ASSERT_TRUE(index.insert(base, base + 50, next));
            passing.emplace(base, next++);
        } else {
            auto victim = passing.lower_bound({random() % (kLasting * 1000), 0});
            victim = victim == passing.end() ? passing.begin() : victim;
            ASSERT_TRUE(index.erase(victim->first, victim->second));
            passing.erase(victim);
        }
    }
    stop.store(true);
    for (std::thread& reader : readers) {
        reader.join();
    }
    EXPECT_EQ(wrong.load(), 0U);
}

}  // namespace
}  // namespace sanpoll::engine
