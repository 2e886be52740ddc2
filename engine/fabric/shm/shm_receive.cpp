// The receiving half of the shared-memory fabric.
#include <algorithm>

#include "engine/fabric/hold_and_push.hpp"
#include "engine/fabric/shm/direct_messages.hpp"
#include "engine/fabric/shm/pieces.hpp"
#include "engine/fabric/shm/shm_port.hpp"

namespace sanpoll::engine::shm {

// ---- posting ----------------------------------------------------------------------------------------

void ShmPort::post_receive(Connection& connection, const WorkRequest& request) noexcept {
    Status refused = Status::kOk;
    if (connection.broken && connection.early == nullptr && !connection.receives_held)
        [[unlikely]] {
        refused = connection.reason;
    }
    if (refused == Status::kOk) [[likely]] {
        refused = hold_and_push(*connection.regions, connection.receives, request);
    }
    if (refused != Status::kOk) [[unlikely]] {
        core_.complete({connection.owner, request.context, 0, refused, request.flags});
        return;
    }
    if (connection.receives.size() == config_.queue_depth) [[unlikely]] {
        say_full(connection, true);
    }
    if (connection.debt != 0) [[unlikely]] {
        --connection.debt;  // it stands in for a receive that was too short
        note_unusual(connection);
    } else {
        ++connection.granted;
    }
    if (connection.early != nullptr) [[unlikely]] {
        match_early(connection);
    }
    consider_credit(connection);
}

// Of the one piece of a receive.
inline void ShmPort::release_hold(Connection& connection, const QueuedRequest& request) noexcept {
    if ((request.flags & kPushedDirectly) != 0) [[likely]] {
        --request.holds().count;
    } else if (request.sge[0].length != 0) {
        connection.regions->release_written(request.sge[0].region);
    }
}

[[gnu::noinline]] void ShmPort::say_full(Connection& connection, bool full) noexcept {
    connection.saturation->receives.store(full, std::memory_order_relaxed);
    note_unusual(connection);
}

void ShmPort::note_unusual(Connection& connection) noexcept {
    connection.unusual =
        connection.debt != 0 || connection.saturation->receives.load(std::memory_order_relaxed);
    connection.receives.stop_directly();
}

[[gnu::noinline]] void ShmPort::report_credit(Connection& connection) noexcept {
    if (connection.granted == connection.reported) {
        return;
    }
    if (connection.broken) {
        return;
    }
    const bool plenty =
        connection.report_every == kUnasked / 2 && connection.receives.size() >= 4 * kUnasked;
    connection.report_after = plenty ? 2 * kUnasked : connection.report_every;
    connection.credit_due = true;
    if (!flush_control(connection)) {
        queue(connection);
    }
}

void ShmPort::complete_receive(Connection& connection, Status status,
                               std::uint32_t bytes) noexcept {
    RequestQueue& receives = connection.receives;
    const QueuedRequest& front = receives.front();
    const Completion completion{connection.owner, front.context, bytes, status, front.flags};
    if (front.sge_count == 1) {
        release_hold(connection, front);
    } else {
        for (std::uint32_t i = 0; i < front.sge_count; ++i) {
            if (receives.piece(i).length != 0) {
                connection.regions->release(receives.piece(i).region);
            }
        }
    }
    receives.pop();
    if (receives.size() == config_.queue_depth - 1) [[unlikely]] {
        say_full(connection, false);
    }
    core_.complete(completion);
}

// ---- arrivals ---------------------------------------------------------------------------------------

// The message that is nearly all of the traffic of whom nanoseconds matter to: whole, in one slot, and a receive of
// one piece waits for it. One straight line; whatever is not so goes the long way, and nothing has been
// changed then: take_record() reads the header anew and goes by what it reads, not by what was seen here.
inline bool ShmPort::take_common(Link& link, const std::byte* head) noexcept {
    const RecordHeader header = read_header(head);
    if (header.kind != RecordKind::kMessage || header.length > kHeadBytes) [[unlikely]] {
        return false;
    }
    return take_plain(link, header.connection, header.length, &header.credit,
                      [&](void* to) { copy_slot(to, head + sizeof(RecordHeader), header.length); });
}

// `credit`: if it tells any. `copy` writes the `length` bytes of the message to where it is told.
template <typename Copy>
inline bool ShmPort::take_plain(Link& link, std::uint32_t id, std::uint32_t length,
                                const std::uint32_t* credit, const Copy& copy) noexcept {
    Connection* const connection = find(id, link);
    if (connection == nullptr || connection->closing || connection->broken ||
        connection->early != nullptr || connection->receiving_long || connection->receives.empty())
        [[unlikely]] {
        return false;
    }
    const QueuedRequest& front = connection->receives.front();
    if (front.sge_count != 1 || length > front.sge[0].length ||
        static_cast<std::int32_t>(connection->granted - connection->arrived) <= 0) [[unlikely]] {
        return false;
    }
    if (credit != nullptr && static_cast<std::int32_t>(*credit - connection->credit) > 0) {
        take_credit(*connection, *credit);
    }
    ++connection->arrived;
    counters_.messages_received.add();
    counters_.bytes_received.add(length);
    copy(reinterpret_cast<void*>(front.sge[0].address));
    const std::uint64_t context = front.context;
    const std::uint8_t flags = front.flags;
    release_hold(*connection, front);
    connection->receives.pop_single();
    if (connection->receives.size() == config_.queue_depth - 1) [[unlikely]] {
        say_full(*connection, false);
    }
    if ((flags & kNotify) == 0) [[likely]] {
        core_.complete_polled(context, length);
    } else {
        core_.complete({connection->owner, context, length, Status::kOk, flags});
    }
    return true;
}

// A message whose bytes the core has, and whose receiver is on this core as well, at the other end of the same link: as if it
// had gone by the link, which nothing else is on, and had been taken at once. False: nothing was done.
bool ShmPort::deliver_beside(Connection& connection, std::uint64_t address,
                             std::uint32_t length) noexcept {
    Link* const link = connection.link;
    if (link == nullptr || link->other_end == nullptr) {
        return false;
    }
    Link& there = *link->other_end;
    std::uint64_t buffer = 0;
    if (const Connection* const other = find(connection.peer_id, there);
        other != nullptr && !other->receives.empty()) {
        // What will be written, long before it is: who waits for it looks at the former all the while.
        const QueuedRequest& front = other->receives.front();
        buffer = front.sge[0].address;
        claim_line(front.context);
        claim_line(buffer);
    }
    if (connection.broken || !connection.sends.empty() || !connection.may_send(true) ||
        there.failed.load(std::memory_order_relaxed) || !link->nothing_under_way() ||
        !take_plain(there, connection.peer_id, length, &connection.granted, [&](void* to) {
            copy_short(to, reinterpret_cast<const void*>(address), length);
        })) [[unlikely]] {
        return false;
    }
    if (length != 0) {
        // Who sees the result reads them next, and has to come for them.
        offer_line(buffer);
        offer_line(buffer + length - 1);
    }
    // As header_for(): the peer was told.
    connection.reported = connection.granted;
    connection.credit_due = false;
    ++connection.sent;
    counters_.messages_sent.add();
    counters_.bytes_sent.add(length);
    if (!there.shown.empty()) [[unlikely]] {
        there.receiver.publish_taken();  // as take_records()
    }
    return true;
}

// False: the link has failed.
inline bool ShmPort::take_turn(Link& link) noexcept {
    const TurnMessage message = read_turn(link.turn);
    const std::uint32_t length = message.length();
    if (!may_be(message)) [[unlikely]] {
        fail_link(link, "a message in the turn line has an impossible length");
        return false;
    }
    if (take_plain(link, message.connection(), length, message.whole ? nullptr : &message.credit,
                   [&](void* to) { copy_turn(link.turn, to, length); })) [[likely]] {
        link.take_turn();
        return true;
    }
    return take_turn_slowly(link, message);
}

// Whatever is not so: as a message that had been staged, out of a copy, since the turn is ours at once.
[[gnu::noinline]] bool ShmPort::take_turn_slowly(Link& link, const TurnMessage& message) noexcept {
    const std::uint32_t length = message.length();
    copy_turn(link.turn, turn_copy_, length);
    link.take_turn();
    Connection* const connection = find(message.connection(), link);
    if (connection == nullptr || connection->closing) {
        counters_.stale_records.add();
        return true;
    }
    if (!message.whole) {
        take_credit(*connection, message.credit);
    }
    return take_message(*connection, link, length, nullptr, turn_copy_, length <= kMaxInRing) &&
           !link.failed.load(std::memory_order_relaxed);
}

// What has come along with a message that was taken directly, or is not such a one.
[[gnu::noinline]] void ShmPort::take_rest(Link& link, bool turn, const std::byte* head) noexcept {
    begin_copies();
    if (take_records(link, turn, head, kLookBatch) > 1 || !turn) {
        core_.look_round_sooner(4);  // more than an answer had come
    }
    if (queued_head_ != nullptr) {
        service_queue();  // what has arrived may have made way for something
    }
}

[[gnu::noinline]] bool ShmPort::look_at_link(Connection& connection) noexcept {
    if (connection.link == nullptr) {
        return false;
    }
    Link& link = *connection.link;
    // Who waits for the same as the last time has nothing else to do; but this core has, if it has to answer. A look that
    // stays takes its time from the others, so a whole turn comes sooner.
    const bool again =
        std::exchange(waited_for_, &connection) == &connection && !link.patience.is_never();
    const bool turn = again ? link.wait_for_turn() : link.look_at_turn();
    if (again) {
        core_.look_round_sooner(1);
    }
    const std::byte* head = link.receiver.front();
    if (!turn && head == nullptr) {
        return false;
    }
    take_rest(link, turn, head);
    return true;
}

// After a message that was taken directly: what came along with it, and whoever waits for something.
[[gnu::noinline]] void ShmPort::end_look(Connection& connection) noexcept {
    Link& link = *connection.link;
    const bool turn = link.look_at_turn();
    if (const std::byte* head = link.receiver.front(); turn || head != nullptr) {
        take_rest(link, turn, head);
        return;
    }
    link.tell_writer();
    if (queued_head_ != nullptr) {
        service_queue();
    }
}

// `turn`: there is a message in the turn line; `head`: the record in the ring as it was seen after that.
std::uint32_t ShmPort::take_records(Link& link, bool turn, const std::byte* head,
                                    std::uint32_t budget) noexcept {
    if (link.failed.load(std::memory_order_relaxed)) [[unlikely]] {
        return 0;
    }
    std::uint32_t taken = 0;
    do {
        if (head != nullptr && link.receiver.is_next(head)) {
            if (take_common(link, head)) [[likely]] {
                link.receiver.release_one();
            } else if (!take_and_release(link, head)) {
                return taken;  // the link has failed; nothing of it is touched any more
            }
            link.patience.excuse();  // the peer wrote this before the answer, and we read it
        } else if (turn || link.turn.look()) {
            if (!take_turn(link)) [[unlikely]] {
                return taken;
            }
        } else {
            fail_link(link, "a record comes after a message in the turn line that is not there");
            return taken;
        }
        ++taken;
        turn = link.look_at_turn();
        head = link.receiver.front();
    } while ((turn || head != nullptr) && taken < budget);
    if (head == nullptr && !link.shown.empty()) {
        link.receiver.publish_taken();  // RDMA that asks us nothing waits for it (rdma_state.hpp)
    }
    link.tell_writer();
    return taken;
}

// Any record. What it carried may have failed the link on the way, also when it was itself as it should be.
[[gnu::noinline]] bool ShmPort::take_and_release(Link& link, const std::byte* head) noexcept {
    std::uint32_t slots = 1;
    if (!take_record(link, head, slots)) [[unlikely]] {
        return false;
    }
    link.receiver.release(slots);
    return !link.failed.load(std::memory_order_relaxed);
}

bool ShmPort::take_record(Link& link, const std::byte* head, std::uint32_t& slots) noexcept {
    const RecordHeader header = read_header(head);
    if (header.slots > 1) {
        // Its second line is on its way while we find out whose the message is. A mere hint: nothing
        // depends on the peer's word here.
        __builtin_prefetch(link.receiver.slot(1));
    }
    const std::byte* staged = nullptr;
    Connection* connection = find(header.connection, link);
    if (connection != nullptr && !connection->closing) [[likely]] {
        take_credit(*connection, header.credit);
    } else {
        counters_.stale_records.add();
        connection = nullptr;  // its bytes are still to be passed over
    }
    switch (header.kind) {
        case RecordKind::kMessage:
            if (header.length > kMaxInRing) {
                fail_link(link, "a message in the ring is longer than the ring carries");
                return false;
            }
            slots = slots_for(header.length);
            return connection == nullptr ||
                   take_message(*connection, link, header.length, head, nullptr, true);
        case RecordKind::kStaged:
            staged = header.length > kMaxStaged ? nullptr : link.receiver.staged(header.length);
            if (staged == nullptr) {
                fail_link(link, "a staged message is longer than the staging area allows");
                return false;
            }
            if (connection != nullptr &&
                !take_message(*connection, link, header.length, nullptr, staged, false)) {
                return false;
            }
            link.receiver.release_staged();
            return true;
        case RecordKind::kPiece:
            if (header.length > kMaxStaged || header.length == 0 ||
                link.receiver.staged(header.length) == nullptr) {
                fail_link(link, "a piece of a message has an impossible length");
                return false;
            }
            if (connection != nullptr && !take_piece(*connection, link, header.length)) {
                return false;
            }
            link.receiver.release_staged();
            return true;
        case RecordKind::kAnnounce:
            return connection == nullptr || take_announcement(*connection, header.length);
        case RecordKind::kInvite:
            return connection == nullptr || connection->broken ||
                   take_invitation(*connection, link);
        case RecordKind::kCredit:
            return true;
        case RecordKind::kStalled:
            if (connection != nullptr) {
                // It has fewer receives than our reports assume: report earlier from now on.
                connection->report_every =
                    std::clamp(connection->receives.size() / 2, 1U, connection->report_every);
                connection->report_after = 1;
                consider_credit(*connection);
            }
            return true;
        case RecordKind::kDisconnect:
            if (connection != nullptr) {
                break_connection(*connection, Status::kReset);
            }
            return true;
        case RecordKind::kFailed:
            if (connection != nullptr) {
                break_connection(*connection, Status::kTransportFailed);
            }
            return true;
        case RecordKind::kRdmaRequest:
            return take_rdma_request(connection, link, header, head, slots);
        case RecordKind::kRdmaPiece:
        case RecordKind::kRdmaData:
            return take_rdma_bytes(connection, link, header);
        case RecordKind::kDescribed:
            return take_described(connection, link, header, head, slots);
        case RecordKind::kCopied:
        case RecordKind::kConfirm:
        case RecordKind::kConfirmed:
            return take_copied(connection, link, header.kind, header.length);
        case RecordKind::kRdmaGrant:
        case RecordKind::kRdmaFetched:
        case RecordKind::kRdmaDone:
            return take_rdma_answer(connection, link, header, head);
    }
    fail_link(link, "a record is of no known kind");
    return false;
}

// Its bytes are at `whole`, or in the slots of the record at `head`. `unasked`: it may be ahead of its credit.
bool ShmPort::take_message(Connection& connection, Link& link, std::uint32_t length,
                           const std::byte* head, const std::byte* whole, bool unasked) noexcept {
    const std::uint32_t limit = connection.granted + (unasked ? kUnasked : 0);
    if (static_cast<std::int32_t>(limit - connection.arrived) <= 0 || connection.long_is_last())
        [[unlikely]] {
        fail_link(link, "it sent a message that it had no credit for");
        return false;
    }
    if (connection.broken) [[unlikely]] {
        return true;  // nothing comes after a farewell; an honest peer does not get here
    }
    ++connection.arrived;
    counters_.messages_received.add();
    counters_.bytes_received.add(length);
    if (connection.early == nullptr && !connection.receives.empty() &&
        length <= connection.receives.front().length) [[likely]] {
        if (whole == nullptr) {
            const QueuedRequest& front = connection.receives.front();
            if (front.sge_count == 1) [[likely]] {
                auto* to = reinterpret_cast<std::byte*>(front.sge[0].address);
                copy_message(link, head, length, to);
            } else {
                Scatter scatter(connection.receives, 0);
                for_each_run(link, head, length, [&](const std::byte* from, std::uint32_t run) {
                    scatter.write<copy_slot>(from, run);
                });
            }
        } else {
            Scatter(connection.receives, 0).write<copy_long>(whole, length);
        }
        complete_receive(connection, Status::kOk, length);
        return true;
    }
    EarlyMessage* message = keep(connection, length, false);
    if (message == nullptr) [[unlikely]] {
        break_connection(connection, Status::kTransportFailed);  // out of memory
        return true;
    }
    if (whole == nullptr) {
        copy_message(link, head, length, message->bytes);
    } else {
        copy_long(message->bytes, whole, length);
    }
    match_early(connection);
    return true;
}

bool ShmPort::take_announcement(Connection& connection, std::uint32_t length) noexcept {
    if (static_cast<std::int32_t>(connection.granted + kUnasked - connection.arrived) <= 0 ||
        connection.long_is_last()) [[unlikely]] {
        fail_link(*connection.link, "it announced a message that it had no credit for");
        return false;
    }
    if (connection.broken) {
        return true;
    }
    ++connection.arrived;
    if (keep(connection, length, true) == nullptr) [[unlikely]] {
        break_connection(connection, Status::kTransportFailed);
        return true;
    }
    match_early(connection);
    return true;
}

bool ShmPort::take_piece(Connection& connection, Link& link, std::uint32_t length) noexcept {
    if (connection.broken) {
        return true;
    }
    if (!connection.receiving_long || connection.copying != nullptr ||
        length > connection.long_length - connection.long_progress) [[unlikely]] {
        fail_link(link, "it sent a piece that was not asked for");
        return false;
    }
    Scatter(connection.receives, connection.long_progress)
        .write<copy_fetching>(link.receiver.staged(length), length);
    connection.long_progress += length;
    if (connection.long_progress == connection.long_length) {
        connection.receiving_long = false;
        counters_.messages_received.add();
        counters_.bytes_received.add(connection.long_length);
        note_time(connection, false);
        complete_receive(connection, Status::kOk, connection.long_length);
        match_early(connection);  // what was described behind it
    }
    return true;
}

}  // namespace sanpoll::engine::shm
