// footprint as its user sees it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "bench/process_memory.hpp"
#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

TEST(ProcessMemory, GrowsWithWhatIsTouched) {
    const ProcessMemory before = memory_of(::getpid());
    EXPECT_GT(before.resident, 0U);
    EXPECT_GE(before.peak, before.resident);
    constexpr std::size_t kBytes = 16 << 20;
    const std::string touched(kBytes, 'x');
    const ProcessMemory after = memory_of(::getpid());
    EXPECT_GE(after.anonymous, before.anonymous + kBytes / 1024 / 2) << touched.size();
    EXPECT_GE(after.peak, before.peak);
}

TEST(ProcessMemory, IsZeroOfAProcessThatDoesNotExist) { EXPECT_EQ(memory_of(-1).resident, 0U); }

TEST(Footprint, TwoProcesses) {
    test::RunningProgram program("footprint",
                                 {"--connections", "50", "--timed", "5", "--receives", "2"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    for (const char* part : {"connector", "acceptor", "bytes a connection: connector ",
                             "5 connects: ", "5 closes: ", "closing all: ", "kernel TCP"}) {
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
    }
}

TEST(Footprint, OneProcess) {
    test::RunningProgram program("footprint",
                                 {"--connections", "50", "--timed", "5", "--one-process"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("bytes a connection, both ends: "), std::string::npos) << result.out;
}

TEST(Footprint, SaysWhatIsAllowed) {
    test::RunningProgram program("footprint", {"--connections", "1"});
    const auto result = program.wait();
    EXPECT_NE(result.status, 0);
    EXPECT_NE(result.err.find("--connections"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace sanpoll::bench
