#include "engine/host_limits.hpp"

#include <dirent.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <memory>

#include "engine/log.hpp"

namespace sanpoll::engine {

namespace {

// ---- the host ---------------------------------------------------------------------------------------

class Host final : public LimitSource {
public:
    [[nodiscard]] std::optional<std::string> file(const std::string& path) const override {
        const std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(std::fopen(path.c_str(), "re"),
                                                                     &std::fclose);
        if (stream == nullptr) {
            return std::nullopt;
        }
        std::string text;
        char part[4096];
        for (std::size_t got = 0; (got = std::fread(part, 1, sizeof(part), stream.get())) != 0;) {
            text.append(part, got);
        }
        return text;
    }
    [[nodiscard]] std::vector<std::string> folder(const std::string& path) const override {
        std::vector<std::string> names;
        const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(path.c_str()), &::closedir);
        if (open != nullptr) {
            while (const dirent* entry = ::readdir(open.get())) {
                if (entry->d_name[0] != '.') {
                    names.emplace_back(entry->d_name);
                }
            }
        }
        std::sort(names.begin(), names.end());
        return names;
    }
    [[nodiscard]] ResourceLimit resource(int resource) const override {
        rlimit limit{};
        if (::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) != 0) {
            return {};
        }
        const auto value = [](rlim_t number) {
            return number == RLIM_INFINITY ? kUnlimited : static_cast<std::uint64_t>(number);
        };
        return {value(limit.rlim_cur), value(limit.rlim_max)};
    }
};

// ---- reading ----------------------------------------------------------------------------------------

std::optional<std::uint64_t> number_in(std::string_view text) {
    const std::size_t start = text.find_first_not_of(" \t");
    std::uint64_t value = 0;
    if (start == std::string_view::npos ||
        std::from_chars(text.data() + start, text.data() + text.size(), value).ec != std::errc{}) {
        return std::nullopt;
    }
    return value;
}

std::optional<std::uint64_t> number_of(const LimitSource& source, const std::string& path) {
    const auto text = source.file(path);
    return text ? number_in(*text) : std::nullopt;
}

// "name: 123 kB" somewhere in the text, in bytes.
std::uint64_t kilobytes_of(std::string_view text, std::string_view name) {
    const std::size_t found = text.find(name);
    if (found == std::string_view::npos) {
        return 0;
    }
    return number_in(text.substr(found + name.size())).value_or(0) * 1024;
}

// The process' folder below the root of the unified hierarchy, or of an old one with this controller:
// lines "0::/a/b" and "5:memory:/a/b". Empty: none.
std::string group_of(std::string_view groups, std::string_view controller) {
    for (std::size_t start = 0; start < groups.size();) {
        const std::size_t end = std::min(groups.find('\n', start), groups.size());
        const std::string_view line = groups.substr(start, end - start);
        start = end + 1;
        const std::size_t first = line.find(':');
        const std::size_t second =
            first == std::string_view::npos ? first : line.find(':', first + 1);
        if (second == std::string_view::npos) {
            continue;
        }
        const std::string kinds =
            "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
        const bool wanted = controller.empty() ? line.starts_with("0::")
                                               : kinds.find("," + std::string(controller) + ",") !=
                                                     std::string::npos;
        if (wanted) {
            return std::string(line.substr(second + 1));
        }
    }
    return {};
}

// Every group on the way to the root has its say. In a container the path may lead outside of what is mounted;
// then the mount's own root is the process' group.
GroupLimit strictest(const LimitSource& source, const std::string& mount, std::string group,
                     const std::string& limit_name, const std::string& use_name) {
    GroupLimit result;
    for (;;) {
        const std::string folder = mount + (group == "/" ? "" : group) + "/";
        const auto limit = number_of(source, folder + limit_name);
        // Old hierarchies say "unlimited" by a number near 2^63.
        if (limit && *limit < result.limit && *limit < (std::uint64_t{1} << 62)) {
            result = {*limit, number_of(source, folder + use_name).value_or(0),
                      folder + limit_name};
        }
        if (group.empty() || group == "/") {
            return result;
        }
        group.resize(group.find_last_of('/') == std::string::npos ? 0 : group.find_last_of('/'));
    }
}

GroupLimit group_limit(const LimitSource& source, const std::string& controller,
                       const std::string& limit_name, const std::string& use_name,
                       const std::string& old_limit_name, const std::string& old_use_name) {
    const std::string groups = source.file("/proc/self/cgroup").value_or("");
    GroupLimit now =
        strictest(source, "/sys/fs/cgroup", group_of(groups, ""), limit_name, use_name);
    if (const std::string old = group_of(groups, controller); !old.empty()) {
        const GroupLimit before =
            strictest(source, "/sys/fs/cgroup/" + controller, old, old_limit_name, old_use_name);
        if (before.limit < now.limit) {
            now = before;
        }
    }
    return now;
}

void read_hugepages(const LimitSource& source, const std::string& folder, int node,
                    std::vector<HugepagePool>& pools) {
    constexpr std::string_view kPrefix = "hugepages-";
    for (const std::string& name : source.folder(folder)) {
        if (!name.starts_with(kPrefix)) {
            continue;
        }
        HugepagePool pool;
        pool.page_bytes =
            number_in(std::string_view(name).substr(kPrefix.size())).value_or(0) * 1024;
        pool.node = node;
        const std::string path = formatted("{}/{}", folder, name);
        pool.total = number_of(source, path + "/nr_hugepages").value_or(0);
        pool.free = number_of(source, path + "/free_hugepages").value_or(0);
        pool.promised = number_of(source, path + "/resv_hugepages").value_or(0);
        if (pool.page_bytes != 0) {
            pools.push_back(pool);
        }
    }
}

}  // namespace

const LimitSource& LimitSource::host() {
    static const Host host;
    return host;
}

HostLimits read_resource_limits(const LimitSource& source) {
    HostLimits limits;
    limits.locked_memory = source.resource(RLIMIT_MEMLOCK);
    limits.open_files = source.resource(RLIMIT_NOFILE);
    limits.tasks = source.resource(RLIMIT_NPROC);
    limits.address_space = source.resource(RLIMIT_AS);
    return limits;
}

HostLimits read_host_limits(const LimitSource& source) {
    HostLimits limits = read_resource_limits(source);
    limits.mappings = number_of(source, "/proc/sys/vm/max_map_count").value_or(kUnlimited);
    limits.host_files = number_of(source, "/proc/sys/fs/file-max").value_or(kUnlimited);
    limits.overcommit_refused =
        number_of(source, "/proc/sys/vm/overcommit_memory").value_or(0) == 2;
    limits.group_memory = group_limit(source, "memory", "memory.max", "memory.current",
                                      "memory.limit_in_bytes", "memory.usage_in_bytes");
    limits.group_tasks =
        group_limit(source, "pids", "pids.max", "pids.current", "pids.max", "pids.current");
    read_hugepages(source, "/sys/kernel/mm/hugepages", -1, limits.hugepages);
    const std::string nodes = "/sys/devices/system/node";
    for (const std::string& name : source.folder(nodes)) {
        if (const auto node = name.starts_with("node") ? number_in(std::string_view(name).substr(4))
                                                       : std::nullopt) {
            read_hugepages(source, formatted("{}/{}/hugepages", nodes, name),
                           static_cast<int>(*node), limits.hugepages);
        }
    }
    std::stable_sort(limits.hugepages.begin(), limits.hugepages.end(),
                     [](const HugepagePool& one, const HugepagePool& other) {
                         return std::pair(one.page_bytes, one.node) <
                                std::pair(other.page_bytes, other.node);
                     });
    return limits;
}

HostUse read_host_use(const LimitSource& source) {
    HostUse use;
    const std::string maps = source.file("/proc/self/maps").value_or("");
    use.mappings = static_cast<std::uint64_t>(std::count(maps.begin(), maps.end(), '\n'));
    const std::string status = source.file("/proc/self/status").value_or("");
    use.pinned_bytes = kilobytes_of(status, "VmPin:") + kilobytes_of(status, "VmLck:");
    use.address_space = kilobytes_of(status, "VmSize:");
    return use;
}

// ---- in words ---------------------------------------------------------------------------------------

std::string size_text(std::uint64_t bytes) {
    if (bytes == kUnlimited) {
        return "unlimited";
    }
    constexpr std::pair<std::uint64_t, std::string_view> kUnits[] = {
        {1ULL << 30, "GiB"}, {1ULL << 20, "MiB"}, {1ULL << 10, "KiB"}};
    for (const auto& [unit, name] : kUnits) {
        if (bytes >= unit && bytes % unit == 0) {
            return formatted("{} {}", bytes / unit, name);
        }
    }
    return bytes >= 1024 ? formatted("{} KiB", bytes / 1024) : formatted("{} bytes", bytes);
}

std::string count_text(std::uint64_t count) {
    return count == kUnlimited ? "unlimited" : std::to_string(count);
}

std::vector<std::pair<std::string, std::string>> described(const HostLimits& limits) {
    std::vector<std::pair<std::string, std::string>> lines;
    const auto soft_and_hard = [](const ResourceLimit& limit, std::string (*text)(std::uint64_t)) {
        return limit.soft == limit.hard
                   ? text(limit.soft)
                   : formatted("{} (may be raised to {})", text(limit.soft), text(limit.hard));
    };
    lines.emplace_back("RLIMIT_MEMLOCK", soft_and_hard(limits.locked_memory, size_text));
    lines.emplace_back("RLIMIT_NOFILE", soft_and_hard(limits.open_files, count_text));
    lines.emplace_back("RLIMIT_NPROC", soft_and_hard(limits.tasks, count_text));
    lines.emplace_back("RLIMIT_AS", soft_and_hard(limits.address_space, size_text));
    lines.emplace_back("vm.max_map_count", count_text(limits.mappings));
    lines.emplace_back("vm.overcommit_memory", limits.overcommit_refused ? "2" : "0 or 1");
    const auto group = [&lines](std::string name, const GroupLimit& limit,
                                std::string (*text)(std::uint64_t)) {
        lines.emplace_back(std::move(name), limit.limit == kUnlimited
                                                ? "unlimited"
                                                : formatted("{}, {} used ({})", text(limit.limit),
                                                            text(limit.used), limit.file));
    };
    group("control group's memory", limits.group_memory, size_text);
    group("control group's tasks", limits.group_tasks, count_text);
    for (const HugepagePool& pool : limits.hugepages) {
        lines.emplace_back(pool.node < 0 ? formatted("hugepages of {}", size_text(pool.page_bytes))
                                         : formatted("hugepages of {}, node {}",
                                                     size_text(pool.page_bytes), pool.node),
                           pool.node < 0 ? formatted("{} free of {}, {} of them promised",
                                                     pool.free, pool.total, pool.promised)
                                         : formatted("{} free of {}", pool.free, pool.total));
    }
    return lines;
}

std::vector<std::string> too_low(const HostLimits& limits) {
    // The engine has some 12 descriptors, a peer process takes 3 more, a listening port 1.
    constexpr std::uint64_t kFewFiles = 64;
    std::vector<std::string> lines;
    if (limits.open_files.soft < kFewFiles) {
        lines.push_back(
            formatted("this process may have {} open files (RLIMIT_NOFILE), of which the provider "
                      "takes about 12, and 3 for each process that it is connected with; raise "
                      "that: 'ulimit -n 1024'",
                      limits.open_files.soft));
    }
    return lines;
}

}  // namespace sanpoll::engine
