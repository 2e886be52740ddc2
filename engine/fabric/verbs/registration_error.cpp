#include "engine/fabric/verbs/registration_error.hpp"

#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <system_error>

#include "engine/fabric/verbs/device.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {

RegistrationError explain_registration(int error, std::uint64_t length, const std::string& name,
                                       const DeviceLimits* device, const LimitSource& source) {
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
    const std::string reason = std::generic_category().message(error);
    if (device != nullptr && device->max_region_bytes != 0 && length > device->max_region_bytes) {
        return {Status::kNoMemory,
                fmt::format("{} bytes are more than the RDMA device {} takes at once: {} "
                            "(max_mr_size); register it in parts",
                            length, name, size_text(device->max_region_bytes))};
    }
    // EPERM: the kernel's answer where nothing at all may be locked.
    const std::uint64_t limit = read_host_limits(source).locked_memory.soft;
    const std::string lock_limit = lock_limit_text(source);
    if (limit != kUnlimited &&
        (error == EPERM || read_host_use(source).pinned_bytes + length > limit)) {
        return {Status::kNoMemory,
                fmt::format("{} bytes of memory cannot be pinned for the RDMA device {} ({}): {}",
                            length, name, reason, lock_limit)};
    }
    const std::string regions = device != nullptr
                                    ? fmt::format("it has {} (max_mr)", device->max_regions)
                                    : "'ibv_devinfo -v' tells max_mr";
    return {
        Status::kNoMemory,
        fmt::format("the RDMA device {} takes no more memory, {} bytes now ({}): register fewer "
                    "and larger regions, or close connections ({}, 'rdma resource' says what "
                    "is in use){}{}",
                    name, length, reason, regions,
                    lock_limit.empty() ? "" : "; if that is not it, ", lock_limit)};
}

void tell_registration(const RegistrationError& error) {
    static std::atomic<bool> told{false};  // orders nothing
    if (error.status == Status::kNoMemory && !told.exchange(true, std::memory_order_relaxed)) {
        log(LogLevel::kWarn, "{}", error.text);
    }
}

}  // namespace sanpoll::engine::verbs
