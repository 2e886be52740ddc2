// Which CPUs this process may use, how they lie to each other, and which two a benchmark should take.
//
// What /sys tells is what the (virtual) machine claims; a host may move virtual CPUs about at any time. So this
// is only for choosing; bench/handoff.hpp measures what the choice is worth at the moment.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sanpoll::bench {

// One CPU as /sys/devices/system/cpu describes it; -1 or empty where it says nothing.
struct CpuTopology {
    int cpu = 0;
    int package = -1;
    int core = -1;  // number of the physical core within its package
    std::string
        last_level;  // CPUs that share the last-level cache, as the kernel's list; equal text = same cache
};

// The CPUs that the calling thread may run on, ascending. Never empty.
std::vector<int> allowed_cpus();

std::vector<CpuTopology> read_topology(const std::vector<int>& cpus,
                                       const std::string& root = "/sys/devices/system/cpu");

struct CpuChoice {
    int server = 0;
    int client = 0;
    std::string why;  // one clause for people, such as "distinct cores of one L3 cache"
};

// Two CPUs for two spinning threads. Preferred in this order: distinct cores below one last-level cache, distinct
// cores, two hardware threads of one core, one CPU for both. Between equals CPU 0 comes last, because
// most hosts serve their interrupts there.
CpuChoice choose_pair(const std::vector<CpuTopology>& topology);

// The same description for a pair that somebody else chose.
std::string describe_pair(const std::vector<CpuTopology>& topology, int a, int b);

// Binds the calling thread to one CPU. False if the system refuses.
bool pin_this_thread(int cpu) noexcept;

// "0,2-4" -> {0,2,3,4}; nothing if the text is not such a list.
std::optional<std::vector<int>> parse_cpu_list(const std::string& text);

std::string format_cpu_list(const std::vector<int>& cpus);

}  // namespace sanpoll::bench
