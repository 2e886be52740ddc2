#include "engine/limit_error.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>

#include "tests/engine/fake_host.hpp"

namespace sanpoll::engine {
namespace {

using tests::FakeHost;

void expect_parts(const std::string& text, const std::vector<const char*>& parts) {
    for (const char* part : parts) {
        EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in: " << text;
    }
}

TEST(DescriptorError, OfTheProcess) {
    FakeHost host;
    host.resources[RLIMIT_NOFILE] = {1024, 4096};
    expect_parts(descriptor_error("a doorbell", EMFILE, host),
                 {"a doorbell", "1024 open files", "RLIMIT_NOFILE", "4096", "'ulimit -n 2048'",
                  "LimitNOFILE=", "limits.conf"});
}

TEST(DescriptorError, OfTheHost) {
    FakeHost host;
    host.files["/proc/sys/fs/file-max"] = "500\n";
    expect_parts(descriptor_error("a doorbell", ENFILE, host),
                 {"a doorbell", "500", "sysctl fs.file-max=1000"});
}

TEST(DescriptorError, OfSomethingElse) {
    const FakeHost host;
    expect_parts(descriptor_error("a doorbell", ENOSPC, host),
                 {"a doorbell", "fs.epoll.max_user_watches"});
    expect_parts(descriptor_error("a doorbell", EPERM, host), {"a doorbell", "not permitted"});
    expect_parts(descriptor_error("a doorbell", ENOBUFS, host), {"a doorbell", "short of it"});
}

TEST(DescriptorError, WhichErrnosAreThat) {
    EXPECT_TRUE(no_descriptors(EMFILE));
    EXPECT_TRUE(no_descriptors(ENFILE));
    EXPECT_FALSE(no_descriptors(ENOMEM));
}

TEST(MemoryError, TooManyMappings) {
    FakeHost host;
    host.files["/proc/sys/vm/max_map_count"] = "100\n";
    for (int i = 0; i < 90; ++i) {
        host.files["/proc/self/maps"] += "a mapping\n";
    }
    expect_parts(memory_error("a link", 4 << 20, ENOMEM, host),
                 {"a link (4 MiB)", "90 mappings", "100", "sysctl vm.max_map_count=200"});
}

TEST(MemoryError, TooLittleAddressSpace) {
    FakeHost host;
    host.resources[RLIMIT_AS] = {64 << 20, 64 << 20};
    host.files["/proc/self/status"] = "VmSize:\t 63488 kB\n";
    expect_parts(memory_error("a link", 4 << 20, ENOMEM, host),
                 {"a link (4 MiB)", "62 MiB", "64 MiB", "RLIMIT_AS", "ulimit -v unlimited"});
    expect_parts(memory_error("a link", 1 << 20, ENOMEM, host), {"the host is short of it"});
}

TEST(MemoryError, AFullControlGroup) {
    FakeHost host;
    host.files["/proc/self/cgroup"] = "0::/box\n";
    host.files["/sys/fs/cgroup/box/memory.max"] = "1048576\n";
    host.files["/sys/fs/cgroup/box/memory.current"] = "1044480\n";
    expect_parts(
        memory_error("a link", 4096, ENOMEM, host),
        {"a link (4 KiB)", "1020 KiB", "1 MiB", "/sys/fs/cgroup/box/memory.max", "MemoryMax="});
}

TEST(MemoryError, AKernelThatDoesNotOvercommit) {
    FakeHost host;
    host.files["/proc/sys/vm/overcommit_memory"] = "2\n";
    expect_parts(memory_error("a link", 4096, ENOMEM, host),
                 {"a link", "vm.overcommit_memory = 2", "vm.overcommit_ratio"});
}

TEST(MemoryError, LockedMemory) {
    FakeHost host;
    expect_parts(memory_error("a link", 4096, EAGAIN, host), {"a link (4 KiB)", "unavailable"});
    host.resources[RLIMIT_MEMLOCK] = {65536, 65536};
    host.files["/proc/self/status"] = "VmPin:\t 60 kB\n";
    expect_parts(memory_error("a link", 4096, EAGAIN, host),
                 {"a link", "mlockall", "64 KiB", "RLIMIT_MEMLOCK", "60 KiB", "ulimit -l"});
}

TEST(MemoryError, SomethingElse) {
    FakeHost host;
    expect_parts(memory_error("a link", 0, EPERM, host), {"a link: ", "not permitted"});
    host.resources[RLIMIT_NOFILE] = {10, 10};
    expect_parts(memory_error("a link", 0, EMFILE, host), {"RLIMIT_NOFILE"});
}

TEST(ThreadError, NamesWhatBinds) {
    FakeHost host;
    expect_parts(thread_error("the notifier thread", EAGAIN, host),
                 {"the notifier thread", "kernel.threads-max"});
    host.resources[RLIMIT_NPROC] = {100, 200};
    expect_parts(
        thread_error("the notifier thread", EAGAIN, host),
        {"the notifier thread", "100", "RLIMIT_NPROC", "200", "'ulimit -u 200'", "LimitNPROC="});
    host.files["/proc/self/cgroup"] = "0::/box\n";
    host.files["/sys/fs/cgroup/box/pids.max"] = "5\n";
    host.files["/sys/fs/cgroup/box/pids.current"] = "5\n";
    expect_parts(thread_error("the notifier thread", EAGAIN, host),
                 {"5 tasks", "/sys/fs/cgroup/box/pids.max", "TasksMax="});
    expect_parts(thread_error("the notifier thread", EPERM, host), {"not permitted"});
}

TEST(LockLimit, IsNamedWithWhatIsLocked) {
    FakeHost host;
    EXPECT_EQ(lock_limit_text(host), "");
    host.resources[RLIMIT_MEMLOCK] = {8 << 20, kUnlimited};
    host.files["/proc/self/status"] = "VmLck:\t 1024 kB\nVmPin:\t 2048 kB\n";
    expect_parts(lock_limit_text(host), {"8 MiB", "RLIMIT_MEMLOCK", "3 MiB", "ulimit -l unlimited",
                                         "LimitMEMLOCK=infinity", "limits.conf"});
}

}  // namespace
}  // namespace sanpoll::engine
