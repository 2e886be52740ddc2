// What the switches pass to each other for a piece of exposed memory.
#pragma once

#include <ws2san.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "engine/memory_registrar.hpp"
#include "engine/work_request.hpp"
#include "provider/socket.hpp"

namespace sanpoll::provider {

/// Of one size for all fabrics and registrations, and it means the same in every process. `key` and `nonce`
/// name the memory in its owner's table; a nonce cannot be guessed. Length and rights let the initiator see
/// its own mistakes; what counts is the owner's word. There are two kinds, and neither is good for a
/// connection of the other:
///   kLookedUp    the owner's core looks up key and nonce for each operation; `device_key` is where the owner
///                shows it, if anywhere: a hint for a peer that shares its memory, who compares key and nonce itself
///   kByDevice    the owner's device does the work and looks at `device_key` and `device_address`
struct RdmaDescriptor {
    enum class Kind : std::uint32_t {
        kLookedUp = 0x32445053,
        kByDevice = 0x33445053
    };  // "SPD2", "SPD3"

    Kind kind;
    std::uint32_t key;
    std::uint64_t nonce;
    std::uint32_t length;
    std::uint32_t access;
    std::uint32_t device_key;
    std::uint32_t check;  // kByDevice: see check_of; kLookedUp: the hint again
    std::uint64_t device_address;

    /// With a device, a descriptor that was damaged on its way could name another part of the region than
    /// was meant, and any other error would end the connection; so damage is found before. It is no secret:
    /// a peer may reach any part of the region anyway, and the device keeps it inside.
    [[nodiscard]] std::uint32_t check_of() const noexcept {
        std::uint64_t sum = key;
        for (const std::uint64_t word : {nonce, (std::uint64_t{length} << 32) | access,
                                         std::uint64_t{device_key}, device_address}) {
            sum = (sum ^ word) * 0x9E3779B97F4A7C15U;
            sum ^= sum >> 32;
        }
        return static_cast<std::uint32_t>(sum);
    }

    void seal(const engine::DeviceKey& device) noexcept {
        kind = Kind::kByDevice;
        device_key = device.key;
        device_address = device.address;
        check = check_of();
    }

    /// Where an operation at `offset` goes, in the terms of the fabric.
    [[nodiscard]] engine::RemotePlace place(std::uint32_t offset) const noexcept {
        return kind == Kind::kByDevice ? engine::RemotePlace{device_address, device_key, offset, 0}
                                       : engine::RemotePlace{nonce, key, offset, device_key};
    }
};
static_assert(sizeof(RdmaDescriptor) == 40 && std::is_trivially_copyable_v<RdmaDescriptor>);

/// The kind of descriptor that this socket's peer and the socket itself use.
[[nodiscard]] inline RdmaDescriptor::Kind kind_of(const Socket& socket) noexcept {
    return socket.registrar.load(std::memory_order_relaxed) == nullptr
               ? RdmaDescriptor::Kind::kLookedUp
               : RdmaDescriptor::Kind::kByDevice;
}

/// Takes a descriptor out of a caller's block, which need not be aligned. False if it is none of `kind`.
[[nodiscard]] inline bool read_descriptor(const void* block, DWORD length,
                                          RdmaDescriptor::Kind kind,
                                          RdmaDescriptor& descriptor) noexcept {
    if (block == nullptr || length != sizeof(RdmaDescriptor)) {
        return false;
    }
    std::memcpy(&descriptor, block, sizeof(descriptor));
    if (descriptor.kind != kind || descriptor.length == 0 || descriptor.access < MEM_READ ||
        descriptor.access > MEM_READWRITE) {
        return false;
    }
    return kind == RdmaDescriptor::Kind::kByDevice
               ? descriptor.check == descriptor.check_of()
               : descriptor.check == descriptor.device_key && descriptor.device_address == 0;
}

}  // namespace sanpoll::provider
