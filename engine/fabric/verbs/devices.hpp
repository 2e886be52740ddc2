// The host's RDMA devices as RDMA CM binds addresses to them; how they come and go.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "engine/control_thread.hpp"
#include "engine/fabric/verbs/cm_channel.hpp"
#include "engine/fabric/verbs/device.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"

namespace sanpoll::engine::verbs {

/// Whether the kernel knows of an RDMA device. Any thread; reads one folder.
[[nodiscard]] bool host_has_devices() noexcept;

/// A device that is in use. `lost`: it has been removed, or reported a fatal error; nothing begins on it any
/// more, and it is given back with its last session.
struct DeviceEntry {
    ibv_context* context = nullptr;
    rdma_cm_id* anchor = nullptr;  // keeps RDMA CM from closing the context under us
    std::unique_ptr<Device> device;
    std::set<VerbsPort*> attached;
    std::uint32_t sessions = 0;
    bool lost = false;

    [[nodiscard]] bool iwarp() const noexcept { return device->transport() == Transport::kIwarp; }
};

struct HostAddress {
    std::uint32_t ip;  // host byte order, as the mask
    std::uint32_t mask;
    bool operator==(const HostAddress&) const = default;
};

/// Gives the IPv4 addresses of interfaces that are up, but not loopback's: RDMA CM has no devices there.
using HostAddresses = std::function<std::vector<HostAddress>()>;
[[nodiscard]] std::vector<HostAddress> read_host_addresses();

/// RDMA CM's port for a socket's port. A socket has a companion that listens at the same port by TCP/IP. On
/// InfiniBand and RoCE the two have nothing to do with each other, but an iWARP device may share the ports of
/// the host's TCP (siw does), so there another one is taken. Each port has one of its own, and those that the
/// host gives out by itself become none that need privileges.
[[nodiscard]] constexpr std::uint16_t cm_port(bool iwarp, std::uint16_t port) noexcept {
    return iwarp ? port ^ 0xFC00 : port;
}

/// An address of the host that leads to a device.
struct ServedAddress {
    std::uint32_t ip = 0;
    std::uint32_t mask = 0;
    std::shared_ptr<DeviceEntry> entry;
};

/// All functions run on the control thread, but for those that say otherwise.
class Devices {
public:
    /// `on_lost` is called on the control thread when a device is lost, once for each, before its sessions
    /// have been told: they are ended by it.
    /// `on_refusal` is called when an iWARP device has told that it refuses the peer of that queue pair's.
    Devices(const Api& api, CmChannel& channel, ControlThread& control,
            std::function<void(DeviceEntry&)> on_lost,
            std::function<void(const ibv_qp*)> on_refusal, HostAddresses host_addresses);
    ~Devices();
    Devices(const Devices&) = delete;
    Devices& operator=(const Devices&) = delete;

    /// Looks at the host's addresses as they are now and binds those that are new. Devices that have come
    /// (back) are found by it.
    void refresh();
    /// The device of an identifier that RDMA CM has bound. nullptr if it is lost or cannot be used; `error`
    /// says why.
    [[nodiscard]] std::shared_ptr<DeviceEntry> of(ibv_context* context, std::string& error);
    /// Whether what leads from `local` (0: any) to `remote` seems to be an iWARP device.
    [[nodiscard]] bool iwarp_towards(std::uint32_t local, std::uint32_t remote) const noexcept;
    /// Makes the device known to the port, once for each of the two.
    [[nodiscard]] Status attach(DeviceEntry& entry, VerbsPort& port);
    /// A device was removed or has failed. Does nothing for one that is lost already.
    void lose(DeviceEntry& entry, const char* why);
    /// Takes in what the device has told by now. (It is also taken in when it comes.)
    void take_news(DeviceEntry& entry);
    /// One session less; gives a lost device back with the last one.
    void release(const std::shared_ptr<DeviceEntry>& entry);
    /// Gives all devices back. Every session has ended before.
    void close();

    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
    /// What was found by the last refresh() and is not lost.
    [[nodiscard]] const std::vector<ServedAddress>& served() const noexcept { return served_; }

    // ---- any thread; as they were at the last refresh() ---------------------------------------------

    [[nodiscard]] std::vector<std::uint32_t> addresses() const;
    [[nodiscard]] bool serves(std::uint32_t ip) const;
    /// Whether `ip` is one of the addresses or belongs to the subnet of one.
    [[nodiscard]] bool reaches(std::uint32_t ip) const;

private:
    void bind(std::uint32_t ip, std::uint32_t mask);
    [[nodiscard]] std::shared_ptr<DeviceEntry> entry_of(ibv_context* context, rdma_cm_id* anchor,
                                                        std::string& error);
    void give_back(DeviceEntry& entry);
    void complain(const std::string& error);

    const Api& api_;
    CmChannel& channel_;
    ControlThread& control_;
    const std::function<void(DeviceEntry&)> on_lost_;
    const std::function<void(const ibv_qp*)> on_refusal_;
    const HostAddresses host_addresses_;
    std::map<ibv_context*, std::shared_ptr<DeviceEntry>> entries_;
    std::set<std::string> complaints_;  // said once each

    mutable std::mutex mutex_;           // guards the list, which other threads read
    std::vector<ServedAddress> served_;  // changed by the control thread only
};

}  // namespace sanpoll::engine::verbs
