#include "engine/fabric/shm/departure.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint64_t kTryAgainMs = 2;  // the peer's end is changing process itself
constexpr std::uint64_t kNudgeMs = 1;

ShmPort& port_of(const Departure& departure) noexcept {
    return static_cast<ShmPort&>(*departure.connection->port);
}

ControlMessage message_to(std::uint32_t peer_id, MessageKind kind, std::uint32_t serial) {
    ControlMessage message;
    message.kind = kind;
    message.acceptor_id = peer_id;
    message.serial = serial;
    return message;
}

}  // namespace

Departures::Item Departures::find(std::uint32_t serial) {
    return std::find_if(list_.begin(), list_.end(),
                        [&](const Underway& one) { return one.serial == serial; });
}

void Departures::begin(Departure departure) {
    Underway& one = list_.emplace_back();
    one.what = std::move(departure);
    one.serial = ++last_serial_;
    const std::uint32_t serial = one.serial;
    try {
        one.deadline = fabric_.control().add_timer(fabric_.config().connect_timeout_ms, [this,
                                                                                         serial] {
            const Item found = find(serial);
            found->deadline = 0;
            log(LogLevel::kWarn,
                "WSPDuplicateSocket: process {}, which has the other end, has not let the "
                "connection go within {} ms (connect_timeout_ms), so it stays here. Look whether "
                "that process is stopped, or in an upcall that does not return; then try again",
                found->peer ? found->peer->process() : 0, fabric_.config().connect_timeout_ms);
            fail(found, Status::kTimedOut);
        });
    } catch (const std::bad_alloc&) {
        fail(find(serial), Status::kNoMemory);
        return;
    }
    attempt_or_fail(serial);
}

void Departures::attempt_or_fail(std::uint32_t serial) {
    try {
        attempt(serial);
    } catch (const std::bad_alloc&) {
        // Nothing has been said to the peer.
        if (const Item found = find(serial); found != list_.end()) {
            found->peer.reset();
            fail(found, Status::kNoMemory);
        }
    }
}

void Departures::attempt(std::uint32_t serial) {
    const Item found = find(serial);
    if (found == list_.end()) {
        return;
    }
    Underway& one = *found;
    ShmPort& port = port_of(one.what);
    Link* link = nullptr;
    Hold hold = Hold::kGone;
    on_core(port,
            [&]() noexcept { hold = port.start_leaving(*one.what.connection, link, one.peer_id); });
    if (hold == Hold::kBusy) {
        fabric_.control().add_timer(kTryAgainMs, [this, serial] { attempt_or_fail(serial); });
        return;
    }
    one.peer = hold == Hold::kHeld ? fabric_.peer_of(link) : nullptr;
    if (!one.peer) {
        fail(found, Status::kNotOpen);
        return;
    }
    ControlMessage message = message_to(one.peer_id, MessageKind::kSuspend, serial);
    message.connector_id = one.what.connection->id;
    std::memcpy(message.engine_id, fabric_.engine_id(), sizeof(message.engine_id));
    one.nudge = fabric_.control().add_timer(kNudgeMs, [this, serial] { nudge(serial); });
    one.peer->send(message);
}

// If the peer has a long message to finish, somebody has to take in its pieces.
void Departures::nudge(std::uint32_t serial) {
    const Item found = find(serial);
    if (found == list_.end() || !found->peer) {
        return;
    }
    on_core(port_of(found->what), []() noexcept {});  // ends with a turn
    found->nudge = 0;
    try {
        found->nudge = fabric_.control().add_timer(kNudgeMs, [this, serial] { nudge(serial); });
    } catch (const std::bad_alloc&) {
        // Then others' turns are what it has, until its deadline.
    }
}

bool Departures::take_suspended(Peer& peer, const ControlMessage& message, Descriptor lifeline,
                                bool lost) {
    const auto answer = static_cast<SuspendAnswer>(message.status);
    if (answer > SuspendAnswer::kNoDescriptors ||
        (answer == SuspendAnswer::kHeld) != (lifeline || lost) ||
        (lifeline && !is_control_socket(lifeline.get()))) {
        return false;
    }
    const Item found = find(message.serial);
    if (found == list_.end() || found->peer.get() != &peer) {
        return true;  // we have changed our mind, and kStay is on its way
    }
    if (lost) {
        log(LogLevel::kWarn, "WSPDuplicateSocket: {}",
            descriptor_error("a connection that is to change process", EMFILE));
        fail(found, Status::kNoDescriptors);
    } else if (answer == SuspendAnswer::kHeld) {
        leave(found, message, std::move(lifeline));
    } else if (answer == SuspendAnswer::kBusy) {
        fabric_.control().cancel_timer(found->nudge);
        found->peer.reset();
        on_core(port_of(found->what), [&]() noexcept { found->what.connection->leaving = false; });
        fabric_.control().add_timer(kTryAgainMs,
                                    [this, serial = message.serial] { attempt_or_fail(serial); });
    } else {
        refused(found, answer);
    }
    return true;
}

void Departures::refused(Item item, SuspendAnswer answer) {
    const bool gone = answer == SuspendAnswer::kGone;
    if (!gone) {
        log(LogLevel::kWarn,
            "WSPDuplicateSocket: process {}, which has the other end, has no {}, so the connection "
            "stays here. Raise the limits of that process (its log names them), or try again when "
            "it needs less",
            item->peer->process(),
            answer == SuspendAnswer::kNoDescriptors ? "descriptors left for its next way"
                                                    : "memory for the change");
    }
    item->peer.reset();  // there is nothing to take back
    fail(item, gone                                      ? Status::kNotOpen
               : answer == SuspendAnswer::kNoDescriptors ? Status::kNoDescriptors
                                                         : Status::kNoMemory);
}

void Departures::leave(Item item, const ControlMessage& message, Descriptor lifeline) {
    Departure& what = item->what;
    ShmPort& port = port_of(what);
    ExportedState state;
    std::memcpy(state.engine_id, message.engine_id, sizeof(state.engine_id));
    std::memcpy(state.secret, message.secret, sizeof(state.secret));
    state.engine_port = message.port;
    state.passenger = what.passenger;
    Status status = Status::kOk;
    on_core(port, [&]() noexcept {
        status = port.freeze(*what.connection, {message.sent, message.arrived}, state.frozen);
    });
    std::uint32_t token = 0;
    if (status == Status::kOk) {
        status = fabric_.exports().add(state, lifeline, what.process, token);
    }
    if (status != Status::kOk) {
        if (status == Status::kTransportFailed) {
            log(LogLevel::kError,
                "WSPDuplicateSocket: this end of a connection and process {}'s do not agree on how "
                "many messages were sent, so it stays here. One of them has written what it should "
                "not into the link, or they are of different builds: let both load the same "
                "library; "
                "if they do, report this",
                item->peer->process());
        }
        fail(item, status == Status::kReset ? Status::kNotOpen : status);
        return;
    }
    // From here on it is the next process's.
    on_core(port, [&]() noexcept { port.take_out(*what.connection); });
    item->peer->send(message_to(item->peer_id, MessageKind::kLeft, item->serial));
    finish(item, Status::kOk, token);
}

void Departures::fail(Item item, Status status) {
    if (item->peer) {
        item->peer->send(message_to(item->peer_id, MessageKind::kStay, item->serial));
    }
    ShmPort& port = port_of(item->what);
    on_core(port, [&]() noexcept { port.stay(*item->what.connection); });
    finish(item, status, 0);
}

void Departures::finish(Item item, Status status, std::uint32_t token) {
    for (const std::uint64_t timer : {item->deadline, item->nudge}) {
        if (timer != 0) {
            fabric_.control().cancel_timer(timer);
        }
    }
    const auto on_result = std::move(item->what.on_result);
    list_.erase(item);
    on_result(status, token);
}

void Departures::peer_ended(const Peer& peer) {
    for (auto one = list_.begin(); one != list_.end();) {
        const Item item = one++;
        if (item->peer.get() == &peer) {
            item->peer.reset();
            fail(item, Status::kNotOpen);
        }
    }
}

void Departures::fail_all() {
    while (!list_.empty()) {
        fail(list_.begin(), Status::kNotOpen);
    }
}

}  // namespace sanpoll::engine::shm
