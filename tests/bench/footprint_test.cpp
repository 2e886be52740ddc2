// footprint as its user sees it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
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

TEST(Footprint, JsonHasBothEndsBytesAndTimes) {
    test::RunningProgram program(
        "footprint", {"--connections", "40", "--timed", "5", "--no-tcp", "--json", "-"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json.at("program"), "footprint");
    EXPECT_EQ(json.at("connections"), 40);
    EXPECT_EQ(json.at("processes"), 2);
    EXPECT_EQ(json.at("memory").size(), 10U);  // five moments, two processes
    EXPECT_GT(json.at("memory").back().at("resident_kib"), 0);
    ASSERT_EQ(json.at("results").size(), 2U);
    EXPECT_EQ(json.at("results")[1].at("end"), "acceptor");
    EXPECT_GE(json.at("results")[1].at("bytes_per_connection"), 0);
    ASSERT_EQ(json.at("times").size(), 4U);
    for (const auto& time : json.at("times")) {
        EXPECT_GT(time.at("p50_us"), 0) << time;
        EXPECT_GE(time.at("p99_us"), time.at("p50_us")) << time;
    }
    EXPECT_TRUE(json.at("tcp_kernel_bytes_per_end").is_null());
}

TEST(Footprint, RefusesAFileThatCannotBeWritten) {
    test::RunningProgram program("footprint", {"--json", "/nonexistent/folder/file"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("cannot write /nonexistent/folder/file"), std::string::npos)
        << result.err;
    EXPECT_EQ(test::lines_of(result.err), 1U);
}

TEST(Footprint, SaysWhatIsAllowed) {
    test::RunningProgram program("footprint", {"--connections", "1"});
    const auto result = program.wait();
    EXPECT_NE(result.status, 0);
    EXPECT_NE(result.err.find("--connections"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace sanpoll::bench
