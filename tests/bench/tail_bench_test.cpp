// tail_bench as its user sees it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

TEST(TailBench, MeasuresEachLoadOfEachSize) {
    test::RunningProgram program("tail_bench", {"--sizes", "64,8", "--loads", "10,50", "--rounds",
                                                "1", "--sample", "5", "--quiet", "--json", "-"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    const json figures = json::parse(result.out);
    EXPECT_EQ(figures.at("program"), "tail_bench");
    EXPECT_FALSE(figures.at("sentinels").empty());
    ASSERT_EQ(figures.at("peak").size(), 2U);
    ASSERT_EQ(figures.at("results").size(), 4U);
    for (const json& one : figures.at("results")) {
        EXPECT_GT(one.at("rate_per_second"), 0) << one;
        EXPECT_GT(one.at("p50_ns"), 0) << one;
        EXPECT_LE(one.at("p50_ns"), one.at("p90_ns")) << one;
        EXPECT_LE(one.at("p90_ns"), one.at("p99_ns")) << one;
        EXPECT_LE(one.at("p99_ns"), one.at("p999_ns")) << one;
        EXPECT_LE(one.at("p999_ns"), one.at("max_ns")) << one;
        EXPECT_GT(one.at("machine_p99_gap_ns"), 0) << one;
        EXPECT_LE(one.at("bare_p50_ns"), one.at("bare_p99_ns")) << one;
        EXPECT_LE(one.at("bare_busy_p50_ns"), one.at("bare_busy_p99_ns")) << one;
        EXPECT_GT(one.at("bare_busy_per_second"), 0) << one;
        const json& round = one.at("rounds").at(0);
        EXPECT_DOUBLE_EQ(
            one.at("p99_beside_bare").get<double>(),
            round.at("p99_ns").get<double>() / round.at("bare_busy_p99_ns").get<double>())
            << one;
        EXPECT_FALSE(one.at("bare_histogram").empty()) << one;
        EXPECT_FALSE(one.at("histogram").empty()) << one;
    }
    EXPECT_EQ(figures.at("noise").size(), 2U);
    ASSERT_EQ(figures.at("targets").size(), 1U);
    const json& target = figures.at("targets").front();
    EXPECT_EQ(target.at("met").get<bool>(), target.at("value") <= target.at("target"));
}

TEST(TailBench, PrintsATable) {
    test::RunningProgram program("tail_bench", {"--sizes", "64", "--loads", "50", "--rounds", "2",
                                                "--sample", "5", "--quiet"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("peak of 64 bytes"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("64 bytes at half load: p99"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("bare, as busy"), std::string::npos) << result.out;
}

TEST(TailBench, RefusesInOneLine) {
    for (const std::vector<std::string>& wrong :
         {std::vector<std::string>{"--loads", "101"}, {"--sizes", "4097"}, {"--window", "0"}}) {
        test::RunningProgram program("tail_bench", wrong);
        const auto result = program.wait();
        EXPECT_EQ(result.status, 2) << wrong.front();
        EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
        EXPECT_NE(result.err.find(wrong.front()), std::string::npos) << result.err;
    }
}

}  // namespace
}  // namespace sanpoll::bench
