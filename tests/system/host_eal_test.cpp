// A host process that runs DPDK's EAL of its own keeps it: the one inside the library is another, even
// when both run polling cores' work in one process.
#include <gtest/gtest.h>
#include <rte_config.h>  // before any other of DPDK's
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <sched.h>
#include <unistd.h>

#include <cstring>
#include <set>

#include "tests/system/process_state.hpp"
#include "tests/system/steady_connection.hpp"

namespace sanpoll::system_test {
namespace {

const std::atomic<std::uint32_t> never{0};

std::string cpus_of_this_thread() {
    cpu_set_t set;
    CPU_ZERO(&set);
    ::sched_getaffinity(0, sizeof(set), &set);
    std::string list;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &set)) {
            list += (list.empty() ? "" : ",") + std::to_string(cpu);
        }
    }
    return list;
}

/// What the host can tell of its EAL.
struct HostEal {
    unsigned lcores = ::rte_lcore_count();
    unsigned main_lcore = ::rte_get_main_lcore();
    unsigned own_lcore = ::rte_lcore_id();
    bool hugepages = ::rte_eal_has_hugepages() != 0;
    std::string cpus = cpus_of_this_thread();

    bool operator==(const HostEal&) const = default;
};

void expect_heap_works() {
    void* memory = ::rte_malloc("host", 4096, 64);
    ASSERT_NE(memory, nullptr);
    std::memset(memory, 1, 4096);
    ::rte_free(memory);
}

TEST(HostEal, StaysTheHostsOwn) {
    std::string lcores = "0@(" + cpus_of_this_thread() + ")";
    std::string options[] = {"host", "--no-huge", "--no-shconf",       "--no-pci", "--no-telemetry",
                             "-m",   "64",        "--log-level=error", "--lcores", lcores};
    std::vector<char*> arguments;
    for (std::string& option : options) {
        arguments.push_back(option.data());
    }
    arguments.push_back(nullptr);
    ASSERT_GE(::rte_eal_init(static_cast<int>(std::size(options)), arguments.data()), 0)
        << ::rte_strerror(rte_errno);
    const HostEal before;
    void* held = ::rte_malloc("host", 4096, 64);
    ASSERT_NE(held, nullptr);
    std::memset(held, 0x5A, 4096);
    {
        const auto provider = load_provider({{"SANPOLL_MODE", "dedicated"}});
        EXPECT_NE(thread_named(::getpid(), "sanpoll-core"), 0);
        const Listener listener(*provider);
        const auto [one, other] = connected_pair(*provider, listener);
        SteadyConnection leading(*provider, one, never);
        SteadyConnection following(*provider, other, never);
        lead_and_follow(Pattern::kOneWay, leading, following, 10'000);
        EXPECT_TRUE(HostEal{} == before);
        expect_heap_works();
    }
    EXPECT_TRUE(HostEal{} == before);
    expect_heap_works();
    EXPECT_EQ(std::string(static_cast<char*>(held), 4096), std::string(4096, 0x5A));
    ::rte_free(held);
    EXPECT_EQ(::rte_eal_cleanup(), 0);
}

}  // namespace
}  // namespace sanpoll::system_test
