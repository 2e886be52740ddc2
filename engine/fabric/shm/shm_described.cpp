// Messages that stay in their sender's arena until the receiver's core has copied them.
#include <algorithm>
#include <new>

#include "engine/fabric/shm/pieces.hpp"
#include "engine/fabric/shm/shm_port.hpp"

namespace sanpoll::engine::shm {

namespace {

// Of one connection at once: enough for the receiver to have the next one at hand, and what it keeps of them
// stays small.
constexpr std::uint32_t kMaxDescribed = 32;

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

// Where the receiver finds the bytes of a request; how many pieces, 0 if it cannot reach all of them.
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
    DescribedRecord record;
    std::uint32_t count = 0;
    if (request.opcode != Opcode::kSend || request.length <= config_.eager_max ||
        (count = describe_pieces(connection, position, record.pieces)) == 0) {
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
    ++connection.described;
    connection.undescribed = sends.after(position);
    counters_.messages_described.add();
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
    if (count == 0 || count > connection->described) {
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
        --connection->described;
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
    std::uint64_t sum = 0;
    for (; mapped.count < count; ++mapped.count) {
        const RemotePiece& piece = record.pieces[mapped.count];
        const std::byte* from = link.arenas.find(piece.arena, piece.address, piece.length);
        if (from == nullptr) {
            fail_link(link, "it describes a message outside of the arenas that it has offered");
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
    ++connection->arrived;
    EarlyMessage* message = keep(*connection, record.description.length, true);
    if (message == nullptr) [[unlikely]] {
        break_connection(*connection, Status::kTransportFailed);  // out of memory
        return true;
    }
    message->described = true;
    message->revocations = record.description.revocations;
    new (message->bytes) MappedPieces(mapped);
    match_early(*connection);
    return true;
}

// Whether `connection` may copy out of an arena now. If not it is among the first in the next turn: whoever copies long
// messages without end would else take all of every turn, being as far ahead of the others each time.
bool ShmPort::may_copy(Connection& connection) noexcept {
    if (copy_left_ != 0 && starved_head_ == nullptr) [[likely]] {
        return true;
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

// Copies the next part of the described message that is received.
void ShmPort::copy_described(Connection& connection) noexcept {
    if (connection.confirming || connection.leaving || !may_copy(connection)) {
        return;
    }
    const EarlyMessage& message = *connection.copying;
    const auto& mapped = *std::launder(reinterpret_cast<const MappedPieces*>(message.bytes));
    const std::uint32_t step =
        std::min(connection.long_length - connection.long_progress, copy_left_);
    Scatter scatter(connection.receives, connection.long_progress);
    std::uint32_t skip = connection.long_progress;
    std::uint32_t left = step;
    for (std::uint32_t i = 0; left != 0; ++i) {
        const MappedPieces::Piece& piece = mapped.pieces[i];
        if (skip >= piece.length) {
            skip -= piece.length;
            continue;
        }
        const std::uint32_t run = std::min(left, piece.length - skip);
        scatter.write<copy_long>(piece.from + skip, run);
        left -= run;
        skip = 0;
    }
    copy_left_ -= step;
    connection.long_progress += step;
    counters_.bytes_from_arenas.add(step);
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

void ShmPort::conclude_described(Connection& connection) noexcept {
    free_early(connection.copying);
    connection.copying = nullptr;
    connection.receiving_long = connection.confirming = false;
    counters_.messages_received.add();
    counters_.bytes_received.add(connection.long_length);
    complete_receive(connection, Status::kOk, connection.long_length);
}

// ---- ends -------------------------------------------------------------------------------------------

// Before the requests of either side complete otherwise: their memory is not ours then.
void ShmPort::give_up_described(Connection& connection) noexcept {
    if (connection.described != 0) {
        connection.link->receiver.revoke();
        connection.described = 0;
    }
    if (connection.copying != nullptr) {
        free_early(connection.copying);
        connection.copying = nullptr;
        connection.confirming = connection.confirm_due = false;
    }
}

}  // namespace sanpoll::engine::shm
