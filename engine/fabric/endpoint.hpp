// One end of a connection, as the engine sees it. Fabrics derive from it.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/memory_region.hpp"
#include "engine/post_gate.hpp"

namespace sanpoll::engine {

class FabricPort;
class MemoryRegistrar;
class PollToken;
class PollingCore;
class RemoteRegions;
struct Endpoint;

/// What the owner of an endpoint (the provider's socket) lends to it. The memory is type-stable and
/// outlives the endpoint.
struct EndpointOwner {
    void* owner = nullptr;  // comes back in every Completion and in Handlers::closed
    std::atomic<Endpoint*>* slot = nullptr;          // set before the gate opens; posts read it
    std::atomic<PollingCore*>* core_slot = nullptr;  // likewise: the core to post to
    std::atomic<PollToken*>* token_slot = nullptr;   // likewise, unless nullptr: that core's
    PostGate* gate = nullptr;
    std::uint32_t generation = 0;
    std::uint64_t handle = 0;  // what PostGate::is_direct is asked with; 0: no post goes directly
    Saturation* saturation = nullptr;
    RegionTable* regions = nullptr;
    RemoteRegions* remote = nullptr;  // what the peer may reach; nullptr: nothing
    // Set before the gate opens, by fabrics that have one: where the connection's memory is registered.
    std::atomic<MemoryRegistrar*>* registrar_slot = nullptr;
};

/// Made by a fabric on the control plane, then touched by its core only, until the core has closed it.
struct Endpoint : EndpointOwner {
    std::uint32_t next_sequence = 0;  // the post that takes effect next; see PostGate
    bool ever_notified = false;       // an upcall for it may be on its way to the notifier
    bool direct =
        false;  // a connection of the embedded fabric: messages may go by engine/direct.hpp
    FabricPort* port = nullptr;
    PollingCore* core = nullptr;

protected:
    ~Endpoint() = default;
};

}  // namespace sanpoll::engine
