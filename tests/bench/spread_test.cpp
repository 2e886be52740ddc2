#include "bench/spread.hpp"

#include <gtest/gtest.h>

namespace sanpoll::bench {
namespace {

TEST(Spread, OfNothingIsZero) {
    EXPECT_EQ(spread_of({}).median, 0);
    EXPECT_EQ(spread_of({}).most, 0);
}

TEST(Spread, TakesTheMiddleWhateverTheOrder) {
    const Spread odd = spread_of({9, 1, 4});
    EXPECT_EQ(odd.median, 4);
    EXPECT_EQ(odd.least, 1);
    EXPECT_EQ(odd.most, 9);
    EXPECT_EQ(spread_of({10, 1, 2, 4}).median, 3);
}

}  // namespace
}  // namespace sanpoll::bench
