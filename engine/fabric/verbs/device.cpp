#include "engine/fabric/verbs/device.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "engine/fabric/verbs/registration_error.hpp"
#include "engine/host_limits.hpp"

namespace sanpoll::engine::verbs {

namespace {

// Of the soft devices that the kernel has (drivers/infiniband/sw).
constexpr std::uint32_t kRxeVendor = 0xFFFFFF;
constexpr std::uint32_t kSiwVendor = 0x626D74;

// Soft-iWARP's library maps the queues of a process one behind the other into a space of its own, and takes
// the address 0x90000 there for an error: the queue pair whose turn it is cannot be made, nor any after it. A
// completion queue of so many entries, made first, lies across that place.
constexpr int kPlaceholderEntries = 1 << 15;

std::uint32_t positive(int value) { return value > 0 ? static_cast<std::uint32_t>(value) : 0; }

std::uint8_t depth(int value) {
    return static_cast<std::uint8_t>(std::clamp(value, 0, static_cast<int>(RDMA_MAX_INIT_DEPTH)));
}

}  // namespace

std::string described(const DeviceLimits& limits) {
    return fmt::format(
        "{} queue pairs (max_qp) of {} work requests (max_qp_wr) with {} pieces (max_sge); {} "
        "completion queues (max_cq) of {} entries (max_cqe); {} memory regions (max_mr) of {} "
        "(max_mr_size) in {} protection domains (max_pd); {} RDMA READs of a queue pair at once "
        "(max_qp_init_rd_atom); messages of {}",
        limits.max_queue_pairs, limits.max_work_requests, limits.max_sges,
        limits.max_completion_queues, limits.max_completions, limits.max_regions,
        size_text(limits.max_region_bytes), limits.max_protection_domains, limits.initiator_depth,
        limits.max_message == UINT32_MAX ? "any length" : size_text(limits.max_message));
}

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
    DeviceLimits& limits = device->limits_;
    limits.max_queue_pairs = positive(attributes.max_qp);
    limits.max_regions = positive(attributes.max_mr);
    limits.max_region_bytes = attributes.max_mr_size;
    limits.max_protection_domains = positive(attributes.max_pd);
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
    if (attributes.vendor_id == kSiwVendor) {
        // Without it there is room for some fifty connections.
        device->placeholder_ =
            api.verbs.create_cq(context, kPlaceholderEntries, nullptr, nullptr, 0);
    }
    return device;
}

Device::~Device() {
    if (placeholder_ != nullptr) {
        (void)api_.verbs.destroy_cq(placeholder_);
    }
}

Registration Device::register_memory(ibv_pd* pd, void* address, std::size_t length, int access,
                                     std::string& error) const {
    errno = 0;
    ibv_mr* mr = api_.verbs.reg_mr(pd, address, length, access);
    if (mr == nullptr) {
        error = explain_registration(errno, length, name_, &limits_).text;
        return {};
    }
    return {api_, mr};
}

}  // namespace sanpoll::engine::verbs
