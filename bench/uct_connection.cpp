#include "bench/uct_connection.hpp"

#include <ucs/async/async_fwd.h>

#include <algorithm>
#include <cstring>

#include "bench/peer.hpp"

namespace sanpoll::bench {
namespace {

constexpr std::uint8_t kAmId = 1;
constexpr const char* kTransport = "posix";

ConnectionFault fault(const std::string& step, ucs_status_t status) {
    return ConnectionFault("UCX (UCT): " + step + ": " + ucs_status_string(status));
}

std::uint32_t wire_size(std::uint32_t size) {
    return std::max(size, static_cast<std::uint32_t>(sizeof(std::uint64_t)));
}

// The component that has the memory domain called like the transport; nullptr: none.
uct_component_h find_component() {
    uct_component_h* components = nullptr;
    unsigned count = 0;
    if (uct_query_components(&components, &count) != UCS_OK) return nullptr;
    uct_component_h found = nullptr;
    for (unsigned i = 0; i < count; ++i) {
        uct_component_attr_t attributes{};
        attributes.field_mask = UCT_COMPONENT_ATTR_FIELD_NAME;
        if (uct_component_query(components[i], &attributes) == UCS_OK &&
            std::strcmp(attributes.name, kTransport) == 0)
            found = components[i];
    }
    uct_release_component_list(components);
    return found;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------ iface --

UctIface::UctIface() {
    std::string why;
    if (open(why)) return;
    close();
    throw ConnectionFault("UCX (UCT): " + why);
}

bool UctIface::open(std::string& why) {
    const auto good = [&](const char* step, ucs_status_t status) {
        if (status != UCS_OK) why = std::string(step) + ": " + ucs_status_string(status);
        return status == UCS_OK;
    };
    uct_component_h component = find_component();
    if (component == nullptr) {
        why = "it was built without posix shared memory";
        return false;
    }
    if (!good("an async context",
              ucs_async_context_create(UCS_ASYNC_MODE_THREAD_SPINLOCK, &async_)))
        return false;
    if (!good("a worker", uct_worker_create(async_, UCS_THREAD_MODE_SINGLE, &worker_)))
        return false;
    uct_md_config_t* md_config = nullptr;
    if (!good("configuration", uct_md_config_read(component, nullptr, nullptr, &md_config)))
        return false;
    const ucs_status_t opened = uct_md_open(component, kTransport, md_config, &md_);
    uct_config_release(md_config);
    if (!good("its memory domain", opened)) return false;

    uct_tl_resource_desc_t* resources = nullptr;
    unsigned count = 0;
    if (!good("its devices", uct_md_query_tl_resources(md_, &resources, &count))) return false;
    std::string device;
    for (unsigned i = 0; i < count; ++i) {
        if (std::strcmp(resources[i].tl_name, kTransport) == 0) device = resources[i].dev_name;
    }
    uct_release_tl_resource_list(resources);

    uct_iface_config_t* config = nullptr;
    if (!good("configuration",
              uct_md_iface_config_read(md_, kTransport, nullptr, nullptr, &config)))
        return false;
    uct_iface_params_t params{};
    params.field_mask = UCT_IFACE_PARAM_FIELD_OPEN_MODE | UCT_IFACE_PARAM_FIELD_DEVICE |
                        UCT_IFACE_PARAM_FIELD_RX_HEADROOM;
    params.open_mode = UCT_IFACE_OPEN_MODE_DEVICE;
    params.mode.device.tl_name = kTransport;
    params.mode.device.dev_name = device.c_str();
    const ucs_status_t made = uct_iface_open(md_, worker_, &params, config, &iface_);
    uct_config_release(config);
    if (!good("its iface", made)) return false;
    uct_iface_progress_enable(iface_, UCT_PROGRESS_SEND | UCT_PROGRESS_RECV);
    return good("its attributes", uct_iface_query(iface_, &attributes_));
}

void UctIface::close() noexcept {
    if (iface_ != nullptr) uct_iface_close(iface_);
    if (md_ != nullptr) uct_md_close(md_);
    if (worker_ != nullptr) uct_worker_destroy(worker_);
    if (async_ != nullptr) ucs_async_context_destroy(async_);
}

// ------------------------------------------------------------------------------------------------- connection --

UctConnection::UctConnection(const Descriptor& meeting, const ConnectionShape& shape,
                             const SpinRule& rule)
    : rule_(rule),
      fresh_(shape.fresh),
      buffer_(1, wire_size(std::max(shape.size, kAcknowledgementSize))),
      arrivals_(shape.receives) {
    ucs_status_t status = uct_iface_set_am_handler(iface_.iface(), kAmId, arrived, this, 0);
    if (status != UCS_OK) throw fault("setting the handler", status);
    const uct_iface_attr_t& attributes = iface_.attributes();
    std::vector<char> mine(attributes.device_addr_len + attributes.iface_addr_len);
    char* iface_address = mine.data() + attributes.device_addr_len;
    status = uct_iface_get_device_address(iface_.iface(),
                                          reinterpret_cast<uct_device_addr_t*>(mine.data()));
    if (status == UCS_OK)
        status = uct_iface_get_address(iface_.iface(),
                                       reinterpret_cast<uct_iface_addr_t*>(iface_address));
    if (status != UCS_OK) throw fault("asking for its address", status);
    const std::vector<char> theirs = exchange_addresses(meeting, mine);
    if (theirs.size() != mine.size())
        throw ConnectionFault("UCX (UCT): the other end told an address of another length");
    uct_ep_params_t params{};
    params.field_mask =
        UCT_EP_PARAM_FIELD_IFACE | UCT_EP_PARAM_FIELD_DEV_ADDR | UCT_EP_PARAM_FIELD_IFACE_ADDR;
    params.iface = iface_.iface();
    params.dev_addr = reinterpret_cast<const uct_device_addr_t*>(theirs.data());
    params.iface_addr =
        reinterpret_cast<const uct_iface_addr_t*>(theirs.data() + attributes.device_addr_len);
    status = uct_ep_create(&params, &endpoint_);
    if (status != UCS_OK) throw fault("making an endpoint", status);
}

UctConnection::~UctConnection() { uct_ep_destroy(endpoint_); }

ucs_status_t UctConnection::arrived(void* connection, void* data, std::size_t length, unsigned) {
    auto* self = static_cast<UctConnection*>(connection);
    if (self->count_ == self->arrivals_.size() || length < sizeof(std::uint64_t)) {
        self->overrun_ = true;
        return UCS_OK;
    }
    std::size_t slot = self->oldest_ + self->count_;
    if (slot >= self->arrivals_.size()) slot -= self->arrivals_.size();
    ++self->count_;
    std::memcpy(&self->arrivals_[slot].stamp, data, sizeof(std::uint64_t));
    self->arrivals_[slot].length = length;
    self->reader_.read(static_cast<const char*>(data), length);
    return UCS_OK;
}

std::size_t UctConnection::pack(void* into, void* outgoing) {
    const auto* message = static_cast<const Outgoing*>(outgoing);
    std::memcpy(into, message->data, message->length);
    return message->length;
}

void UctConnection::send(std::uint32_t size, std::uint64_t stamp) {
    const std::uint32_t bytes = wire_size(size);
    char* buffer = buffer_[0];
    write_message(buffer, bytes, stamp, fresh_);
    Spin spin(rule_, "room in the segment of UCX (UCT)");
    if (bytes <= iface_.attributes().cap.am.max_short) {
        ucs_status_t status;
        while ((status = uct_ep_am_short(endpoint_, kAmId, stamp, buffer + sizeof stamp,
                                         bytes - sizeof stamp)) == UCS_ERR_NO_RESOURCE) {
            uct_worker_progress(iface_.worker());
            spin.turn();
        }
        if (status != UCS_OK) throw fault("am_short", status);
        return;
    }
    Outgoing message{buffer, bytes};
    ssize_t sent;
    while ((sent = uct_ep_am_bcopy(endpoint_, kAmId, pack, &message, 0)) == UCS_ERR_NO_RESOURCE) {
        uct_worker_progress(iface_.worker());
        spin.turn();
    }
    if (sent < 0) throw fault("am_bcopy", static_cast<ucs_status_t>(sent));
}

std::uint64_t UctConnection::receive(std::uint32_t size) {
    Spin spin(rule_, "a message over UCX (UCT)");
    while (count_ == 0) {
        if (overrun_) throw ConnectionFault("UCX (UCT): more messages came than may be under way");
        uct_worker_progress(iface_.worker());
        spin.turn();
    }
    const Arrival arrival = arrivals_[oldest_];
    if (++oldest_ == arrivals_.size()) oldest_ = 0;
    --count_;
    if (arrival.length != wire_size(size))
        throw ConnectionFault("UCX (UCT): a message of " + std::to_string(size) +
                              " bytes arrived with " + std::to_string(arrival.length));
    return size >= sizeof arrival.stamp ? arrival.stamp : 0;
}

}  // namespace sanpoll::bench
