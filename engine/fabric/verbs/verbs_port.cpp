// Completions, and the life of a connection on its core.
#include "engine/fabric/verbs/verbs_port.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "engine/remote_regions.hpp"

namespace sanpoll::engine::verbs {

namespace {

// How long a close may wait for the peer's device to have taken what was sent before it.
constexpr std::uint64_t kFarewellNs = 5'000'000'000;

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

// ---- life -------------------------------------------------------------------------------------------

void VerbsPort::install(Connection& connection) noexcept {
    connection.installed = true;
    table_[connection.index] = &connection;
}

bool VerbsPort::establish(Connection& connection, const PeerTerms& terms) noexcept {
    if (terms.buffers < kFewestBuffers || terms.buffers > UINT16_MAX ||
        terms.buffer_bytes < kShortPacket) {
        return false;
    }
    connection.peer_buffers = terms.buffers;
    connection.buffers_allowed = terms.buffers;
    connection.peer_payload = std::min(
        kMaxPayload, terms.buffer_bytes - static_cast<std::uint32_t>(sizeof(PacketHeader)));
    connection.established = true;
    // Before the gate opens: a post reads the slot after the gate has let it in.
    connection.slot->store(&connection, std::memory_order_relaxed);
    connection.core_slot->store(&core_, std::memory_order_relaxed);
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
    // A completion with an error is closer to the cause.
    break_connection(connection, connection.failing ? connection.reason : reason);
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
    // What fills the ring finds it out, too; a few work requests in it may have ended unnoticed.
    if (!usable(connection) || connection.closing || connection.probing ||
        connection.ring.room() <= kRingReserve) {
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
    if (connection.wish == wish) {
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

// ---- completions ------------------------------------------------------------------------------------

Connection* VerbsPort::find(const WorkRequestId& id) noexcept {
    Connection* connection = id.index < table_.size() ? table_[id.index] : nullptr;
    if (connection == nullptr || connection->incarnation != id.generation) [[unlikely]] {
        return nullptr;
    }
    return connection;
}

std::uint32_t VerbsPort::poll_queue(CompletionQueue& queue, std::uint32_t budget) noexcept {
    if (queue.failed()) [[unlikely]] {
        return 0;
    }
    const int taken = queue.poll(
        budget, [this](const WorkCompletion& completion) { take_completion(completion); });
    if (taken < 0) [[unlikely]] {
        queue_failed(queue);
        return 0;
    }
    return static_cast<std::uint32_t>(taken);
}

void VerbsPort::drain(CompletionQueue& queue) noexcept {
    // At most what fits: the peers may go on sending.
    for (std::uint32_t left = CompletionQueue::kEntries; left != 0;) {
        const std::uint32_t taken = poll_queue(queue, std::min(left, 64U));
        if (taken == 0) {
            break;
        }
        left -= taken;
    }
}

void VerbsPort::take_completion(const WorkCompletion& completion) noexcept {
    const WorkRequestId id = WorkRequestId::unpack(completion.id);
    Connection* connection = find(id);
    if (connection == nullptr) [[unlikely]] {
        counters_.stale_completions.add();
        return;
    }
    if (completion.status != IBV_WC_SUCCESS) [[unlikely]] {
        take_error(*connection, id, completion);
        return;
    }
    if (id.kind == WorkKind::kReceive) [[likely]] {
        take_packet(*connection, id.slot, completion.bytes);
    } else if (!connection->ring.retire(id.slot,
                                        [this, connection](const SendRing::Entry& entry, bool) {
                                            end_work(*connection, entry);
                                        })) [[unlikely]] {
        counters_.stale_completions.add();
        return;
    }
    after_completion(*connection);
}

void VerbsPort::after_completion(Connection& connection) noexcept {
    if (connection.broken || connection.closing) [[unlikely]] {
        settle(connection);
    }
    if (has_work(connection)) {
        queue(connection);
    }
}

void VerbsPort::take_error(Connection& connection, const WorkRequestId& id,
                           const WorkCompletion& completion) noexcept {
    const std::uint32_t error = completion.status;
    counters_.errors[std::min(error, kWorkStatuses)].add();
    const bool rdma = connection.ring.work_of(WorkKind::kRdma) != 0;
    if (id.kind != WorkKind::kReceive) {
        // Those before it had ended well; it has not, but the device is through with it.
        (void)connection.ring.retire(
            id.slot, [this, &connection, &id](const SendRing::Entry& entry, bool last) {
                if (!last) {
                    end_work(connection, entry);
                }
            });
    }
    Status reason = meaning_of(error).status;
    if (error == IBV_WC_WR_FLUSH_ERR &&
        (connection.device->has_rnr() || connection.device->lost() || rdma)) {
        // InfiniBand's queue pairs do not follow the peer's when it goes: something here has failed. iWARP's
        // end with the peer's, and also when the peer's device refuses RDMA, which nothing else tells.
        reason = Status::kTransportFailed;
    }
    if (connection.error == 0 && !connection.broken) {
        connection.error = error;
        connection.vendor_error = completion.vendor_error;
    }
    fail_later(connection, reason);
    settle(connection);
}

void VerbsPort::end_work(Connection& connection, const SendRing::Entry& entry) noexcept {
    if (entry.long_slot != SendRing::kNoSlot) {
        connection.free_long[connection.free_long_count++] = entry.long_slot;
    }
    switch (entry.kind) {
        case WorkKind::kRead:
            end_read(connection, entry);
            break;
        case WorkKind::kRdma:
            end_rdma(connection, entry);
            break;
        case WorkKind::kFarewell:
            break_connection(connection, Status::kAborted);
            break;
        case WorkKind::kProbe:
            connection.probing = false;
            break;
        default:
            break;
    }
}

// An error overtakes what has arrived before: it takes effect when that has been taken in.
void VerbsPort::fail_later(Connection& connection, Status reason) noexcept {
    if (connection.broken || connection.failing) {
        return;
    }
    connection.failing = true;
    connection.reason = reason;
    connection.next_failing = std::exchange(failing_, &connection);
}

void VerbsPort::break_failing() noexcept {
    while (failing_ != nullptr) {
        Connection* connection = failing_;
        drain(*connection->queue);
        // Others may have come meanwhile, in front of it.
        for (Connection** at = &failing_; *at != nullptr; at = &(*at)->next_failing) {
            if (*at == connection) {
                *at = connection->next_failing;
                break;
            }
        }
        connection->failing = false;
        break_connection(*connection, connection->reason);
        let_go(*connection);
    }
}

// The peer broke the protocol. Only this connection suffers.
void VerbsPort::lie(Connection& connection) noexcept {
    counters_.lying_peers.add();
    break_connection(connection, Status::kReset);
}

void VerbsPort::queue_failed(CompletionQueue& queue) noexcept {
    queue.mark_failed();
    queue.device().mark_lost();
    for (Connection* connection : table_) {
        if (connection != nullptr && connection->queue == &queue) {
            break_connection(*connection, Status::kTransportFailed);
        }
    }
}

// ---- FabricPort -------------------------------------------------------------------------------------

void VerbsPort::post(Endpoint& endpoint, const WorkRequest& request) noexcept {
    auto& connection = static_cast<Connection&>(endpoint);
    if (request.opcode == Opcode::kSend) {
        post_send(connection, request);
    } else if (request.opcode == Opcode::kReceive) {
        post_receive(connection, request);
    } else {
        post_rdma(connection, request);
    }
    // A dedicated core takes all posts of a turn first and polls after them: one doorbell for all. Else
    // nobody may poll for a while.
    if (!core_.dedicated()) {
        ring_doorbells();
    }
}

std::uint32_t VerbsPort::poll(std::uint32_t budget) noexcept {
    std::uint32_t work = 0;
    for (CompletionQueue* queue : queues_) {
        work += poll_queue(*queue, budget);
    }
    if (failing_ != nullptr) [[unlikely]] {
        break_failing();
    }
    // One pass over what is queued now; what queues itself again waits for the next turn.
    Connection* connection = queued_head_;
    queued_head_ = queued_tail_ = nullptr;
    while (connection != nullptr) {
        Connection* next = connection->next_queued;
        connection->queued = false;
        connection->next_queued = nullptr;
        service(*connection);
        connection = next;
    }
    if (closing_ != nullptr) [[unlikely]] {
        give_up_farewells();
    }
    ring_doorbells();
    return work + std::exchange(moved_, 0);
}

void VerbsPort::arm() noexcept {
    armed_ = true;
    for (CompletionQueue* queue : queues_) {
        if (!queue->failed() && !queue->arm()) [[unlikely]] {
            queue_failed(*queue);
        }
    }
}

void VerbsPort::disarm() noexcept {
    armed_ = false;
    for (CompletionQueue* queue : queues_) {
        queue->take_events();
    }
}

}  // namespace sanpoll::engine::verbs
