#include "engine/remote_regions.hpp"

#include <gtest/gtest.h>

namespace sanpoll::engine {
namespace {

using Removal = RemoteRegions::Removal;

class RemoteRegionsTest : public testing::Test {
protected:
    void SetUp() override {
        RemoteRegions::Table table(2);
        regions.adopt(table);
    }
    RemoteRegions regions;
};

TEST_F(RemoteRegionsTest, ANewTableIsFull) {
    RemoteRegions empty;
    EXPECT_TRUE(empty.full());
    EXPECT_EQ(empty.add(1, 1, kRead, 1), 0U);
    EXPECT_EQ(empty.resolve(1, 1, 0, 0, 0), 0U);
}

TEST_F(RemoteRegionsTest, ARangeInsideWithTheRightIsFound) {
    const std::uint32_t key = regions.add(1000, 100, kRead, 7);
    EXPECT_EQ(regions.resolve(key, 7, 0, 100, kRead), 1000U);
    EXPECT_EQ(regions.resolve(key, 7, 99, 1, kRead), 1099U);
    EXPECT_EQ(regions.resolve(key, 7, 100, 0, kRead), 1100U);
    EXPECT_EQ(regions.resolve(key, 7, 100, 1, kRead), 0U);
    EXPECT_EQ(regions.resolve(key, 7, 101, 0, kRead), 0U);
    EXPECT_EQ(regions.resolve(key, 7, 1, 0xFFFFFFFF, kRead), 0U);
    EXPECT_EQ(regions.resolve(key, 7, 0xFFFFFFFF, 2, kRead), 0U);
    EXPECT_EQ(regions.resolve(key, 7, 0, 1, kWrite), 0U);
    EXPECT_EQ(regions.resolve(key, 8, 0, 1, kRead), 0U);
    for (std::uint32_t bit = 0; bit < 32; ++bit) {
        EXPECT_EQ(regions.resolve(key ^ (1U << bit), 7, 0, 1, kRead), 0U) << bit;
    }
}

TEST_F(RemoteRegionsTest, KeyAndNonceTogetherAreKnown) {
    const std::uint32_t key = regions.add(1000, 100, kRead, 7);
    EXPECT_TRUE(regions.knows(key, 7));
    EXPECT_FALSE(regions.knows(key, 8));
    EXPECT_FALSE(regions.knows(key + 1, 7));
    EXPECT_EQ(regions.remove(key, 7), Removal::kRemoved);
    EXPECT_FALSE(regions.knows(key, 7));
}

TEST_F(RemoteRegionsTest, AHeldRegionStays) {
    const std::uint32_t key = regions.add(1000, 100, kRead, 7);
    regions.hold(key);
    EXPECT_EQ(regions.remove(key, 7), Removal::kInUse);
    regions.release(key);
    EXPECT_EQ(regions.remove(key, 8), Removal::kUnknown);
    EXPECT_EQ(regions.remove(key, 7), Removal::kRemoved);
    EXPECT_EQ(regions.remove(key, 7), Removal::kUnknown);
    EXPECT_EQ(regions.resolve(key, 7, 0, 1, kRead), 0U);
}

TEST_F(RemoteRegionsTest, AnEntryThatIsUsedAgainHasAnotherKey) {
    const std::uint32_t key = regions.add(1000, 100, kRead, 7);
    EXPECT_EQ(regions.remove(key, 7), Removal::kRemoved);
    const std::uint32_t next = regions.add(1000, 100, kRead, 7);
    EXPECT_NE(next, key);
    EXPECT_EQ(regions.resolve(key, 7, 0, 1, kRead), 0U);
    EXPECT_EQ(regions.resolve(next, 7, 0, 1, kRead), 1000U);
}

TEST_F(RemoteRegionsTest, ALargerTableKeepsWhatThereIs) {
    const std::uint32_t first = regions.add(1000, 100, kRead, 7);
    const std::uint32_t second = regions.add(2000, 100, kRead, 7);
    EXPECT_TRUE(regions.full());
    RemoteRegions::Table smaller(1);
    regions.adopt(smaller);
    EXPECT_EQ(regions.capacity(), 2U);
    RemoteRegions::Table larger(8);
    regions.adopt(larger);
    EXPECT_EQ(larger.size(), 2U);
    EXPECT_EQ(regions.resolve(first, 7, 0, 1, kRead), 1000U);
    EXPECT_EQ(regions.resolve(second, 7, 0, 1, kRead), 2000U);
    for (int i = 0; i < 6; ++i) {
        EXPECT_NE(regions.add(3000, 1, kWrite, 9), 0U);
    }
    EXPECT_TRUE(regions.full());
}

TEST_F(RemoteRegionsTest, ClearEndsAllHeldOrNot) {
    const std::uint32_t first = regions.add(1000, 100, kRead, 7);
    const std::uint32_t second = regions.add(2000, 100, kRead, 7);
    regions.hold(first);
    regions.clear();
    EXPECT_EQ(regions.resolve(first, 7, 0, 1, kRead), 0U);
    EXPECT_EQ(regions.resolve(second, 7, 0, 1, kRead), 0U);
    EXPECT_NE(regions.add(1, 1, kRead, 1), 0U);
    EXPECT_NE(regions.add(1, 1, kRead, 1), 0U);
    EXPECT_TRUE(regions.full());
}

}  // namespace
}  // namespace sanpoll::engine
