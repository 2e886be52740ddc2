#include "bench/stalls.hpp"

#include <gtest/gtest.h>

#include <cstddef>

namespace sanpoll::bench {
namespace {

// Reads the given moments, one after the other.
struct FakeClock {
    std::vector<std::uint64_t> moments;
    std::size_t at = 0;
    std::uint64_t operator()() { return moments.at(at++); }
};

TEST(RecordGaps, NotesWhatIsLongerThanTheThreshold) {
    std::vector<Gap> gaps;
    gaps.reserve(10);
    FakeClock clock{{110, 120, 500, 510, 560, 611, 1000}};
    EXPECT_EQ(record_gaps(clock, 100, 900, 50, gaps), 1000U);
    EXPECT_EQ(gaps, (std::vector<Gap>{{120, 500}, {560, 611}, {611, 1000}}));
}

TEST(RecordGaps, EndsWhenTheTimeIsUp) {
    std::vector<Gap> gaps;
    gaps.reserve(10);
    FakeClock clock{{110, 120, 130}};
    EXPECT_EQ(record_gaps(clock, 100, 115, 50, gaps), 120U);
    EXPECT_TRUE(gaps.empty());
}

TEST(RecordGaps, CountsALateBeginning) {
    std::vector<Gap> gaps;
    gaps.reserve(10);
    FakeClock clock{{900}};
    EXPECT_EQ(record_gaps(clock, 100, 500, 50, gaps), 900U);
    EXPECT_EQ(gaps, (std::vector<Gap>{{100, 900}}));
}

TEST(RecordGaps, EndsWhenTheRoomIsUsedUp) {
    std::vector<Gap> gaps;
    gaps.reserve(2);
    const std::size_t room = gaps.capacity();
    FakeClock clock{{100, 200, 300, 400, 500, 600, 700, 800, 900, 1000}};
    EXPECT_EQ(record_gaps(clock, 0, 1000, 50, gaps), room * 100);
    EXPECT_EQ(gaps.size(), room);
    EXPECT_EQ(gaps.capacity(), room);
}

TEST(Stalls, TellWhenTheCoreRunsAgain) {
    const Stalls stalls({{100, 200}, {300, 350}}, 0, 1000);
    EXPECT_EQ(stalls.running_from(50), 50U);
    EXPECT_EQ(stalls.running_from(100), 100U);  // it was read at this moment
    EXPECT_EQ(stalls.running_from(101), 200U);
    EXPECT_EQ(stalls.running_from(199), 200U);
    EXPECT_EQ(stalls.running_from(200), 200U);
    EXPECT_EQ(stalls.running_from(250), 250U);
    EXPECT_EQ(stalls.running_from(301), 350U);
    EXPECT_EQ(stalls.running_from(999), 999U);
}

TEST(Stalls, WithoutGapsTheCoreAlwaysRuns) { EXPECT_EQ(Stalls({}, 0, 10).running_from(5), 5U); }

}  // namespace
}  // namespace sanpoll::bench
