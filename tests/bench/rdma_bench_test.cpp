// rdma_bench as its user sees it.
#include <gtest/gtest.h>

#include <cstdio>
#include <nlohmann/json.hpp>
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

TEST(RdmaBench, RoundTripsBetweenArenas) {
    test::RunningProgram program("rdma_bench", {"--arena", "--ping", "8", "--count", "30"});
    const auto result = program.wait();
    if (result.err.find("libmimalloc") != std::string::npos) {
        GTEST_SKIP() << result.err;
    }
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out.rfind("RDMA write over shm, 8 bytes, one way: ", 0), 0U) << result.out;
}

TEST(RdmaBench, ComparesAndSaysSoInJson) {
    test::RunningProgram program(
        "rdma_bench", {"--compare", "--no-ucx", "--json", "-", "--rounds", "2", "--sizes", "8",
                       "--sizes", "70000", "--count", "300", "--moved", "1"});
    const auto result = program.wait();
    if (result.err.find("libmimalloc") != std::string::npos) {
        GTEST_SKIP() << result.err;
    }
    ASSERT_EQ(result.status, 0) << result.err;
    const auto whole = nlohmann::json::parse(result.out);
    EXPECT_EQ(whole.at("program"), "rdma_bench");
    EXPECT_EQ(whole.at("sentinels").size(), 4U) << "before, and after each round";
    EXPECT_EQ(whole.at("skipped").at(0).at("name"), "ucx");
    EXPECT_EQ(whole.at("results").size(), 8U);
    for (const auto& one : whole.at("results")) {
        EXPECT_EQ(one.at("transport"), "shm arena");
        EXPECT_EQ(one.at("rounds").size(), 2U);
        const bool bandwidth = one.at("measure") == "bandwidth";
        const bool write = one.at("operation") == "write";
        EXPECT_GT(one.at(bandwidth ? "bytes_per_second" : write ? "half_p50_ns" : "p50_ns"), 0);
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
