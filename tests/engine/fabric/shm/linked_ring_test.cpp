#include "engine/fabric/shm/linked_ring.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

namespace sanpoll::engine::shm {
namespace {

struct Item {
    InRing<Item> member;
    int number = 0;
};
using Ring = LinkedRing<Item, &Item::member>;

std::vector<int> order(const Ring& ring) {
    std::vector<int> numbers;
    if (!ring.empty()) {
        for (const Item* item = ring.first(); numbers.push_back(item->number), item != ring.last();
             item = Ring::after(*item)) {
        }
    }
    return numbers;
}

class LinkedRingTest : public testing::Test {
protected:
    LinkedRingTest() {
        for (int i = 0; Item & item : items_) {
            item.number = i++;
        }
    }
    void add_all() {
        for (Item& item : items_) {
            ring_.add(item);
        }
    }
    std::array<Item, 4> items_;
    Ring ring_;
};

TEST_F(LinkedRingTest, KeepsTheOrderInWhichTheyCame) {
    EXPECT_TRUE(ring_.empty());
    EXPECT_FALSE(Ring::has(items_[0]));
    add_all();
    EXPECT_TRUE(Ring::has(items_[0]));
    EXPECT_EQ(order(ring_), (std::vector<int>{0, 1, 2, 3}));
    ring_.add(items_[2]);
    EXPECT_EQ(order(ring_), (std::vector<int>{0, 1, 2, 3}));
    ring_.rotate();
    EXPECT_EQ(order(ring_), (std::vector<int>{1, 2, 3, 0}));
}

TEST_F(LinkedRingTest, AnyCanBeTakenOut) {
    for (const std::size_t out : {0U, 1U, 3U}) {
        add_all();
        std::vector<int> wanted = order(ring_);
        std::erase(wanted, static_cast<int>(out));
        ring_.remove(items_[out]);
        ring_.remove(items_[out]);
        EXPECT_FALSE(Ring::has(items_[out]));
        EXPECT_EQ(order(ring_), wanted);
    }
    for (Item& item : items_) {
        ring_.remove(item);
    }
    EXPECT_TRUE(ring_.empty());
    ring_.add(items_[3]);
    ring_.rotate();
    EXPECT_EQ(order(ring_), std::vector<int>{3});
}

}  // namespace
}  // namespace sanpoll::engine::shm
