// rdma_bench as its user sees it.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

TEST(RdmaBench, RoundTripsOfWritesOverSharedMemory) {
    for (const char* size : {"1", "64", "5000"}) {
        test::RunningProgram program("rdma_bench", {"--ping", size, "--count", "30"});
        const auto result = program.wait();
        EXPECT_EQ(result.status, 0) << result.err;
        double middle = 0;
        double late = 0;
        double least = 0;
        int end = 0;
        const std::string line = "RDMA write over shm, " + std::string(size) +
                                 " bytes, one way: %lf us p50, %lf p99, %lf least\n%n";
        EXPECT_EQ(std::sscanf(result.out.c_str(), line.c_str(), &middle, &late, &least, &end), 3)
            << result.out;
        EXPECT_EQ(static_cast<std::size_t>(end), result.out.size()) << result.out;
        EXPECT_LE(least, middle);
        EXPECT_LE(middle, late);
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
