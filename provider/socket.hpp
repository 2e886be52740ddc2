// The provider's record of one socket.
#pragma once

#include <ws2san.h>

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

#include "engine/fabric/fabric.hpp"
#include "engine/memory_region.hpp"
#include "engine/memory_registrar.hpp"
#include "engine/polling_core.hpp"
#include "engine/post_gate.hpp"
#include "engine/remote_regions.hpp"
#include "provider/options.hpp"

namespace sanpoll::provider {

/// States that the control plane keeps (spec, "Socket states"). Connected and Broken are told apart by
/// the gate, which the polling core owns: open is connected, broken off is broken.
///
///   kCreated --bind--> kBound --listen--> kListening
///                      kBound --connect--> kConnecting --accepted--> kConnected
///                      kConnecting --failed--> kBound
///   accept creates in kConnected; close leads from everywhere to kFree
///   kConnected, kListening --duplicate--> kSwappedOut; WSPSocket with the token creates in the former state
enum class State : std::uint8_t {
    kFree,
    kCreated,
    kBound,
    kListening,
    kConnecting,
    kConnected,
    kSwappedOut
};

inline constexpr int kMaxBacklog = 4096;  // what SOMAXCONN means

/// A list and not a deque, which takes 600 bytes when it is empty: most sockets do not listen.
using RequestList = std::list<std::shared_ptr<engine::IncomingConnection>>;

/// Type-stable: a record is reused but never unmapped while the provider runs, so a stale handle finds
/// a record of another generation and not a hole.
struct alignas(rings::kCacheLine) Socket {
    // ---- data path: read by every post
    engine::PostGate gate;
    std::atomic<engine::Endpoint*> endpoint{nullptr};
    // The last connection's, for a record that is used again as well: calls of threads that still think it the one before
    // find a core of this engine. Each looks at the gate before it does anything.
    std::atomic<engine::PollingCore*> core{nullptr};
    std::atomic<engine::PollToken*> token{nullptr};  // of that core; outlives the engine
    engine::Saturation saturation;
    // nullptr: the fabric needs none. Called with the mutex held and the generation checked, for a close
    // ends it together with the endpoint.
    std::atomic<engine::MemoryRegistrar*> registrar{nullptr};
    std::atomic<SOCKET> switch_handle{INVALID_SOCKET};
    std::uint32_t index = 0;

    engine::RegionTable regions;
    engine::RemoteRegions remote;  // what the peer may reach; touched on the socket's core only

    // ---- control plane, guarded by the mutex; never held during an upcall or a wait. A
    // registration with the connection's device is made under it: who closes the socket waits for that.
    std::mutex mutex;
    State state = State::kFree;
    engine::Address local;
    SocketOptions options;
    DWORD catalog_entry = 0;  // what WPUCreateSocketHandle was told, 0 if nobody told us

    // events
    WSAEVENT event = nullptr;
    LONG event_mask = 0;
    LONG recorded = 0;         // FD_* that happened since the last enumeration
    bool accept_armed = true;  // FD_ACCEPT may be indicated; re-armed by WSPAccept
    bool connect_unreported = false;
    int connect_error = 0;
    std::uint32_t event_version = 0;  // of the registration; a late signal finds another one
    std::atomic<std::uint32_t> signalling{0};  // signals of `event` that are running now

    // listening
    int backlog = 0;
    int undecided = 0;  // requests that WSPAccept has taken out and the switch is being asked about
    RequestList requests;
    std::unique_ptr<engine::Listening> listening;

    // connecting
    std::shared_ptr<engine::OutgoingConnection> outgoing;
    LPWSABUF callee_data = nullptr;  // the caller's buffer for the peer's data

    // connected
    engine::Why why = engine::Why::kOnlyFabric;  // it has its fabric

    // WSPAccept or WSPSocket is filling it, and nobody closes it meanwhile: its descriptor has not been given out.
    bool in_the_making = false;

    // duplicating
    bool swapping =
        false;  // WSPDuplicateSocket is running; it does what a close has to do meanwhile
    engine::PostGate::View closed_while_swapping{};

    // closing
    std::atomic<std::uint32_t> gone{0};  // the endpoint is closed and its last upcall made
    std::atomic<bool> finish_on_notifier{
        false};                             // the closing thread is the notifier: it cannot wait
    std::atomic<std::uint32_t> endings{0};  // of the record, ever: each comes after the last upcall

    /// The generation (upper 32 bits, odd while live) and the index plus one.
    [[nodiscard]] SOCKET descriptor(std::uint32_t generation) const noexcept {
        return (static_cast<SOCKET>(generation) << 32) | (index + 1U);
    }
    [[nodiscard]] engine::EndpointOwner owner(std::uint32_t generation) noexcept {
        engine::EndpointOwner result;
        result.owner = this;
        result.slot = &endpoint;
        result.core_slot = &core;
        result.token_slot = &token;
        result.registrar_slot = &registrar;
        result.gate = &gate;
        result.generation = generation;
        result.handle = descriptor(generation);
        result.saturation = &saturation;
        result.regions = &regions;
        result.remote = &remote;
        return result;
    }
};

/// The core of the record's connection; nullptr if it has never had one. Any thread; the core lives while the engine is kept
/// (EngineUse, EngineStay).
[[nodiscard]] inline engine::PollingCore* core_of(const Socket& socket) noexcept {
    // Acquire pairs with the release in PollingCore::introduce().
    return socket.endpoint.load(std::memory_order_acquire) != nullptr
               ? socket.core.load(std::memory_order_relaxed)
               : nullptr;
}

}  // namespace sanpoll::provider
