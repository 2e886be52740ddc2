// Connections of this process on their way to another one.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "engine/fabric/shm/descriptor.hpp"
#include "engine/fabric/shm/frozen.hpp"
#include "engine/fabric/shm/rendezvous.hpp"
#include "engine/status.hpp"

namespace sanpoll::engine::shm {

struct Connection;
class Peer;
class ShmFabric;

/// What WSPDuplicateSocket asks of the fabric; suspension.hpp tells the whole story.
struct Departure {
    Connection* connection = nullptr;  // its owner waits, so it stays
    int process = 0;
    std::vector<std::byte> passenger;
    std::function<void(Status, std::uint32_t token)> on_result;  // once, on the control thread
};

/// Until the peer has let go, everything can be taken back: a departure that fails leaves the connection as
/// it was. Control thread only.
///
///   waiting --kSuspend--> asked --kSuspended--> (frozen, entered at Exports, taken out: kLeft) ok
///      ^--- busy --------------'--- deadline, refusal, end of the peer: kStay --> failed
class Departures {
public:
    explicit Departures(ShmFabric& fabric) : fabric_(fabric) {}
    Departures(const Departures&) = delete;
    Departures& operator=(const Departures&) = delete;

    void begin(Departure departure);
    /// Takes over the descriptor; `lost`: it has come, and could not be taken. False: no honest peer says this.
    [[nodiscard]] bool take_suspended(Peer& peer, const ControlMessage& message,
                                      Descriptor lifeline, bool lost);
    void peer_ended(const Peer& peer);
    void fail_all();

private:
    struct Underway {
        Departure what;
        std::uint32_t serial = 0;
        std::uint32_t peer_id = 0;
        std::shared_ptr<Peer> peer;  // asked; empty while waiting
        std::uint64_t deadline = 0;  // timers
        std::uint64_t nudge = 0;
    };
    using Item = std::list<Underway>::iterator;

    void attempt(std::uint32_t serial);
    void attempt_or_fail(std::uint32_t serial);
    void ask(Underway& one);
    void nudge(std::uint32_t serial);
    void fail(Item item, Status status);
    void refused(Item item, SuspendAnswer answer);
    void leave(Item item, const ControlMessage& message, Descriptor lifeline);
    void finish(Item item, Status status, std::uint32_t token);
    [[nodiscard]] Item find(std::uint32_t serial);

    ShmFabric& fabric_;
    std::uint32_t last_serial_ = 0;
    std::list<Underway> list_;
};

}  // namespace sanpoll::engine::shm
