// The life of a connection on its core: from its installation until nobody needs it.
#include <unistd.h>

#include <utility>

#include "engine/fabric/verbs/verbs_port.hpp"
#include "engine/remote_regions.hpp"

namespace sanpoll::engine::verbs {

namespace {

// How long a close may wait for the peer's device to have taken what was sent before it.
constexpr std::uint64_t kFarewellNs = 5'000'000'000;

// Probes in a row during which nothing of a send queue has ended, after which a peer over iWARP is given up: some ten
// seconds, about what InfiniBand's devices take.
constexpr std::uint32_t kStuckProbes = 2;

// The first request that has not ended ends with `status`, and so do those behind it, ended or not: nobody
// is told of a message that came behind one that did not.
template <typename State>
void end_from_first_unfinished(RequestQueue& queue, Status status) noexcept {
    bool unfinished = false;
    for (RequestQueue::Position at = queue.first(); at != queue.end(); at = queue.after(at)) {
        QueuedRequest& request = queue.at(at);
        unfinished |= static_cast<State>(request.state) != State::kFinished;
        if (unfinished) {
            request.state = static_cast<std::uint8_t>(State::kFinished);
            request.status = status;
            request.bytes = 0;
        }
    }
}

// Whether a long message that a receive was set aside for will never be whole.
bool lost_one(const Connection& connection) noexcept {
    for (RequestQueue::Position at = connection.receives.first(); at != connection.next_receive;
         at = connection.receives.after(at)) {
        if (static_cast<ReceiveState>(connection.receives.at(at).state) !=
            ReceiveState::kFinished) {
            return true;
        }
    }
    return false;
}

}  // namespace

void VerbsPort::install(Connection& connection) noexcept {
    connection.installed = true;
    table_[connection.index] = &connection;
}

bool VerbsPort::establish(Connection& connection, const PeerTerms& terms) noexcept {
    if (terms.buffers < kFewestBuffers || terms.buffers > kMostNews ||
        terms.buffer_bytes < kShortPacket) {
        return false;
    }
    connection.peer_buffers = terms.buffers;
    connection.buffers_allowed = terms.buffers;
    connection.peer_payload = std::min(
        kMaxPayload, terms.buffer_bytes - static_cast<std::uint32_t>(sizeof(PacketHeader)));
    connection.established = true;
    connection.mute = terms.speaks_first && !connection.heard;
    if (!connection.device->has_rnr() && !terms.speaks_first) {
        connection.credit_due = true;  // the first word is ours
    }
    // Before the gate opens: a post reads the slot after the gate has let it in.
    core_.introduce(connection);
    if (connection.registrar_slot != nullptr) {
        connection.registrar_slot->store(connection.keys.get(), std::memory_order_relaxed);
    }
    if (!connection.gate->open(connection.generation)) {
        return false;
    }
    if (connection.broken && connection.early == nullptr) {
        shut_gate(connection);
    }
    if (has_work(connection)) {
        queue(connection);
    }
    return true;
}

void VerbsPort::fail(Connection& connection, Status reason) noexcept {
    drain(*connection.queue);
    if (reason == Status::kReset && connection.device->transport() == Transport::kIwarp &&
        connection.ring.work_of(WorkKind::kRdma) != 0) {
        reason = Status::kTransportFailed;  // see ended_unexplained; news may come before the flush
    }
    // A completion with an error is closer to the cause.
    break_connection(connection, connection.failing ? connection.reason : reason);
}

void VerbsPort::answer(Connection& connection, Status reason) noexcept {
    drain(*connection.queue);
    connection.wish = Wish::kNone;
    if (connection.broken) {
        wish(connection, Wish::kStop);  // for some other reason meanwhile
    } else {
        break_connection(connection, connection.failing ? connection.reason : reason);
    }
}

void VerbsPort::abandon(Connection& connection) noexcept {
    connection.closing = true;
    connection.user_gone = true;
    drop_early(connection);
    if (!connection.broken) {
        connection.broken = true;
        wish(connection, Wish::kStop);
    }
    let_go(connection);
}

void VerbsPort::probe(Connection& connection) noexcept {
    const bool iwarp = !connection.device->has_rnr();
    if (iwarp) {
        drain(*connection.queue);  // an answer may have come that nobody has polled for
    }
    if (!usable(connection) || connection.closing || connection.mute) {
        return;
    }
    // InfiniBand's devices give up by themselves. iWARP's leave it to TCP, which has nothing left to send again
    // when the peer's host vanishes between the request of a READ and its answer: everything else waits for that.
    if (iwarp) {
        const bool stuck =
            !connection.ring.empty() && connection.ring.ended() == connection.ended_at_probe;
        connection.stuck_probes = stuck ? connection.stuck_probes + 1 : 0;
        connection.ended_at_probe = connection.ring.ended();
        if (connection.stuck_probes == kStuckProbes) {
            connection.error = IBV_WC_RETRY_EXC_ERR;  // what InfiniBand calls it
            counters_.errors[IBV_WC_RETRY_EXC_ERR].add();
            fail_later(connection, Status::kTransportFailed);
            return;
        }
    }
    // What fills the ring finds it out, too; a few work requests in it may have ended unnoticed.
    if (connection.probing || connection.ring.room() <= kRingReserve) {
        return;
    }
    connection.probing = true;
    // Nothing is written, so no key is needed, and the peer's core has nothing to do with it.
    ibv_send_wr& request = connection.ring.add(
        id_of(connection, WorkKind::kProbe), {WorkKind::kProbe, SendRing::kNoSlot, true, 0}, true);
    request.opcode = IBV_WR_RDMA_WRITE;
    request.num_sge = 0;
    ring_later(connection);
}

void VerbsPort::close(Endpoint& endpoint) noexcept {
    auto& connection = static_cast<Connection&>(endpoint);
    connection.closing = true;
    drop_early(connection);
    connection.credit_due = connection.stalled_due = connection.invite_due = false;
    connection.done_head = connection.done_tail;
    settle(connection);
    if (connection.broken || connection.failing) {
        let_go(connection);
        return;
    }
    // Everything that was sent before has reached the peer when the farewell has.
    connection.farewell_due = true;
    connection.keeps_awake = true;
    core_.keep_awake();
    connection.deadline_ns = core_.clock().now_ns() + kFarewellNs;
    connection.next_closing = std::exchange(closing_, &connection);
    (void)flush_control(connection);
    if (!core_.dedicated()) {
        ring_doorbells();
    }
}

// The farewell has reached the peer, or will never.
void VerbsPort::leave_closing(Connection& connection) noexcept {
    if (!connection.keeps_awake) {
        return;
    }
    connection.keeps_awake = false;
    connection.farewell_due = false;
    core_.let_sleep();
    for (Connection** at = &closing_; *at != nullptr; at = &(*at)->next_closing) {
        if (*at == &connection) {
            *at = connection.next_closing;
            break;
        }
    }
}

void VerbsPort::give_up_farewells() noexcept {
    const std::uint64_t now = core_.clock().now_ns();
    for (Connection* connection = closing_; connection != nullptr;) {
        Connection* next = connection->next_closing;
        if (now >= connection->deadline_ns) {
            break_connection(*connection, Status::kAborted);
        }
        connection = next;
    }
}

void VerbsPort::shut_gate(Connection& connection) noexcept {
    (void)connection.gate->break_off(connection.generation, connection.reason == Status::kReset
                                                                ? PostGate::State::kReset
                                                                : PostGate::State::kFailed);
}

void VerbsPort::break_connection(Connection& connection, Status reason) noexcept {
    if (connection.broken) {
        return;
    }
    connection.broken = true;
    connection.reason = reason;
    connection.credit_due = connection.stalled_due = connection.invite_due = false;
    connection.done_head = connection.done_tail;
    leave_closing(connection);
    // An announced message will never come, and what came behind it is not to be had without it.
    EarlyMessage** at = &connection.early;
    connection.early_tail = nullptr;
    while (*at != nullptr && !(*at)->announced) {
        connection.early_tail = *at;
        at = &(*at)->next;
    }
    EarlyMessage* lost = std::exchange(*at, nullptr);
    while (lost != nullptr) {
        free_early(std::exchange(lost, lost->next));
    }
    // Messages that are here already are delivered first: the gate stays open until they are. It is shut
    // before anybody learns of the end: who does finds it shut.
    if (connection.established && !connection.closing && connection.early == nullptr) {
        shut_gate(connection);
    }
    settle(connection);
    wish(connection, Wish::kStop);
}

// Something has ended that a connection waits for which is closing or broken: ends what is pending, unless
// the queue pair may still touch its memory.
void VerbsPort::settle(Connection& connection) noexcept {
    if (connection.user_gone || !(connection.closing || connection.broken)) {
        return;
    }
    const Status status = connection.closing ? Status::kAborted : connection.reason;
    if (!connection.sends_in_use()) {
        connection.exposed = 0;
        connection.sending_pieces = false;
        end_from_first_unfinished<SendState>(connection.sends, status);
        connection.next_send = connection.sends.end();
        complete_sends(connection);
    }
    if (!connection.receives_in_use() && lost_one(connection)) {
        drop_early(connection);
        if (!connection.closing) {
            shut_gate(connection);
        }
    }
    // A broken connection still gives out what has come before: see match_early.
    if (!connection.receives_in_use() && (connection.closing || connection.early == nullptr)) {
        connection.receiving_pieces = false;
        end_from_first_unfinished<ReceiveState>(connection.receives, status);
        connection.next_receive = connection.receives.end();
        complete_receives(connection);
    }
    // What is exposed stays within reach as long as the queue pair is there. It is not taken from the peer
    // before: the peer's RDMA would be refused, and the connection fail, before it hears of the close.
    if (connection.closing && connection.sends.empty() && connection.receives.empty() &&
        (connection.stopped || !connection.keys->exposes())) {
        finish_user(connection);
    }
}

void VerbsPort::finish_user(Connection& connection) noexcept {
    connection.user_gone = true;
    core_.endpoint_closed(connection);
    // The owner's memory is not ours any more.
    connection.slot = nullptr;
    connection.registrar_slot = nullptr;
    connection.gate = nullptr;
    connection.saturation = nullptr;
    connection.regions = nullptr;
    if (connection.remote != nullptr) {
        connection.remote->clear();
        connection.remote = nullptr;
    }
}

// Tells the control thread; a system call at a connection's end. The queue pair is not touched by the core
// any more.
void VerbsPort::wish(Connection& connection, Wish wish) noexcept {
    if (connection.wish == wish || connection.wish == Wish::kAsk) {
        return;
    }
    connection.wish = wish;
    connection.qp = nullptr;
    connection.next_ended = ended_.load(std::memory_order_relaxed);
    // Pairs with the acquire in take_ended().
    while (!ended_.compare_exchange_weak(connection.next_ended, &connection,
                                         std::memory_order_release, std::memory_order_relaxed)) {
    }
    const std::uint64_t one = 1;
    (void)!::write(ended_fd_, &one, sizeof(one));
}

// Gives it back if nobody needs it any more. Whoever takes it out of a list comes here again.
void VerbsPort::let_go(Connection& connection) noexcept {
    if (!connection.stopped || !connection.user_gone || connection.queued ||
        connection.in_doorbells || connection.failing) {
        return;
    }
    wish(connection, Wish::kDrop);
}

void VerbsPort::stopped(Connection& connection) noexcept {
    drain(*connection.queue);  // what had arrived, and what had ended well
    table_[connection.index] = nullptr;
    connection.stopped = true;
    settle(connection);
    let_go(connection);
}

}  // namespace sanpoll::engine::verbs
