// Completions, and the turns of a port.
#include "engine/fabric/verbs/verbs_port.hpp"

#include <algorithm>
#include <utility>

namespace sanpoll::engine::verbs {

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
    if (connection.ring.chained()) [[unlikely]] {
        ring_later(connection);  // it may have waited for this
    }
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
    if (id.kind != WorkKind::kReceive && connection.device->transport() == Transport::kInfiniband) {
        // Those before it had ended well; it has not, but the device is through with it. Not so on iWARP: when
        // the stream has ended, Soft-iWARP says so of a READ that it could not send before it flushes those
        // that were under way, whose bytes have not come. There the queue pair's end is the work's.
        (void)connection.ring.retire(id.slot,
                                     [this, &connection](const SendRing::Entry& entry, bool last) {
                                         if (!last) {
                                             end_work(connection, entry);
                                         }
                                     });
    }
    const bool unexplained = connection.device->tells_no_cause(error);
    if (connection.error == 0 && !connection.broken) {
        connection.error = unexplained ? static_cast<std::uint32_t>(IBV_WC_WR_FLUSH_ERR) : error;
        connection.vendor_error = completion.vendor_error;
    }
    if (unexplained) {
        ended_unexplained(connection);
    } else {
        fail_later(connection, meaning_of(error).status);
    }
    settle(connection);
}

// The queue pair has ended, and its completions do not tell why.
void VerbsPort::ended_unexplained(Connection& connection) noexcept {
    const Device& device = *connection.device;
    if (device.has_rnr() || device.lost() || connection.ring.work_of(WorkKind::kRdma) != 0) {
        // InfiniBand's queue pairs do not follow the peer's when it goes: something here has failed. iWARP's
        // end with the peer's, and also when the peer's device refuses RDMA, which nothing else tells.
        fail_later(connection, Status::kTransportFailed);
    } else if (connection.closing) {
        fail_later(connection, Status::kReset);
    } else if (usable(connection)) {
        // The peer has gone, or this end's device has refused it something: the device may have said so.
        wish(connection, Wish::kAsk);
    }
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
            // On iWARP it is only with TCP. There the peer ends the stream when it has taken it.
            if (connection.device->transport() == Transport::kInfiniband) {
                break_connection(connection, Status::kAborted);
            }
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
