// rdma_bench as its user sees it.
#include <gtest/gtest.h>

#include <regex>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

TEST(RdmaBench, RoundTripsOfWritesOverSharedMemory) {
    for (const char* size : {"1", "64", "5000"}) {
        test::RunningProgram program("rdma_bench", {"--ping", size, "--count", "30"});
        const auto result = program.wait();
        EXPECT_EQ(result.status, 0) << result.err;
        const std::regex line("RDMA write over shm, " + std::string(size) +
                              " bytes, one way: [0-9.]+ us p50, [0-9.]+ p99, [0-9.]+ least\n");
        EXPECT_TRUE(std::regex_match(result.out, line)) << result.out;
    }
}

TEST(RdmaBench, MovesMemoryBothWays) {
    test::RunningProgram program("rdma_bench", {"--moved", "4", "--memory", "2", "--rounds", "1"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("RDMA write "), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("RDMA read "), std::string::npos) << result.out;
}

}  // namespace
}  // namespace sanpoll::bench
