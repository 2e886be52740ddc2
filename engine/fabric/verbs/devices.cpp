#include "engine/fabric/verbs/devices.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/fork_guard.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {
namespace {

std::uint32_t host_order(const sockaddr* address) {
    sockaddr_in in{};
    std::memcpy(&in, address, sizeof(in));
    return ntohl(in.sin_addr.s_addr);
}

// RDMA CM keeps a device's context open as long as the process lives, but a device that is pulled out is not
// gone before everybody has closed it. Nothing of ours is left on it, so another file takes the descriptor's
// place; RDMA CM closes that one some day.
void let_go_of(int fd) {
    if (fd < 0) {
        return;
    }
    if (const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC); nothing >= 0) {
        (void)::dup3(nothing, fd, O_CLOEXEC);
        ::close(nothing);
    }
}

}  // namespace

bool host_has_devices() noexcept {
    DIR* folder = ::opendir("/sys/class/infiniband");
    if (folder == nullptr) {
        return false;
    }
    bool found = false;
    while (const dirent* item = ::readdir(folder)) {
        found = found || item->d_name[0] != '.';
    }
    ::closedir(folder);
    return found;
}

std::vector<HostAddress> read_host_addresses() {
    std::vector<HostAddress> list;
    ifaddrs* first = nullptr;
    if (::getifaddrs(&first) != 0) {
        return list;
    }
    for (const ifaddrs* item = first; item != nullptr; item = item->ifa_next) {
        if (item->ifa_addr != nullptr && item->ifa_addr->sa_family == AF_INET &&
            (item->ifa_flags & IFF_UP) != 0 && (item->ifa_flags & IFF_LOOPBACK) == 0) {
            list.push_back({host_order(item->ifa_addr), item->ifa_netmask != nullptr
                                                            ? host_order(item->ifa_netmask)
                                                            : 0xFFFFFFFFU});
        }
    }
    ::freeifaddrs(first);
    return list;
}

Devices::Devices(const Api& api, CmChannel& channel, ControlThread& control,
                 std::function<void(DeviceEntry&)> on_lost,
                 std::function<void(const ibv_qp*)> on_refusal, HostAddresses host_addresses)
    : api_(api),
      channel_(channel),
      control_(control),
      on_lost_(std::move(on_lost)),
      on_refusal_(std::move(on_refusal)),
      host_addresses_(std::move(host_addresses)) {}

Devices::~Devices() { close(); }

// ---- addresses --------------------------------------------------------------------------------------

void Devices::refresh() {
    const std::vector<HostAddress> now = host_addresses_();
    std::vector<HostAddress> fresh = now;
    {
        const std::lock_guard lock(mutex_);
        std::erase_if(served_, [&](const ServedAddress& served) {
            return std::find(now.begin(), now.end(), HostAddress{served.ip, served.mask}) ==
                   now.end();
        });
        std::erase_if(fresh, [&](const HostAddress& address) {
            return std::any_of(served_.begin(), served_.end(), [&](const ServedAddress& served) {
                return served.ip == address.ip;
            });
        });
    }
    for (const HostAddress& address : fresh) {
        bind(address.ip, address.mask);
    }
}

// Whether an address leads to a device is known by binding an identifier to it.
void Devices::bind(std::uint32_t ip, std::uint32_t mask) {
    rdma_cm_id* id = channel_.create([](const CmEvent&) {});
    if (id == nullptr) {
        return;
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(ip);
    std::shared_ptr<DeviceEntry> entry;
    std::string error;
    if (api_.cm.bind_addr(id, reinterpret_cast<sockaddr*>(&address)) == 0 && id->verbs != nullptr) {
        entry = entry_of(id->verbs, id, error);
    }
    if (entry == nullptr || entry->anchor != id) {
        channel_.destroy(id);
    }
    if (entry != nullptr && !entry->lost) {
        const std::lock_guard lock(mutex_);
        served_.push_back({ip, mask, std::move(entry)});
    } else if (!error.empty()) {
        complain(error);
    }
}

std::vector<std::uint32_t> Devices::addresses() const {
    std::vector<std::uint32_t> list;
    const std::lock_guard lock(mutex_);
    for (const ServedAddress& served : served_) {
        list.push_back(served.ip);
    }
    std::sort(list.begin(), list.end());
    return list;
}

bool Devices::serves(std::uint32_t ip) const {
    const std::lock_guard lock(mutex_);
    return std::any_of(served_.begin(), served_.end(),
                       [ip](const ServedAddress& served) { return served.ip == ip; });
}

bool Devices::reaches(std::uint32_t ip) const {
    const std::lock_guard lock(mutex_);
    return std::any_of(served_.begin(), served_.end(), [ip](const ServedAddress& served) {
        return ((served.ip ^ ip) & served.mask) == 0;
    });
}

// ---- devices ----------------------------------------------------------------------------------------

std::shared_ptr<DeviceEntry> Devices::of(ibv_context* context, std::string& error) {
    if (context == nullptr) {
        error = "RDMA CM leads to no device";
        return nullptr;
    }
    const auto found = entries_.find(context);
    if (found == entries_.end()) {
        refresh();  // a device that has just come: its address gives it an anchor
        const auto again = entries_.find(context);
        if (again == entries_.end()) {
            error = fmt::format("no address of this host leads to the RDMA device {}",
                                context->device->name);
            return nullptr;
        }
        return again->second;
    }
    if (found->second->lost) {
        error = fmt::format("the RDMA device {} is gone", context->device->name);
        return nullptr;
    }
    return found->second;
}

std::shared_ptr<DeviceEntry> Devices::entry_of(ibv_context* context, rdma_cm_id* anchor,
                                               std::string& error) {
    if (const auto found = entries_.find(context); found != entries_.end()) {
        return found->second;
    }
    auto entry = std::make_shared<DeviceEntry>();
    entry->context = context;
    entry->device = Device::make(api_, context, error);
    if (entry->device == nullptr) {
        return nullptr;
    }
    entry->anchor = anchor;
    DeviceEntry* raw = entry.get();
    // Replaces the handler that did nothing.
    channel_.handle(anchor, [this, raw](const CmEvent& event) {
        if (event.type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
            lose(*raw, "it was removed");
        }
    });
    const int flags = ::fcntl(context->async_fd, F_GETFL);
    if (flags >= 0 && ::fcntl(context->async_fd, F_SETFL, flags | O_NONBLOCK) == 0) {
        (void)control_.watch(context->async_fd, EPOLLIN,
                             [this, raw](std::uint32_t) { take_news(*raw); });
    }
    close_in_child(context->async_fd);
    close_in_child(context->cmd_fd);
    entries_[context] = entry;
    log(LogLevel::kInfo, "the RDMA device {} is in use; it can have {}", context->device->name,
        described(entry->device->limits()));
    return entry;
}

bool Devices::iwarp_towards(std::uint32_t local, std::uint32_t remote) const noexcept {
    for (const ServedAddress& served : served_) {
        if (local != 0 ? served.ip == local : ((served.ip ^ remote) & served.mask) == 0) {
            return served.entry->iwarp();
        }
    }
    return false;
}

Status Devices::attach(DeviceEntry& entry, VerbsPort& port) {
    if (entry.lost) {
        return Status::kTransportFailed;
    }
    if (entry.attached.contains(&port)) {
        return Status::kOk;
    }
    entry.attached.insert(&port);  // first, for it may throw
    const Status status = port.attach(*entry.device);
    if (status != Status::kOk) {
        entry.attached.erase(&port);
    }
    return status;
}

// The device's own news. What concerns a queue pair also shows in its completions, but for what iWARP devices
// refuse the peer: that looks like the peer's end.
void Devices::take_news(DeviceEntry& entry) {
    ibv_async_event event{};
    errno = 0;
    while (!entry.lost && api_.verbs.get_async_event(entry.context, &event) == 0) {
        const ibv_event_type type = event.event_type;
        const ibv_qp* const qp = event.element.qp;  // if it is about one
        api_.verbs.ack_async_event(&event);
        switch (type) {
            case IBV_EVENT_DEVICE_FATAL:
                lose(entry, "it reports a fatal error");
                return;
            case IBV_EVENT_PORT_ERR:
                log(LogLevel::kWarn,
                    "a port of the RDMA device {} is down; its connections end when their "
                    "time-outs "
                    "do, unless it comes back",
                    entry.context->device->name);
                break;
            case IBV_EVENT_QP_ACCESS_ERR:  // a write, or where it lies
            case IBV_EVENT_QP_REQ_ERR:     // a READ
                if (entry.iwarp()) {
                    on_refusal_(qp);
                }
                [[fallthrough]];
            default:
                log(LogLevel::kDebug, "RDMA device {}: {}", entry.context->device->name,
                    api_.verbs.event_type_str(type));
                break;
        }
    }
    if (errno == EIO || errno == ENODEV || errno == EBADF) {
        lose(entry, "it was removed");
    }
}

void Devices::lose(DeviceEntry& entry, const char* why) {
    if (entry.lost) {
        return;
    }
    entry.lost = true;
    entry.device->mark_lost();
    log(LogLevel::kWarn, "the RDMA device {} is lost ({}); its connections end",
        entry.context->device->name, why);
    control_.forget(entry.context->async_fd);
    const std::shared_ptr<DeviceEntry> kept = entries_.at(entry.context);
    {
        const std::lock_guard lock(mutex_);
        std::erase_if(served_, [&](const ServedAddress& served) { return served.entry == kept; });
    }
    ++kept->sessions;  // while its sessions are told
    for (VerbsPort* port : kept->attached) {
        port->detach(*kept->device);
    }
    on_lost_(*kept);
    release(kept);
}

void Devices::release(const std::shared_ptr<DeviceEntry>& entry) {
    if (--entry->sessions == 0 && entry->lost) {
        entries_.erase(entry->context);
        give_back(*entry);
    }
}

void Devices::give_back(DeviceEntry& entry) {
    if (!entry.lost) {
        control_.forget(entry.context->async_fd);
        for (VerbsPort* port : entry.attached) {
            port->detach(*entry.device);
        }
    }
    forget_in_child(entry.context->async_fd);
    forget_in_child(entry.context->cmd_fd);
    entry.device.reset();
    if (entry.lost) {
        let_go_of(entry.context->async_fd);
        let_go_of(entry.context->cmd_fd);
    }
    channel_.destroy(entry.anchor);  // last: the context may end with it
    entry.anchor = nullptr;
}

void Devices::close() {
    {
        const std::lock_guard lock(mutex_);
        served_.clear();
    }
    for (const auto& [context, entry] : entries_) {
        give_back(*entry);
    }
    entries_.clear();
}

void Devices::complain(const std::string& error) {
    if (complaints_.insert(error).second) {
        log(LogLevel::kWarn, "{}", error);
    }
}

}  // namespace sanpoll::engine::verbs
