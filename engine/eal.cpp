#include "engine/eal.hpp"

#include <pthread.h>
#include <rte_config.h>  // before any other of DPDK's
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/limit_error.hpp"
#include "engine/log.hpp"
#include "engine/memory/hugepages.hpp"

namespace sanpoll::engine::eal {

namespace {

enum class State { kNotStarted, kOrdinaryPages, kHugepages, kFailed };

std::mutex mutex;
State current = State::kNotStarted;
std::string failure;

// "0@(0,1,5)": one EAL lcore that may run on every CPU that we may use, so that nothing is pinned.
std::string lcore_option() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    std::string list;
    if (::sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(cpu, &allowed)) {
                list += (list.empty() ? "" : ",") + std::to_string(cpu);
            }
        }
    }
    return "0@(" + (list.empty() ? "0" : list) + ")";
}

// A failed rte_eal_init is final for the process, so the host is looked at first and the mode chosen.
std::string start(const Config& config) {
    const std::uint64_t wanted_pages = (config.eal_memory_mb + 1) / 2;
    const std::uint64_t free_pages = memory::free_hugepages();
    bool huge = config.hugepages != Hugepages::kOff && free_pages >= wanted_pages;
    if (config.hugepages == Hugepages::kRequired && !huge) {
        return formatted(
            "hugepages = required, but {} of the {} 2 MiB pages that eal_memory_mb = {} takes are "
            "free; "
            "reserve them (sysctl vm.nr_hugepages={}) or set SANPOLL_HUGEPAGES=auto",
            free_pages, wanted_pages, config.eal_memory_mb, wanted_pages);
    }
    std::vector<std::string> options = {"sanpoll",
                                        "--no-pci",
                                        "--no-telemetry",
                                        "--log-level=error",
                                        "--lcores",
                                        lcore_option(),
                                        "-m",
                                        std::to_string(config.eal_memory_mb)};
    if (huge) {
        for (const char* option : {"--in-memory", "--iova-mode=va", "--single-file-segments"}) {
            options.emplace_back(option);
        }
    } else {
        options.emplace_back("--no-huge");
        options.emplace_back("--no-shconf");
    }
    std::vector<char*> arguments;
    arguments.reserve(options.size() + 1);
    for (std::string& option : options) {
        arguments.push_back(option.data());
    }
    arguments.push_back(nullptr);
    int result = -1;
    int error = 0;
    std::thread([&] {
        result = ::rte_eal_init(static_cast<int>(options.size()), arguments.data());
        error = rte_errno;
    }).join();
    if (result < 0) {
        const std::uint64_t bytes = std::uint64_t{config.eal_memory_mb} << 20;
        return formatted(
            "DPDK's environment layer did not start ({}); set SANPOLL_MODE=inline to run without "
            "it",
            error == ENOMEM || no_descriptors(error) ? memory_error("eal_memory_mb", bytes, error)
                                                     : std::string(std::strerror(error)));
    }
    current = huge ? State::kHugepages : State::kOrdinaryPages;
    log(LogLevel::kInfo, "DPDK's environment layer runs on {}",
        huge ? "hugepages" : "ordinary pages (no hugepages are free)");
    return {};
}

}  // namespace

std::string adopt_this_thread(const Config& config, int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(cpu), &set);
    if (const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);
        error != 0) {
        return formatted(
            "cannot pin a polling core on CPU {} ({}); choose an online CPU that this process may "
            "use "
            "(SANPOLL_CORES, see taskset -p and the cpuset of its cgroup)",
            cpu, std::strerror(error));
    }
    const std::lock_guard lock(mutex);
    if (current == State::kNotStarted) {
        failure = start(config);
        if (!failure.empty()) {
            current = State::kFailed;
        }
    }
    if (current == State::kFailed) {
        return failure;
    }
    if (::rte_thread_register() < 0) {
        return formatted("DPDK takes no further lcore ({}); use fewer polling cores",
                         std::strerror(rte_errno));
    }
    return {};
}

void release_this_thread() noexcept { ::rte_thread_unregister(); }

std::string state() {
    const std::lock_guard lock(mutex);
    switch (current) {
        case State::kNotStarted:
            return "not started";
        case State::kOrdinaryPages:
            return "ordinary pages";
        case State::kHugepages:
            return "hugepages";
        case State::kFailed:
            break;
    }
    return "failed";
}

}  // namespace sanpoll::engine::eal
