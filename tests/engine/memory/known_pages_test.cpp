#include "engine/memory/known_pages.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "engine/memory/arena.hpp"

namespace sanpoll::engine::memory {
namespace {

constexpr std::uint64_t kPage = 1U << KnownPages::kPageBits;
constexpr std::uint64_t kBytes = 32U << 20;

TEST(KnownPages, NothingIsKnownAtFirst) {
    const KnownPages pages(kBytes);
    EXPECT_FALSE(pages.all(0, 1));
    EXPECT_FALSE(pages.all(kBytes - 1, 1));
    EXPECT_FALSE(pages.all(0, kBytes));
}

TEST(KnownPages, APageIsKnownAsAWhole) {
    KnownPages pages(kBytes);
    pages.note(kPage + 5, 1);
    EXPECT_TRUE(pages.all(kPage, kPage));
    EXPECT_FALSE(pages.all(kPage - 1, 2));
    EXPECT_FALSE(pages.all(2 * kPage - 1, 2));
    pages.note(kBytes - 1, 1);
    EXPECT_TRUE(pages.all(kBytes - kPage, kPage));
    pages.note(0, kBytes);
    EXPECT_TRUE(pages.all(0, kBytes));
}

TEST(KnownPages, RangesOfAnyPlaceAndLength) {
    KnownPages pages(kBytes);
    std::vector<bool> model(kBytes / kPage);
    std::mt19937 random(3);
    for (int i = 0; i < 400; ++i) {
        const std::uint64_t offset = random() % (kBytes - 1);
        const std::uint64_t length =
            1 + random() % std::min<std::uint64_t>(kBytes - offset, 200 * kPage);
        const std::uint64_t last = (offset + length - 1) / kPage;
        if (i % 4 == 0) {
            pages.note(offset, length);
            for (std::uint64_t page = offset / kPage; page <= last; ++page) {
                model[page] = true;
            }
            continue;
        }
        bool all = true;
        for (std::uint64_t page = offset / kPage; page <= last; ++page) {
            all = all && model[page];
        }
        ASSERT_EQ(pages.all(offset, length), all) << offset << " " << length;
    }
}

TEST(KnownPages, WhatIsPopulatedIsKnown) {
    Arenas arenas;
    arenas.set_rules({kBytes, 4 * kBytes, Hugepages::kOff, -1});
    Refusal refusal;
    const Arena* arena = arenas.make(true, 0, refusal);
    ASSERT_NE(arena, nullptr) << refusal.text;
    ASSERT_NE(arena->known, nullptr);
    const bool there = arenas.populate(arena->base + 100, 3 * kPage);
    EXPECT_EQ(arena->known->all(0, 4 * kPage), there);
    EXPECT_FALSE(arena->known->all(4 * kPage, 1));
}

// Nobody else writes to these.
TEST(KnownPages, OnlyWherePeersMayWrite) {
    Arenas arenas;
    ArenaRules rules{kBytes, 4 * kBytes, Hugepages::kOff, -1};
    arenas.set_rules(rules);
    Refusal refusal;
    const Arena* const own = arenas.make(false, 0, refusal);
    rules.peers_may_write = false;
    arenas.set_rules(rules);
    const Arena* const sealed = arenas.make(true, 0, refusal);
    ASSERT_TRUE(own != nullptr && sealed != nullptr) << refusal.text;
    EXPECT_EQ(own->known, nullptr);
    EXPECT_EQ(sealed->known, nullptr);
}

}  // namespace
}  // namespace sanpoll::engine::memory
