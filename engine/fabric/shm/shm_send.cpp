// The sending half of the shared-memory fabric.
#include <algorithm>

#include "engine/fabric/shm/direct_messages.hpp"
#include "engine/fabric/shm/pieces.hpp"
#include "engine/fabric/shm/shm_port.hpp"
#include "engine/fabric/shm/staging_writer.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint32_t kSendsPerService = 32;

Completion completion_of(const Connection& connection, const WorkRequest& request, Status status,
                         std::uint32_t bytes) noexcept {
    return {connection.owner, request.context, bytes, status, request.flags};
}

}  // namespace

// As take_common: the message of one piece that may go now, in the turn line or in one slot. Nothing has been
// changed if it is not that. The piece's region is live.
inline bool ShmPort::send_common(Connection& connection, std::uint64_t address,
                                 std::uint32_t length) noexcept {
    if (length > turn_most_ || connection.broken || !connection.sends.empty() ||
        !connection.may_send(length <= kMaxInRing)) [[unlikely]] {
        return false;
    }
    Link& link = *connection.link;
    const auto* from = reinterpret_cast<const std::byte*>(address);
    if (!link.turn.mine() || !write_turn(connection, from, length)) {
        if (length > kHeadBytes || !link.sender.room_for_message(1)) {
            return false;
        }
        link.sender.put_short_quietly(header_for(connection, RecordKind::kMessage, length), from);
    }
    link.sender.ring_doorbell();
    ++connection.sent;
    counters_.messages_sent.add();
    counters_.bytes_sent.add(length);
    return true;
}

// Where the other end is on this core too, which both ends' names for each other tell well enough for hints: asks for the lines
// that the message and its end will be written to, long before they are. Who waits for it looks at the latter all the while.
void ShmPort::fetch_lines_beside(const Connection& connection) const noexcept {
    const Connection* const other = table_[place_of(connection.peer_id)];
    if (other == nullptr || other->id != connection.peer_id || other->peer_id != connection.id ||
        other->link == connection.link || other->receives.empty()) {
        return;
    }
    const QueuedRequest& front = other->receives.front();
    claim_line(front.context);
    claim_line(front.sge[0].address);
}

void ShmPort::post(Endpoint& endpoint, const WorkRequest& request) noexcept {
    auto& connection = static_cast<Connection&>(endpoint);
    if (request.opcode == Opcode::kSend) {
        if (config_.mode != Mode::kInline && (request.flags & kCarried) == 0) {
            fetch_lines_beside(connection);
        }
        const Sge& piece = request.sge[0];
        if ((request.flags & kCarried) != 0) {
            // Its bytes came along, and so did the right to read them.
            if (deliver_beside(connection, source_of(request), piece.length)) [[likely]] {
                core_.complete_behind(
                    completion_of(connection, request, Status::kOk, piece.length));
                return;
            }
            core_.end_behind();  // it may end at once, and not before a send in front of it
            claim_line(request.context);  // the result's, which there is at once for most
        }
        // The region may have been deregistered between the poster's check and now; its memory may be gone.
        if (request.sge_count == 1 &&
            (piece.length == 0 || connection.regions->live(piece.region)) &&
            send_common(connection, source_of(request), piece.length)) [[likely]] {
            core_.complete(completion_of(connection, request, Status::kOk, request.length));
        } else {
            post_send(connection, request);
        }
    } else if (request.opcode == Opcode::kReceive) {
        post_receive(connection, request);
    } else {
        post_rdma(connection, request);
    }
}

// These two apart, so that the direct way needs no room for a request.
[[gnu::noinline]] bool ShmPort::may_post(const Connection& connection, Opcode opcode,
                                         std::uint32_t length) const noexcept {
    const Saturation& saturation = *connection.saturation;
    return opcode == Opcode::kSend
               ? length <= config_.max_message && !saturation.sends.load(std::memory_order_relaxed)
               : !saturation.receives.load(std::memory_order_relaxed);
}

[[gnu::noinline]] void ShmPort::post_whole(Connection& connection, Opcode opcode,
                                           std::uint64_t context, Sge piece) noexcept {
    if (opcode == Opcode::kSend && send_common(connection, piece.address, piece.length)) {
        core_.complete_polled(context, piece.length);
        return;
    }
    const WorkRequest request = request_of_one(opcode, context, piece);
    if (opcode == Opcode::kSend) {
        post_send(connection, request);
    } else {
        post_receive(connection, request);
    }
}

void ShmPort::post_send(Connection& connection, const WorkRequest& request) noexcept {
    if (connection.broken) [[unlikely]] {
        core_.complete(completion_of(connection, request, connection.reason, 0));
        return;
    }
    // The region may have been deregistered between the poster's check and now; its memory may be gone.
    for (std::uint32_t i = 0; i < request.sge_count; ++i) {
        const Sge& piece = request.piece(i);
        if (piece.length != 0 && !connection.regions->live(piece.region)) [[unlikely]] {
            core_.complete(completion_of(connection, request, Status::kBadRegion, 0));
            return;
        }
    }
    const bool in_ring = request.length <= kMaxInRing;
    if (connection.sends.empty() && connection.may_send(in_ring) &&
        request.length <= config_.eager_max) [[likely]] {
        bool done = false;
        if (request.sge_count <= kInlineSges) [[likely]] {
            done = try_send(connection, request.sge, request.sge_count, request.length);
        } else {
            Sge pieces[kMaxSges];
            for (std::uint32_t i = 0; i < request.sge_count; ++i) {
                pieces[i] = request.piece(i);
            }
            done = try_send(connection, pieces, request.sge_count, request.length);
        }
        if (done) [[likely]] {
            // The bytes are in the peer's hands: the buffers are free again.
            core_.complete(completion_of(connection, request, Status::kOk, request.length));
            return;
        }
    }
    if (!connection.sends.push(request)) [[unlikely]] {
        core_.complete(completion_of(connection, request, Status::kNoMemory, 0));
        return;
    }
    connection.stop_direct_sends();
    for (std::uint32_t i = 0; i < request.sge_count; ++i) {
        if (request.piece(i).length != 0) {
            (void)connection.regions->hold(request.piece(i).region);
        }
    }
    if (connection.sends.size() == config_.queue_depth) [[unlikely]] {
        connection.saturation->sends.store(true, std::memory_order_relaxed);
    }
    if (connection.long_state == Connection::Long::kSending) {
        describe_behind(connection);  // its pieces have their turn
    } else if (connection.sends.size() == 1 || connection.described != 0) {
        progress_sends(connection);
    }
}

// Sends a message that needs no invitation. False when ring or staging has no room now.
bool ShmPort::try_send(Connection& connection, const Sge* pieces, std::uint32_t count,
                       std::uint32_t length) noexcept {
    LinkSender& sender = connection.link->sender;
    if (length <= kMaxInRing) {
        if (!sender.room_for_message(slots_for(length))) [[unlikely]] {
            return false;
        }
        sender.put_message(header_for(connection, RecordKind::kMessage, length), pieces, count);
    } else {
        if (!sender.room_for_message(1)) {
            return false;
        }
        std::byte* staging = sender.staging_for(length);
        if (staging == nullptr) {
            return false;
        }
        StagingWriter writer(staging, length);
        for (std::uint32_t i = 0; i < count; ++i) {
            writer.add(reinterpret_cast<const void*>(pieces[i].address), pieces[i].length);
        }
        sender.put_staged(header_for(connection, RecordKind::kStaged, length));
    }
    ++connection.sent;
    counters_.messages_sent.add();
    counters_.bytes_sent.add(length);
    return true;
}

// One step for the first pending send that has not been described. True when it has completed, or has been.
bool ShmPort::send_front(Connection& connection) noexcept {
    bool able = false;
    if (connection.long_state == Connection::Long::kSending) {
        describe_behind(connection);
        return send_pieces(connection);
    }
    if (connection.described != 0) {
        return describe_next(connection, able);
    }
    if (connection.long_state == Connection::Long::kAnnounced) {
        return false;
    }
    const QueuedRequest& front = connection.sends.front();
    if (front.opcode != Opcode::kSend) [[unlikely]] {
        return progress_rdma(connection);
    }
    const bool announce = front.length > config_.eager_max;
    if (!connection.may_send(announce || front.length <= kMaxInRing)) {
        wait_for_credit(connection);
        return false;
    }
    if (announce) {
        if (!connection.link->lent.empty() || connection.link->copy.theirs) {
            const bool described = describe_next(connection, able);
            if (able) {
                return described;
            }
        }
        if (!connection.link->sender.room_for_message(1)) {
            counters_.full_rings.add();
            queue(connection);
            return false;
        }
        connection.link->sender.put_control(
            header_for(connection, RecordKind::kAnnounce, front.length));
        ++connection.sent;
        connection.long_state = Connection::Long::kAnnounced;
        connection.progress = 0;
        return false;
    }
    Sge pieces[kMaxSges];
    for (std::uint32_t i = 0; i < front.sge_count; ++i) {
        pieces[i] = connection.sends.piece(i);
    }
    if (!try_send(connection, pieces, front.sge_count, front.length)) {
        counters_.full_rings.add();
        queue(connection);
        return false;
    }
    ++moved_;
    complete_send(connection, Status::kOk, front.length);
    return true;
}

// Stages the next pieces of a long message: a few a turn, so that other connections have their turn.
bool ShmPort::send_pieces(Connection& connection) noexcept {
    LinkSender& sender = connection.link->sender;
    const QueuedRequest& front = connection.sends.front();
    const std::uint32_t whole = piece_bytes(front.length);
    for (std::uint32_t bytes = 0; bytes < kPiecesPerTurn * kPieceBytes; bytes += whole) {
        const std::uint32_t length = std::min(front.length - connection.progress, whole);
        std::byte* to = sender.room_for_message(1) ? sender.staging_for(length) : nullptr;
        if (to == nullptr) {
            break;
        }
        StagingWriter writer(to, length);
        for_each_piece(connection.sends, connection.progress, length,
                       [&writer](std::uint64_t from, std::uint32_t step) {
                           writer.add(reinterpret_cast<const void*>(from), step);
                       });
        sender.put_staged(header_for(connection, RecordKind::kPiece, length));
        connection.progress += length;
        ++moved_;
        if (connection.progress == front.length) {
            if (connection.described != 0) {
                forget_described(connection, 1);
            }
            if (connection.wanted_ahead) {
                connection.wanted_ahead = false;
                connection.progress = 0;
            } else {
                connection.long_state = Connection::Long::kIdle;
            }
            counters_.messages_sent.add();
            counters_.bytes_sent.add(front.length);
            complete_send(connection, Status::kOk, front.length);
            return true;
        }
    }
    queue(connection);
    return false;
}

void ShmPort::progress_sends(Connection& connection) noexcept {
    for (std::uint32_t n = 0;
         !connection.sends.empty() && !connection.broken && !connection.held_back(); ++n) {
        if (n == kSendsPerService) {
            queue(connection);
            return;
        }
        if (!send_front(connection)) {
            break;
        }
    }
    if (connection.link != nullptr && connection.link->sender.corrupt()) [[unlikely]] {
        fail_link(*connection.link, "it claims to have read what was never written");
    }
}

void ShmPort::wait_for_credit(Connection& connection) noexcept {
    if (!connection.stalled) {
        counters_.stalls.add();
        connection.stalled = true;
        connection.stall_due = true;
        if (!flush_control(connection)) {
            queue(connection);
        }
    }
}

void ShmPort::take_credit(Connection& connection, std::uint32_t credit) noexcept {
    if (static_cast<std::int32_t>(credit - connection.credit) <= 0) {
        return;
    }
    connection.credit = credit;
    connection.stalled = false;
    connection.stall_due = false;
    if (!connection.sends.empty()) {
        queue(connection);
    } else {
        connection.allow_direct_sends();
    }
}

// Writes what is due besides messages. False when the ring had no room for all of it.
bool ShmPort::flush_control(Connection& connection) noexcept {
    if (connection.link == nullptr) {
        connection.invite_due = connection.credit_due = connection.stall_due = false;
        connection.farewell_due = connection.failure_due = false;
        connection.confirm_due = connection.confirmed_due = false;
        connection.copied_due = 0;
        return true;
    }
    // A message may have said it since.
    connection.credit_due = connection.credit_due && connection.granted != connection.reported;
    LinkSender& sender = connection.link->sender;
    const auto put = [&](auto& due, RecordKind kind, std::uint32_t length = 0) {
        if (due == 0) {
            return true;
        }
        if (!sender.room_for_control()) {
            return false;
        }
        due = 0;
        sender.put_control(header_for(connection, kind, length));
        connection.link->patience.excuse();  // the peer has to read this as well before it answers
        return true;
    };
    return put(connection.copied_due, RecordKind::kCopied, connection.copied_due) &&
           put(connection.confirm_due, RecordKind::kConfirm) &&
           put(connection.confirmed_due, RecordKind::kConfirmed) &&
           put(connection.invite_due, RecordKind::kInvite) &&
           put(connection.stall_due, RecordKind::kStalled) &&
           put(connection.credit_due, RecordKind::kCredit) &&
           (connection.rdma_in.phase != RdmaTarget::Phase::kAnswering ||
            put_rdma_answer(connection)) &&
           put(connection.failure_due, RecordKind::kFailed) &&
           put(connection.farewell_due, RecordKind::kDisconnect);
}

void ShmPort::service(Connection& connection) noexcept {
    if (connection.finished) {
        finish(connection);
        return;
    }
    if (connection.closing) {
        (void)lingers(connection);  // whether there is room to say anything or not
    } else if (holds_receives(connection)) [[unlikely]] {
        return;
    }
    if (!flush_control(connection)) {
        if (connection.link->sender.corrupt()) [[unlikely]] {
            fail_link(*connection.link, "it claims to have read what was never written");
            return;
        }
        queue(connection);
        return;
    }
    if (connection.closing) {
        if (lingers(connection)) {
            if (!connection.receives_held) {
                come_back_to(connection);
            }
            return;
        }
        finish(connection);
        return;
    }
    if (connection.rdma_in.phase != RdmaTarget::Phase::kIdle) [[unlikely]] {
        serve_rdma(connection);
    }
    if (connection.copying != nullptr) {
        copy_described(connection);
        if (connection.copying == nullptr) {
            match_early(connection);
        }
    }
    progress_sends(connection);
}

void ShmPort::queue(Connection& connection) noexcept {
    if (connection.queued) {
        return;
    }
    connection.queued = true;
    connection.next_queued = nullptr;
    if (queued_tail_ == nullptr) {
        queued_head_ = &connection;
    } else {
        queued_tail_->next_queued = &connection;
    }
    queued_tail_ = &connection;
    core_.look_round_next();
    if (armed_ && !armed_for_room_) [[unlikely]] {
        // Another thread has borrowed the token while the core sleeps. The peers were not asked to ring for
        // room then, so nobody would come back to this in time: the core must go to sleep anew.
        core_.wake();
    }
}

void ShmPort::complete_send(Connection& connection, Status status, std::uint32_t bytes) noexcept {
    RequestQueue& sends = connection.sends;
    const QueuedRequest& front = sends.front();
    const Completion completion{connection.owner, front.context, bytes, status, front.flags};
    for (std::uint32_t i = 0; i < front.sge_count; ++i) {
        if (sends.piece(i).length != 0) {
            connection.regions->release(sends.piece(i).region);
        }
    }
    sends.pop();
    if (sends.size() == config_.queue_depth - 1) [[unlikely]] {
        connection.saturation->sends.store(false, std::memory_order_relaxed);
    }
    core_.complete(completion);
}

}  // namespace sanpoll::engine::shm
