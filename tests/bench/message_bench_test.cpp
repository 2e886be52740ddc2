// message_bench as its user sees it.
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sanpoll::bench
