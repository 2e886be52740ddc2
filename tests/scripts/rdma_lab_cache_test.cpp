// The cache of scripts/rdma-lab: made once, never half, whoever calls and whatever happens.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <fstream>

#include "tests/scripts/rdma_lab.hpp"

namespace sanpoll::scripts {
namespace {

using test::names_in;

constexpr std::chrono::seconds kPatience{900};

// Complete machines, and what is half made.
long machines_in(const std::filesystem::path& cache) {
    const auto names = names_in(cache);
    return std::count_if(names.begin(), names.end(),
                         [](const std::string& name) { return name.find("amd64_") != name.npos; });
}
bool is_being_made(const std::filesystem::path& cache) {
    const auto names = names_in(cache);
    return std::any_of(names.begin(), names.end(),
                       [](const std::string& name) { return name.starts_with(".making"); });
}

TEST(RdmaLabCache, TwoCallersAtOnceMakeOneMachineAndCleanTakesOnlyThat) {
    const test::TemporaryFolder cache;
    create_directory(cache.path() / "foreign_but_alike");
    const test::Lab lab;
    {
        auto one = lab.start({"--cache", cache.path(), "prepare"});
        auto other = lab.start({"--cache", cache.path(), "prepare"});
        const auto first = one.wait(kPatience);
        const auto second = other.wait(kPatience);
        EXPECT_EQ(first.status, 0) << first.err;
        EXPECT_EQ(second.status, 0) << second.err;
        EXPECT_EQ(first.out, second.out);
        // One has made it; the other has waited, or come when it was there.
        EXPECT_NE(first.err.find("prepared Linux") == std::string::npos,
                  second.err.find("prepared Linux") == std::string::npos)
            << first.err << second.err;
    }
    EXPECT_EQ(machines_in(cache.path()), 1);
    EXPECT_FALSE(is_being_made(cache.path()));

    const test::TemporaryFolder kept;
    auto user = lab.start({"--cache", cache.path(), "--device", "none", "--keep", kept.path(), "sh",
                           "lab_until 100 test -e /lab/enough"});
    EXPECT_TRUE(test::eventually([&] { return exists(kept.path() / "console-alone"); }));
    const auto refused = lab.run({"--cache", cache.path(), "clean"});
    EXPECT_EQ(refused.status, 125);
    EXPECT_NE(refused.err.find("in use"), std::string::npos) << refused.err;
    EXPECT_EQ(machines_in(cache.path()), 1);
    std::ofstream(kept.path() / "share/enough") << "x";
    const auto used = user.wait(kPatience);
    EXPECT_EQ(used.status, 0) << used.err;

    const auto cleaned = lab.run({"--cache", cache.path(), "clean"});
    EXPECT_EQ(cleaned.status, 0) << cleaned.err;
    EXPECT_EQ(names_in(cache.path()), std::vector<std::string>{"foreign_but_alike"});
}

TEST(RdmaLabCache, APreparationThatIsInterruptedLeavesNothingHalf) {
    const test::TemporaryFolder cache;
    const test::Lab lab;
    auto caller = lab.start({"--cache", cache.path(), "prepare"});
    ASSERT_TRUE(test::eventually([&] { return is_being_made(cache.path()); }));
    kill(caller.pid(), SIGTERM);
    const auto result = caller.wait(kPatience);
    EXPECT_EQ(result.status, 128 + SIGTERM) << result.err;
    EXPECT_EQ(machines_in(cache.path()), 0);
    EXPECT_FALSE(is_being_made(cache.path()));
    EXPECT_TRUE(lab.remains().empty());
}

TEST(RdmaLabCache, WithoutANetworkItSaysThatItNeedsOne) {
    const test::TemporaryFolder folder;
    const auto settings = folder.path() / "apt.conf";
    std::ofstream(settings) << "Acquire::http::Proxy \"http://127.0.0.1:1\";\n"
                               "Acquire::https::Proxy \"http://127.0.0.1:1\";\n";
    const auto cache = folder.path() / "cache";
    const test::Lab lab;
    const auto result =
        lab.run({"--cache", cache, "--device", "none", "run", "true"}, {{"APT_CONFIG", settings}});
    EXPECT_EQ(result.status, 125);
    EXPECT_NE(result.err.find("needs the network"), std::string::npos) << result.err;
    EXPECT_EQ(machines_in(cache), 0);
    EXPECT_FALSE(is_being_made(cache));
    EXPECT_TRUE(lab.remains().empty());
}

TEST(RdmaLabCache, AFolderThatCannotBeWrittenIsNamed) {
    const test::Lab lab;
    const auto result = lab.run({"--cache", "/proc/lab", "prepare"});
    EXPECT_EQ(result.status, 125);
    EXPECT_NE(result.err.find("cannot write to /proc/lab"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace sanpoll::scripts
