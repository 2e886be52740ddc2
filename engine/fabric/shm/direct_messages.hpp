// Short messages of one connection in straight lines, woven into the calls of who posts them: see engine/direct.hpp.
//
// Each does the common case or nothing at all. What keeps a connection from it is looked at here as elsewhere
// (send_common, take_common, post_receive), but for what the caller knows: the connection is not closed and the
// pieces are registered, since its gate is direct and the token has been held since that was seen.
#pragma once

#include <utility>

#include "engine/fabric/shm/shm_port.hpp"
#include "engine/fabric/shm/staging_writer.hpp"

namespace sanpoll::engine::shm {

/// Of a connection of this fabric. Asked for where it is needed: what is known early has to be kept.
[[gnu::always_inline]] inline ShmPort& port_of(const Connection& connection) noexcept {
    return static_cast<ShmPort&>(*connection.port);
}

/// What has arrived in the turn line; its words are read once.
[[gnu::always_inline]] inline TurnMessage read_turn(const rings::TurnEnd& turn) noexcept {
    const rings::TurnNote note = turn.peer_note();
    if (note.words[0] != 0) {
        return {note.words[0], 0, true};
    }
    const std::uint64_t second =
        rings::load_once(*reinterpret_cast<const std::uint64_t*>(turn.rest()));
    return {turn.first(), static_cast<std::uint32_t>(second), false};
}

/// Whether a message in the turn line can be of that form and length.
[[gnu::always_inline]] inline bool may_be(const TurnMessage& message) noexcept {
    return message.length() <= kTurnMost && message.whole == goes_whole(message.length());
}

/// The bytes of a message that has arrived in the turn line and ends in its first line, to `to`.
[[gnu::always_inline]] inline void copy_turn_line(const rings::TurnEnd& turn, std::byte* to,
                                                  std::uint32_t length) noexcept {
    if (length <= kTurnShort) {
        copy_narrow(to, turn.rest() + sizeof(std::uint64_t), length);
    } else {
        const std::uint64_t first = turn.first();
        copy_narrow(to + sizeof(first), turn.rest(), length - sizeof(first));
        std::memcpy(to, &first, sizeof(first));
    }
}

/// The same of any that may be.
inline void copy_turn(const rings::TurnEnd& turn, void* to, std::uint32_t length) noexcept {
    auto* out = static_cast<std::byte*>(to);
    if (length <= kTurnWhole) {
        copy_turn_line(turn, out, length);
        return;
    }
    copy_exactly<kTurnShort>(out, turn.rest() + sizeof(std::uint64_t));
    copy_long(out + kTurnShort, turn.rest() + rings::TurnEnd::kRest, length - kTurnShort);
}

// Writes the first line of a message but for its first word, which is to be published. False: the peer would not see
// it. The turn is ours.
[[gnu::always_inline]] inline bool ShmPort::write_turn_line(Connection& connection,
                                                            rings::TurnEnd& turn,
                                                            const std::byte* from,
                                                            std::uint32_t length,
                                                            std::uint64_t& first) noexcept {
    const std::uint64_t to = TurnMessage::where(connection.peer_id, length);
    if (!goes_whole(length)) {
        first = to;
        if (!turn.would_show(first)) [[unlikely]] {
            return false;
        }
        turn.set_note({});
        copy_narrow(turn.rest() + sizeof(std::uint64_t), from,
                    length < kTurnShort ? length : kTurnShort);
        const std::uint64_t credit = header_for(connection, RecordKind::kMessage, length).credit;
        std::memcpy(turn.rest(), &credit, sizeof(credit));
        return true;
    }
    std::memcpy(&first, from, sizeof(first));
    if (!turn.would_show(first)) [[unlikely]] {
        return false;
    }
    turn.set_note({{to, 0}});
    copy_narrow(turn.rest(), from + sizeof(first), length - sizeof(first));
    return true;
}

// A whole message of at most kTurnMost bytes. False: the peer would not see it. The turn is ours.
[[gnu::always_inline]] inline bool ShmPort::write_turn(Connection& connection,
                                                       const std::byte* from,
                                                       std::uint32_t length) noexcept {
    Link& link = *connection.link;
    if (length > kTurnWhole) {
        const std::uint32_t behind = length - kTurnShort;
        StagingWriter(link.turn.rest() + rings::TurnEnd::kRest, behind)
            .add(from + kTurnShort, behind);
    }
    std::uint64_t first = 0;
    if (!write_turn_line(connection, link.turn, from, length, first)) [[unlikely]] {
        return false;
    }
    link.give_turn(first, length);
    return true;
}

[[gnu::always_inline]] inline bool ShmPort::send_directly(Connection& connection,
                                                          LinkSender& sender, std::uint64_t address,
                                                          std::uint64_t length) noexcept {
    if (!sender.room_is_known()) [[unlikely]] {
        return false;
    }
    connection.reported = connection.granted;  // credit_due may stay: what is due is looked at
    sender.put_message_quietly(connection.peer_id.word(), std::uint64_t{connection.granted} << 32,
                               reinterpret_cast<const std::byte*>(address), length);
    ++connection.sent;
    return true;
}

[[gnu::always_inline]] inline bool ShmPort::send_in_turn(Connection& connection, Link& link,
                                                         std::uint64_t address,
                                                         std::uint64_t length) noexcept {
    std::uint64_t first = 0;
    if (!write_turn_line(connection, link.turn, reinterpret_cast<const std::byte*>(address),
                         static_cast<std::uint32_t>(length), first)) [[unlikely]] {
        return false;
    }
    link.give_turn(first, static_cast<std::uint32_t>(length));
    ++connection.sent;
    return true;
}

[[gnu::always_inline]] inline bool ShmPort::send_longer(Connection& connection,
                                                        std::uint64_t address,
                                                        std::uint32_t length) noexcept {
    if (connection.stop_send() || !connection.sends.empty() ||
        !connection.may_send(length <= kMaxInRing)) [[unlikely]] {
        return false;
    }
    ShmPort& port = port_of(connection);
    Link& link = *connection.link;
    const auto* from = reinterpret_cast<const std::byte*>(address);
    if (link.turn.mine()) {
        if (length > port.turn_most_ || !write_turn(connection, from, length)) [[unlikely]] {
            return false;
        }
    } else {
        if (length > kHeadBytes || !link.sender.room_is_known()) {
            return false;
        }
        link.sender.put_short_quietly(header_for(connection, RecordKind::kMessage, length), from);
    }
    ++connection.sent;
    port.counters_.messages_sent.add();
    port.counters_.bytes_sent.add(length);
    return true;
}

[[gnu::always_inline]] inline bool ShmPort::may_receive_directly(
    const Connection& connection) noexcept {
    return connection.receives.takes_directly();
}

[[gnu::always_inline]] inline void ShmPort::receive_directly(Connection& connection,
                                                             std::uint64_t context,
                                                             std::uint64_t address,
                                                             std::uint64_t length,
                                                             RegionTable::Holds& holds) noexcept {
    ++holds.count;
    connection.receives.push_directly(context, address, static_cast<std::uint32_t>(length), &holds);
    ++connection.granted;
}

// As take_credit(), of who has nothing to send, and so has not said that it waits. False: a send that waits for
// credit may go.
[[gnu::always_inline]] inline bool ShmPort::take_credit_directly(Connection& connection,
                                                                 std::uint32_t credit) noexcept {
    if (!rings::is(connection.credit, credit)) {
        if (!connection.sends.empty()) [[unlikely]] {
            return false;
        }
        if (static_cast<std::int32_t>(credit - connection.credit) > 0) {
            connection.credit = credit;
            connection.sends_directly_until = credit + kUnasked;  // nothing stops them
        }
    }
    return true;
}

template <typename Ended>
[[gnu::always_inline]] inline ShmPort::Taken ShmPort::take_directly(Connection& connection,
                                                                    Ended ended) noexcept {
    Link& link = *connection.link;
    const std::byte* const head = link.receiver.front();
    if (head == nullptr) {
        return Taken::kNothing;
    }
    if (!link.receiver.is_next_message(head, connection.id.word())) [[unlikely]] {
        return Taken::kNothing;
    }
    // Each word is read once: it comes from the peer's hand.
    const auto* words = reinterpret_cast<const std::uint32_t*>(head);
    const std::uint64_t length = rings::load_once(words[2]);
    const std::uint32_t credit = rings::load_once(words[3]);
    if (length > kHeadBytes) [[unlikely]] {
        return Taken::kNothing;
    }
    // The receive that waits for it, if it was posted directly. A message that has come too early waits only while there
    // is no receive, or a long message is being received. As long as neither is so, there are as many receives as the
    // peer has credit for, and more, so its message has its receive if there is any.
    RequestQueue& receives = connection.receives;
    const RequestQueue::Position first = receives.first();
    if (receives.is_end(first)) [[unlikely]] {
        return Taken::kNothing;
    }
    const QueuedRequest& front = receives.at(first);
    if (length > front.length) [[unlikely]] {
        return Taken::kNothing;
    }
    if (!front.was_pushed_directly()) [[unlikely]] {
        return Taken::kNothing;
    }
    if (!take_credit_directly(connection, credit)) [[unlikely]] {
        return Taken::kNothing;
    }
    const std::byte* const from = head + sizeof(RecordHeader);
    auto* const to = reinterpret_cast<std::byte*>(front.sge[0].address);
    const std::uint64_t last = length - 32;  // where the last 32 bytes begin
    if (last <= 32) [[likely]] {
        copy_exactly<16>(to, from);
        copy_exactly<16>(to + 16, from + 16);
        copy_exactly<16>(to + last, from + last);
        copy_exactly<16>(to + last + 16, from + last + 16);
    } else {
        copy_narrow(to, from, length);
    }
    light_fence();  // what is known so far is read again, instead of being kept
    --front.holds().count;
    const std::uint64_t context = front.context;
    receives.pop_single();
    ++connection.arrived;
    ended(context, length);
    // The writer is told of room now and then; it may wait for that.
    const bool told = link.receiver.release_one();
    if (!link.shown.empty()) [[unlikely]] {
        link.receiver.publish_taken();  // as in take_records()
    }
    // What comes behind it is left to the next look. If something of another connection is to be done, that is a whole turn:
    // see queue().
    return told ? Taken::kOneAndMore : Taken::kOne;
}

// Who asks again and again for the same waits for an answer: looks again, so that it is taken here and not by a
// whole turn. Not at once: each look takes the line from the peer, which may be writing it.
[[gnu::always_inline]] inline bool ShmPort::wait_for_record(const Connection& connection) noexcept {
    if (connection.stop_take() || !connection.link->turn.mine()) {
        return false;
    }
    const LinkReceiver& receiver = connection.link->receiver;
    if (receiver.front() != nullptr) {
        return false;  // it is something else
    }
    if (std::exchange(waited_for_, &connection) != &connection) {
        return false;
    }
    for (std::uint32_t looks = kWaitingLooks; --looks != 0;) {
        rings::cpu_pause();
        rings::cpu_pause();
        if (receiver.front() != nullptr) {
            return true;
        }
    }
    return false;
}

}  // namespace sanpoll::engine::shm
