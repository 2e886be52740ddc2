#include "engine/limit_error.hpp"

#include <system_error>

#include "engine/log.hpp"

namespace sanpoll::engine {

namespace {

// A mapping needs up to two entries, and others may have ended since the refusal.
constexpr std::uint64_t kMappingMargin = 16;

std::string text_of(int error) { return std::generic_category().message(error); }

// "8 MiB", and by whom it may be raised.
std::string value_of(const ResourceLimit& limit, std::string (*text)(std::uint64_t)) {
    return limit.soft < limit.hard ? formatted("{}, up to {} without further rights",
                                               text(limit.soft), text(limit.hard))
                                   : text(limit.soft);
}

// A number that is surely enough: twice as much, or what there may be.
std::uint64_t more_than(std::uint64_t limit) {
    return limit < (kUnlimited >> 1) ? 2 * limit : limit;
}

}  // namespace

std::string descriptor_error(std::string_view what, int error, const LimitSource& source) {
    const HostLimits limits = read_host_limits(source);
    switch (error) {
        case EMFILE:
            return formatted(
                "no descriptor is left for {}: this process may have {} open files (RLIMIT_NOFILE: "
                "{}). Raise that: 'ulimit -n {}', LimitNOFILE= in a systemd unit, or nofile in "
                "/etc/security/limits.conf",
                what, count_text(limits.open_files.soft), value_of(limits.open_files, count_text),
                count_text(more_than(limits.open_files.soft)));
        case ENFILE:
            return formatted(
                "no descriptor is left for {}: the host has all of its {} open files. Raise that: "
                "sysctl fs.file-max={}",
                what, count_text(limits.host_files), count_text(more_than(limits.host_files)));
        case ENOMEM:
        case ENOBUFS:
            return memory_error(what, 0, ENOMEM, source);
        case ENOSPC:
            // epoll's answer.
            return formatted(
                "the kernel watches no further descriptor for {}: raise fs.epoll.max_user_watches "
                "(sysctl)",
                what);
        default:
            return formatted("the system gives no descriptor for {}: {}", what, text_of(error));
    }
}

std::string memory_error(std::string_view what, std::uint64_t bytes, int error,
                         const LimitSource& source) {
    if (no_descriptors(error)) {
        return descriptor_error(what, error, source);
    }
    const std::string wanted =
        bytes == 0 ? std::string(what) : formatted("{} ({})", what, size_text(bytes));
    if (error == EAGAIN) {
        const std::string limit = lock_limit_text(source);
        return formatted("no memory for {}: {}", wanted,
                         limit.empty()
                             ? text_of(error)
                             : "this process has its memory locked (mlockall), and " + limit);
    }
    if (error != ENOMEM) {
        return formatted("no memory for {}: {}", wanted, text_of(error));
    }
    const HostLimits limits = read_host_limits(source);
    const HostUse use = read_host_use(source);
    if (limits.mappings != kUnlimited && use.mappings + kMappingMargin >= limits.mappings) {
        return formatted(
            "no memory for {}: this process has {} mappings and may have {} (vm.max_map_count). "
            "Raise that: sysctl vm.max_map_count={}",
            wanted, use.mappings, limits.mappings, more_than(limits.mappings));
    }
    if (limits.address_space.soft != kUnlimited &&
        use.address_space + bytes >= limits.address_space.soft) {
        return formatted(
            "no memory for {}: this process has {} of address space and may have {} (RLIMIT_AS: "
            "{}). Raise that: 'ulimit -v unlimited', or LimitAS=infinity in a systemd unit",
            wanted, size_text(use.address_space), size_text(limits.address_space.soft),
            value_of(limits.address_space, size_text));
    }
    if (limits.group_memory.limit != kUnlimited &&
        limits.group_memory.used + bytes >= limits.group_memory.limit) {
        return formatted(
            "no memory for {}: the control group has {} and may have {} ({}). Raise that, for "
            "example by MemoryMax= in a systemd unit or the container's memory limit",
            wanted, size_text(limits.group_memory.used), size_text(limits.group_memory.limit),
            limits.group_memory.file);
    }
    if (limits.overcommit_refused) {
        return formatted(
            "no memory for {}: the kernel promises no more than it has (vm.overcommit_memory = 2). "
            "Set that to 0, or raise vm.overcommit_ratio (sysctl)",
            wanted);
    }
    return formatted("no memory for {}: the host is short of it (see /proc/meminfo and dmesg)",
                     wanted);
}

std::string thread_error(std::string_view what, int error, const LimitSource& source) {
    if (error != EAGAIN) {
        return formatted("cannot start {}: {}", what, text_of(error));
    }
    const HostLimits limits = read_host_limits(source);
    if (limits.group_tasks.limit != kUnlimited &&
        limits.group_tasks.used + 1 >= limits.group_tasks.limit) {
        return formatted(
            "cannot start {}: the control group has {} tasks and may have {} ({}). Raise that, for "
            "example by TasksMax= in a systemd unit",
            what, limits.group_tasks.used, limits.group_tasks.limit, limits.group_tasks.file);
    }
    if (limits.tasks.soft != kUnlimited) {
        return formatted(
            "cannot start {}: this user may have {} processes and threads (RLIMIT_NPROC: {}). "
            "Raise that: 'ulimit -u {}', LimitNPROC= in a systemd unit, or nproc in "
            "/etc/security/limits.conf",
            what, limits.tasks.soft, value_of(limits.tasks, count_text),
            count_text(more_than(limits.tasks.soft)));
    }
    return formatted(
        "cannot start {}: the host has as many threads as it may have (sysctl kernel.threads-max, "
        "kernel.pid_max)",
        what);
}

std::string lock_limit_text(const LimitSource& source) {
    const HostLimits limits = read_host_limits(source);
    if (limits.locked_memory.soft == kUnlimited) {
        return {};
    }
    return formatted(
        "the process may lock {} in all (RLIMIT_MEMLOCK) and has locked {}. Raise that: 'ulimit -l "
        "unlimited', LimitMEMLOCK=infinity in a systemd unit, or memlock in "
        "/etc/security/limits.conf",
        size_text(limits.locked_memory.soft), size_text(read_host_use(source).pinned_bytes));
}

}  // namespace sanpoll::engine
