#include "engine/counter.hpp"

#include <gtest/gtest.h>

#include <thread>

namespace sanpoll::engine {
namespace {

TEST(Counter, StartsAtZeroAndAdds) {
    Counter counter;
    EXPECT_EQ(counter.value(), 0U);
    counter.add();
    counter.add(41);
    EXPECT_EQ(counter.value(), 42U);
}

TEST(Counter, RaiseToKeepsTheHighest) {
    Counter counter;
    counter.raise_to(10);
    counter.raise_to(5);
    EXPECT_EQ(counter.value(), 10U);
    counter.raise_to(11);
    EXPECT_EQ(counter.value(), 11U);
}

TEST(Counter, ReadersSeeItGrow) {
    Counter counter;
    std::thread reader([&] {
        std::uint64_t last = 0;
        while (last < 100000) {
            const std::uint64_t now = counter.value();
            ASSERT_GE(now, last);
            last = now;
            std::this_thread::yield();
        }
    });
    for (int i = 0; i < 100000; ++i) {
        counter.add();
    }
    reader.join();
    EXPECT_EQ(counter.value(), 100000U);
}

TEST(CounterWithTest, CountsWhatTheOthersDo) {
    Counter first;
    Counter second;
    CounterWith one(first);
    CounterWith both(first, second);
    both.add(2);
    EXPECT_EQ(both.value(), 2U);
    EXPECT_EQ(one.value(), 0U);
    first.add();
    second.add(10);
    EXPECT_EQ(one.value(), 1U);
    EXPECT_EQ(both.value(), 13U);
    EXPECT_EQ(first.value(), 1U) << "the others are not changed";
}

}  // namespace
}  // namespace sanpoll::engine
