// scale_bench as its user sees it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "bench/cpu_placement.hpp"
#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

json run(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--rounds", "1", "--sample", "2", "--quiet", "--json", "-"});
    test::RunningProgram program("scale_bench", arguments);
    const auto result = program.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    const json figures = json::parse(result.out);
    EXPECT_EQ(figures.at("program"), "scale_bench");
    EXPECT_FALSE(figures.at("sentinels").empty());
    return figures;
}

TEST(ScaleBench, OneBusyAmongIdleOnes) {
    const json figures = run({"--sections", "idle", "--idle", "120,1"});
    ASSERT_EQ(figures.at("idle").size(), 2U);
    EXPECT_EQ(figures.at("idle")[1].at("idle_connections"), 120);
    for (const json& one : figures.at("idle")) {
        EXPECT_GT(one.at("half_p50_ns"), 0) << one;
        EXPECT_GT(one.at("alone_half_p50_ns"), 0) << one;
        EXPECT_GT(one.at("ratio_to_alone"), 0) << one;
    }
    // Of one connection nobody can tell what it takes.
    ASSERT_EQ(figures.at("memory").size(), 1U);
    EXPECT_EQ(figures.at("memory")[0].at("connections"), 120);
    if (allowed_cpus().size() > 1) {
        ASSERT_EQ(figures.at("idle_dedicated").size(), 1U);
        EXPECT_EQ(figures.at("idle_dedicated")[0].at("idle_connections"), 120);
    }
    EXPECT_FALSE(figures.contains("busy"));
}

TEST(ScaleBench, ManyBusyOnes) {
    const json figures = run({"--sections", "busy", "--busy", "1,70"});
    ASSERT_EQ(figures.at("busy").size(), 2U);
    for (const json& one : figures.at("busy"))
        EXPECT_GT(one.at("messages_per_second"), 0) << one;
}

TEST(ScaleBench, ThreadsOverPollingCores) {
    const json figures = run({"--sections", "threads", "--threads", "1,2"});
    const std::size_t cores = allowed_cpus().size() > 1 ? 2 : 1;
    ASSERT_EQ(figures.at("threads").size(), 2 * cores);
    for (const json& one : figures.at("threads"))
        EXPECT_GT(one.at("echoes_per_second"), 0) << one;
}

TEST(ScaleBench, FanIn) {
    const json figures = run({"--sections", "fan-in", "--clients", "6", "--client-processes", "2"});
    ASSERT_EQ(figures.at("fan_in").size(), 3U);
    EXPECT_EQ(figures.at("fan_in")[2].at("clients"), 6);
    EXPECT_EQ(figures.at("fan_in")[2].at("processes"), 2);
}

TEST(ScaleBench, PrintsATable) {
    test::RunningProgram program("scale_bench", {"--sections", "idle", "--idle", "2", "--rounds",
                                                 "2", "--sample", "2", "--quiet"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("one busy connection among idle ones"), std::string::npos)
        << result.out;
}

TEST(ScaleBench, RefusesInOneLine) {
    for (const std::vector<std::string>& wrong :
         {std::vector<std::string>{"--sections", "all"}, {"--idle", "0"}, {"--threads", "3"}}) {
        test::RunningProgram program("scale_bench", wrong);
        const auto result = program.wait();
        EXPECT_EQ(result.status, 2) << wrong.front();
        EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    }
}

TEST(ScaleBench, SaysThatTheLibraryIsMissing) {
    test::RunningProgram program("scale_bench", {"--library", "/nonexistent/lib.so", "--quiet"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find("/nonexistent/lib.so"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace sanpoll::bench
