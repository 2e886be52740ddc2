// Every wrong option ends with one line on standard error that says what is allowed, and status 2.
#include "bench/ping_options.hpp"

#include <gtest/gtest.h>

#include "bench/cpu_placement.hpp"
#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

PingOptions parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "sanpoll-ping");
    const ParsedOptions parsed =
        parse_options(static_cast<int>(arguments.size()), arguments.data());
    EXPECT_TRUE(parsed.options) << parsed.text;
    return parsed.options.value_or(PingOptions{});
}

TEST(PingOptions, HaveTheDocumentedDefaults) {
    const PingOptions options = parse({});
    EXPECT_EQ(options.sizes, (std::vector<std::uint32_t>{0, 8, 64, 1024, 65536}));
    EXPECT_EQ(options.mode, "inline");
    EXPECT_EQ(options.completion, Completion::kPolled);
    EXPECT_EQ(options.layout, Layout::kTwoProcesses);
    EXPECT_EQ(options.receives, 8U);
    EXPECT_EQ(options.window, 32U);
    EXPECT_EQ(options.rate_receives, 64U);
    EXPECT_EQ(options.address, "");
    EXPECT_EQ(options.fabric, "");
    EXPECT_TRUE(options.shm && options.tcp && options.rate);
    EXPECT_TRUE(options.role.empty());
}

TEST(PingOptions, ReadWhatIsGiven) {
    const std::string cpu = std::to_string(allowed_cpus().front());
    const PingOptions options =
        parse({"--sizes",   "1,2K,1M,2K",   "--count",   "1000",       "--warmup=5", "--mode",
               "dedicated", "--profile",    "ultra",     "--cores",    cpu.c_str(),  "--poll-cores",
               cpu.c_str(), "--completion", "port",      "--receives", "3",          "--rounds",
               "2",         "--no-tcp",     "--no-rate", "--json",     "-",          "--one-thread",
               "--quiet",   "--library",    "/x.so",     "--fabric",   "verbs"});
    EXPECT_EQ(options.sizes, (std::vector<std::uint32_t>{1, 2048, 1 << 20}));
    EXPECT_EQ(options.count, 1000U);
    EXPECT_EQ(options.warmup, 5U);
    EXPECT_EQ(options.mode, "dedicated");
    EXPECT_EQ(options.profile, "ultra");
    EXPECT_EQ(options.cores, std::vector{allowed_cpus().front()});
    EXPECT_EQ(options.poll_cores, std::vector{allowed_cpus().front()});
    EXPECT_EQ(options.completion, Completion::kPort);
    EXPECT_EQ(options.receives, 3U);
    EXPECT_EQ(options.rounds, 2U);
    EXPECT_FALSE(options.tcp || options.rate);
    EXPECT_EQ(options.layout, Layout::kOneThread);
    EXPECT_TRUE(options.quiet);
    EXPECT_EQ(options.library, "/x.so");
    EXPECT_EQ(options.fabric, "verbs");
}

TEST(PingOptions, ReadSizesWithSuffixes) {
    EXPECT_EQ(parse_size("0"), 0U);
    EXPECT_EQ(parse_size("64"), 64U);
    EXPECT_EQ(parse_size("4k"), 4096U);
    EXPECT_EQ(parse_size("1M"), 1U << 20);
    EXPECT_EQ(parse_size("1G"), 1U << 30);
    for (const char* wrong : {"", "K", "1KB", "-1", "1.5K", "2G", "99999999999999999999", " 1"}) {
        EXPECT_FALSE(parse_size(wrong)) << wrong;
    }
    for (const std::uint32_t size : {0U, 1U, 1023U, 1024U, 1025U, 1U << 20, 1U << 30}) {
        EXPECT_EQ(parse_size(format_size(size)), size);
    }
}

struct Wrong {
    std::vector<std::string> arguments;
    std::string allowed;  // a part of the line that tells what would have been right
};

// The name of the test in ctest's list.
void PrintTo(const Wrong& wrong, std::ostream* out) {
    for (const auto& argument : wrong.arguments)
        *out << (argument.empty() ? "(empty)" : argument) << ' ';
}

class WrongOption : public testing::TestWithParam<Wrong> {};

TEST_P(WrongOption, IsRefusedInOneLine) {
    const auto result = test::run_ping(GetParam().arguments);
    EXPECT_TRUE(result.ended);
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find(GetParam().allowed), std::string::npos) << result.err;
}

INSTANTIATE_TEST_SUITE_P(
    Each, WrongOption,
    testing::Values(
        Wrong{{"--mode", "fast"}, "inline or dedicated"}, Wrong{{"--mode"}, "inline or dedicated"},
        Wrong{{"--profile", "turbo"}, "ultra, balanced or eco"},
        Wrong{{"--fabric", "rdma"}, "auto, shm or verbs"},
        Wrong{{"--no-shm", "--fabric", "shm"}, "drop --no-shm"},
        Wrong{{"--completion", "apc"}, "polled, event or port"},
        Wrong{{"--sizes", "64,12Q"}, "suffixes K and M"},
        Wrong{{"--sizes", ""}, "suffixes K and M"}, Wrong{{"--count", "0"}, "a number from 1"},
        Wrong{{"--count", "many"}, "a number from 1"}, Wrong{{"--count", "1e6"}, "a number from 1"},
        Wrong{{"--warmup", "0"}, "a number from 1"}, Wrong{{"--receives", "0"}, "1 to 1024"},
        Wrong{{"--window", "1025"}, "1 to 1024"}, Wrong{{"--rate-receives", "3"}, "4 to 4096"},
        Wrong{{"--rounds", "-1"}, "1 to 1000"}, Wrong{{"--retries", "101"}, "0 to 100"},
        Wrong{{"--cores", "999999"}, "may use CPUs"}, Wrong{{"--cores", "x"}, "may use CPUs"},
        Wrong{{"--cores", "0,0,0"}, "one CPU for both ends or two"},
        Wrong{{"--mode", "dedicated", "--poll-cores", "1-"}, "CPU numbers such as"},
        Wrong{{"--poll-cores", "0"}, "--mode dedicated"},
        Wrong{{"--address", "localhost"}, "an IPv4 address"},
        Wrong{{"--no-shm", "--no-tcp"}, "drop one"},
        Wrong{{"--no-shm", "--completion", "port"}, "drop --no-shm"},
        Wrong{{"--connect", "there"}, "the IPv4 address"}, Wrong{{"--port", "70000"}, "1 to 65535"},
        Wrong{{"--port", "7000"}, "--listen or --connect"},
        Wrong{{"--listen", "--connect", "127.0.0.1"}, "drop one"},
        Wrong{{"--listen", "--json", "-"}, "--connect"},
        Wrong{{"--connect", "127.0.0.1", "--one-thread"}, "--one-thread"},
        Wrong{{"--connect", "127.0.0.1", "--address", "127.0.0.1"}, "--listen"},
        Wrong{{"--json"}, "a file name"}, Wrong{{"--nonsense"}, "--help"},
        Wrong{{"extra"}, "--help"}, Wrong{{"-x"}, "--help"}));

TEST(PingOptions, HelpAndVersionGoToStandardOutput) {
    const auto help = test::run_ping({"--help"});
    EXPECT_EQ(help.status, 0);
    EXPECT_EQ(help.err, "");
    EXPECT_NE(help.out.find("--completion"), std::string::npos);
    EXPECT_EQ(help.out.find("--role"), std::string::npos);  // not for people
    const auto version = test::run_ping({"--version"});
    EXPECT_EQ(version.status, 0);
    EXPECT_EQ(version.out.rfind("sanpoll-ping ", 0), 0U) << version.out;
    EXPECT_EQ(test::lines_of(version.out), 1U);
}

}  // namespace
}  // namespace sanpoll::bench
