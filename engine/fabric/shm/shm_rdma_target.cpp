// RDMA that the peer asks for: into or out of memory that this side has exposed.
#include <algorithm>

#include "engine/fabric/shm/pieces.hpp"
#include "engine/fabric/shm/shm_port.hpp"
#include "engine/remote_regions.hpp"

namespace sanpoll::engine::shm {

namespace {

using Phase = RdmaTarget::Phase;

// Why a request could not have been made by an honest peer, or nothing.
std::string_view nonsense(const RdmaRequest& request, const RemotePiece* pieces,
                          std::uint32_t count, const ProcessCopy& copy) noexcept {
    if (request.read > 1 || request.direct > 1 || request.arenas > 1) {
        return "an RDMA request is of no known kind";
    }
    const bool direct = request.direct != 0;
    const bool write = request.read == 0;
    const bool arenas = request.arenas != 0;
    if (write && direct && arenas) {
        return "an RDMA write comes by two ways at once";
    }
    if (direct && (request.length == 0 || !(write ? copy.ours : copy.theirs))) {
        return "it asks for a copy between the processes that was not agreed upon";
    }
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        if (pieces[i].length > request.length) {
            return "the pieces of an RDMA write are longer than the whole";
        }
        if ((pieces[i].arena != 0) != arenas) {
            return "a piece of an RDMA write is not where the request says";
        }
        sum += pieces[i].length;
    }
    if (sum != ((direct || arenas) && write ? request.length : 0U)) {
        return "the pieces of an RDMA write do not make up the whole";
    }
    return {};
}

}  // namespace

bool ShmPort::take_rdma_request(Connection* connection, Link& link, const RecordHeader& header,
                                const std::byte* head, std::uint32_t& slots) noexcept {
    struct {
        RdmaRequest request;
        RemotePiece pieces[kMaxSges];
    } record;
    const std::uint32_t extra = header.length - static_cast<std::uint32_t>(sizeof(RdmaRequest));
    if (header.length < sizeof(RdmaRequest) || header.length > sizeof(record) ||
        extra % sizeof(RemotePiece) != 0) {
        fail_link(link, "an RDMA request has an impossible length");
        return false;
    }
    slots = slots_for(header.length);
    if (connection == nullptr || connection->broken) {
        return true;
    }
    copy_message(link, head, header.length, reinterpret_cast<std::byte*>(&record));
    light_fence();  // from here on it is our copy that is looked at
    const RdmaRequest& request = record.request;
    const std::uint32_t count = extra / static_cast<std::uint32_t>(sizeof(RemotePiece));
    RdmaTarget& in = connection->rdma_in;
    std::string_view why = nonsense(request, record.pieces, count, link.copy);
    if (in.phase != Phase::kIdle) {
        why = "it asks for an RDMA operation before the last one has ended";
    }
    if (!why.empty()) {
        fail_link(link, why);
        return false;
    }
    if (!connection->established) {
        // Nobody can have told it what is exposed; nor can it be answered. The others on the link have no part in it.
        counters_.rdma_refused.add();
        fail_connection(*connection);
        return true;
    }
    const bool read = request.read != 0;
    for (std::uint32_t i = 0; i < count && request.arenas != 0; ++i) {
        RemotePiece& piece = record.pieces[i];
        const std::byte* from = link.arenas.find(piece.arena, piece.address, piece.length);
        if (from == nullptr) {
            fail_link(link, "an RDMA write comes from outside of the arenas that it has offered");
            return false;
        }
        piece.address = reinterpret_cast<std::uint64_t>(from);
    }
    const std::uint64_t address =
        connection->remote == nullptr
            ? 0
            : connection->remote->resolve(request.key, request.nonce, request.offset,
                                          request.length, read ? kRead : kWrite);
    if (address == 0) {
        counters_.rdma_refused.add();
        fail_connection(*connection);
        return true;
    }
    in.operation = request.operation;
    if (request.length == 0) {
        answer_rdma(*connection, RecordKind::kRdmaDone);
        return true;
    }
    connection->remote->hold(request.key);
    in.holds = true;
    in.key = request.key;
    in.address = address;
    in.length = request.length;
    in.progress = 0;
    in.piece_count = count;
    std::copy_n(record.pieces, count, in.pieces);
    in.arenas = !read && request.arenas != 0;
    in.writes = !read;
    in.granted = read ? address : 0;
    in.granted_arena = 0;
    if (read && request.arenas != 0) {
        const LentArenas::Place place = link.lent.place_of(address, request.length);
        if (place.arena != 0) {
            in.granted = place.offset;
            in.granted_arena = place.arena;
        }
    }
    if (read && (request.direct != 0 || in.granted_arena != 0)) {
        answer_rdma(*connection, RecordKind::kRdmaGrant);
        return true;
    }
    in.phase = read                               ? Phase::kServing
               : request.direct != 0 || in.arenas ? Phase::kPulling
                                                  : Phase::kTaking;
    if (in.phase != Phase::kTaking) {
        queue(*connection);
    }
    return true;
}

bool ShmPort::take_rdma_piece(Connection& connection, Link& link, std::uint32_t length) noexcept {
    RdmaTarget& in = connection.rdma_in;
    if (in.phase != Phase::kTaking || length > in.length - in.progress) [[unlikely]] {
        fail_link(link, "it sent a piece of an RDMA write that it has not asked for");
        return false;
    }
    copy_long(reinterpret_cast<void*>(in.address + in.progress), link.receiver.staged(length),
              length);
    in.progress += length;
    link.receiver.publish_progress();  // the initiator sees that we are at it
    if (in.progress == in.length) {
        release_region(connection);
        answer_rdma(connection, RecordKind::kRdmaDone);
    }
    return true;
}

bool ShmPort::take_rdma_fetched(Connection& connection, Link& link,
                                const RdmaAnswer& answer) noexcept {
    RdmaTarget& in = connection.rdma_in;
    if (in.phase != Phase::kGranted || answer.operation != in.operation) [[unlikely]] {
        fail_link(link, "it has read what it was not granted");
        return false;
    }
    release_region(connection);
    in.phase = Phase::kIdle;
    if (answer.detail != 0) {
        answer_rdma(connection, RecordKind::kRdmaDone);
    }
    return true;
}

// ---- turns ------------------------------------------------------------------------------------------

void ShmPort::serve_rdma(Connection& connection) noexcept {
    if (connection.rdma_in.progress == 0) {
        // The initiator sees that its request was taken, and need not knock while we are at work.
        connection.link->receiver.publish_progress();
    }
    if (connection.rdma_in.phase == Phase::kPulling) {
        pull_rdma(connection);
    } else if (connection.rdma_in.phase == Phase::kServing) {
        put_rdma_data(connection);
    }
}

// Copies the next part of a write out of the initiator's memory.
void ShmPort::pull_rdma(Connection& connection) noexcept {
    RdmaTarget& in = connection.rdma_in;
    if (in.arenas && !may_copy(connection)) {
        return;
    }
    const std::uint32_t step =
        std::min(in.length - in.progress, in.arenas ? copy_left_ : copy_per_turn(connection));
    iovec remote[kMaxSges];
    std::size_t count = 0;
    for_each_run_of(in.pieces, in.progress, step,
                    [&](const RemotePiece& piece, std::uint64_t skip, std::uint64_t length) {
                        remote[count++] = {reinterpret_cast<void*>(piece.address + skip), length};
                    });
    if (in.arenas) {
        auto* to = reinterpret_cast<std::byte*>(in.address + in.progress);
        for (std::size_t i = 0; i < count; ++i) {
            copy_long(to, remote[i].iov_base, remote[i].iov_len);
            to += remote[i].iov_len;
        }
        copy_left_ -= step;
        in.progress += step;
        counters_.bytes_from_arenas.add(step);
    } else {
        const iovec local{reinterpret_cast<void*>(in.address + in.progress), step};
        const ssize_t copied = copy_from_process(connection.link->copy, &local, 1, remote, count);
        if (copied <= 0) [[unlikely]] {
            if (is_right_lost(*connection.link, copied)) {
                in.progress = 0;
                answer_rdma(connection, RecordKind::kRdmaGrant);  // to put the pieces
            } else {
                fail_connection(connection);
            }
            return;
        }
        in.progress += static_cast<std::uint32_t>(copied);
        counters_.rdma_bytes_copied.add(static_cast<std::uint64_t>(copied));
    }
    ++moved_;
    if (in.progress == in.length) {
        release_region(connection);
        answer_rdma(connection, RecordKind::kRdmaDone);
    } else {
        come_back_to(connection);
    }
}

// Stages the next bytes of a read: a few pieces a turn.
void ShmPort::put_rdma_data(Connection& connection) noexcept {
    LinkSender& sender = connection.link->sender;
    RdmaTarget& in = connection.rdma_in;
    for (std::uint32_t n = 0; n < kPiecesPerTurn && in.progress != in.length; ++n) {
        const std::uint32_t length = std::min(in.length - in.progress, kPieceBytes);
        std::byte* to = sender.room_for_message(1) ? sender.staging_for(length) : nullptr;
        if (to == nullptr) {
            counters_.full_rings.add();
            break;
        }
        copy_long(to, reinterpret_cast<const void*>(in.address + in.progress), length);
        sender.put_staged(header_for(connection, RecordKind::kRdmaData, length));
        in.progress += length;
        counters_.rdma_bytes_staged.add(length);
        ++moved_;
    }
    if (in.progress == in.length) {
        release_region(connection);
        in.phase = Phase::kIdle;
    } else if (sender.corrupt()) [[unlikely]] {
        fail_link(*connection.link, "it claims to have read what was never written");
    } else {
        queue(connection);
    }
}

// ---- answers ----------------------------------------------------------------------------------------

void ShmPort::answer_rdma(Connection& connection, RecordKind kind) noexcept {
    connection.rdma_in.phase = Phase::kAnswering;
    connection.rdma_in.answer = kind;
    if (!flush_control(connection)) {
        queue(connection);
    }
}

// Called by flush_control(). False when the ring had no room.
bool ShmPort::put_rdma_answer(Connection& connection) noexcept {
    RdmaTarget& in = connection.rdma_in;
    LinkSender& sender = connection.link->sender;
    if (!sender.room_for_control()) {
        return false;
    }
    const bool grant = in.answer == RecordKind::kRdmaGrant;
    const RdmaAnswer answer{grant ? in.granted : 0, in.operation, grant ? in.granted_arena : 0};
    sender.put_control(header_for(connection, in.answer, sizeof(answer)), answer);
    in.phase = !grant ? Phase::kIdle : in.writes ? Phase::kTaking : Phase::kGranted;
    return true;
}

void ShmPort::release_region(Connection& connection) noexcept {
    if (connection.rdma_in.holds) {
        connection.rdma_in.holds = false;
        connection.remote->release(connection.rdma_in.key);
    }
}

}  // namespace sanpoll::engine::shm
