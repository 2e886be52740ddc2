// The receiving half of the verbs fabric.
#include <algorithm>
#include <cstdlib>

#include "engine/fabric/copy.hpp"
#include "engine/fabric/hold_and_push.hpp"
#include "engine/fabric/scatter.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"

namespace sanpoll::engine::verbs {

namespace {

constexpr std::uint32_t kPrepared = 64;  // blocks made at the start
constexpr std::uint32_t kPooled = 4096;  // blocks kept for reuse, at most
static_assert(kMaxSges * sizeof(RemotePiece) <= kUnaskedBytes, "an announcement fits a block");

constexpr std::uint32_t kReportReceives = kUnasked / 2;

}  // namespace

// ---- posting ------------------------------------------------------------------------------------------

void VerbsPort::post_receive(Connection& connection, const WorkRequest& request) noexcept {
    Status refused = Status::kOk;
    if (connection.broken && connection.early == nullptr && connection.receives.empty())
        [[unlikely]] {
        refused =
            connection.reason;  // else it ends behind those that wait for the queue pair's end
    }
    if (refused == Status::kOk) [[likely]] {
        refused = hold_and_push(*connection.regions, connection.receives, request);
    }
    if (refused != Status::kOk) [[unlikely]] {
        core_.complete({connection.owner, request.context, 0, refused, request.flags});
        return;
    }
    if (connection.receives.size() == config_.queue_depth) [[unlikely]] {
        connection.saturation->receives.store(true, std::memory_order_relaxed);
    }
    if (connection.debt != 0) [[unlikely]] {
        --connection.debt;  // it stands in for a receive that was too short
    } else {
        ++connection.granted;
    }
    if (connection.early != nullptr) [[unlikely]] {
        match_early(connection);
    }
    consider_credit(connection);
}

// Most of what the peer has to know travels with messages of ours.
void VerbsPort::consider_credit(Connection& connection) noexcept {
    const std::uint32_t receives = connection.granted - connection.reported;
    if (receives < kReportReceives && !many_new_buffers(connection) &&
        !(connection.peer_waits && receives != 0)) [[likely]] {
        return;
    }
    if (connection.broken || connection.closing) {
        return;
    }
    connection.peer_waits = false;
    connection.credit_due = true;
    (void)flush_control(connection);
}

// ---- arrivals -----------------------------------------------------------------------------------------

// A private buffer has been filled.
void VerbsPort::take_packet(Connection& connection, std::uint16_t slot,
                            std::uint32_t bytes) noexcept {
    connection.heard = true;
    connection.packets_taken.add();
    if (connection.mute) [[unlikely]] {
        connection.mute = false;
        if (!connection.ring.empty()) {
            ring_later(connection);
        }
    }
    if (connection.broken) {
        return;  // nothing comes after a farewell
    }
    if (slot >= kReceiveBuffers || bytes < sizeof(PacketHeader) || bytes > kReceiveBufferBytes)
        [[unlikely]] {
        lie(connection);
        return;
    }
    const std::byte* packet = connection.buffers.receive(slot);
    const PacketHeader header = read_header(packet);
    const std::byte* payload = packet + sizeof(PacketHeader);
    bytes -= static_cast<std::uint32_t>(sizeof(PacketHeader));
    if (!take_credit(connection, header)) [[unlikely]] {
        lie(connection);
        return;
    }
    const bool answer = header.kind == PacketKind::kDone || header.kind == PacketKind::kInvite;
    if (connection.closing) [[unlikely]] {
        // Only what the peer may be reading still matters.
        if (answer && connection.exposed != 0) {
            take_answer(connection, header);
        }
        if (header.kind == PacketKind::kDisconnect) {
            break_connection(connection, Status::kReset);  // it will not take our farewell
        }
    } else if (header.kind == PacketKind::kMessage || header.kind == PacketKind::kPiece) {
        if (header.kind == PacketKind::kMessage) {
            take_message(connection, payload, bytes);
        } else {
            take_piece(connection, payload, bytes);
        }
    } else if (answer) {
        take_answer(connection, header);
    } else {
        take_other(connection, header, payload, bytes);
    }
    if (connection.broken) [[unlikely]] {
        return;
    }
    give_back(connection, slot);
    consider_credit(connection);
}

void VerbsPort::take_other(Connection& connection, const PacketHeader& header,
                           const std::byte* payload, std::uint32_t bytes) noexcept {
    switch (header.kind) {
        case PacketKind::kAnnounce:
            if (bytes != kAnnouncedLength + header.pieces * sizeof(RemotePiece)) {
                break;
            }
            take_announcement(connection, header, payload);
            return;
        case PacketKind::kCredit:
            return;
        case PacketKind::kStalled:
            connection.peer_waits = true;  // consider_credit() follows
            return;
        case PacketKind::kDisconnect:
            break_connection(connection, Status::kReset);
            return;
        default:
            break;
    }
    lie(connection);
}

// Whether the peer had word of a receive for the message that it has sent or announced.
bool VerbsPort::admits(const Connection& connection, bool unasked) noexcept {
    const std::uint32_t limit = connection.granted + (unasked ? kUnasked : 0);
    return static_cast<std::int32_t>(limit - connection.arrived) > 0;
}

void VerbsPort::take_message(Connection& connection, const std::byte* bytes,
                             std::uint32_t length) noexcept {
    if (!admits(connection, length <= kUnaskedBytes)) [[unlikely]] {
        lie(connection);
        return;
    }
    ++connection.arrived;
    counters_.messages_received.add();
    counters_.bytes_received.add(length);
    const Position position = connection.next_receive;
    if (connection.early == nullptr && position != connection.receives.end() &&
        length <= connection.receives.at(position).length) [[likely]] {
        Scatter(connection.receives, position, 0).write<copy_long>(bytes, length);
        connection.next_receive = connection.receives.after(position);
        finish_receive(connection, position, Status::kOk, length);
        return;
    }
    EarlyMessage* message = keep(connection, length);
    if (message == nullptr) [[unlikely]] {
        break_connection(connection, Status::kTransportFailed);  // out of memory
        return;
    }
    message->length = length;
    message->announced = false;
    copy_long(message->bytes, bytes, length);
    match_early(connection);
}

void VerbsPort::take_announcement(Connection& connection, const PacketHeader& header,
                                  const std::byte* payload) noexcept {
    const std::uint32_t bytes = header.pieces * static_cast<std::uint32_t>(sizeof(RemotePiece));
    std::uint32_t length = 0;
    std::memcpy(&length, payload, kAnnouncedLength);
    payload += kAnnouncedLength;
    std::uint64_t total = 0;
    for (std::uint32_t i = 0; i < header.pieces; ++i) {
        RemotePiece piece;
        std::memcpy(&piece, payload + i * sizeof(piece), sizeof(piece));
        total += piece.length;
    }
    if (header.pieces > kMaxSges || (header.pieces != 0 && total != length) ||
        header.announce != connection.announcements_taken ||
        connection.announcements_open == kMaxAnnounced || !admits(connection, true)) [[unlikely]] {
        lie(connection);
        return;
    }
    EarlyMessage* message = keep(connection, bytes);
    if (message == nullptr) [[unlikely]] {
        break_connection(connection, Status::kTransportFailed);
        return;
    }
    message->length = length;
    message->announced = true;
    message->announce = header.announce;
    message->pieces = header.pieces;
    std::memcpy(message->bytes, payload, bytes);
    ++connection.arrived;
    ++connection.announcements_taken;
    ++connection.announcements_open;
    match_early(connection);
}

void VerbsPort::take_piece(Connection& connection, const std::byte* bytes,
                           std::uint32_t length) noexcept {
    const Position position = connection.invited_receive;
    if (!connection.receiving_pieces || connection.invite_due ||
        length > connection.receives.at(position).bytes - connection.receive_progress)
        [[unlikely]] {
        lie(connection);
        return;
    }
    Scatter(connection.receives, position, connection.receive_progress)
        .write<copy_long>(bytes, length);
    connection.receive_progress += length;
    const std::uint32_t total = connection.receives.at(position).bytes;
    if (connection.receive_progress == total) {
        connection.receiving_pieces = false;
        counters_.messages_pieced.add();
        end_long(connection, position, total);
        if (connection.early != nullptr) {
            match_early(connection);  // the next one may be invited now
        }
    }
}

// ---- long messages ------------------------------------------------------------------------------------

// A receive that is long enough is next in line. False: the announced message has to wait.
bool VerbsPort::begin_long(Connection& connection, const EarlyMessage& message) noexcept {
    const Position position = connection.next_receive;
    QueuedRequest& receive = connection.receives.at(position);
    if (message.pieces != 0) {
        RemotePiece pieces[kMaxSges];
        std::memcpy(pieces, message.bytes, message.pieces * sizeof(RemotePiece));
        const Start start = read_remote(connection, position, pieces, message.pieces);
        if (start == Start::kNoRoom) {
            return false;
        }
        if (start == Start::kStarted) {
            receive.state = static_cast<std::uint8_t>(ReceiveState::kReading);
            receive.bytes = message.length;
            receive.number = message.announce;
            connection.next_receive = connection.receives.after(position);
            return true;
        }
    }
    if (connection.receiving_pieces) {
        return false;  // one at a time
    }
    receive.state = static_cast<std::uint8_t>(ReceiveState::kInvited);
    receive.bytes = message.length;
    connection.next_receive = connection.receives.after(position);
    connection.receiving_pieces = true;
    connection.invited_receive = position;
    connection.invited_number = message.announce;
    connection.receive_progress = 0;
    connection.invite_due = true;
    --connection.announcements_open;
    (void)flush_control(connection);
    return true;
}

// A work request that reads an announced message has ended well.
void VerbsPort::end_read(Connection& connection, const SendRing::Entry& entry) noexcept {
    if (!entry.last) {
        return;
    }
    const Position position = entry.tag;
    const QueuedRequest& receive = connection.receives.at(position);
    const std::uint32_t length = receive.bytes;
    if (!connection.broken && !connection.closing) {
        connection.dones[connection.done_tail++ % kMaxAnnounced] =
            static_cast<std::uint16_t>(receive.number);
    }
    counters_.messages_read.add();
    end_long(connection, position, length);
    (void)flush_control(connection);
}

void VerbsPort::end_long(Connection& connection, Position position, std::uint32_t length) noexcept {
    counters_.messages_received.add();
    counters_.bytes_received.add(length);
    finish_receive(connection, position, Status::kOk, length);
}

// ---- messages without a receive -------------------------------------------------------------------------

void VerbsPort::fill_early_pool() noexcept {
    while (early_pooled_ < kPrepared) {
        auto* message =
            static_cast<EarlyMessage*>(std::malloc(sizeof(EarlyMessage) + kUnaskedBytes));
        if (message == nullptr) {
            return;  // keep() tries again
        }
        message->next = early_pool_;
        early_pool_ = message;
        ++early_pooled_;
    }
}

// Room for a message of `bytes` bytes, last in line. nullptr: no memory.
EarlyMessage* VerbsPort::keep(Connection& connection, std::uint32_t bytes) noexcept {
    EarlyMessage* message = early_pool_;
    if (bytes <= kUnaskedBytes && message != nullptr) {
        early_pool_ = message->next;
        --early_pooled_;
    } else {
        message = static_cast<EarlyMessage*>(
            std::malloc(sizeof(EarlyMessage) + std::max(bytes, kUnaskedBytes)));
        if (message == nullptr) {
            return nullptr;
        }
    }
    counters_.early_messages.add();
    message->next = nullptr;
    message->pieces = 0;
    if (connection.early == nullptr) {
        connection.early = message;
    } else {
        connection.early_tail->next = message;
    }
    connection.early_tail = message;
    return message;
}

void VerbsPort::free_early(EarlyMessage* message) noexcept {
    if ((message->announced || message->length <= kUnaskedBytes) && early_pooled_ < kPooled) {
        message->next = early_pool_;
        early_pool_ = message;
        ++early_pooled_;
    } else {
        std::free(message);
    }
}

void VerbsPort::drop_early(Connection& connection) noexcept {
    while (EarlyMessage* message = connection.early) {
        connection.early = message->next;
        free_early(message);
    }
}

// Gives kept messages to posted receives, oldest to oldest.
void VerbsPort::match_early(Connection& connection) noexcept {
    while (connection.early != nullptr && connection.next_receive != connection.receives.end()) {
        EarlyMessage* message = connection.early;
        const Position position = connection.next_receive;
        if (message->length > connection.receives.at(position).length) {
            // The message stays for a longer receive.
            ++connection.debt;
            connection.next_receive = connection.receives.after(position);
            finish_receive(connection, position, Status::kMessageTooLong, 0);
            continue;
        }
        if (message->announced) {
            if (!begin_long(connection, *message)) {
                break;
            }
            connection.early = message->next;
            free_early(message);
            continue;
        }
        Scatter(connection.receives, position, 0).write<copy_long>(message->bytes, message->length);
        const std::uint32_t length = message->length;
        connection.early = message->next;
        free_early(message);
        connection.next_receive = connection.receives.after(position);
        finish_receive(connection, position, Status::kOk, length);
    }
    if (connection.broken && connection.early == nullptr) [[unlikely]] {
        // As in break_connection: the gate first.
        if (connection.established && !connection.closing) {
            shut_gate(connection);
        }
        settle(connection);
    }
}

void VerbsPort::finish_receive(Connection& connection, Position position, Status status,
                               std::uint32_t bytes) noexcept {
    QueuedRequest& request = connection.receives.at(position);
    request.state = static_cast<std::uint8_t>(ReceiveState::kFinished);
    request.status = status;
    request.bytes = bytes;
    if (position == connection.receives.first()) [[likely]] {
        complete_receives(connection);
    }
}

void VerbsPort::complete_receives(Connection& connection) noexcept {
    RequestQueue& receives = connection.receives;
    while (!receives.empty() &&
           static_cast<ReceiveState>(receives.front().state) == ReceiveState::kFinished) {
        const QueuedRequest& front = receives.front();
        const Completion completion{connection.owner, front.context, front.bytes, front.status,
                                    front.flags};
        for (std::uint32_t i = 0; i < front.sge_count; ++i) {
            if (receives.piece(i).length != 0) {
                connection.regions->release(receives.piece(i).region);
            }
        }
        receives.pop();
        if (receives.size() == config_.queue_depth - 1) [[unlikely]] {
            connection.saturation->receives.store(false, std::memory_order_relaxed);
        }
        core_.complete(completion);
    }
}

}  // namespace sanpoll::engine::verbs
