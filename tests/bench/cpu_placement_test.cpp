#include "bench/cpu_placement.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

namespace sanpoll::bench {
namespace {

TEST(CpuPlacement, ReadsCpuLists) {
    EXPECT_EQ(parse_cpu_list("3"), (std::vector{3}));
    EXPECT_EQ(parse_cpu_list("0,2-4,9"), (std::vector{0, 2, 3, 4, 9}));
    for (const char* wrong :
         {"", ",", "1,", ",1", "a", "1-", "4-2", "-1", "1 2", "1,,2", "0-99999"}) {
        EXPECT_FALSE(parse_cpu_list(wrong)) << wrong;
    }
}

TEST(CpuPlacement, ListsAtLeastOneAllowedCpu) {
    const auto cpus = allowed_cpus();
    ASSERT_FALSE(cpus.empty());
    EXPECT_TRUE(std::is_sorted(cpus.begin(), cpus.end()));
}

TEST(CpuPlacement, PinsAThread) {
    const int cpu = allowed_cpus().back();
    std::thread([cpu] {
        EXPECT_TRUE(pin_this_thread(cpu));
        EXPECT_EQ(allowed_cpus(), std::vector{cpu});
        EXPECT_FALSE(pin_this_thread(-1));
        EXPECT_FALSE(pin_this_thread(1 << 20));
    }).join();
}

TEST(CpuPlacement, PrefersDistinctCoresOfOneCache) {
    // CPUs 0/1 and 2/3 are hardware threads of two cores below one cache; 4 and 5 lie below another.
    const std::vector<CpuTopology> topology{{0, 0, 0, "0-3"}, {1, 0, 0, "0-3"}, {2, 0, 1, "0-3"},
                                            {3, 0, 1, "0-3"}, {4, 0, 2, "4-5"}, {5, 0, 2, "4-5"}};
    const CpuChoice choice = choose_pair(topology);
    EXPECT_EQ(choice.server, 1);  // not CPU 0, which serves most interrupts
    EXPECT_EQ(choice.client, 2);
    EXPECT_EQ(choice.why, "distinct cores of one last-level cache");
}

TEST(CpuPlacement, TakesFarCoresRatherThanThreadsOfOne) {
    const CpuChoice choice = choose_pair({{0, 0, 0, "0-1"}, {1, 0, 0, "0-1"}, {2, 1, 0, "2"}});
    EXPECT_EQ(choice.server, 1);
    EXPECT_EQ(choice.client, 2);
    EXPECT_EQ(choice.why, "distinct cores of different last-level caches");
}

TEST(CpuPlacement, TakesThreadsOfOneCoreRatherThanOneCpu) {
    const CpuChoice choice = choose_pair({{0, 0, 0, "0-1"}, {1, 0, 0, "0-1"}});
    EXPECT_EQ(choice.server, 0);
    EXPECT_EQ(choice.client, 1);
    EXPECT_EQ(choice.why, "two hardware threads of one core");
}

TEST(CpuPlacement, LivesWithOneCpuAndWithNoInformation) {
    const CpuChoice one = choose_pair({{5, 0, 0, "5"}});
    EXPECT_EQ(one.server, 5);
    EXPECT_EQ(one.client, 5);
    const CpuChoice dark = choose_pair({{0, -1, -1, ""}, {1, -1, -1, ""}});
    EXPECT_NE(dark.server, dark.client);
    EXPECT_EQ(dark.why, "the system tells nothing about how they lie");
}

TEST(CpuPlacement, ReadsTheTopologyFiles) {
    const auto root =
        std::filesystem::temp_directory_path() / ("sanpoll_topology_" + std::to_string(getpid()));
    const auto cpu = root / "cpu7";
    std::filesystem::create_directories(cpu / "topology");
    std::filesystem::create_directories(cpu / "cache" / "index0");
    std::filesystem::create_directories(cpu / "cache" / "index3");
    std::ofstream(cpu / "topology" / "physical_package_id") << "1\n";
    std::ofstream(cpu / "topology" / "core_id") << "3\n";
    std::ofstream(cpu / "cache" / "index0" / "level") << "1\n";
    std::ofstream(cpu / "cache" / "index0" / "shared_cpu_list") << "7\n";
    std::ofstream(cpu / "cache" / "index3" / "level") << "3\n";
    std::ofstream(cpu / "cache" / "index3" / "shared_cpu_list") << "4-7\n";
    const auto topology = read_topology({7, 8}, root.string());
    std::filesystem::remove_all(root);
    ASSERT_EQ(topology.size(), 2U);
    EXPECT_EQ(topology[0].package, 1);
    EXPECT_EQ(topology[0].core, 3);
    EXPECT_EQ(topology[0].last_level, "4-7");
    EXPECT_EQ(topology[1].core, -1);
    EXPECT_EQ(topology[1].last_level, "");
}

}  // namespace
}  // namespace sanpoll::bench
