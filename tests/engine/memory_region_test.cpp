#include "engine/memory_region.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "tests/engine/fake_registrar.hpp"
#include "tests/engine/region_removal.hpp"

namespace sanpoll::engine {
namespace {

using tests::kBoth;
using tests::remove;

TEST(RegionTable, FindsNothingWhenEmpty) {
    RegionTable table;
    EXPECT_EQ(table.find(0, 0, 0), 0U);
    EXPECT_EQ(table.find(0x1000, 16, kRead), 0U);
    EXPECT_EQ(table.size(), 0U);
}

TEST(RegionTable, FindsEverySubRange) {
    RegionTable table;
    const RegionRef ref = table.add(0x1000, 16, kBoth);
    ASSERT_NE(ref, 0U);
    for (std::uint32_t start = 0; start <= 16; ++start) {
        for (std::uint32_t length = 0; start + length <= 16; ++length) {
            EXPECT_EQ(table.find(0x1000 + start, length, kRead), ref) << start << '+' << length;
        }
    }
}

TEST(RegionTable, RemembersTheLastRegionForEachAccess) {
    RegionTable table;
    const auto contains = [&](Access access, std::uint64_t address, std::uint32_t length) {
        return table.last(access).contains(address, length);
    };
    EXPECT_FALSE(contains(kRead, 0x1000, 1));
    EXPECT_FALSE(contains(kRead, 0, 1));
    const RegionRef ref = table.add(0x1000, 16, kBoth);
    const RegionRef other = table.add(0x9000, 16, kRead);
    EXPECT_FALSE(contains(kRead, 0x1000, 1)) << "it was never remembered";
    table.remember(ref, kRead);
    EXPECT_FALSE(contains(kWrite, 0x1000, 1)) << "not to be written to";
    EXPECT_EQ(table.last(kRead).ref, ref);
    for (std::uint32_t start = 0; start <= 16; ++start) {
        for (std::uint32_t length = 0; length <= 32; ++length) {
            EXPECT_EQ(contains(kRead, 0x1000 + start, length), start + length <= 16)
                << start << '+' << length;
        }
    }
    EXPECT_FALSE(contains(kRead, 0x0FFF, 2));
    EXPECT_FALSE(contains(kRead, 0x9000, 1)) << "another region";
    // Ends beyond the address space, and far from the region in either direction.
    EXPECT_FALSE(contains(kRead, UINT64_MAX - 3, 16));
    EXPECT_FALSE(contains(kRead, 0x1001, 0xFFFFFFFF));
    EXPECT_FALSE(contains(kRead, 0, 0xFFFFFFFF));
    table.remember(other, kWrite);
    EXPECT_FALSE(contains(kWrite, 0x9000, 1)) << "it may not be written to";
    table.remember(other, kRead);
    EXPECT_TRUE(contains(kRead, 0x9000, 16));
    ASSERT_TRUE(remove(table, other));
    EXPECT_FALSE(contains(kRead, 0x9000, 16)) << "it is gone";
    table.remember(other, kRead);
    EXPECT_FALSE(contains(kRead, 0x9000, 16)) << "and stays so";
    table.remember(ref, kRead);
    table.remember(ref, kWrite);
    ASSERT_TRUE(remove(table, ref));
    EXPECT_FALSE(contains(kRead, 0x1000, 16));
    EXPECT_FALSE(contains(kWrite, 0x1000, 16));
}

TEST(RegionTable, WhatIsLeftWhenAllIsDroppedIsNotRemembered) {
    RegionTable table;
    table.remember(table.add(0x1000, 16, kBoth), kWrite);
    table.reset();
    EXPECT_FALSE(table.last(kWrite).contains(0x1000, 16));
}

TEST(RegionTable, HoldsOfBothKindsCount) {
    RegionTable table;
    const RegionRef ref = table.add(0x1000, 16, kWrite);
    ASSERT_EQ(table.find(0x1000, 16, kWrite), ref);
    table.remember(ref, kWrite);
    ++table.last(kWrite).holds->count;
    ASSERT_TRUE(table.hold(ref));
    EXPECT_FALSE(table.retire(ref));
    table.release_written(ref);
    EXPECT_FALSE(table.retire(ref));
    // Its hint names another one now.
    const RegionRef other = table.add(0x9000, 16, kWrite);
    ASSERT_EQ(table.find(0x9000, 16, kWrite), other);
    table.release_written(ref);
    EXPECT_TRUE(remove(table, ref));
    EXPECT_TRUE(remove(table, other));
}

TEST(RegionTable, OneByteTooFarIsRefused) {
    RegionTable table;
    ASSERT_NE(table.add(0x1000, 16, kBoth), 0U);
    EXPECT_EQ(table.find(0x0FFF, 1, kRead), 0U);
    EXPECT_EQ(table.find(0x0FFF, 17, kRead), 0U);
    EXPECT_EQ(table.find(0x1000, 17, kRead), 0U);
    EXPECT_EQ(table.find(0x1010, 1, kRead), 0U);
    EXPECT_EQ(table.find(0x100F, 2, kRead), 0U);
}

TEST(RegionTable, AZeroLengthRangeMatchesTheEndIncluded) {
    RegionTable table;
    const RegionRef ref = table.add(0x1000, 16, kBoth);
    EXPECT_EQ(table.find(0x1000, 0, kRead), ref);
    EXPECT_EQ(table.find(0x1010, 0, kRead), ref);
    EXPECT_EQ(table.find(0x1011, 0, kRead), 0U);
    EXPECT_EQ(table.find(0x0FFF, 0, kRead), 0U);
}

TEST(RegionTable, ARangeThatWrapsIsRefused) {
    RegionTable table;
    ASSERT_NE(table.add(~0ULL - 100, 100, kBoth), 0U);
    EXPECT_NE(table.find(~0ULL - 100, 100, kRead), 0U);
    EXPECT_EQ(table.find(~0ULL - 100, 0xFFFFFFFF, kRead), 0U);
    EXPECT_EQ(table.find(~0ULL, 2, kRead), 0U);
}

TEST(RegionTable, RightsAreHeeded) {
    RegionTable table;
    const RegionRef read = table.add(0x1000, 16, kRead);
    const RegionRef write = table.add(0x2000, 16, kWrite);
    const RegionRef both = table.add(0x3000, 16, kBoth);
    EXPECT_EQ(table.find(0x1000, 16, kRead), read);
    EXPECT_EQ(table.find(0x1000, 16, kWrite), 0U);
    EXPECT_EQ(table.find(0x1000, 16, kBoth), 0U);
    EXPECT_EQ(table.find(0x2000, 16, kWrite), write);
    EXPECT_EQ(table.find(0x2000, 16, kRead), 0U);
    EXPECT_EQ(table.find(0x3000, 16, kBoth), both);
    EXPECT_EQ(table.find(0x3000, 16, kRead), both);
}

TEST(RegionTable, OfOverlappingRegionsOneThatFitsIsFound) {
    RegionTable table;
    const RegionRef large = table.add(0x1000, 0x1000, kRead);
    const RegionRef small = table.add(0x1400, 0x100, kBoth);
    ASSERT_NE(large, small);
    EXPECT_EQ(table.find(0x1400, 0x100, kWrite), small);
    EXPECT_EQ(table.find(0x1400, 0x101, kRead), large);
    EXPECT_EQ(table.find(0x1FFF, 1, kRead), large);
    EXPECT_EQ(table.find(0x13FF, 2, kWrite), 0U);
}

TEST(RegionTable, ALongRegionIsFoundBehindManyShortOnes) {
    RegionTable table;
    const RegionRef large = table.add(0x10000, 0x100000, kRead);
    for (std::uint64_t i = 0; i < 500; ++i) {
        ASSERT_NE(table.add(0x20000 + i * 64, 16, kRead), 0U);
    }
    EXPECT_EQ(table.find(0x20000 + 499 * 64, 64, kRead), large);
    EXPECT_EQ(table.find(0x100000, 0x1000, kRead), large);
}

TEST(RegionTable, TheSameRangeTwiceMakesTwoRegions) {
    RegionTable table;
    const RegionRef first = table.add(0x1000, 16, kBoth);
    const RegionRef second = table.add(0x1000, 16, kBoth);
    EXPECT_NE(first, second);
    EXPECT_EQ(table.size(), 2U);
    ASSERT_TRUE(remove(table, first));
    EXPECT_EQ(table.find(0x1000, 16, kBoth), second);
}

TEST(RegionTable, ARangeThatSpansTwoRegionsIsRefused) {
    RegionTable table;
    ASSERT_NE(table.add(0x1000, 0x100, kBoth), 0U);
    ASSERT_NE(table.add(0x1100, 0x100, kBoth), 0U);
    EXPECT_EQ(table.find(0x10FF, 2, kRead), 0U);
    EXPECT_EQ(table.find(0x1000, 0x200, kRead), 0U);
    EXPECT_NE(table.find(0x1100, 0x100, kRead), 0U);
}

TEST(RegionTable, AStaleReferenceIsRefused) {
    RegionTable table;
    const RegionRef ref = table.add(0x1000, 16, kBoth);
    ASSERT_TRUE(table.live(ref));
    ASSERT_TRUE(remove(table, ref));
    EXPECT_FALSE(table.live(ref));
    EXPECT_FALSE(table.hold(ref));
    EXPECT_FALSE(table.retire(ref));
    EXPECT_EQ(table.find(0x1000, 16, kRead), 0U);
    // The entry is used again, under another reference.
    const RegionRef next = table.add(0x1000, 16, kBoth);
    EXPECT_NE(next, ref);
    EXPECT_FALSE(table.live(ref));
    EXPECT_FALSE(table.hold(ref));
    table.release(ref);
    EXPECT_TRUE(remove(table, next)) << "the stale release must not have counted";
}

TEST(RegionTable, ForgedReferencesAreRefused) {
    RegionTable table;
    const RegionRef ref = table.add(0x1000, 16, kBoth);
    std::mt19937 random(3);
    for (int i = 0; i < 100000; ++i) {
        const RegionRef forged = random();
        if (forged != ref) {
            ASSERT_FALSE(table.live(forged)) << forged;
            ASSERT_FALSE(table.hold(forged)) << forged;
        }
    }
    EXPECT_FALSE(table.live(0));
    table.remove_from_index(0);
    table.remove_from_index(0xFFFFFFFF);
    EXPECT_EQ(table.size(), 1U);
}

TEST(RegionTable, AHeldRegionIsNotRetired) {
    RegionTable table;
    const RegionRef ref = table.add(0x1000, 16, kBoth);
    ASSERT_TRUE(table.hold(ref));
    ASSERT_TRUE(table.hold(ref));
    EXPECT_FALSE(table.retire(ref));
    table.release(ref);
    EXPECT_FALSE(table.retire(ref));
    EXPECT_EQ(table.find(0x1000, 16, kBoth), ref);
    table.release(ref);
    EXPECT_TRUE(table.retire(ref));
}

TEST(RegionTable, ARetiredRegionIsNotFoundEvenBeforeItLeavesTheIndex) {
    RegionTable table;
    const RegionRef ref = table.add(0x1000, 16, kBoth);
    ASSERT_NE(table.find(0x1000, 16, kBoth), 0U);
    ASSERT_TRUE(table.retire(ref));
    EXPECT_EQ(table.find(0x1000, 16, kBoth), 0U);
    table.remove_from_index(ref);
    EXPECT_EQ(table.size(), 0U);
    table.remove_from_index(ref);
    EXPECT_EQ(table.size(), 0U);
}

TEST(RegionTable, ResetDropsHeldOnesToo) {
    RegionTable table;
    const RegionRef first = table.add(0x1000, 16, kBoth);
    const RegionRef second = table.add(0x2000, 16, kBoth);
    ASSERT_TRUE(table.hold(first));
    table.reset();
    EXPECT_EQ(table.size(), 0U);
    EXPECT_FALSE(table.live(first));
    EXPECT_FALSE(table.live(second));
    const RegionRef again = table.add(0x1000, 16, kBoth);
    EXPECT_NE(again, first);
    EXPECT_NE(again, second);
    EXPECT_TRUE(table.retire(again)) << "the old hold must not have stayed";
}

// A deregistration that a close overtakes, and the next connection's region of the same memory.
TEST(RegionTable, ALateRemovalTakesOutNothingElse) {
    RegionTable table;
    const RegionRef first = table.add(0x1000, 16, kBoth);
    ASSERT_TRUE(table.retire(first));
    table.reset();
    const RegionRef next = table.add(0x1000, 16, kBoth);
    ASSERT_EQ(RegionTable::index_of(next), RegionTable::index_of(first));
    table.remove_from_index(first);
    EXPECT_EQ(table.size(), 1U);
    EXPECT_EQ(table.find(0x1000, 16, kBoth), next);
    EXPECT_NE(RegionTable::index_of(table.add(0x1000, 16, kBoth)), RegionTable::index_of(next));
}

// As covers(), whichever region was asked for before.
TEST(RegionTable, CoversAgainWhatItCovers) {
    RegionTable table;
    const RegionRef first = table.add(0x1000, 16, kRead);
    const RegionRef second = table.add(0x2000, 16, kBoth);
    for (int round = 0; round < 2; ++round) {
        EXPECT_TRUE(table.covers_again(first, 0x1000, 16, kRead));
        EXPECT_TRUE(table.covers_again(first, 0x100F, 1, kRead));
        EXPECT_FALSE(table.covers_again(first, 0x1000, 17, kRead));
        EXPECT_FALSE(table.covers_again(first, 0x0FFF, 1, kRead));
        EXPECT_FALSE(table.covers_again(first, 0x1011, 0, kRead));
        EXPECT_FALSE(table.covers_again(first, ~0ULL, 2, kRead));
        EXPECT_FALSE(table.covers_again(first, 0x1000, 16, kWrite));
        EXPECT_FALSE(table.covers_again(first, 0x2000, 16, kRead)) << "that is the other one";
        EXPECT_TRUE(table.covers_again(second, 0x2000, 16, kWrite));
    }
    ASSERT_TRUE(table.retire(second));
    EXPECT_FALSE(table.covers_again(second, 0x2000, 16, kRead));
    EXPECT_FALSE(table.covers_again(second, 0x2000, 16, kRead)) << "nor by the hint";
    EXPECT_FALSE(table.covers_again(0, 0x1000, 16, kRead));
    table.remove_from_index(second);
    EXPECT_TRUE(table.covers_again(first, 0x1000, 16, kRead));
}

TEST(RegionTable, AnOpenGateOfTheRightGenerationLetsIn) {
    RegionTable table;
    PostGate gate;
    const std::uint32_t generation = gate.revive();
    RegionRef ref = 0;
    EXPECT_EQ(table.add_for(gate, generation, 0x1000, 16, kBoth, nullptr, ref), Status::kNotOpen)
        << "not open yet";
    ASSERT_TRUE(gate.open(generation));
    EXPECT_EQ(table.add_for(gate, generation - 2, 0x1000, 16, kBoth, nullptr, ref),
              Status::kNotOpen);
    EXPECT_EQ(table.size(), 0U);
    ASSERT_EQ(table.add_for(gate, generation, 0x1000, 16, kBoth, nullptr, ref), Status::kOk);
    EXPECT_EQ(table.find(0x1000, 16, kBoth), ref);
    ASSERT_TRUE(gate.close(generation));
    EXPECT_EQ(table.add_for(gate, generation, 0x2000, 16, kBoth, nullptr, ref), Status::kNotOpen);
    EXPECT_EQ(table.size(), 1U);
}

TEST(RegionTable, GenerationsOfOneEntryDiffer) {
    RegionTable table;
    std::map<RegionRef, int> seen;
    for (int i = 0; i < 1000; ++i) {
        const RegionRef ref = table.add(0x1000, 16, kBoth);
        ASSERT_EQ(++seen[ref], 1) << i;
        ASSERT_TRUE(remove(table, ref));
    }
}

// ---- with a device that has to know the memory --------------------------------------------------------

TEST(RegionTable, TheDeviceKnowsARegionBeforeItIsFound) {
    RegionTable table;
    FakeRegistrar device;
    device.before_local = [&] { EXPECT_EQ(table.find(0x1000, 16, kRead), 0U); };
    RegionRef ref = 0;
    ASSERT_EQ(table.add(0x1000, 16, kBoth, &device, ref), Status::kOk);
    EXPECT_EQ(table.find(0x1000, 16, kRead), ref);
    ASSERT_EQ(device.local.size(), 1U);
    EXPECT_EQ(device.local.at(ref).address, 0x1000U);
    EXPECT_EQ(device.local.at(ref).length, 16U);
    EXPECT_EQ(device.local.at(ref).access, kBoth);
}

TEST(RegionTable, WhatTheDeviceRefusesIsNoRegion) {
    RegionTable table;
    FakeRegistrar device;
    RegionRef ref = 0;
    for (const Status status : {Status::kNoMemory, Status::kBadRegion, Status::kNotOpen}) {
        device.answer = status;
        EXPECT_EQ(table.add(0x1000, 16, kBoth, &device, ref), status);
        EXPECT_EQ(table.find(0x1000, 16, kRead), 0U);
        EXPECT_EQ(table.size(), 0U);
    }
    device.answer = Status::kOk;
    for (int i = 0; i < 20; ++i) {  // the entry of the refused ones is used as any other
        ASSERT_EQ(table.add(0x1000, 16, kBoth, &device, ref), Status::kOk);
        EXPECT_TRUE(table.live(ref));
    }
    EXPECT_EQ(table.size(), 20U);
    EXPECT_EQ(device.local.size(), 20U);
}

}  // namespace
}  // namespace sanpoll::engine
