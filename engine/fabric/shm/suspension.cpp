#include "engine/fabric/shm/suspension.hpp"

#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint64_t kLookAgainMs = 1;  // while a long message is being finished

ControlMessage suspended_message(std::uint32_t serial, SuspendAnswer answer) noexcept {
    ControlMessage message;
    message.kind = MessageKind::kSuspended;
    message.serial = serial;
    message.status = static_cast<std::uint32_t>(answer);
    return message;
}

}  // namespace

Suspensions::Item Suspensions::find(const Peer& leaver, std::uint32_t serial) {
    return std::find_if(list_.begin(), list_.end(), [&](const Suspension& one) {
        return one.leaver == &leaver && one.serial == serial;
    });
}

// The peer at our end of a lifeline has nothing to do any more. What it carries was dealt with before.
void Suspensions::cut(const Peer* lifeline) {
    if (lifeline != nullptr) {
        fabric_.end_peer(*lifeline);
    }
}

void Suspensions::take_suspend(Peer& peer, const ControlMessage& message) {
    ShmPort& port = peer.port();
    const std::uint32_t id = message.acceptor_id;
    // If both ends leave at once, the one of the greater name goes first; with itself an engine goes by the
    // connections' names. Both ends come to the same result.
    const int order =
        std::memcmp(message.engine_id, fabric_.engine_id(), sizeof(message.engine_id));
    const bool they_win = order != 0 ? order > 0 : message.connector_id > id;
    if (find(peer, message.serial) != list_.end()) {
        peer.send(suspended_message(message.serial, SuspendAnswer::kGone));
        return;
    }
    // Its entry first: without memory for it nothing has been done.
    try {
        list_.emplace_back();
    } catch (const std::bad_alloc&) {
        peer.send(suspended_message(message.serial, SuspendAnswer::kNoMemory));
        return;
    }
    Hold hold = Hold::kGone;
    on_core(port, [&]() noexcept { hold = port.suspend(id, *peer.link(), they_win); });
    if (hold == Hold::kBusy || hold == Hold::kGone) {
        list_.pop_back();
        peer.send(suspended_message(
            message.serial, hold == Hold::kBusy ? SuspendAnswer::kBusy : SuspendAnswer::kGone));
        return;
    }
    Suspension& one = list_.back();
    one.serial = message.serial;
    one.id = id;
    one.port = &port;
    one.leaver = &peer;
    answer_when_held(peer.weak_from_this(), message.serial, id);
}

bool Suspensions::look_again_later(const std::weak_ptr<Peer>& leaver, std::uint32_t serial,
                                   std::uint32_t id) noexcept {
    try {
        fabric_.control().add_timer(
            kLookAgainMs, [this, leaver, serial, id] { answer_when_held(leaver, serial, id); });
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

void Suspensions::answer_when_held(const std::weak_ptr<Peer>& leaver, std::uint32_t serial,
                                   std::uint32_t id) noexcept {
    const std::shared_ptr<Peer> peer = leaver.lock();
    if (!peer || peer->state() != Peer::State::kReady) {
        return;
    }
    const Item found = find(*peer, serial);
    if (found == list_.end()) {
        return;  // taken back meanwhile
    }
    ShmPort& port = peer->port();
    Counts counts;
    Hold hold = Hold::kGone;
    on_core(port, [&]() noexcept { hold = port.suspended(id, *peer->link(), counts); });
    SuspendAnswer said = SuspendAnswer::kGone;
    Descriptor far_end;
    if (hold == Hold::kFinishing) {
        if (look_again_later(leaver, serial, id)) {
            return;
        }
        said = SuspendAnswer::kNoMemory;
    } else if (hold == Hold::kHeld) {
        said = open_lifeline(*found, far_end);
    }
    ControlMessage answer = suspended_message(serial, said);
    if (said != SuspendAnswer::kHeld) {
        if (said != SuspendAnswer::kGone) {
            on_core(port, [&]() noexcept { port.go_on(id, *peer->link()); });
        }
        list_.erase(found);
        peer->send(answer);
        return;
    }
    std::memcpy(answer.engine_id, fabric_.engine_id(), sizeof(answer.engine_id));
    std::memcpy(answer.secret, found->secret, sizeof(answer.secret));
    answer.port = fabric_.index_of(port);
    answer.sent = counts.sent;
    answer.arrived = counts.arrived;
    peer->send(answer, std::move(far_end));
}

SuspendAnswer Suspensions::open_lifeline(Suspension& suspension, Descriptor& far_end) noexcept {
    try {
        int ends[2];
        if (::getrandom(suspension.secret, sizeof(suspension.secret), 0) !=
                static_cast<ssize_t>(sizeof(suspension.secret)) ||
            ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
            const int error = errno;
            log(LogLevel::kError, "a peer's connection cannot change process: {}",
                descriptor_error("its new process", error));
            return no_descriptors(error) ? SuspendAnswer::kNoDescriptors : SuspendAnswer::kNoMemory;
        }
        far_end = Descriptor(ends[1]);
        // On the connection's port: should it become a link, it has to be one of the same core.
        suspension.lifeline = fabric_.expect_peer(ends[0], *suspension.port);
    } catch (const std::bad_alloc&) {
        suspension.lifeline = nullptr;
    }
    return suspension.lifeline != nullptr ? SuspendAnswer::kHeld : SuspendAnswer::kNoMemory;
}

void Suspensions::take_stay(Peer& peer, const ControlMessage& message) {
    const Item found = find(peer, message.serial);
    if (found == list_.end()) {
        return;
    }
    const Peer* lifeline = found->lifeline;
    const std::uint32_t id = found->id;
    list_.erase(found);
    on_core(peer.port(), [&]() noexcept { peer.port().go_on(id, *peer.link()); });
    cut(lifeline);
}

void Suspensions::take_left(Peer& peer, const ControlMessage& message) {
    const Item found = find(peer, message.serial);
    if (found == list_.end() || found->lifeline == nullptr) {
        // The next process was faster, and the connection is not on this link any more. Or nobody holds the
        // lifeline any more, or it leaves without having been let go: then nobody will come.
        on_core(peer.port(),
                [&]() noexcept { peer.port().peer_abandoned(message.acceptor_id, *peer.link()); });
        return;
    }
    found->leaver = nullptr;
    on_core(peer.port(), [&]() noexcept { peer.port().let_go(found->id, *peer.link()); });
}

void Suspensions::take_resume(Peer& peer, const ControlMessage& message) {
    const Item found = std::find_if(list_.begin(), list_.end(), [&](const Suspension& one) {
        return one.lifeline != nullptr && one.secret[0] == message.secret[0] &&
               one.secret[1] == message.secret[1];
    });
    ControlMessage answer;
    answer.kind = MessageKind::kAnswer;
    answer.connector_id = message.connector_id;
    answer.status = 2;
    if (found == list_.end() || found->port != &peer.port()) {
        peer.send(answer);
        return;
    }
    const Suspension one = *found;
    list_.erase(found);
    ShmPort& port = peer.port();
    bool resumed = false;
    on_core(port, [&]() noexcept {
        resumed = port.go_on_with(one.id, *peer.link(), message.connector_id,
                                  {message.sent, message.arrived}, message.credit, answer.credit);
    });
    if (resumed) {
        answer.status = 0;
        answer.acceptor_id = one.id;
    }
    peer.send(answer);
    if (one.lifeline != &peer) {
        cut(one.lifeline);
    }
}

void Suspensions::peer_ended(const Peer& peer) {
    for (auto one = list_.begin(); one != list_.end();) {
        if (one->leaver != &peer && one->lifeline != &peer) {
            ++one;
            continue;
        }
        const Suspension lost = *one;
        one = list_.erase(one);
        // One whose own end is on its way takes its link along.
        if (lost.leaver != nullptr && lost.leaver != &peer &&
            lost.leaver->state() == Peer::State::kReady) {
            // Its lifeline only: it stays (or has just left, and kLeft is on its way).
            on_core(*lost.port,
                    [&]() noexcept { lost.port->go_on(lost.id, *lost.leaver->link()); });
            continue;
        }
        on_core(*lost.port, [&]() noexcept { lost.port->reset_suspended(lost.id); });
        if (lost.lifeline != &peer) {
            cut(lost.lifeline);  // ends nothing of the list: its entry is gone
            one = list_.begin();
        }
    }
}

}  // namespace sanpoll::engine::shm
