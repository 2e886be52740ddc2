// What the device does with the user's own memory: RDMA that the user asks for, and reading announced
// messages from where they lie.
#include <algorithm>
#include <cstring>

#include "engine/fabric/verbs/device.hpp"
#include "engine/fabric/verbs/local_pieces.hpp"
#include "engine/fabric/verbs/memory_keys.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"

namespace sanpoll::engine::verbs {
namespace {

// Longer operations are cut into work requests of this many bytes, so that what is sent meanwhile (word of
// new buffers, above all) waits for a few of them and not for all.
constexpr std::uint32_t kRdmaChunk = 1U << 20;

// A message that takes more work requests to read than this comes in pieces instead: it would wait for long
// until so much of the ring is free.
constexpr std::uint32_t kMostReads = kSendDepth / 2;
constexpr std::uint32_t kReadChunk = 1U << 30;

std::uint32_t read_sges(const Connection& connection) noexcept {
    return std::clamp(connection.device->limits().max_read_sges, 1U, connection.max_sges);
}

std::uint32_t chunk_of(const Connection& connection, std::uint32_t most) noexcept {
    return std::clamp(connection.device->limits().max_message, 1U, most);
}

// On iWARP a write ends when its bytes are on their way, and the peer's refusal comes when it will. But an
// answer that is read comes after what was written before: one byte of the same memory, read behind the
// write, tells how it went. (A read of nothing would do by the protocol. Soft-iWARP answers it with bytes of
// an older answer when it is busy.)
bool confirms_writes(const Connection& connection) noexcept {
    return connection.device->transport() == Transport::kIwarp;
}

void fill(ibv_send_wr& work, ibv_wr_opcode opcode, const ibv_sge* list, std::uint32_t count,
          std::uint64_t remote, std::uint32_t rkey) noexcept {
    work.opcode = opcode;
    std::copy(list, list + count, work.sg_list);
    work.num_sge = static_cast<int>(count);
    work.wr.rdma.remote_addr = remote;
    work.wr.rdma.rkey = rkey;
}

// The work requests that reading a message takes, each from one place of the peer's into a list of ours.
// Calls make(list, count, remote, rkey, last) for each of them, in order.
template <typename Make>
void for_each_read(const Connection& connection, RequestQueue::Position receive,
                   const RemotePiece* pieces, std::uint32_t count, Make make) noexcept {
    LocalPieces local(*connection.keys, connection.receives, receive, 0);
    const std::uint32_t chunk = chunk_of(connection, kReadChunk);
    ibv_sge list[kMaxWorkSges];
    for (std::uint32_t i = 0; i < count; ++i) {
        std::uint32_t done = 0;
        while (done != pieces[i].length) {
            std::uint32_t taken = 0;
            const std::uint32_t most = connection.device->longest_read(
                pieces[i].address + done, std::min(pieces[i].length - done, chunk));
            const std::uint32_t used = local.take(list, read_sges(connection), most, taken);
            if (used == 0) [[unlikely]] {
                return;  // more than the receive holds; the caller has seen to it that it is not
            }
            const bool last = i + 1 == count && done + taken == pieces[i].length;
            make(list, used, pieces[i].address + done, pieces[i].key, last);
            done += taken;
        }
    }
}

}  // namespace

// ---- RDMA that the user asks for ----------------------------------------------------------------------

void VerbsPort::post_rdma(Connection& connection, const WorkRequest& request) noexcept {
    if (connection.broken) [[unlikely]] {
        refuse_send(connection, request);
        return;
    }
    Status refused = Status::kOk;
    // A region may have been deregistered between the poster's check and now; its memory may be gone.
    for (std::uint32_t i = 0; i < request.sge_count && refused == Status::kOk; ++i) {
        const Sge& piece = request.piece(i);
        if (piece.length != 0 && !connection.regions->live(piece.region)) [[unlikely]] {
            refused = Status::kBadRegion;
        }
    }
    const Position position = connection.sends.end();
    if (refused == Status::kOk && !queue_send(connection, request)) [[unlikely]] {
        refused = Status::kNoMemory;
    }
    if (refused != Status::kOk) [[unlikely]] {
        core_.complete({connection.owner, request.context, 0, refused, request.flags});
        return;
    }
    connection.sends.at(position).bytes = 0;  // how many have been given to the device
    if (connection.next_send == position) {
        progress_sends(connection);
    }
}

bool VerbsPort::start_rdma(Connection& connection, Position position) noexcept {
    QueuedRequest& request = connection.sends.at(position);
    if (request.length == 0) {
        // Nothing is asked of the peer's device, and not all could be asked for nothing.
        finish_send(connection, position, Status::kOk, 0);
        return true;
    }
    const bool write = request.opcode == Opcode::kRdmaWrite;
    const bool confirmed = write && confirms_writes(connection);
    const RemotePlace place = remote_of(request.sge);
    const std::uint32_t sges = write ? connection.max_sges : read_sges(connection);
    const std::uint32_t chunk = chunk_of(connection, kRdmaChunk);
    const auto add = [&](bool last) -> ibv_send_wr& {
        ring_later(connection);
        return connection.ring.add(id_of(connection, WorkKind::kRdma),
                                   {WorkKind::kRdma, SendRing::kNoSlot, last, position}, last);
    };
    LocalPieces local(*connection.keys, connection.sends, position, request.bytes);
    ibv_sge list[kMaxWorkSges];
    while (request.bytes != request.length) {
        if (connection.ring.room() <= kRingReserve + (confirmed ? 1 : 0)) {
            return false;
        }
        std::uint32_t taken = 0;
        const std::uint64_t remote = place.nonce + place.offset + request.bytes;
        std::uint32_t most = std::min(request.length - request.bytes, chunk);
        if (!write) {
            most = connection.device->longest_read(remote, most);
        }
        const std::uint32_t used = local.take(list, sges, most, taken);
        const bool last = request.bytes + taken == request.length;
        ibv_send_wr& work = add(last && !confirmed);
        fill(work, write ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ, list, used, remote, place.key);
        if (!write) {
            // What is posted behind it waits until it has ended (start_next).
            ++connection.rdma_reads;
        } else if (taken <= connection.max_inline) {
            work.send_flags |= IBV_SEND_INLINE;
        }
        request.bytes += taken;
        if (last && confirmed) {
            const ibv_sge sink = connection.keys->sink();
            fill(add(true), IBV_WR_RDMA_READ, &sink, 1, place.nonce + place.offset, place.key);
        }
    }
    request.state = static_cast<std::uint8_t>(SendState::kUnderWay);
    return true;
}

void VerbsPort::end_rdma(Connection& connection, const SendRing::Entry& entry) noexcept {
    const QueuedRequest& request = connection.sends.at(entry.tag);
    if (request.opcode == Opcode::kRdmaRead) {
        --connection.rdma_reads;
    }
    if (entry.last) {
        counters_.rdma_operations.add();
        counters_.rdma_bytes.add(request.length);
        finish_send(connection, entry.tag, Status::kOk, request.length);
    }
}

// ---- announced messages -------------------------------------------------------------------------------

std::uint32_t VerbsPort::describe_pieces(Connection& connection, Position position,
                                         RemotePiece* pieces) noexcept {
    const RequestQueue& sends = connection.sends;
    std::uint32_t count = 0;
    for (std::uint32_t i = 0; i < sends.at(position).sge_count; ++i) {
        const Sge& piece = sends.piece_at(position, i);
        if (piece.length == 0) {
            continue;
        }
        const std::uint32_t rkey = connection.keys->rkey(piece.region);
        if (rkey == 0) [[unlikely]] {
            return 0;
        }
        pieces[count++] = {piece.address, piece.length, rkey};
    }
    return count;
}

VerbsPort::Start VerbsPort::read_remote(Connection& connection, Position receive,
                                        const RemotePiece* pieces, std::uint32_t count) noexcept {
    if (connection.device->limits().initiator_depth == 0) {
        return Start::kNoKey;
    }
    std::uint32_t needed = 0;
    for_each_read(
        connection, receive, pieces, count,
        [&needed](const ibv_sge*, std::uint32_t, std::uint64_t, std::uint32_t, bool) { ++needed; });
    if (needed == 0 || needed > kMostReads) {
        return Start::kNoKey;
    }
    if (connection.ring.room() < needed + kRingReserve) {
        return Start::kNoRoom;
    }
    for_each_read(connection, receive, pieces, count,
                  [&connection, receive](const ibv_sge* list, std::uint32_t used,
                                         std::uint64_t remote, std::uint32_t rkey, bool last) {
                      ibv_send_wr& work = connection.ring.add(
                          id_of(connection, WorkKind::kRead),
                          {WorkKind::kRead, SendRing::kNoSlot, last, receive}, last);
                      fill(work, IBV_WR_RDMA_READ, list, used, remote, rkey);
                  });
    ring_later(connection);
    return Start::kStarted;
}

}  // namespace sanpoll::engine::verbs
