#include "engine/eal.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/engine/core_bench.hpp"

namespace sanpoll::engine {
namespace {

using tests::dedicated_config;
using tests::last_cpu;

// Adopting pins the thread, so each adoption is made by a thread of its own.
std::string adopt(const Config& config, int cpu) {
    std::string error;
    std::thread([&] {
        error = eal::adopt_this_thread(config, cpu);
        if (error.empty()) {
            EXPECT_EQ(::sched_getcpu(), cpu);
            eal::release_this_thread();
        }
    }).join();
    return error;
}

TEST(Eal, AdoptsAThreadWithoutHugepages) {
    EXPECT_EQ(adopt(dedicated_config(), static_cast<int>(last_cpu())), "");
    EXPECT_EQ(eal::state(), "ordinary pages");
}

TEST(Eal, AdoptsAgainInTheSameProcess) {
    for (int i = 0; i < 10; ++i) {
        ASSERT_EQ(adopt(dedicated_config(), static_cast<int>(last_cpu())), "") << i;
    }
}

TEST(Eal, AdoptsSeveralThreadsAtOnce) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([] {
            EXPECT_EQ(eal::adopt_this_thread(dedicated_config(), static_cast<int>(last_cpu())), "");
            eal::release_this_thread();
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST(Eal, LeavesTheCallersOfTheProcessUnpinned) {
    cpu_set_t before;
    cpu_set_t after;
    ASSERT_EQ(::sched_getaffinity(0, sizeof(before), &before), 0);
    ASSERT_EQ(adopt(dedicated_config(), static_cast<int>(last_cpu())), "");
    ASSERT_EQ(::sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(Eal, AnImpossibleCpuIsRefusedWithTheRemedy) {
    const std::string error = adopt(dedicated_config(), CPU_SETSIZE - 1);
    EXPECT_NE(error.find(std::to_string(CPU_SETSIZE - 1)), std::string::npos) << error;
    EXPECT_NE(error.find("SANPOLL_CORES"), std::string::npos) << error;
}

TEST(Eal, ARefusalDoesNotSpoilTheNextAdoption) {
    ASSERT_NE(adopt(dedicated_config(), CPU_SETSIZE - 1), "");
    EXPECT_EQ(adopt(dedicated_config(), static_cast<int>(last_cpu())), "");
}

TEST(Eal, RequiredHugepagesThatAreNotFreeAreNamedWithTheRemedy) {
    // In a process of its own: a failed start is remembered.
    const pid_t child = ::fork();
    if (child == 0) {
        Config config = dedicated_config();
        config.hugepages = Hugepages::kRequired;
        config.eal_memory_mb = 65536;  // 64 GiB of hugepages
        const std::string error = eal::state() == "not started"
                                      ? adopt(config, static_cast<int>(last_cpu()))
                                      : "vm.nr_hugepages SANPOLL_HUGEPAGES=auto";
        const bool helpful = error.find("vm.nr_hugepages") != std::string::npos &&
                             error.find("SANPOLL_HUGEPAGES=auto") != std::string::npos;
        ::_exit(error.empty() ? 2 : (helpful ? 0 : 1));
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_NE(WEXITSTATUS(status), 1) << "the message names no remedy";
}

}  // namespace
}  // namespace sanpoll::engine
