#include "engine/fabric/verbs/device.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace sanpoll::engine::verbs {

namespace {

// Of the soft devices that the kernel has (drivers/infiniband/sw).
constexpr std::uint32_t kRxeVendor = 0xFFFFFF;
constexpr std::uint32_t kSiwVendor = 0x626D74;

std::uint32_t positive(int value) { return value > 0 ? static_cast<std::uint32_t>(value) : 0; }

std::uint8_t depth(int value) {
    return static_cast<std::uint8_t>(std::clamp(value, 0, static_cast<int>(RDMA_MAX_INIT_DEPTH)));
}

std::string memory_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return "unlimited";
    }
    return fmt::format("{} KiB", limit.rlim_cur / 1024);
}

}  // namespace

void Registration::reset() noexcept {
    if (mr_ != nullptr) {
        // It fails only where the device is gone, and the registration with it.
        (void)api_->verbs.dereg_mr(std::exchange(mr_, nullptr));
    }
}

Device::Device(const Api& api, ibv_context* context) : api_(api), context_(context) {}

std::unique_ptr<Device> Device::make(const Api& api, ibv_context* context, std::string& error) {
    std::unique_ptr<Device> device(new Device(api, context));
    const char* name = api.verbs.get_device_name(context->device);
    device->name_ = name != nullptr ? name : "?";
    ibv_device_attr attributes{};
    if (const int failure = api.verbs.query_device(context, &attributes); failure != 0) {
        error = fmt::format(
            "the RDMA device {} does not say what it can do ({}); look at the "
            "kernel's log (dmesg)",
            device->name_, std::generic_category().message(failure));
        return nullptr;
    }
    device->pd_ = api.verbs.alloc_pd(context);
    if (device->pd_ == nullptr) {
        error = fmt::format(
            "the RDMA device {} gives no protection domain ({}); look at the "
            "kernel's log (dmesg)",
            device->name_, std::generic_category().message(errno));
        return nullptr;
    }
    DeviceLimits& limits = device->limits_;
    limits.max_queue_pairs = positive(attributes.max_qp);
    limits.max_work_requests = positive(attributes.max_qp_wr);
    limits.max_completions = positive(attributes.max_cqe);
    limits.max_completion_queues = positive(attributes.max_cq);
    limits.max_sges = positive(attributes.max_sge);
    limits.max_read_sges =
        attributes.max_sge_rd > 0 ? positive(attributes.max_sge_rd) : limits.max_sges;
    limits.initiator_depth = depth(attributes.max_qp_init_rd_atom);
    limits.responder_resources = depth(attributes.max_qp_rd_atom);
    limits.max_message = UINT32_MAX;
    for (std::uint32_t port = 1; port <= attributes.phys_port_cnt; ++port) {
        ibv_port_attr found{};
        if (api.verbs.query_port(context, static_cast<std::uint8_t>(port), &found) == 0 &&
            found.max_msg_sz != 0) {
            limits.max_message = std::min(limits.max_message, found.max_msg_sz);
        }
    }
    device->transport_ = context->device->transport_type == IBV_TRANSPORT_IWARP
                             ? Transport::kIwarp
                             : Transport::kInfiniband;
    device->soft_ = attributes.vendor_id == kRxeVendor || attributes.vendor_id == kSiwVendor;
    return device;
}

Device::~Device() {
    if (pd_ != nullptr) {
        (void)api_.verbs.dealloc_pd(pd_);
    }
}

Registration Device::register_memory(void* address, std::size_t length, int access,
                                     std::string& error) const {
    errno = 0;
    ibv_mr* mr = api_.verbs.reg_mr(pd_, address, length, access);
    if (mr != nullptr) {
        return {api_, mr};
    }
    const int failure = errno;
    if (failure == ENOMEM || failure == EAGAIN || failure == EPERM) {
        error = fmt::format(
            "the RDMA device {} cannot lock {} KiB of memory ({}); the limit on locked "
            "memory is {}: raise it (ulimit -l, or memlock in /etc/security/limits.conf)",
            name_, (length + 1023) / 1024, std::generic_category().message(failure),
            memory_limit());
    } else if (failure == EFAULT) {
        error = fmt::format(
            "the RDMA device {} cannot reach {} bytes at {}: they are not mapped, or not "
            "writable; register memory that is",
            name_, length, address);
    } else {
        error = fmt::format(
            "the RDMA device {} does not register {} bytes ({}); look at the kernel's log "
            "(dmesg)",
            name_, length, std::generic_category().message(failure));
    }
    return {};
}

}  // namespace sanpoll::engine::verbs
