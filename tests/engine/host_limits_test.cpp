#include "engine/host_limits.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>

#include "tests/engine/fake_host.hpp"

namespace sanpoll::engine {
namespace {

using tests::FakeHost;

std::string value_of(const HostLimits& limits, const std::string& name) {
    for (const auto& [key, value] : described(limits)) {
        if (key == name) {
            return value;
        }
    }
    return "no line '" + name + "'";
}

TEST(HostLimits, AHostThatSaysNothingHasNone) {
    const HostLimits limits = read_host_limits(FakeHost());
    for (const std::uint64_t value :
         {limits.locked_memory.soft, limits.open_files.soft, limits.tasks.soft,
          limits.address_space.soft, limits.mappings, limits.host_files, limits.group_memory.limit,
          limits.group_tasks.limit}) {
        EXPECT_EQ(value, kUnlimited);
    }
    EXPECT_FALSE(limits.overcommit_refused);
    EXPECT_TRUE(limits.hugepages.empty());
    EXPECT_TRUE(too_low(limits).empty());
}

TEST(HostLimits, ResourcesAndSysctlsAreRead) {
    FakeHost host;
    host.resources[RLIMIT_MEMLOCK] = {8 << 20, kUnlimited};
    host.resources[RLIMIT_NOFILE] = {1024, 4096};
    host.resources[RLIMIT_NPROC] = {77, 77};
    host.resources[RLIMIT_AS] = {3ULL << 30, 3ULL << 30};
    host.files["/proc/sys/vm/max_map_count"] = "65530\n";
    host.files["/proc/sys/fs/file-max"] = "9000\n";
    host.files["/proc/sys/vm/overcommit_memory"] = "2\n";
    const HostLimits limits = read_host_limits(host);
    EXPECT_EQ(value_of(limits, "RLIMIT_MEMLOCK"), "8 MiB (may be raised to unlimited)");
    EXPECT_EQ(value_of(limits, "RLIMIT_NOFILE"), "1024 (may be raised to 4096)");
    EXPECT_EQ(value_of(limits, "RLIMIT_NPROC"), "77");
    EXPECT_EQ(value_of(limits, "RLIMIT_AS"), "3 GiB");
    EXPECT_EQ(value_of(limits, "vm.max_map_count"), "65530");
    EXPECT_EQ(value_of(limits, "vm.overcommit_memory"), "2");
    EXPECT_EQ(limits.host_files, 9000U);
}

TEST(HostLimits, HugepagesOfEverySizeAndNode) {
    FakeHost host;
    const auto pool = [&host](const std::string& folder, const char* total, const char* free) {
        host.files[folder + "/nr_hugepages"] = total;
        host.files[folder + "/free_hugepages"] = free;
    };
    pool("/sys/kernel/mm/hugepages/hugepages-1048576kB", "2\n", "1\n");
    pool("/sys/kernel/mm/hugepages/hugepages-2048kB", "512\n", "500\n");
    host.files["/sys/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages"] = "30\n";
    pool("/sys/devices/system/node/node1/hugepages/hugepages-2048kB", "256\n", "250\n");
    host.files["/sys/devices/system/node/online"] = "0-1\n";
    const HostLimits limits = read_host_limits(host);
    ASSERT_EQ(limits.hugepages.size(), 3U);
    EXPECT_EQ(limits.hugepages[0].page_bytes, 2U << 20);
    EXPECT_EQ(limits.hugepages[0].node, -1);
    EXPECT_EQ(limits.hugepages[1].node, 1);
    EXPECT_EQ(value_of(limits, "hugepages of 2 MiB"), "500 free of 512, 30 of them promised");
    EXPECT_EQ(value_of(limits, "hugepages of 2 MiB, node 1"), "250 free of 256");
    EXPECT_EQ(value_of(limits, "hugepages of 1 GiB"), "1 free of 2, 0 of them promised");
}

TEST(HostLimits, TheStrictestControlGroupOnTheWayCounts) {
    FakeHost host;
    host.files["/proc/self/cgroup"] = "0::/system.slice/app.service\n";
    host.files["/sys/fs/cgroup/system.slice/app.service/memory.max"] = "max\n";
    host.files["/sys/fs/cgroup/system.slice/memory.max"] = "1073741824\n";
    host.files["/sys/fs/cgroup/system.slice/memory.current"] = "4096\n";
    host.files["/sys/fs/cgroup/system.slice/app.service/pids.max"] = "20\n";
    host.files["/sys/fs/cgroup/system.slice/app.service/pids.current"] = "3\n";
    const HostLimits limits = read_host_limits(host);
    EXPECT_EQ(limits.group_memory.limit, 1U << 30);
    EXPECT_EQ(value_of(limits, "control group's memory"),
              "1 GiB, 4 KiB used (/sys/fs/cgroup/system.slice/memory.max)");
    EXPECT_EQ(limits.group_tasks.limit, 20U);
    EXPECT_EQ(limits.group_tasks.used, 3U);
}

TEST(HostLimits, AControlGroupThatIsTheMountsRoot) {
    FakeHost host;
    host.files["/proc/self/cgroup"] = "0::/\n";
    host.files["/sys/fs/cgroup/memory.max"] = "1048576\n";
    EXPECT_EQ(read_host_limits(host).group_memory.limit, 1U << 20);
}

TEST(HostLimits, OldControlGroups) {
    FakeHost host;
    host.files["/proc/self/cgroup"] = "7:cpu,memory:/box\n3:pids:/box\n0::/\n";
    host.files["/sys/fs/cgroup/memory/box/memory.limit_in_bytes"] = "2097152\n";
    host.files["/sys/fs/cgroup/memory/box/memory.usage_in_bytes"] = "1024\n";
    host.files["/sys/fs/cgroup/memory/memory.limit_in_bytes"] = "9223372036854771712\n";
    const HostLimits limits = read_host_limits(host);
    EXPECT_EQ(limits.group_memory.limit, 2U << 20);
    EXPECT_EQ(limits.group_memory.used, 1024U);
    EXPECT_EQ(limits.group_tasks.limit, kUnlimited);
}

TEST(HostLimits, WhatTheProcessUses) {
    FakeHost host;
    host.files["/proc/self/maps"] = "a\nb\nc\n";
    host.files["/proc/self/status"] =
        "VmSize:\t    200 kB\nVmLck:\t       4 kB\nVmPin:\t       8 kB\n";
    const HostUse use = read_host_use(host);
    EXPECT_EQ(use.mappings, 3U);
    EXPECT_EQ(use.address_space, 200U << 10);
    EXPECT_EQ(use.pinned_bytes, 12U << 10);
    EXPECT_EQ(read_host_use(FakeHost()).mappings, 0U);
}

TEST(HostLimits, AFewDescriptorsAreTooFew) {
    FakeHost host;
    host.resources[RLIMIT_NOFILE] = {32, 4096};
    const std::vector<std::string> lines = too_low(read_host_limits(host));
    ASSERT_EQ(lines.size(), 1U);
    for (const char* part : {"32 open files", "RLIMIT_NOFILE", "ulimit -n"}) {
        EXPECT_NE(lines[0].find(part), std::string::npos) << lines[0];
    }
}

TEST(HostLimits, TheHostItself) {
    rlimit files{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
    const HostLimits limits = read_host_limits();
    EXPECT_EQ(limits.open_files.soft,
              files.rlim_cur == RLIM_INFINITY ? kUnlimited : files.rlim_cur);
    EXPECT_GT(limits.mappings, 1000U);
    const HostUse use = read_host_use();
    EXPECT_GT(use.mappings, 5U);
    EXPECT_GT(use.address_space, 1U << 20);
    EXPECT_TRUE(LimitSource::host().folder("/no/such/folder").empty());
    EXPECT_FALSE(LimitSource::host().file("/no/such/file"));
}

TEST(HostLimits, SizesInWords) {
    EXPECT_EQ(size_text(100), "100 bytes");
    EXPECT_EQ(size_text(1024), "1 KiB");
    EXPECT_EQ(size_text(1500), "1 KiB");
    EXPECT_EQ(size_text(5 << 20), "5 MiB");
    EXPECT_EQ(size_text((5 << 20) + 1024), "5121 KiB");
    EXPECT_EQ(size_text(7ULL << 30), "7 GiB");
    EXPECT_EQ(size_text(kUnlimited), "unlimited");
    EXPECT_EQ(count_text(kUnlimited), "unlimited");
}

}  // namespace
}  // namespace sanpoll::engine
