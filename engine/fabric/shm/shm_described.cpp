// Messages that stay where they lie in their sender's memory until the receiver's core has copied them.
#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "engine/fabric/shm/pieces.hpp"
#include "engine/fabric/shm/shm_port.hpp"

namespace sanpoll::engine::shm {

namespace {

// Of one connection at once: enough for the receiver to have the next one at hand, and what it keeps of them
// stays small.
constexpr std::uint32_t kMaxDescribed = 32;

// The longest message that is invited ahead of its turn.
constexpr std::uint32_t kAheadAtMost = 256U << 10;

struct DescribedRecord {
    Description description;
    RemotePiece pieces[kMaxSges];
};
static_assert(sizeof(DescribedRecord) <= kMaxInRing);
static_assert(sizeof(MappedPieces) <= kMaxInRing, "early messages of any kind share their blocks");

}  // namespace

// ---- control operations -----------------------------------------------------------------------------

void ShmPort::add_peer_arena(Link& link, std::uint32_t id, ArenaMapping& mapping) noexcept {
    link.arenas.add(id, std::move(mapping));
    note_shared(link);
}

void ShmPort::lend_arena(Link& link, std::uint32_t id) noexcept {
    link.lent.add(id);
    note_shared(link);
}

void ShmPort::note_shared(Link& link) noexcept {
    link.sharing = link.arenas.writable() ? Sharing::kStores : Sharing::kShared;
    for (Connection* connection = link.connections; connection != nullptr;
         connection = connection->next) {
        connection->sharing.store(link.sharing, std::memory_order_relaxed);
    }
}

std::string_view ShmPort::arenas(const Endpoint& endpoint) const noexcept {
    return to_words(
        static_cast<const Connection&>(endpoint).sharing.load(std::memory_order_relaxed));
}

// ---- the sender -------------------------------------------------------------------------------------

// Where the receiver finds the bytes of a request in arenas; how many pieces, 0 if it cannot reach all of them.
std::uint32_t ShmPort::describe_pieces(const Connection& connection,
                                       RequestQueue::Position position,
                                       RemotePiece (&pieces)[kMaxSges]) const noexcept {
    const LentArenas& lent = connection.link->lent;
    std::uint32_t count = 0;
    const std::uint32_t length = connection.sends.at(position).length;
    bool reached = true;
    for_each_piece(connection.sends, position, 0, length,
                   [&](std::uint64_t address, std::uint32_t step) {
                       const LentArenas::Place place = lent.place_of(address, step);
                       reached = reached && place.arena != 0;
                       pieces[count++] = {place.offset, step, place.arena};
                   });
    return reached ? count : 0;
}

// Beyond eager_max only. A shorter one would hold its sender until the receiver's core comes by, and where the
// sender writes the same few buffers again and again, taking the lines back from the core that has just read
// them costs more than the copy that is saved: five times at 16 KiB (bench/README.md).
//
// Describes the first send that is not yet. True if it did. `able`: it can be described, if not now. What
// cannot waits until all that is described has been copied, and goes another way then.
bool ShmPort::describe_next(Connection& connection, bool& able) noexcept {
    const RequestQueue& sends = connection.sends;
    if (connection.described == 0) {
        connection.undescribed = sends.first();
    }
    const RequestQueue::Position position = connection.undescribed;
    able = false;
    if (position == sends.end() || connection.described == kMaxDescribed) {
        return false;
    }
    const QueuedRequest& request = sends.at(position);
    if (request.opcode != Opcode::kSend || request.length <= config_.eager_max) {
        return false;
    }
    DescribedRecord record;
    const Link& link = *connection.link;
    std::uint32_t count =
        link.lent.empty() ? 0 : describe_pieces(connection, position, record.pieces);
    if (count == 0 && link.copy.theirs) {
        for_each_piece(sends, position, 0, request.length,
                       [&](std::uint64_t address, std::uint32_t length) {
                           record.pieces[count++] = {address, length, 0};
                       });
    }
    if (count == 0) {
        return false;
    }
    able = true;
    if (!connection.may_send(true)) {
        wait_for_credit(connection);
        return false;
    }
    const auto bytes =
        static_cast<std::uint32_t>(sizeof(Description) + count * sizeof(RemotePiece));
    LinkSender& sender = connection.link->sender;
    if (!sender.room_for_message(slots_for(bytes))) {
        counters_.full_rings.add();
        queue(connection);
        return false;
    }
    record.description = {request.length, connection.link->receiver.revoked()};
    const Sge whole{reinterpret_cast<std::uint64_t>(&record), bytes, 0};
    sender.put_message(header_for(connection, RecordKind::kDescribed, bytes), &whole, 1);
    ++connection.sent;
    note_described(connection, record.pieces[0].arena != 0 && count == 1, request.length);
    connection.undescribed = sends.after(position);
    counters_.messages_described.add();
    return true;
}

// While the first one flows: the receiver has the next ones at hand then, and may invite one of them ahead.
void ShmPort::describe_behind(Connection& connection) noexcept {
    if (connection.described != 0 && !connection.suspended) {
        for (bool able = true; describe_next(connection, able);) {
        }
    }
}

// The peer wants in pieces what was announced, or what was described: the oldest, or the one behind it.
bool ShmPort::take_invitation(Connection& connection, Link& link) noexcept {
    using Long = Connection::Long;
    if (connection.long_state == Long::kAnnounced ||
        (connection.long_state == Long::kIdle && connection.described != 0)) {
        connection.long_state = Long::kSending;
        connection.progress = 0;
    } else if (connection.long_state == Long::kSending && connection.described > 1 &&
               !connection.wanted_ahead) {
        connection.wanted_ahead = true;
    } else {
        fail_link(link, "it invites a message that was not announced");
        return false;
    }
    queue(connection);
    return true;
}

// kCopied, kConfirm, kConfirmed.
bool ShmPort::take_copied(Connection* connection, Link& link, RecordKind kind,
                          std::uint32_t count) noexcept {
    if (connection == nullptr || connection->broken) {
        return true;
    }
    if (kind == RecordKind::kConfirmed) {
        if (!connection->confirming) {
            fail_link(link, "it confirms a message that it was not asked about");
            return false;
        }
        conclude_described(*connection);
        match_early(*connection);
        return true;
    }
    if (kind == RecordKind::kConfirm) {
        count = 1;
    }
    // What it has invited it does not copy.
    if (count == 0 || count > connection->described ||
        connection->long_state == Connection::Long::kSending) {
        fail_link(link, "it has copied messages that were not described");
        return false;
    }
    if (kind == RecordKind::kConfirm) {
        connection->confirmed_due = true;
        if (!flush_control(*connection)) {
            queue(*connection);
        }
    }
    for (; count != 0; --count) {
        forget_described(*connection, 1);
        const std::uint32_t length = connection->sends.front().length;
        counters_.messages_sent.add();
        counters_.bytes_sent.add(length);
        complete_send(*connection, Status::kOk, length);
    }
    if (!connection->sends.empty()) {
        queue(*connection);  // for what waited behind
    }
    return true;
}

// ---- the receiver -----------------------------------------------------------------------------------

bool ShmPort::take_described(Connection* connection, Link& link, const RecordHeader& header,
                             const std::byte* head, std::uint32_t& slots) noexcept {
    const std::uint32_t extra = header.length - static_cast<std::uint32_t>(sizeof(Description));
    const std::uint32_t count = extra / static_cast<std::uint32_t>(sizeof(RemotePiece));
    if (header.length <= sizeof(Description) || header.length > sizeof(DescribedRecord) ||
        extra % sizeof(RemotePiece) != 0) {
        fail_link(link, "the description of a message has an impossible length");
        return false;
    }
    slots = slots_for(header.length);
    if (connection == nullptr) {
        return true;
    }
    DescribedRecord record;
    copy_message(link, head, header.length, reinterpret_cast<std::byte*>(&record));
    light_fence();  // from here on it is our copy that is looked at
    MappedPieces mapped;
    mapped.of_process = record.pieces[0].arena == 0 && link.copy.ours;
    std::uint64_t sum = 0;
    for (; mapped.count < count; ++mapped.count) {
        const RemotePiece& piece = record.pieces[mapped.count];
        const std::byte* from = mapped.of_process
                                    ? reinterpret_cast<const std::byte*>(piece.address)
                                    : link.arenas.find(piece.arena, piece.address, piece.length);
        if (mapped.of_process ? piece.arena != 0 : from == nullptr) {
            fail_link(link, "it describes a message outside of what it lets us read");
            return false;
        }
        mapped.pieces[mapped.count] = {from, piece.length};
        sum += piece.length;
    }
    if (sum != record.description.length) {
        fail_link(link, "the pieces of a described message do not make up the whole");
        return false;
    }
    if (static_cast<std::int32_t>(connection->granted + kUnasked - connection->arrived) <= 0 ||
        (connection->long_is_last() && !connection->described_is_last())) {
        fail_link(link, "it described a message that it had no credit for");
        return false;
    }
    if (connection->broken) {
        return true;
    }
    const std::uint32_t number = connection->arrived++;
    EarlyMessage* message = keep(*connection, record.description.length, true);
    if (message == nullptr) [[unlikely]] {
        break_connection(*connection, Status::kTransportFailed);  // out of memory
        return true;
    }
    message->described = true;
    message->number = number;
    message->revocations = record.description.revocations;
    new (message->bytes) MappedPieces(mapped);
    match_early(*connection);
    return true;
}

// Whether `connection` may copy out of the peer's memory now. If not, and it has not done so in this turn, it is among the first
// in the next: whoever copies long messages without end would else take all of every turn, being as far ahead of the others
// each time. Who has had a part of this turn waits behind whoever has not.
bool ShmPort::may_copy(Connection& connection) noexcept {
    if (starved_head_ == nullptr && (copy_left_ != 0 || may_copy_on())) [[likely]] {
        if (copies_ == Copies::kNone) {
            copies_ = Copies::kBegun;
            copies_began_ = __builtin_ia32_rdtsc();
            ++copying_turn_;
        }
        connection.copied_in_turn = copying_turn_;
        return true;
    }
    if (copies_ != Copies::kNone && connection.copied_in_turn == copying_turn_) {
        come_back_to(connection);
        return false;
    }
    if (!connection.queued) {
        connection.queued = true;
        connection.next_queued = nullptr;
        (starved_head_ == nullptr ? starved_head_ : starved_tail_->next_queued) = &connection;
        starved_tail_ = &connection;
    }
    if (armed_) [[unlikely]] {
        core_.wake();
    }
    return false;
}

// Nobody waits longer for that than for a turn whose bytes come from afar, and a stream of messages that the caches hold
// has half as many turns between its copies. By ticks: to ask the core's clock holds up the copies around it, for longer than
// the turn that is saved takes.
bool ShmPort::may_copy_on() noexcept {
    if (copies_ != Copies::kBegun || __builtin_ia32_rdtsc() - copies_began_ > kQuickCopiesTicks) {
        return false;
    }
    copies_ = Copies::kMore;
    copy_left_ = kArenaBytesPerTurn;
    return true;
}

void ShmPort::put_starved_first() noexcept {
    if (starved_head_ == nullptr) [[likely]] {
        return;
    }
    starved_tail_->next_queued = queued_head_;
    if (queued_head_ == nullptr) {
        queued_tail_ = starved_tail_;
    }
    queued_head_ = starved_head_;
    starved_head_ = starved_tail_ = nullptr;
}

// Has service() come by in the next turn, even if nobody but us knows that there is something to do.
void ShmPort::come_back_to(Connection& connection) noexcept {
    queue(connection);
    if (armed_) [[unlikely]] {
        core_.wake();
    }
}

// A long message whose receive is the first in line.
void ShmPort::begin_long(Connection& connection, EarlyMessage* message) noexcept {
    connection.receiving_long = true;
    connection.long_length = message->length;
    connection.long_progress = 0;
    connection.long_described = message->described;
    connection.long_shared = connection.long_on_new_pages = false;
    connection.long_began_ns = 0;
    bool pieces = true;
    if (message->described) {
        pieces = in_pieces(connection, *message);
        const auto& mapped = *std::launder(reinterpret_cast<const MappedPieces*>(message->bytes));
        if (!mapped.of_process) {
            begin_shared(connection, *message, mapped);
        } else if (config_.copy == Copy::kAuto && !connection.link->unreadable) {
            connection.long_began_ns = core_.clock().now_ns();
        }
    }
    if (!connection.long_shared) {
        connection.long_ended_ns = 0;
    }
    if (!pieces) {
        connection.copying = message;
        copy_described(connection);
        return;
    }
    free_early(message);
    if (!std::exchange(connection.invited_ahead, false)) {
        invite(connection);
    }
}

// Whether a described message is to come through the staging area; decided once. What lies in an arena never is.
bool ShmPort::in_pieces(const Connection& connection, EarlyMessage& message) noexcept {
    if (!message.decided) {
        const auto& mapped = *std::launder(reinterpret_cast<const MappedPieces*>(message.bytes));
        Link& link = *connection.link;
        message.decided = true;
        message.in_pieces =
            mapped.of_process &&
            (link.unreadable ||
             (config_.copy == Copy::kAuto && !link.message_choices.of(message.length).direct()));
    }
    return message.in_pieces;
}

// While one message flows. Of two very long ones the second's first pieces would drive the first's last ones out of the
// caches, for a wait that is little beside their length.
void ShmPort::invite_ahead(Connection& connection) noexcept {
    EarlyMessage* const next = connection.early;
    const RequestQueue& receives = connection.receives;
    if (connection.copying != nullptr || connection.invited_ahead || connection.invite_due ||
        next == nullptr || !next->described || next->length > kAheadAtMost || receives.size() < 2 ||
        next->length > receives.at(receives.after(receives.first())).length ||
        !in_pieces(connection, *next)) {
        return;
    }
    connection.invited_ahead = true;
    invite(connection);
}

void ShmPort::invite(Connection& connection) noexcept {
    connection.invite_due = true;
    if (!flush_control(connection)) {
        come_back_to(connection);
    }
}

// Copies the next part of the described message that is received.
void ShmPort::copy_described(Connection& connection) noexcept {
    if (connection.confirming || connection.leaving || !may_copy(connection)) {
        return;
    }
    const EarlyMessage& message = *connection.copying;
    const auto& mapped = *std::launder(reinterpret_cast<const MappedPieces*>(message.bytes));
    std::uint32_t step = std::min(connection.long_length - connection.long_progress, copy_left_);
    if (mapped.of_process) {
        const std::int64_t copied = copy_from_peer(connection, mapped, step);
        if (copied <= 0) [[unlikely]] {
            // Its own core may be able to: then this is memory of a device, or the right was taken from us. If not,
            // because it has given the message up or has died, we shall be told so.
            connection.link->unreadable |= copied != -EFAULT && copied != 0;
            free_early(connection.copying);
            connection.copying = nullptr;
            connection.long_progress = 0;
            connection.long_began_ns = 0;
            invite(connection);
            return;
        }
        step = static_cast<std::uint32_t>(copied);
        counters_.bytes_from_process.add(step);
    } else if (connection.link->job.is_of(connection)) {
        if (!copy_jointly(connection, mapped)) {
            return;
        }
        step = 0;
    } else {
        copy_mapped(connection, mapped, step);
        counters_.bytes_from_arenas.add(step);
    }
    copy_left_ -= step;
    connection.long_progress += step;
    ++moved_;
    if (connection.long_progress != connection.long_length) {
        come_back_to(connection);
        return;
    }
    light_fence();  // the bytes first, then the count
    if (connection.link->sender.revocations() == message.revocations) [[likely]] {
        conclude_described(connection);
        ++connection.copied_due;
    } else {
        // It may have been this message, and the bytes whatever was in that memory then.
        connection.confirming = true;
        connection.confirm_due = true;
    }
    if (!flush_control(connection)) {
        come_back_to(connection);
    }
}

void ShmPort::copy_mapped(Connection& connection, const MappedPieces& mapped,
                          std::uint32_t step) noexcept {
    Scatter scatter(connection.receives, connection.long_progress);
    for_each_run_of(
        mapped.pieces, connection.long_progress, step,
        [&](const MappedPieces::Piece& piece, std::uint64_t skip, std::uint64_t length) {
            scatter.write<copy_fetching>(piece.from + skip, static_cast<std::uint32_t>(length));
        });
}

// At most `step` bytes; as copy_from_process().
std::int64_t ShmPort::copy_from_peer(Connection& connection, const MappedPieces& mapped,
                                     std::uint32_t step) noexcept {
    iovec remote[kMaxSges];
    std::size_t remotes = 0;
    for_each_run_of(
        mapped.pieces, connection.long_progress, step,
        [&](const MappedPieces::Piece& piece, std::uint64_t skip, std::uint64_t length) {
            remote[remotes++] = {const_cast<std::byte*>(piece.from) + skip, length};
        });
    iovec local[kMaxSges];
    std::size_t locals = 0;
    for_each_piece(connection.receives, connection.long_progress, step,
                   [&](std::uint64_t address, std::uint32_t length) {
                       local[locals++] = {reinterpret_cast<void*>(address), length};
                   });
    return copy_from_process(connection.link->copy, local, locals, remote, remotes);
}

// The message that is received has come whole, by either way.
void ShmPort::note_time(Connection& connection, bool direct) noexcept {
    if (connection.long_on_new_pages) {
        note_new_pages(connection);
    }
    if (connection.long_shared) {
        note_shared_time(connection);
    } else if (connection.long_began_ns != 0) {
        const std::uint64_t took = core_.clock().now_ns() - connection.long_began_ns;
        connection.link->message_choices.of(connection.long_length).took(direct, took);
    }
}

void ShmPort::conclude_described(Connection& connection) noexcept {
    free_early(connection.copying);
    connection.copying = nullptr;
    connection.receiving_long = connection.confirming = false;
    counters_.messages_received.add();
    counters_.bytes_received.add(connection.long_length);
    note_time(connection, true);
    complete_receive(connection, Status::kOk, connection.long_length);
}

// ---- ends -------------------------------------------------------------------------------------------

// Before the requests of either side complete otherwise: their memory is not ours then.
void ShmPort::give_up_described(Connection& connection) noexcept {
    if (connection.described != 0) {
        connection.link->receiver.revoke();
        forget_described(connection, connection.described);
    }
    if (connection.copying != nullptr) {
        free_early(connection.copying);
        connection.copying = nullptr;
        connection.confirming = connection.confirm_due = false;
    }
    if (connection.link != nullptr && connection.link->job.is_of(connection)) {
        JobOffered& job = connection.link->job;
        job.give_up();
        if (job.rest() != JobOffered::Rest::kCopying) {
            end_job(*connection.link);
        }
    }
}

}  // namespace sanpoll::engine::shm
