// connect_bench as its user sees it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

TEST(ConnectBench, ComparesBothTransports) {
    test::RunningProgram program(
        "connect_bench", {"--count", "8", "--rounds", "1", "--at-once", "1,4", "--beside", "0,5",
                          "--quiet", "--json", "-"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    const json figures = json::parse(result.out);
    EXPECT_EQ(figures.at("program"), "connect_bench");
    EXPECT_FALSE(figures.at("sentinels").empty());
    ASSERT_EQ(figures.at("results").size(), 2U * 2 * 2 * 2);
    for (const json& one : figures.at("results")) {
        EXPECT_GT(one.at("connected_p50_ns"), 0) << one;
        // A connection is over after it has been there; p99 is no less than p50.
        EXPECT_GE(one.at("p50_ns"), one.at("connected_p50_ns")) << one;
        EXPECT_GE(one.at("p99_ns"), one.at("p50_ns")) << one;
        EXPECT_GT(one.at("connections_per_second"), 0) << one;
        EXPECT_EQ(one.at("rounds").size(), 1U) << one;
    }
    EXPECT_EQ(figures.at("ratios").size(), 4U);
}

TEST(ConnectBench, PrintsATable) {
    test::RunningProgram program("connect_bench", {"--count", "5", "--rounds", "2", "--at-once",
                                                   "1", "--beside", "1", "--no-tcp", "--quiet"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("whole p50"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("shm  sleep"), std::string::npos) << result.out;
    EXPECT_EQ(result.out.find("tcp"), std::string::npos) << result.out;
}

TEST(ConnectBench, RefusesInOneLine) {
    for (const std::vector<std::string>& wrong : {std::vector<std::string>{"--at-once", "65"},
                                                  {"--beside", "4001"},
                                                  {"--count", "-1"},
                                                  {"--rouns", "1"}}) {
        test::RunningProgram program("connect_bench", wrong);
        const auto result = program.wait();
        EXPECT_EQ(result.status, 2) << wrong.front();
        EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
        EXPECT_TRUE(result.err.starts_with("connect_bench: ")) << result.err;
    }
}

TEST(ConnectBench, SaysWhatItCannotWrite) {
    test::RunningProgram program("connect_bench", {"--json", "/nonexistent/file"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find("/nonexistent/file"), std::string::npos) << result.err;
}

TEST(ConnectBench, SaysThatTheLibraryIsMissing) {
    test::RunningProgram program("connect_bench", {"--library", "/nonexistent/lib.so", "--quiet"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find("/nonexistent/lib.so"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace sanpoll::bench
