// scripts/rdma-lab without a machine: what it says to wrong arguments and of programs that are missing.
#include "tests/scripts/rdma_lab.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <regex>

namespace sanpoll::scripts {
namespace {

namespace fs = std::filesystem;
using test::Arguments;

// Wrong arguments: status 2, nothing on standard output, and a message that says what was wrong.
void check_misuse(const Arguments& arguments, const std::string& message) {
    const test::Lab lab;
    const auto result = lab.run(arguments);
    EXPECT_EQ(result.status, 2) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find(message), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("--help"), std::string::npos) << result.err;
}

TEST(RdmaLabArguments, HelpTellsTheVerbsAndTheExitStatus) {
    const auto result = test::Lab().run({"--help"});
    EXPECT_EQ(result.status, 0);
    EXPECT_EQ(result.err, "");
    for (const char* word : {"prepare", "run ", "sh ", "pair", "demo", "clean", "124", "125"})
        EXPECT_NE(result.out.find(word), std::string::npos) << word;
}

// What the script takes and what it tells of are the same options.
TEST(RdmaLabArguments, HelpTellsEveryOption) {
    const std::string text = test::content_of(test::script("rdma-lab"));
    const std::string help = test::Lab().run({"-h"}).out;
    const std::regex label("\n        (--[a-z-]+)\\)");
    int options = 0;
    for (std::sregex_iterator found(text.begin(), text.end(), label), end; found != end; ++found) {
        ++options;
        EXPECT_NE(help.find("\n  " + found->str(1) + " "), std::string::npos) << found->str(1);
    }
    EXPECT_GE(options, 10);
}

TEST(RdmaLabArguments, AVerbIsNeeded) { check_misuse({}, "what to do?"); }
TEST(RdmaLabArguments, UnknownVerb) { check_misuse({"fly"}, "unknown verb 'fly'"); }
TEST(RdmaLabArguments, UnknownOption) {
    check_misuse({"--fast", "prepare"}, "unknown option '--fast'");
    check_misuse({"run", "--fast", "true"}, "unknown option '--fast'");
}
TEST(RdmaLabArguments, OptionWithoutItsValue) {
    check_misuse({"run", "--device"}, "--device needs a value");
}
TEST(RdmaLabArguments, UnknownDevice) {
    check_misuse({"--device", "mlx5", "run", "true"}, "'mlx5'");
}
TEST(RdmaLabArguments, NumbersHaveRanges) {
    check_misuse({"--time-limit", "0", "run", "true"}, "--time-limit takes a number from 1");
    check_misuse({"--time-limit", "5s", "run", "true"}, "'5s'");
    check_misuse({"--memory", "64", "run", "true"}, "--memory takes a number from 256");
    check_misuse({"--cpus", "65", "run", "true"}, "--cpus takes a number from 1 to 64");
    check_misuse({"--mtu", "9001", "run", "true"}, "--mtu takes a number from 576 to 9000");
    check_misuse({"--hugepages", "-1", "run", "true"}, "--hugepages takes a number from 0");
}
TEST(RdmaLabArguments, HugepagesHaveToFitIntoTheMemory) {
    check_misuse({"--memory", "1024", "--hugepages", "500", "run", "true"}, "1000 MiB");
}
TEST(RdmaLabArguments, LossIsAPercentage) {
    check_misuse({"--loss", "101", "pair", "true", "true"}, "--loss takes a percentage");
}
TEST(RdmaLabArguments, LossNeedsACable) {
    check_misuse({"--loss", "1", "run", "true"}, "--loss is for pair");
}
TEST(RdmaLabArguments, VariablesHaveNames) {
    check_misuse({"--env", "A=1", "run", "true"}, "--env takes the name of a variable");
}
TEST(RdmaLabArguments, TheFolderToKeepIsNewOrEmpty) {
    const test::TemporaryFolder folder;
    std::ofstream(folder.path() / "precious") << "x";
    check_misuse({"--keep", folder.path(), "run", "true"}, "new or empty folder");
    EXPECT_EQ(test::names_in(folder.path()).size(), 1U);
}
TEST(RdmaLabArguments, EachVerbTakesItsOwn) {
    check_misuse({"run"}, "run takes a command");
    check_misuse({"sh"}, "sh takes one argument");
    check_misuse({"sh", "true", "true"}, "sh takes one argument");
    check_misuse({"pair", "true"}, "pair takes two arguments");
    check_misuse({"demo", "me"}, "demo takes no arguments");
    check_misuse({"prepare", "me"}, "prepare takes no arguments");
    check_misuse({"clean", "me"}, "clean takes no arguments");
}

// A PATH with all programs of this system but some.
void hide(const fs::path& folder, const std::vector<std::string>& hidden) {
    for (const auto& program : fs::directory_iterator("/usr/bin")) {
        const std::string name = program.path().filename();
        if (std::find(hidden.begin(), hidden.end(), name) == hidden.end()) {
            fs::create_symlink(program.path(), folder / name);
        }
    }
}

TEST(RdmaLabPrograms, AMissingOneIsNamedWithItsPackageAndTheCommandThatInstallsIt) {
    const test::TemporaryFolder folder;
    hide(folder.path(), {"qemu-system-x86_64"});
    const test::Lab lab;
    const auto result = lab.run({"run", "true"}, {{"PATH", folder.path()}});
    EXPECT_EQ(result.status, 125);
    EXPECT_NE(result.err.find("qemu-system-x86_64 is not installed (package qemu-system-x86)"),
              std::string::npos)
        << result.err;
    EXPECT_NE(result.err.find("scripts/setup --lab"), std::string::npos) << result.err;
    EXPECT_TRUE(lab.remains().empty());
}

TEST(RdmaLabPrograms, TheDemonstrationNeedsMore) {
    const test::TemporaryFolder folder;
    hide(folder.path(), {"rping", "ib_send_lat"});
    const auto result = test::Lab().run({"demo"}, {{"PATH", folder.path()}});
    EXPECT_EQ(result.status, 125);
    for (const char* text : {"(package rdmacm-utils)", "(package perftest)"})
        EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
}

TEST(RdmaLabPrograms, PreparingNeedsOthers) {
    const test::TemporaryFolder folder;
    hide(folder.path(), {"busybox", "gcc-12"});
    const test::TemporaryFolder cache;
    const auto result =
        test::Lab().run({"--cache", cache.path(), "prepare"}, {{"PATH", folder.path()}});
    EXPECT_EQ(result.status, 125);
    for (const char* text : {"(package busybox-static)", "(package gcc-12)"})
        EXPECT_NE(result.err.find(text), std::string::npos) << result.err;
    EXPECT_TRUE(test::names_in(cache.path()).empty());
}

// The packages that the lab names are in the one list, or on every Debian.
TEST(RdmaLabPrograms, SetUpInstallsWhatTheLabNames) {
    const std::string lab = test::content_of(test::script("rdma-lab"));
    const std::string setup = test::content_of(test::script("setup"));
    const std::regex entry(R"(\[[a-z0-9_-]+\]=([a-z0-9-]+))");
    int packages = 0;
    for (std::sregex_iterator found(lab.begin(), lab.end(), entry), end; found != end; ++found) {
        const std::string package = found->str(1);
        ++packages;
        if (package == "apt" || package == "dpkg" || package == "util-linux") continue;
        EXPECT_NE(setup.find("\n    " + package + " "), std::string::npos) << package;
    }
    EXPECT_GE(packages, 10);
}

}  // namespace
}  // namespace sanpoll::scripts
