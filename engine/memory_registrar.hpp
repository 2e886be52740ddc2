// What a fabric offers whose device must be told of memory before it can reach it.
#pragma once

#include <cstdint>

#include "engine/memory_region.hpp"
#include "engine/status.hpp"

namespace sanpoll::engine {

/// What the peer's device needs in order to reach a piece of exposed memory. The owner's device checks both;
/// neither says where the memory lies in the owner's process, unless the device can do no better.
struct DeviceKey {
    std::uint64_t address = 0;  // of the first byte, as the device counts
    std::uint32_t key = 0;
};

/// The memory of one connection, as its device knows it. The owner of the connection finds it by
/// EndpointOwner::registrar_slot as long as the connection's endpoint lives. A fabric whose cores reach
/// memory by themselves has none.
///
/// Any thread, several at once, off the data path: these calls go to the system and may last as long as
/// memory takes to be pinned. They report what the administrator can mend by a message of their own.
class MemoryRegistrar {
public:
    // ---- memory of this side's operations

    /// Makes [address, address + length) known under `ref`, before anybody can post with it. `access` as in
    /// RegionTable::add. kOk; kBadRegion: the range cannot be reached like that (not mapped, or read-only
    /// and to be written); kNoMemory: no more can be pinned; kNotOpen: the connection has lost its device.
    [[nodiscard]] virtual Status add_local(RegionRef ref, std::uint64_t address,
                                           std::uint64_t length, std::uint32_t access) = 0;
    /// Forgets it; no operation uses it any more. Nothing happens if `ref` is not known.
    virtual void remove_local(RegionRef ref) noexcept = 0;

    // ---- memory that the peer may reach

    /// Lets the peer of this connection, and nobody else, read (kRead) or write (kWrite) the range. `ref` is
    /// RemoteRegions' key of it. Errors as add_local.
    [[nodiscard]] virtual Status expose(std::uint32_t ref, std::uint64_t address,
                                        std::uint64_t length, std::uint32_t access,
                                        DeviceKey& key) = 0;
    /// When it returns kOk the peer reaches no byte more. kBadRegion: `ref` is not exposed (any more).
    /// kFull: the device is at work on it and has refused; nothing has changed.
    [[nodiscard]] virtual Status conceal(std::uint32_t ref) noexcept = 0;

protected:
    ~MemoryRegistrar() = default;
};

}  // namespace sanpoll::engine
