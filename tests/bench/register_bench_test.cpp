// register_bench as its user sees it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

TEST(RegisterBench, PrintsWhatRegisteringCosts) {
    test::RunningProgram program("register_bench", {"--entries", "16", "--count", "64"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("4 KiB each, over shm"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("without the cache"), std::string::npos) << result.out;
}

TEST(RegisterBench, JsonHasARowForEachKindOfMemory) {
    test::RunningProgram program("register_bench",
                                 {"--entries", "16", "--count", "64", "--json", "-"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json.at("program"), "register_bench");
    EXPECT_EQ(json.at("fabric"), "shm");
    EXPECT_EQ(json.at("buffer_bytes"), 4096);
    // The heap and the cache are not to be had everywhere; then that is said.
    const std::size_t rows = json.at("results").size();
    EXPECT_TRUE(rows == 4 || !json.at("lacking").empty()) << json;
    ASSERT_GE(rows, 1U);
    EXPECT_EQ(json.at("results")[0].at("memory"), "without the cache");
    for (const auto& row : json.at("results")) {
        EXPECT_GT(row.at("register_ns"), 0) << row;
        EXPECT_GT(row.at("deregister_ns"), 0) << row;
    }
}

}  // namespace
}  // namespace sanpoll::bench
