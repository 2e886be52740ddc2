#include "engine/fabric/verbs/registration_error.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <system_error>

#include "engine/log.hpp"

namespace sanpoll::engine::verbs {
namespace {

// The limit as people write it; empty if there is none.
std::string lock_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return {};
    }
    return fmt::format("{} KiB", limit.rlim_cur / 1024);
}

}  // namespace

RegistrationError explain_registration(int error, std::uint64_t length, const std::string& name) {
    switch (error) {
        case EFAULT:
        case EINVAL:
        case EACCES:
            return {
                Status::kBadRegion,
                fmt::format("the RDMA device {} cannot reach {} bytes of memory as wanted ({}): "
                            "register memory that is mapped, and writable if it is to be written",
                            name, length, std::generic_category().message(error))};
        case ENODEV:
        case EIO:
            return {Status::kNotOpen, fmt::format("the RDMA device {} is gone", name)};
        default:
            break;
    }
    // EPERM: the kernel's answer where nothing at all may be locked.
    if (const std::string limit = lock_limit(); !limit.empty()) {
        return {Status::kNoMemory,
                fmt::format(
                    "{} bytes of memory cannot be pinned for the RDMA device {} ({}): the process "
                    "may lock {} in all (RLIMIT_MEMLOCK). Raise that: 'ulimit -l unlimited', "
                    "LimitMEMLOCK=infinity in a systemd unit, or memlock in "
                    "/etc/security/limits.conf",
                    length, name, std::generic_category().message(error), limit)};
    }
    return {Status::kNoMemory,
            fmt::format(
                "the RDMA device {} takes no more memory, {} bytes now ({}): register fewer and "
                "larger regions, or close connections ('ibv_devinfo -v' tells max_mr, 'rdma "
                "resource' what is in use)",
                name, length, std::generic_category().message(error))};
}

void tell_registration(const RegistrationError& error) {
    static std::atomic<bool> told{false};  // orders nothing
    if (error.status == Status::kNoMemory && !told.exchange(true, std::memory_order_relaxed)) {
        log(LogLevel::kWarn, "{}", error.text);
    }
}

}  // namespace sanpoll::engine::verbs
