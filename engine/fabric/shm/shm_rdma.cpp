// RDMA that this side asks for.
#include <cerrno>
#include <utility>

#include "engine/fabric/hold_and_push.hpp"
#include "engine/fabric/shm/pieces.hpp"
#include "engine/fabric/shm/shm_port.hpp"

namespace sanpoll::engine::shm {

namespace {

// A peer whose threads are busy elsewhere and whose backstop sleeps is woken when this time has passed
// and it has not taken our request. One that has taken it is at work, and gets the time that it needs.
constexpr std::uint64_t kPatienceNs = 50000;
constexpr std::uint64_t kKnockAgainNs = 1000000;

using Phase = RdmaInitiator::Phase;

}  // namespace

// The one place where the phase changes: counts who waits for the peer.
void ShmPort::enter(Connection& connection, Phase phase) noexcept {
    const auto waits = [](Phase which) {
        return which == Phase::kPutting || which == Phase::kAsked || which == Phase::kConfirming;
    };
    RdmaInitiator& out = connection.rdma_out;
    if (waits(out.phase) != waits(phase)) {
        const std::uint32_t change = waits(phase) ? 1U : 0U - 1U;
        connection.link->awaiting += change;
        awaiting_ += change;
    }
    out.phase = phase;
}

// ---- asking -----------------------------------------------------------------------------------------

void ShmPort::post_rdma(Connection& connection, const WorkRequest& request) noexcept {
    if (store_common(connection, request)) {
        return;
    }
    Status refused = connection.broken ? connection.reason : Status::kOk;
    if (refused == Status::kOk) [[likely]] {
        refused = hold_and_push(*connection.regions, connection.sends, request);
    }
    connection.stop_direct_sends();
    if (refused != Status::kOk) [[unlikely]] {
        core_.complete({connection.owner, request.context, 0, refused, request.flags});
        return;
    }
    if (connection.sends.size() == config_.queue_depth) [[unlikely]] {
        connection.saturation->sends.store(true, std::memory_order_relaxed);
    }
    if (connection.sends.size() == 1) {
        progress_sends(connection);
    }
}

// One step for the operation at the head of the queue. True when it has completed.
bool ShmPort::progress_rdma(Connection& connection) noexcept {
    switch (connection.rdma_out.phase) {
        case Phase::kStoring:
            return store_part(connection);
        case Phase::kIdle:
            if (begin_store(connection)) {
                return store_part(connection);
            }
            if (ask_rdma(connection) && connection.rdma_out.phase == Phase::kPutting) {
                put_rdma_pieces(connection);
            }
            return false;
        case Phase::kPutting:
            put_rdma_pieces(connection);
            return false;
        case Phase::kFetching:
            return fetch_rdma(connection);
        case Phase::kAsked:
        case Phase::kConfirming:
            return false;
    }
    return false;
}

bool ShmPort::ask_rdma(Connection& connection) noexcept {
    Link& link = *connection.link;
    RdmaInitiator& out = connection.rdma_out;
    const QueuedRequest& front = connection.sends.front();
    const bool read = front.opcode == Opcode::kRdmaRead;
    const RemotePlace place = remote_of(front.sge);
    struct {
        RdmaRequest request{};
        RemotePiece pieces[kMaxSges];
    } record;
    static_assert(sizeof(record) <= kMaxInRing);
    std::uint32_t count = 0;
    const bool is_long = front.length > config_.eager_max;
    // A read may be granted in an arena; a write that lies in arenas of ours goes from there.
    out.arenas =
        is_long &&
        (read ? !link.arenas.empty()
              : !link.lent.empty() && (count = describe_pieces(connection, connection.sends.first(),
                                                               record.pieces)) != 0);
    const bool choice =
        is_long && !(out.arenas && !read) &&
        (read ? link.copy.ours && !link.unreadable : link.copy.theirs && !link.unreadable_there);
    const bool automatic = choice && config_.copy == Copy::kAuto;
    out.direct = automatic ? link.copy_choice[read ? 1 : 0].direct(front.length) : choice;
    if (out.direct && !read) {
        for_each_piece(connection.sends, 0, front.length,
                       [&](std::uint64_t address, std::uint32_t length) {
                           record.pieces[count++] = {address, length, 0};
                       });
    }
    const auto bytes =
        static_cast<std::uint32_t>(sizeof(RdmaRequest) + count * sizeof(RemotePiece));
    if (!link.sender.room_for_message(slots_for(bytes))) {
        counters_.full_rings.add();
        queue(connection);
        return false;
    }
    record.request.nonce = place.nonce;
    record.request.key = place.key;
    record.request.offset = place.offset;
    record.request.length = front.length;
    record.request.operation = ++out.operation;
    record.request.read = read ? 1 : 0;
    record.request.direct = out.direct ? 1 : 0;
    record.request.arenas = out.arenas ? 1 : 0;
    out.from = nullptr;
    out.progress = 0;
    out.revocations = link.sender.revocations();  // before there can be a grant
    enter(connection,
          read || out.direct || out.arenas || front.length == 0 ? Phase::kAsked : Phase::kPutting);
    const Sge whole{reinterpret_cast<std::uint64_t>(&record), bytes, 0};
    link.sender.put_message(header_for(connection, RecordKind::kRdmaRequest, bytes), &whole, 1);
    out.began_ns = automatic && front.length >= CopyChoice::kTimed ? core_.clock().now_ns() : 0;
    expect_answer(link, front.length);
    return true;
}

// Stages the next pieces of a write: a few a turn, so that other connections have their turn.
void ShmPort::put_rdma_pieces(Connection& connection) noexcept {
    LinkSender& sender = connection.link->sender;
    RdmaInitiator& out = connection.rdma_out;
    const std::uint32_t whole = connection.sends.front().length;
    for (std::uint32_t n = 0; n < kPiecesPerTurn && out.progress != whole; ++n) {
        const std::uint32_t length = std::min(whole - out.progress, kPieceBytes);
        std::byte* to = sender.room_for_message(1) ? sender.staging_for(length) : nullptr;
        if (to == nullptr) {
            counters_.full_rings.add();
            break;
        }
        for_each_piece(connection.sends, out.progress, length,
                       [&to](std::uint64_t from, std::uint32_t step) {
                           copy_long(to, reinterpret_cast<const void*>(from), step);
                           to += step;
                       });
        sender.put_staged(header_for(connection, RecordKind::kRdmaPiece, length));
        out.progress += length;
        counters_.rdma_bytes_staged.add(length);
        ++moved_;
        expect_answer(*connection.link, whole - out.progress);
    }
    if (out.progress == whole) {
        enter(connection, Phase::kAsked);
    } else {
        queue(connection);
    }
}

// Copies the next part of a granted read. True when it has completed.
bool ShmPort::fetch_rdma(Connection& connection) noexcept {
    Link& link = *connection.link;
    RdmaInitiator& out = connection.rdma_out;
    const std::uint32_t whole = connection.sends.front().length;
    if (out.progress != whole && out.from != nullptr) {
        if (!may_copy(connection)) {
            return false;
        }
        const std::uint32_t step = std::min(whole - out.progress, copy_left_);
        Scatter(connection.sends, out.progress).write<copy_long>(out.from + out.progress, step);
        copy_left_ -= step;
        out.progress += step;
        counters_.bytes_from_arenas.add(step);
        ++moved_;
        if (out.progress != whole) {
            come_back_to(connection);
            return false;
        }
        light_fence();  // the bytes first, then the count of what was taken back
    } else if (out.progress != whole) {
        const std::uint32_t step = std::min(whole - out.progress, copy_per_turn(connection));
        iovec local[kMaxSges];
        std::size_t count = 0;
        for_each_piece(connection.sends, out.progress, step,
                       [&](std::uint64_t address, std::uint32_t length) {
                           local[count++] = {reinterpret_cast<void*>(address), length};
                       });
        const iovec remote{reinterpret_cast<void*>(out.granted + out.progress), step};
        const ssize_t copied = copy_from_process(link.copy, local, count, &remote, 1);
        if (copied <= 0) [[unlikely]] {
            if (is_right_lost(link, copied)) {
                give_grant_back(connection);
            } else {
                fail_connection(connection);
            }
            return false;
        }
        out.progress += static_cast<std::uint32_t>(copied);
        counters_.rdma_bytes_copied.add(static_cast<std::uint64_t>(copied));
        ++moved_;
        if (out.progress != whole) {
            queue(connection);
            return false;
        }
    }
    // Until it is said the operation has not ended: nobody would come back to say it.
    if (!link.sender.room_for_control()) {
        counters_.full_rings.add();
        queue(connection);
        return false;
    }
    // If the target has taken back any grant since we asked, it may have been this one, and the bytes
    // whatever was in that memory then.
    const bool confirm = link.sender.revocations() != out.revocations;
    const RdmaAnswer answer{0, out.operation, confirm ? 1U : 0U};
    link.sender.put_control(header_for(connection, RecordKind::kRdmaFetched, sizeof(answer)),
                            answer);
    if (confirm) {
        enter(connection, Phase::kConfirming);
        expect_answer(link, 0);
        return false;
    }
    finish_rdma(connection);
    return true;
}

// Of a read that is asked for again then, from its beginning, and comes through the staging area.
void ShmPort::give_grant_back(Connection& connection) noexcept {
    Link& link = *connection.link;
    RdmaInitiator& out = connection.rdma_out;
    if (!link.sender.room_for_control()) {
        counters_.full_rings.add();
    } else {
        const RdmaAnswer answer{0, out.operation, 0};
        link.sender.put_control(header_for(connection, RecordKind::kRdmaFetched, sizeof(answer)),
                                answer);
        enter(connection, Phase::kIdle);
    }
    queue(connection);
}

void ShmPort::finish_rdma(Connection& connection) noexcept {
    enter(connection, Phase::kIdle);
    connection.rdma_out.asks = false;
    counters_.rdma_operations.add();
    const QueuedRequest& front = connection.sends.front();
    if (const RdmaInitiator& out = connection.rdma_out; out.began_ns != 0) {
        connection.link->copy_choice[front.opcode == Opcode::kRdmaRead ? 1 : 0].took(
            out.direct, front.length, core_.clock().now_ns() - out.began_ns);
    }
    complete_send(connection, Status::kOk, front.length);
}

// ---- answers ----------------------------------------------------------------------------------------

bool ShmPort::take_rdma_bytes(Connection* connection, Link& link,
                              const RecordHeader& header) noexcept {
    const std::uint32_t length = header.length;
    if (length > kMaxStaged || length == 0 || link.receiver.staged(length) == nullptr) {
        fail_link(link, "a piece of an RDMA transfer has an impossible length");
        return false;
    }
    if (connection != nullptr && !connection->broken) {
        if (header.kind == RecordKind::kRdmaPiece) {
            if (!take_rdma_piece(*connection, link, length)) {
                return false;
            }
        } else {
            RdmaInitiator& out = connection->rdma_out;
            if (out.phase != Phase::kAsked || out.direct ||
                connection->sends.front().opcode != Opcode::kRdmaRead ||
                length > connection->sends.front().length - out.progress) [[unlikely]] {
                fail_link(link, "it sent bytes of an RDMA read that were not asked for");
                return false;
            }
            Scatter(connection->sends, out.progress)
                .write<copy_long>(link.receiver.staged(length), length);
            out.progress += length;
            expect_answer(link, connection->sends.front().length - out.progress);
            if (out.progress == connection->sends.front().length) {
                finish_rdma(*connection);
                queue(*connection);  // for what waited behind it
            }
        }
    }
    link.receiver.release_staged();
    return true;
}

bool ShmPort::take_rdma_answer(Connection* connection, Link& link, const RecordHeader& header,
                               const std::byte* head) noexcept {
    if (header.length != sizeof(RdmaAnswer)) {
        fail_link(link, "an answer to an RDMA request has an impossible length");
        return false;
    }
    static_assert(slots_for(sizeof(RdmaAnswer)) == 1);
    if (connection == nullptr || connection->broken) {
        return true;
    }
    RdmaAnswer answer;
    copy_exactly<sizeof(answer)>(&answer, head + sizeof(RecordHeader));
    light_fence();  // from here on it is our copy that is looked at
    if (header.kind == RecordKind::kRdmaFetched) {
        return take_rdma_fetched(*connection, link, answer);
    }
    RdmaInitiator& out = connection->rdma_out;
    if (static_cast<std::int32_t>(answer.operation - out.operation) < 0) {
        counters_.stale_records.add();
        return true;
    }
    const bool asked = out.phase == Phase::kAsked && answer.operation == out.operation;
    const bool read = asked && connection->sends.front().opcode == Opcode::kRdmaRead;
    const std::uint32_t length = asked ? connection->sends.front().length : 0;
    expect_answer(link, 0);
    const bool in_arena = answer.detail != 0;
    if (header.kind == RecordKind::kRdmaGrant && read && (in_arena ? out.arenas : out.direct)) {
        if (in_arena) {
            out.from = link.arenas.find(answer.detail, answer.address, length);
            if (out.from == nullptr) {
                fail_link(link, "it grants to read outside of the arenas that it has offered");
                return false;
            }
            out.began_ns = 0;  // neither of the ways that are timed
        } else {
            out.granted = answer.address;
        }
        enter(*connection, Phase::kFetching);
        queue(*connection);
        return true;
    }
    if (header.kind == RecordKind::kRdmaGrant && asked && !read && out.direct &&
        answer.address == 0 && !in_arena) {
        // It cannot read here any more; what it may have copied counts for nothing.
        link.unreadable_there = true;
        out.direct = false;
        out.began_ns = 0;
        enter(*connection, Phase::kPutting);
        queue(*connection);
        return true;
    }
    const bool confirmed = out.phase == Phase::kConfirming && answer.operation == out.operation;
    if (header.kind == RecordKind::kRdmaDone && (confirmed || (asked && (!read || length == 0)))) {
        finish_rdma(*connection);
        queue(*connection);
        return true;
    }
    fail_link(link, "it answers an RDMA request that was not made");
    return false;
}

// ---- waking a peer that sleeps ----------------------------------------------------------------------

// `bytes` are still to be moved by the peer: how long it may take once it is at it.
void ShmPort::expect_answer(Link& link, std::uint32_t bytes) noexcept {
    link.knock_at = core_.clock().now_ns() + kPatienceNs;
    link.knock_every = kKnockAgainNs + bytes;  // a byte a nanosecond: slower than any memory
    link.knocked = false;
}

void ShmPort::knock_at_silent_peers(bool now) noexcept {
    const std::uint64_t time = core_.clock().now_ns();
    for (Link* link : links_) {
        if (link->awaiting == 0 || (time < link->knock_at && !(now && !link->knocked))) {
            continue;
        }
        const std::uint32_t taken = link->sender.taken();
        if (!now && std::exchange(link->seen_taken, taken) != taken) {
            link->knock_at = time + kPatienceNs;  // it is at work
            continue;
        }
        // The first time only if it has not even taken what we wrote.
        const bool first = !link->knocked;
        link->knocked = true;
        link->knock_at = time + link->knock_every;
        if (!first || !link->sender.is_all(taken)) {
            counters_.knocks.add();
            link->sender.knock_anyway();
        }
    }
}

// ---- ends -------------------------------------------------------------------------------------------

// A copy between the processes brought `result` (at most 0) instead of bytes: because this memory is gone, which is the
// end of the connection, or because the right to read the peer is. Then nothing is copied on this link any more. If it is
// the peer that is gone, and not just hidden, the control thread hears of it.
bool ShmPort::is_right_lost(Link& link, std::int64_t result) noexcept {
    const bool lost = result != 0 && result != -EFAULT;
    link.unreadable |= lost;
    return lost;
}

// Ends this connection and no other, and lets the peer know why: if the connection is still being made, when it has been.
void ShmPort::fail_connection(Connection& connection) noexcept {
    break_connection(connection, Status::kTransportFailed);
    connection.failure_due = true;
    if (connection.established && !flush_control(connection)) {
        queue(connection);
    }
}

// What was under way is given up, on both sides. Late answers find the connection broken or gone.
void ShmPort::end_rdma(Connection& connection) noexcept {
    end_store(connection);
    connection.rdma_out.asks = false;
    enter(connection, Phase::kIdle);
    RdmaTarget& in = connection.rdma_in;
    if (in.phase == RdmaTarget::Phase::kGranted) {
        connection.link->receiver.revoke();
    }
    in.phase = RdmaTarget::Phase::kIdle;
    release_region(connection);
}

}  // namespace sanpoll::engine::shm
