#include "bench/index_ring.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace sanpoll::bench {
namespace {

TEST(IndexRing, HoldsItsCapacityInOrder) {
    IndexRing<int> ring(4);
    int value = 0;
    EXPECT_FALSE(ring.try_pop(value));
    for (int lap = 0; lap < 10; ++lap) {
        for (int i = 0; i < 4; ++i)
            EXPECT_TRUE(ring.try_push(lap * 4 + i));
        EXPECT_FALSE(ring.try_push(-1));
        for (int i = 0; i < 4; ++i) {
            ASSERT_TRUE(ring.try_pop(value));
            EXPECT_EQ(value, lap * 4 + i);
        }
    }
}

TEST(IndexRing, KeepsTheOrderBetweenThreads) {
    constexpr std::uint64_t kCount = 200'000;
    IndexRing<std::uint64_t> ring(64);
    std::thread producer([&] {
        for (std::uint64_t i = 0; i < kCount; ++i) {
            while (!ring.try_push(i))
                std::this_thread::yield();
        }
    });
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        std::uint64_t value = 0;
        while (!ring.try_pop(value))
            std::this_thread::yield();
        wrong += value != i ? 1 : 0;
    }
    producer.join();
    EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace sanpoll::bench
