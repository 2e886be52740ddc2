// Packets into the send queue, buffers into the receive queue.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/fabric/verbs/verbs_port.hpp"

namespace sanpoll::engine::verbs {

// `reserve`: of the peer's buffers; see kBufferReserve.
bool VerbsPort::room_for_packet(const Connection& connection,
                                std::uint32_t reserve) const noexcept {
    return usable(connection) && connection.established && connection.peer_room() > reserve &&
           connection.ring.room() > (reserve == kBufferReserve ? kRingReserve : 0);
}

// There is room, and a long slot if it is a long one. Returns where its bytes go; its header, which says
// how many receives and buffers we have had, is written.
std::byte* VerbsPort::start_packet(Connection& connection, const PacketHeader& wanted,
                                   std::uint32_t payload, WorkKind kind) noexcept {
    const std::uint32_t bytes = static_cast<std::uint32_t>(sizeof(PacketHeader)) + payload;
    SendRing::Entry entry{kind, SendRing::kNoSlot, true, 0};
    std::byte* to = connection.buffers.short_slot(connection.ring.next_place());
    if (bytes > kShortPacket) {
        entry.long_slot = connection.free_long[--connection.free_long_count];
        to = connection.buffers.long_slot(entry.long_slot);
    }
    PacketHeader header = wanted;
    connection.reported += std::min(connection.granted - connection.reported, kMostNews);
    header.granted = static_cast<std::uint16_t>(connection.reported);
    connection.buffers_reported = connection.buffers_given;  // few: see kMostNews in establish()
    header.buffers = static_cast<std::uint16_t>(connection.buffers_reported);
    connection.credit_due = connection.reported != connection.granted;
    write_header(to, header);

    ibv_send_wr& request =
        connection.ring.add(id_of(connection, kind), entry, kind == WorkKind::kFarewell);
    request.opcode = IBV_WR_SEND;
    request.num_sge = 1;
    request.sg_list[0] = {reinterpret_cast<std::uint64_t>(to), bytes, connection.buffers.lkey()};
    if (bytes <= connection.max_inline) {
        request.send_flags |= IBV_SEND_INLINE;
        counters_.inline_packets.add();
    }
    counters_.packets.add();
    ++connection.packets_sent;
    ++moved_;
    ring_later(connection);
    return to + sizeof(PacketHeader);
}

// A packet without a payload. False: no room now; whatever makes room comes back to it.
bool VerbsPort::put_control(Connection& connection, PacketKind kind,
                            std::uint16_t announce) noexcept {
    const bool urgent = kind == PacketKind::kCredit && many_new_buffers(connection);
    if (!room_for_packet(connection, urgent ? 0 : 1)) {
        return false;
    }
    (void)start_packet(connection, {kind, 0, announce, 0, 0}, 0,
                       kind == PacketKind::kDisconnect ? WorkKind::kFarewell : WorkKind::kPacket);
    return true;
}

// Sends what is due besides messages. False: there was no room for all of it.
bool VerbsPort::flush_control(Connection& connection) noexcept {
    while (connection.done_head != connection.done_tail) {
        if (!put_control(connection, PacketKind::kDone,
                         connection.dones[connection.done_head % kMaxAnnounced])) {
            break;
        }
        ++connection.done_head;
        --connection.announcements_open;
    }
    const auto put = [&](bool& due, PacketKind kind, std::uint16_t announce = 0) {
        if (due) {
            due = false;  // first: the packet says of credit what fits, and whether that was all
            due = !put_control(connection, kind, announce) || due;
        }
        return !due;
    };
    // In spite of those before it: the last kind needs less room than they do.
    const bool invited = put(connection.invite_due, PacketKind::kInvite, connection.invited_number);
    const bool asked = put(connection.stalled_due, PacketKind::kStalled);
    const bool told = put(connection.credit_due, PacketKind::kCredit);
    const bool all = invited && asked && told && connection.done_head == connection.done_tail;
    return all && put(connection.farewell_due, PacketKind::kDisconnect);
}

// The buffer has been taken in.
void VerbsPort::give_back(Connection& connection, std::uint16_t slot) noexcept {
    connection.refill[connection.refill_count++] = slot;
    if (connection.refill_count == kRefill) {
        post_buffers(connection);
    }
}

// Those that wait in `refill`, with one call.
void VerbsPort::post_buffers(Connection& connection) noexcept {
    const std::uint32_t count = std::exchange(connection.refill_count, 0);
    if (connection.qp == nullptr) {
        return;
    }
    ibv_sge sges[kRefill];
    ibv_recv_wr requests[kRefill];
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint16_t slot = connection.refill[i];
        sges[i] = {reinterpret_cast<std::uint64_t>(connection.buffers.receive(slot)),
                   kReceiveBufferBytes, connection.buffers.lkey()};
        requests[i].wr_id = id_of(connection, WorkKind::kReceive) | slot;
        requests[i].next = i + 1 == count ? nullptr : &requests[i + 1];
        requests[i].sg_list = &sges[i];
        requests[i].num_sge = 1;
    }
    ibv_recv_wr* refused = nullptr;
    if (::ibv_post_recv(connection.qp, requests, &refused) != 0) [[unlikely]] {
        if (connection.installed) {
            fail_later(connection, Status::kTransportFailed);
        }
        return;
    }
    connection.buffers_given += count;
}

void VerbsPort::ring_later(Connection& connection) noexcept {
    if (!connection.in_doorbells && !connection.mute) {
        connection.in_doorbells = true;
        connection.next_doorbell = doorbells_;
        doorbells_ = &connection;
    }
}

// The first in the list.
void VerbsPort::ring_doorbell() noexcept {
    Connection& connection = *doorbells_;
    doorbells_ = connection.next_doorbell;
    connection.in_doorbells = false;
    ibv_send_wr* chain = connection.ring.take_chain();
    if (connection.qp == nullptr) [[unlikely]] {
        let_go(connection);
        return;
    }
    if (chain == nullptr) {
        return;  // all of it waits for an RDMA READ's end
    }
    ibv_send_wr* refused = nullptr;
    counters_.doorbells.add();
    const int error = ::ibv_post_send(connection.qp, chain, &refused);
    if (error == ENOTCONN && connection.device->transport() == Transport::kIwarp) [[unlikely]] {
        ended_unexplained(connection);
    } else if (error != 0) [[unlikely]] {
        // The ring never holds more than the queue pair takes: the device has failed.
        fail_later(connection, Status::kTransportFailed);
    }
}

}  // namespace sanpoll::engine::verbs
