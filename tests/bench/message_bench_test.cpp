// message_bench as its user sees it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

TEST(MessageBench, MovesMessagesEachWayBesideAPlainCopy) {
    test::RunningProgram program("message_bench", {"--count", "5", "--rounds", "1"});
    const auto result = program.wait();
    if (result.err.find("libmimalloc") != std::string::npos) {
        GTEST_SKIP() << "no memory out of arenas here: " << result.err;
    }
    EXPECT_EQ(result.status, 0) << result.err;
    for (const char* part :
         {"over shm; arenas shared", "plain copy", "arena to ordinary memory, just written",
          "arena to arena, written once", "ordinary to ordinary memory"}) {
        EXPECT_NE(result.out.find(part), std::string::npos) << part << " in\n" << result.out;
    }
}

TEST(MessageBench, ShortMessagesAndFewBuffers) {
    test::RunningProgram program("message_bench", {"--message", "1", "--count", "20", "--window",
                                                   "1", "--receives", "1", "--rounds", "1"});
    const auto result = program.wait();
    if (result.err.find("libmimalloc") != std::string::npos) {
        GTEST_SKIP() << "no memory out of arenas here: " << result.err;
    }
    EXPECT_EQ(result.status, 0) << result.err;
}

TEST(MessageBench, JsonHasARowForEachWayBetweenSentinels) {
    test::RunningProgram program(
        "message_bench", {"--message", "64", "--count", "5", "--rounds", "2", "--json", "-"});
    const auto result = program.wait();
    if (result.err.find("libmimalloc") != std::string::npos) {
        GTEST_SKIP() << "no memory out of arenas here: " << result.err;
    }
    ASSERT_EQ(result.status, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json.at("program"), "message_bench");
    EXPECT_EQ(json.at("message_bytes"), 64 << 10);
    EXPECT_GE(json.at("sentinels").size(), 4U);  // before and after each round
    EXPECT_TRUE(json.at("sentinels")[0].at("placement").is_string());
    ASSERT_EQ(json.at("results").size(), 8U);
    for (const auto& row : json.at("results")) {
        EXPECT_GT(row.at("bytes_per_second"), 0) << row;
        EXPECT_GT(row.at("ratio_to_plain_copy"), 0) << row;
        EXPECT_EQ(row.at("rounds").size(), 2U) << row;
    }
    EXPECT_EQ(json.at("results")[0].at("transport"), "plain copy");
    EXPECT_EQ(json.at("results")[2].at("way"), "arena to ordinary memory");
    EXPECT_EQ(json.at("results")[2].at("just_written"), true);
    EXPECT_EQ(json.at("results")[3].at("just_written"), false);
}

}  // namespace
}  // namespace sanpoll::bench
