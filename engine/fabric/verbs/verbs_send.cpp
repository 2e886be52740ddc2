// The sending half of the verbs fabric.
#include <algorithm>
#include <utility>

#include "engine/fabric/copy.hpp"
#include "engine/fabric/scatter.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"

namespace sanpoll::engine::verbs {

namespace {

constexpr std::uint32_t kSendsPerService = 32;

using Announcement = Connection::Announcement;

}  // namespace

void VerbsPort::post_send(Connection& connection, const WorkRequest& request) noexcept {
    if (connection.broken) [[unlikely]] {
        refuse_send(connection, request);
        return;
    }
    // The region may have been deregistered between the poster's check and now; its memory may be gone.
    for (std::uint32_t i = 0; i < request.sge_count; ++i) {
        const Sge& piece = request.piece(i);
        if (piece.length != 0 && !connection.regions->live(piece.region)) [[unlikely]] {
            core_.complete(
                {connection.owner, request.context, 0, Status::kBadRegion, request.flags});
            return;
        }
    }
    if (connection.next_send == connection.sends.end() && may_start(connection) &&
        request.length <= connection.peer_payload) [[likely]] {
        Sge pieces[kMaxSges];
        for (std::uint32_t i = 0; i < request.sge_count; ++i) {
            pieces[i] = request.piece(i);
        }
        const bool sent = send_message(connection, pieces, request.sge_count, request.length);
        if (sent && connection.sends.empty()) [[likely]] {
            // The bytes are in memory of ours: the buffers are free again.
            core_.complete(
                {connection.owner, request.context, request.length, Status::kOk, request.flags});
            return;
        }
        if (sent) {
            // It ends behind those before it. Without memory it ends early rather than twice or never.
            const Position position = connection.sends.end();
            if (!queue_send(connection, request)) [[unlikely]] {
                core_.complete({connection.owner, request.context, request.length, Status::kOk,
                                request.flags});
                return;
            }
            connection.next_send = connection.sends.end();
            finish_send(connection, position, Status::kOk, request.length);
            return;
        }
    }
    const bool first = connection.next_send == connection.sends.end();
    if (!queue_send(connection, request)) [[unlikely]] {
        core_.complete({connection.owner, request.context, 0, Status::kNoMemory, request.flags});
        return;
    }
    if (first) {
        progress_sends(connection);
    }
}

// The connection is broken: the request ends behind those that wait for the queue pair's end, if there are any.
// Its memory is not needed.
void VerbsPort::refuse_send(Connection& connection, const WorkRequest& request) noexcept {
    WorkRequest bare = request;
    bare.sge_count = 0;
    if (connection.sends.empty() || !connection.sends.push(bare)) {
        core_.complete({connection.owner, request.context, 0, connection.reason, request.flags});
    }
}

// False: no memory.
bool VerbsPort::queue_send(Connection& connection, const WorkRequest& request) noexcept {
    if (!connection.sends.push(request)) [[unlikely]] {
        return false;
    }
    for (std::uint32_t i = 0; i < request.sge_count; ++i) {
        if (request.piece(i).length != 0) {
            (void)connection.regions->hold(request.piece(i).region);
        }
    }
    if (connection.sends.size() == config_.queue_depth) [[unlikely]] {
        connection.saturation->sends.store(true, std::memory_order_relaxed);
    }
    return true;
}

// Whether a message may go before what is under way has ended: the pieces of another one must all have been
// sent, and what an RDMA READ of the user's brings may be what the message is made of.
bool VerbsPort::may_start(const Connection& connection) noexcept {
    return !connection.sending_pieces && connection.rdma_reads == 0;
}

// Sends a message that needs no answer. False when it cannot go now.
bool VerbsPort::send_message(Connection& connection, const Sge* pieces, std::uint32_t count,
                             std::uint32_t length) noexcept {
    if (!connection.may_send(length <= kUnaskedBytes)) {
        return false;
    }
    const bool is_long = sizeof(PacketHeader) + length > kShortPacket;
    if (!room_for_packet(connection, kBufferReserve) ||
        (is_long && connection.free_long_count == 0)) [[unlikely]] {
        counters_.full_queues.add();
        return false;
    }
    std::byte* to =
        start_packet(connection, {PacketKind::kMessage, 0, 0, 0, 0}, length, WorkKind::kPacket);
    for (std::uint32_t i = 0; i < count; ++i) {
        copy_long(to, reinterpret_cast<const void*>(pieces[i].address), pieces[i].length);
        to += pieces[i].length;
    }
    ++connection.sent;
    counters_.messages_sent.add();
    counters_.bytes_sent.add(length);
    return true;
}

// One step for the first send that waits. False: it has to go on waiting.
bool VerbsPort::start_next(Connection& connection) noexcept {
    const Position position = connection.next_send;
    const QueuedRequest& request = connection.sends.at(position);
    const Opcode opcode = request.opcode;
    if (connection.sending_pieces || (connection.rdma_reads != 0 && opcode != Opcode::kRdmaRead)) {
        return false;
    }
    if (opcode != Opcode::kSend) {
        connection.next_send = connection.sends.after(position);
        if (!start_rdma(connection, position)) {
            connection.next_send = position;
            counters_.full_queues.add();
            return false;
        }
        return true;
    }
    const std::uint32_t length = request.length;
    const bool is_long = length > connection.peer_payload;
    if (!connection.may_send(is_long || length <= kUnaskedBytes)) {
        wait_for_credit(connection);
        return false;
    }
    if (is_long) {
        return announce(connection);
    }
    Sge pieces[kMaxSges];
    for (std::uint32_t i = 0; i < request.sge_count; ++i) {
        pieces[i] = connection.sends.piece_at(position, i);
    }
    if (!send_message(connection, pieces, request.sge_count, length)) {
        return false;
    }
    connection.next_send = connection.sends.after(position);
    finish_send(connection, position, Status::kOk, length);
    return true;
}

bool VerbsPort::announce(Connection& connection) noexcept {
    if (!room_for_packet(connection, kBufferReserve) ||
        static_cast<std::uint16_t>(connection.announced - connection.answered) == kMaxAnnounced) {
        counters_.full_queues.add();
        return false;
    }
    const Position position = connection.next_send;
    QueuedRequest& request = connection.sends.at(position);
    RemotePiece pieces[kMaxSges];
    const std::uint32_t count = describe_pieces(connection, position, pieces);
    const std::uint16_t number = connection.announced++;
    const std::uint32_t bytes = count * static_cast<std::uint32_t>(sizeof(RemotePiece));
    const std::uint32_t length = request.length;
    std::byte* to = start_packet(
        connection, {PacketKind::kAnnounce, static_cast<std::uint8_t>(count), number, 0, 0},
        kAnnouncedLength + bytes, WorkKind::kPacket);
    std::memcpy(to, &length, kAnnouncedLength);
    std::memcpy(to + kAnnouncedLength, pieces, bytes);
    request.state = static_cast<std::uint8_t>(SendState::kAnnounced);
    connection.announced_at[number % kMaxAnnounced] = position;
    connection.announcements[number % kMaxAnnounced] =
        count != 0 ? Announcement::kExposed : Announcement::kOpen;
    connection.exposed += count != 0 ? 1 : 0;
    connection.next_send = connection.sends.after(position);
    ++connection.sent;
    return true;
}

// The peer's answer to an announcement: it has read the message, or wants it in pieces.
void VerbsPort::take_answer(Connection& connection, const PacketHeader& header) noexcept {
    const std::uint16_t number = header.announce;
    const bool known = static_cast<std::uint16_t>(number - connection.answered) <
                       static_cast<std::uint16_t>(connection.announced - connection.answered);
    Announcement& announcement = connection.announcements[number % kMaxAnnounced];
    const bool done = header.kind == PacketKind::kDone;
    if (!known || announcement == Announcement::kNone ||
        (done && announcement != Announcement::kExposed) || (!done && connection.sending_pieces))
        [[unlikely]] {
        lie(connection);
        return;
    }
    connection.exposed -= announcement == Announcement::kExposed ? 1 : 0;
    announcement = Announcement::kNone;
    while (connection.answered != connection.announced &&
           connection.announcements[connection.answered % kMaxAnnounced] == Announcement::kNone) {
        ++connection.answered;
    }
    const Position position = connection.announced_at[number % kMaxAnnounced];
    QueuedRequest& request = connection.sends.at(position);
    if (done) {
        counters_.messages_sent.add();
        counters_.bytes_sent.add(request.length);
        finish_send(connection, position, Status::kOk, request.length);
        return;
    }
    if (connection.closing) {
        return;  // it is being aborted
    }
    request.state = static_cast<std::uint8_t>(SendState::kInvited);
    connection.sending_pieces = true;
    connection.invited_send = position;
    connection.send_progress = 0;
}

void VerbsPort::send_pieces(Connection& connection) noexcept {
    const Position position = connection.invited_send;
    const std::uint32_t total = connection.sends.at(position).length;
    while (connection.free_long_count != 0 && room_for_packet(connection, kBufferReserve)) {
        const std::uint32_t length =
            std::min(total - connection.send_progress, connection.peer_payload);
        std::byte* to =
            start_packet(connection, {PacketKind::kPiece, 0, 0, 0, 0}, length, WorkKind::kPacket);
        for_each_piece(connection.sends, position, connection.send_progress, length,
                       [&to](std::uint64_t from, std::uint32_t step) {
                           copy_long(to, reinterpret_cast<const void*>(from), step);
                           to += step;
                       });
        connection.send_progress += length;
        if (connection.send_progress == total) {
            connection.sending_pieces = false;
            counters_.messages_sent.add();
            counters_.bytes_sent.add(total);
            finish_send(connection, position, Status::kOk, total);
            return;
        }
    }
}

void VerbsPort::progress_sends(Connection& connection) noexcept {
    if (connection.sending_pieces) {
        send_pieces(connection);
    }
    for (std::uint32_t n = 0; connection.next_send != connection.sends.end() && usable(connection);
         ++n) {
        if (n == kSendsPerService) {
            queue(connection);  // others have their turn
            return;
        }
        if (!start_next(connection)) {
            break;
        }
    }
}

void VerbsPort::wait_for_credit(Connection& connection) noexcept {
    if (!connection.stalled) {
        counters_.stalls.add();
        connection.stalled = true;
        connection.stalled_due = true;
        (void)flush_control(connection);
    }
}

// Every packet says how many receives and buffers the peer has had. False: it lies.
bool VerbsPort::take_credit(Connection& connection, const PacketHeader& header) noexcept {
    const std::uint32_t receives = news_of(header.granted, connection.credit);
    if (receives > kMostNews) [[unlikely]] {
        return false;
    }
    if (receives != 0) {
        connection.credit += receives;
        connection.stalled = false;
        connection.stalled_due = false;
    }
    if (!connection.established) {
        return true;  // nothing has been sent, so there are no more buffers than its terms will say
    }
    const std::uint32_t buffers = news_of(header.buffers, connection.buffers_allowed);
    if (buffers > kMostNews || connection.peer_room() + buffers > connection.peer_buffers)
        [[unlikely]] {
        return false;
    }
    connection.buffers_allowed += buffers;
    return true;
}

void VerbsPort::finish_send(Connection& connection, Position position, Status status,
                            std::uint32_t bytes) noexcept {
    QueuedRequest& request = connection.sends.at(position);
    request.state = static_cast<std::uint8_t>(SendState::kFinished);
    request.status = status;
    request.bytes = bytes;
    if (position == connection.sends.first()) {
        complete_sends(connection);
    }
}

void VerbsPort::complete_sends(Connection& connection) noexcept {
    RequestQueue& sends = connection.sends;
    while (!sends.empty() && static_cast<SendState>(sends.front().state) == SendState::kFinished) {
        const QueuedRequest& front = sends.front();
        const Completion completion{connection.owner, front.context, front.bytes, front.status,
                                    front.flags};
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
}

// ---- connections that have something to do ------------------------------------------------------------

// Whether service() might get on. What it waits for (room, credit, completions) comes by a completion.
bool VerbsPort::has_work(const Connection& connection) noexcept {
    return usable(connection) && connection.established &&
           (connection.credit_due || connection.stalled_due || connection.invite_due ||
            connection.farewell_due || connection.done_head != connection.done_tail ||
            connection.sending_pieces || connection.next_send != connection.sends.end() ||
            (connection.early != nullptr && connection.next_receive != connection.receives.end()));
}

void VerbsPort::queue(Connection& connection) noexcept {
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
}

void VerbsPort::service(Connection& connection) noexcept {
    if (!usable(connection)) {
        let_go(connection);
        return;
    }
    if (connection.early != nullptr && !connection.closing) [[unlikely]] {
        match_early(connection);
    }
    (void)flush_control(connection);
    if (!connection.closing) {
        progress_sends(connection);
    }
}

}  // namespace sanpoll::engine::verbs
