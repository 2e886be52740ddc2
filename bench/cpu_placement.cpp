#include "bench/cpu_placement.hpp"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <thread>
#include <tuple>

namespace sanpoll::bench {
namespace {

std::string first_line(const std::filesystem::path& file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    return line;
}

int number_in(const std::filesystem::path& file) {
    const std::string text = first_line(file);
    int value = -1;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
}

// The sharers of the highest cache level that the CPU has; L3 on most hosts, but some stop at L2.
std::string last_level_sharers(const std::filesystem::path& cpu_dir) {
    std::error_code error;
    std::string sharers;
    int best_level = 0;
    for (std::filesystem::directory_iterator it(cpu_dir / "cache", error), end; !error && it != end;
         it.increment(error)) {
        const int level = number_in(it->path() / "level");
        if (level > best_level) {
            best_level = level;
            sharers = first_line(it->path() / "shared_cpu_list");
        }
    }
    return sharers;
}

bool same_core(const CpuTopology& a, const CpuTopology& b) {
    return a.core >= 0 && a.core == b.core && a.package == b.package;
}

bool same_cache(const CpuTopology& a, const CpuTopology& b) {
    return !a.last_level.empty() && a.last_level == b.last_level;
}

// Lower is better; the order of the contract.
int pair_rank(const CpuTopology& a, const CpuTopology& b) {
    if (same_core(a, b)) return 2;
    return same_cache(a, b) ? 0 : 1;
}

std::string clause(const CpuTopology& a, const CpuTopology& b) {
    if (a.cpu == b.cpu) return "one CPU for both ends, so they take turns on it";
    if (same_core(a, b)) return "two hardware threads of one core";
    if (same_cache(a, b)) return "distinct cores of one last-level cache";
    if (a.core < 0 || b.core < 0) return "the system tells nothing about how they lie";
    return "distinct cores of different last-level caches";
}

}  // namespace

std::vector<int> allowed_cpus() {
    // The kernel refuses a set smaller than its own, so grow until it fits.
    for (int capacity = 1024; capacity <= 1 << 20; capacity *= 2) {
        cpu_set_t* set = CPU_ALLOC(capacity);
        const std::size_t bytes = CPU_ALLOC_SIZE(capacity);
        CPU_ZERO_S(bytes, set);
        std::vector<int> cpus;
        if (sched_getaffinity(0, bytes, set) == 0) {
            for (int cpu = 0; cpu < capacity; ++cpu) {
                if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, set)) cpus.push_back(cpu);
            }
        }
        CPU_FREE(set);
        if (!cpus.empty()) return cpus;
    }
    return {0};
}

std::vector<CpuTopology> read_topology(const std::vector<int>& cpus, const std::string& root) {
    std::vector<CpuTopology> topology;
    for (const int cpu : cpus) {
        const auto dir = std::filesystem::path(root) / ("cpu" + std::to_string(cpu));
        topology.push_back({cpu, number_in(dir / "topology" / "physical_package_id"),
                            number_in(dir / "topology" / "core_id"), last_level_sharers(dir)});
    }
    return topology;
}

CpuChoice choose_pair(const std::vector<CpuTopology>& topology) {
    if (topology.empty()) return {0, 0, "the system names no CPU"};
    const CpuTopology* best_a = &topology.front();
    const CpuTopology* best_b = &topology.front();
    auto best = std::tuple(3, true);
    for (std::size_t i = 0; i < topology.size(); ++i) {
        for (std::size_t j = i + 1; j < topology.size(); ++j) {
            const auto rank = std::tuple(pair_rank(topology[i], topology[j]), topology[i].cpu == 0);
            if (rank < best) {
                best = rank;
                best_a = &topology[i];
                best_b = &topology[j];
            }
        }
    }
    return {best_a->cpu, best_b->cpu, clause(*best_a, *best_b)};
}

std::string describe_pair(const std::vector<CpuTopology>& topology, int a, int b) {
    const auto find = [&](int cpu) {
        return std::find_if(topology.begin(), topology.end(),
                            [&](const CpuTopology& t) { return t.cpu == cpu; });
    };
    const auto first = find(a);
    const auto second = find(b);
    if (first == topology.end() || second == topology.end())
        return "the system tells nothing about how they lie";
    return clause(*first, *second);
}

bool pin_this_thread(int cpu) noexcept {
    if (cpu < 0) return false;
    const int capacity = std::max(1024, cpu + 1);
    cpu_set_t* set = CPU_ALLOC(capacity);
    if (set == nullptr) return false;
    const std::size_t bytes = CPU_ALLOC_SIZE(capacity);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S(static_cast<std::size_t>(cpu), bytes, set);
    const bool pinned = sched_setaffinity(0, bytes, set) == 0;
    CPU_FREE(set);
    return pinned;
}

std::optional<std::vector<int>> parse_cpu_list(const std::string& text) {
    std::vector<int> cpus;
    const char* at = text.data();
    const char* const end = at + text.size();
    const auto number = [&](int& value) {
        const auto [next, error] = std::from_chars(at, end, value);
        if (error != std::errc{} || value < 0) return false;
        at = next;
        return true;
    };
    for (;;) {
        int first = 0;
        if (!number(first)) return std::nullopt;
        int last = first;
        if (at != end && *at == '-') {
            ++at;
            if (!number(last) || last < first || last - first > 4096) return std::nullopt;
        }
        for (int cpu = first; cpu <= last; ++cpu)
            cpus.push_back(cpu);
        if (at == end) return cpus;
        if (*at++ != ',') return std::nullopt;
    }
}

std::string format_cpu_list(const std::vector<int>& cpus) {
    std::string text;
    for (const int cpu : cpus) {
        if (!text.empty()) text += ',';
        text += std::to_string(cpu);
    }
    return text;
}

}  // namespace sanpoll::bench
