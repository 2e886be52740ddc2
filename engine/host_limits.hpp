// What the host and its administrator allow this process: limits that are met long after they were set, and then
// by an error that does not say which one it was.
//
// Threading: any thread but a polling core's (files of /proc and /sys are read: some 100 us). May throw
// std::bad_alloc. Nothing is kept: a limit may be changed while the process runs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sanpoll::engine {

inline constexpr std::uint64_t kUnlimited = UINT64_MAX;

struct ResourceLimit {
    std::uint64_t soft = kUnlimited;
    std::uint64_t hard = kUnlimited;
};

/// Where limits are read from: the host, or what a test says instead.
class LimitSource {
public:
    virtual ~LimitSource() = default;
    /// The text of a file. Nothing if it cannot be read, for want of a descriptor for example.
    [[nodiscard]] virtual std::optional<std::string> file(const std::string& path) const = 0;
    /// The names in a folder, sorted; none if it cannot be read.
    [[nodiscard]] virtual std::vector<std::string> folder(const std::string& path) const = 0;
    /// `resource`: RLIMIT_*.
    [[nodiscard]] virtual ResourceLimit resource(int resource) const = 0;

    [[nodiscard]] static const LimitSource& host();
};

/// A kind of hugepages, of the whole host or of one NUMA node. Numbers of pages.
struct HugepagePool {
    std::uint64_t page_bytes = 0;
    int node = -1;  // -1: the whole host
    std::uint64_t total = 0;
    std::uint64_t free = 0;
    std::uint64_t promised =
        0;  // of the free ones, to mappings that have not touched them (host only)
};

/// The strictest limit on the way from the process' control group to the root.
struct GroupLimit {
    std::uint64_t limit = kUnlimited;  // bytes, or tasks
    std::uint64_t used = 0;
    std::string file;  // the one to raise; empty where there is no limit
};

struct HostLimits {
    ResourceLimit locked_memory;            // RLIMIT_MEMLOCK, bytes
    ResourceLimit open_files;               // RLIMIT_NOFILE
    ResourceLimit tasks;                    // RLIMIT_NPROC, of the user
    ResourceLimit address_space;            // RLIMIT_AS, bytes
    std::uint64_t mappings = kUnlimited;    // vm.max_map_count
    std::uint64_t host_files = kUnlimited;  // fs.file-max
    bool overcommit_refused = false;        // vm.overcommit_memory = 2
    GroupLimit group_memory;                // memory.max
    GroupLimit group_tasks;                 // pids.max
    std::vector<HugepagePool> hugepages;    // by size, the host's before its nodes'
};

[[nodiscard]] HostLimits read_host_limits(const LimitSource& source = LimitSource::host());
/// Only the RLIMIT_*, which take a system call each and no file.
[[nodiscard]] HostLimits read_resource_limits(const LimitSource& source = LimitSource::host());

/// What this process has of some of that now; 0 what cannot be told.
struct HostUse {
    std::uint64_t mappings = 0;
    std::uint64_t pinned_bytes = 0;   // VmPin and VmLck
    std::uint64_t address_space = 0;  // VmSize, bytes
};

[[nodiscard]] HostUse read_host_use(const LimitSource& source = LimitSource::host());

/// Name and value of each, in words.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> described(const HostLimits& limits);

/// What is so low that something usual will meet it: each with its remedy.
[[nodiscard]] std::vector<std::string> too_low(const HostLimits& limits);

/// "8 MiB", "1234 KiB", "100 bytes", "unlimited".
[[nodiscard]] std::string size_text(std::uint64_t bytes);
/// The number, or "unlimited".
[[nodiscard]] std::string count_text(std::uint64_t count);

}  // namespace sanpoll::engine
