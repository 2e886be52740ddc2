// sanpoll-info as its user sees it.
#include <gtest/gtest.h>

#include <string>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

TEST(SanpollInfo, PrintsKnobsLimitsAndDevices) {
    test::RunningProgram program("sanpoll-info", {}, {{"SANPOLL_SPIN_US", "77"}});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    for (const char* part :
         {"spin_us = \"77\"", "# RLIMIT_MEMLOCK: ", "# vm.max_map_count: ", "# RDMA devices\n"}) {
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
    }
}

TEST(SanpollInfo, RefusesAWrongKnobAsTheProviderDoes) {
    test::RunningProgram program("sanpoll-info", {}, {{"SANPOLL_SPIN_US", "fast"}});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("SANPOLL_SPIN_US"), std::string::npos) << result.err;
}

TEST(SanpollInfo, HasNoOptions) {
    test::RunningProgram help("sanpoll-info", {"--help"});
    const auto told = help.wait();
    EXPECT_EQ(told.status, 0);
    EXPECT_NE(told.out.find("usage: sanpoll-info"), std::string::npos) << told.out;
    test::RunningProgram wrong("sanpoll-info", {"--verbose"});
    EXPECT_EQ(wrong.wait().status, 2);
}

}  // namespace
}  // namespace sanpoll::bench
