// Messages without a layer in between: what a switch does nearly always, in as few instructions as there are checks.
//
// A post is direct when one piece in the region of the post before is sent or received on a connection of the embedded
// fabric (shm), its end is polled for, this thread gets the token, and nothing of the connection is in a lane
// (PostGate::is_direct). The fabric's part is not called but woven in here; this is the one place above the fabrics
// that knows which one it is. All else goes by PollingCore::post and FabricPort.
//
// Each of the three comes in two parts. The first one calls nothing: a call anywhere makes a function save and restore
// the registers that have to outlast it. It is woven into the function of the SPI, which ends by a jump to the second
// part where the first was not enough.
//
// All functions: any thread; lock-free, no allocation, no system call unless somebody sleeps or the token is lent to another
// thread (PollToken).
#pragma once

#include "engine/fabric/shm/direct_messages.hpp"
#include "engine/memory_region.hpp"
#include "engine/polling_core.hpp"
#include "engine/post_gate.hpp"

namespace sanpoll::engine::direct {

/// What the owner of a connection has: see EndpointOwner. `handle` was found direct a moment ago. Until the token is ours and
/// the handle still direct, the connection, its core and the whole engine may have ended: nothing else is touched.
struct Way {
    PollToken& token;  // of its core; in memory that is never freed, as the owner is
    const PostGate& gate;
    std::uint64_t handle;
    const std::atomic<Endpoint*>& slot;
    const RegionTable& regions;
};

enum class Outcome {
    kNothing,  // done: the second part is to be tried
    kDone,
    kHeld,  // done as well, but the token is still held: the second part has to end it
    kTurn,  // the token is held. Of a send: the turn line is ours; the second part is to write into it. Of a look: it is
            // the peer's, and the second part is to look there
};

// With the token held and the gate direct: it stays until the token is given back.
[[gnu::always_inline]] inline shm::Connection& connection_of(const Way& way) noexcept {
    return static_cast<shm::Connection&>(*way.slot.load(std::memory_order_relaxed));
}
// The token with a gate that is direct; PollToken::leave() gives it back.
[[gnu::always_inline]] inline bool begin(const Way& way, PollToken::Word*& token) noexcept {
    if (!way.token.try_at_once(token)) [[unlikely]] {
        return false;
    }
    if (!way.gate.is_direct(way.handle)) [[unlikely]] {
        PollToken::leave(*token);
        return false;
    }
    return true;
}
// The same for the second part, which takes it back from a thread that it is lent to; way.token.release() gives it back.
inline bool begin_again(const Way& way) noexcept {
    if (!way.token.try_acquire()) [[unlikely]] {
        return false;
    }
    if (!way.gate.is_direct(way.handle)) [[unlikely]] {
        way.token.release();
        return false;
    }
    return true;
}
[[gnu::always_inline]] inline Outcome nothing(PollToken::Word* token) noexcept {
    PollToken::leave(*token);
    return Outcome::kNothing;
}

// ---- a send -----------------------------------------------------------------------------------------

/// What is known of a send of which the first part says kTurn.
struct Turn {
    Endpoint* connection;  // of the embedded fabric; as the slot has it, which spares a sum
    shm::Link* link;
    PollToken::Word* token;
};

/// Of one line at most. Unless it says kNothing or kTurn the send has ended well, and `ended` was called. `turn` is set
/// in case of kTurn, and its connection in case of kHeld.
template <typename Ended>
[[nodiscard, gnu::always_inline]] inline Outcome send(const Way& way, std::uint64_t address,
                                                      std::uint64_t length, Turn& turn,
                                                      Ended ended) noexcept {
    if (length > shm::kTurnWhole) [[unlikely]] {
        return Outcome::kNothing;
    }
    PollToken::Word* token = nullptr;
    if (!begin(way, token)) [[unlikely]] {
        return Outcome::kNothing;
    }
    if (!way.regions.last(kRead).contains(address, length)) [[unlikely]] {
        return nothing(token);
    }
    shm::Connection& connection = connection_of(way);
    if (!connection.sends_directly()) [[unlikely]] {
        return nothing(token);
    }
    shm::Link& link = *connection.link;  // the end of a link suspends or breaks its connections
    if (link.turn.mine()) {
        turn = {&connection, &link, token};
        return Outcome::kTurn;
    }
    if (!shm::ShmPort::send_directly(connection, link.sender, address, length)) [[unlikely]] {
        return nothing(token);
    }
    ended();
    PollingCore& core = *connection.core;
    core.direct_counters().sends.add();
    core.direct_counters().bytes_sent.add(length);
    if (link.sender.reader_sleeps()) [[unlikely]] {
        turn.connection = &connection;
        return Outcome::kHeld;
    }
    if (core.somebody_waits()) [[unlikely]] {
        turn.connection = &connection;
        return Outcome::kHeld;
    }
    PollToken::leave(*token);
    return Outcome::kDone;
}

/// The second part of one whose turn it is to write. kNothing: the peer would not see it, and nothing was done, but the token
/// is still held; else as the first part.
template <typename Ended>
[[nodiscard, gnu::always_inline]] inline Outcome send_in_turn(const Turn& turn,
                                                              std::uint64_t address,
                                                              std::uint64_t length,
                                                              Ended ended) noexcept {
    auto& connection = static_cast<shm::Connection&>(*turn.connection);
    if (!shm::ShmPort::send_in_turn(connection, *turn.link, address, length)) [[unlikely]] {
        return Outcome::kNothing;
    }
    ended();
    PollingCore& core = *connection.core;
    core.direct_counters().sends.add();
    core.direct_counters().bytes_sent.add(length);
    if (turn.link->sender.reader_sleeps()) [[unlikely]] {
        return Outcome::kHeld;
    }
    if (core.somebody_waits()) [[unlikely]] {
        return Outcome::kHeld;
    }
    PollToken::leave(*turn.token);
    return Outcome::kDone;
}

/// The second part of one that is held.
inline void end_send(shm::Connection& connection) noexcept {
    connection.link->sender.ring_doorbell();
    connection.core->after_completion();
    connection.core->release();
}

/// The second part of one where nothing was done, so of a longer one too. True: it is posted, and `begun` was called
/// before it could end, or it has ended well, and `ended` was called. False: nothing was done.
template <typename Begun, typename Ended>
[[nodiscard, gnu::always_inline]] inline bool post_send(const Way& way, std::uint64_t context,
                                                        std::uint64_t address, std::uint32_t length,
                                                        Begun begun, Ended ended) noexcept {
    if (!begin_again(way)) [[unlikely]] {
        return false;
    }
    const RegionTable::Window& region = way.regions.last(kRead);
    bool may = region.contains(address, length);
    if (may) [[likely]] {
        shm::Connection& connection = connection_of(way);
        if (shm::ShmPort::send_longer(connection, address, length)) [[likely]] {
            ended();
            connection.core->count_direct_post();
            connection.core->count_direct_end();
            connection.link->sender.ring_doorbell();
            connection.core->after_completion();
            connection.allow_direct_sends();
        } else if (shm::ShmPort& port = port_of(connection);
                   (may = port.may_post(connection, Opcode::kSend, length))) {
            begun();
            connection.core->count_direct_post();
            port.post_whole(connection, Opcode::kSend, context, {address, length, region.ref});
            connection.allow_direct_sends();
        }
    }
    way.token.release();
    return may;
}

// ---- a receive --------------------------------------------------------------------------------------

/// `length` is not 0 and has 32 bits. Unless it says kNothing the receive is posted, and `begun` was called before it could
/// end. `held` is set in case of kHeld.
template <typename Begun>
[[nodiscard, gnu::always_inline]] inline Outcome receive(const Way& way, std::uint64_t context,
                                                         std::uint64_t address,
                                                         std::uint64_t length,
                                                         shm::Connection*& held,
                                                         Begun begun) noexcept {
    PollToken::Word* token = nullptr;
    if (!begin(way, token)) [[unlikely]] {
        return Outcome::kNothing;
    }
    const RegionTable::Window& region = way.regions.last(kWrite);
    if (!region.contains(address, length)) [[unlikely]] {
        return nothing(token);
    }
    shm::Connection& connection = connection_of(way);
    if (!shm::ShmPort::may_receive_directly(connection)) [[unlikely]] {
        return nothing(token);
    }
    connection.core->direct_counters().receives.add();
    shm::ShmPort::receive_directly(connection, context, address, length, *region.holds);
    begun();  // it cannot end before the token is given back
    if (shm::ShmPort::credit_is_due(connection)) [[unlikely]] {
        held = &connection;
        return Outcome::kHeld;
    }
    PollToken::leave(*token);
    return Outcome::kDone;
}

/// The second part of one that is held.
inline void end_receive(shm::Connection& connection) noexcept {
    port_of(connection).report_credit(connection);
    connection.core->release();
}

/// The second part of one where nothing was done. True: it is posted; `begun` was called before it could end, which may
/// have been in here. False: nothing was done.
template <typename Begun>
[[nodiscard]] inline bool post_receive(const Way& way, std::uint64_t context, std::uint64_t address,
                                       std::uint32_t length, Begun begun) noexcept {
    if (!begin_again(way)) {
        return false;
    }
    const RegionTable::Window& region = way.regions.last(kWrite);
    shm::Connection& connection = connection_of(way);
    shm::ShmPort& port = port_of(connection);
    bool may = region.contains(address, length);
    if (may) {
        port.allow_direct(connection);
        if (shm::ShmPort::may_receive_directly(connection)) [[likely]] {
            connection.core->direct_counters().receives.add();
            shm::ShmPort::receive_directly(connection, context, address, length, *region.holds);
            begun();  // it cannot end before the token is given back
            if (shm::ShmPort::credit_is_due(connection)) {
                port.report_credit(connection);
            }
        } else if ((may = port.may_post(connection, Opcode::kReceive, length))) {
            begun();
            connection.core->count_direct_post();
            port.post_whole(connection, Opcode::kReceive, context, {address, length, region.ref});
        }
    }
    way.token.release();
    return may;
}

// ---- a look -----------------------------------------------------------------------------------------

template <typename Ended>
[[gnu::always_inline]] inline shm::ShmPort::Taken take_one(shm::Connection& connection,
                                                           Ended ended) noexcept {
    return shm::ShmPort::take_directly(
        connection, [&](std::uint64_t context, std::uint64_t bytes) __attribute__((always_inline)) {
            ended(context, bytes);
            DirectCounters& counters = connection.core->direct_counters();
            counters.received.add();
            counters.bytes_received.add(bytes);
        });
}

/// PollingCore::poll_once() of who waits for something of this connection: looks there first. Of what has come
/// `ended(context, bytes)` is called, or Handlers::completed by the second part. `held` is set in case of kHeld.
template <typename Ended>
[[nodiscard, gnu::always_inline]] inline Outcome look(const Way& way, Endpoint*& held,
                                                      Ended ended) noexcept {
    PollToken::Word* token = nullptr;
    if (!begin(way, token)) [[unlikely]] {
        return Outcome::kNothing;  // PollingCore::poll_once() gives way
    }
    held = way.slot.load(std::memory_order_relaxed);  // as the slot has it, which spares a sum
    auto& connection = static_cast<shm::Connection&>(*held);
    if (!connection.core->may_look_at_one()) [[unlikely]] {
        return Outcome::kHeld;
    }
    // The end of a link suspends or breaks its connections, and so does its failure.
    if (connection.stop_take()) [[unlikely]] {
        return Outcome::kHeld;
    }
    // An answer in the turn line is taken by take_records(). Woven in here, its way has fewer instructions, but a round
    // trip took 230 ns instead of 135.
    if (!connection.link->turn.mine()) {
        return Outcome::kTurn;
    }
    const shm::ShmPort::Taken taken = take_one(connection, ended);
    if (taken == shm::ShmPort::Taken::kNothing) [[unlikely]] {
        return Outcome::kHeld;
    }
    PollingCore& core = *connection.core;
    if (taken == shm::ShmPort::Taken::kOneAndMore) [[unlikely]] {
        core.note_one_taken();
        return Outcome::kHeld;
    }
    if (core.somebody_waits()) [[unlikely]] {
        core.note_one_taken();
        return Outcome::kHeld;
    }
    PollToken::leave(*token);
    return Outcome::kDone;
}

/// The second part of one that waits for the turn line.
inline void look_in_turn(shm::Connection& connection) noexcept {
    PollingCore& core = *connection.core;
    shm::ShmPort& port = port_of(connection);
    if (!port.look_at_link(connection)) {
        port.look_once();
        core.turn_instead();
    }
    core.release();
}

/// The second part of one that is held: goes round everywhere if nothing has come, or if looks at this one have gone well
/// a few times.
template <typename Ended>
inline void end_look(shm::Connection& connection, Ended ended) noexcept {
    PollingCore& core = *connection.core;
    shm::ShmPort& port = port_of(connection);
    bool taken = core.one_was_taken();
    bool more = taken;
    if (!taken && !core.has_looked_enough() && port.wait_for_record(connection)) {
        const shm::ShmPort::Taken one = take_one(connection, ended);
        taken = one != shm::ShmPort::Taken::kNothing;
        more = one == shm::ShmPort::Taken::kOneAndMore;
    }
    if (taken) {
        if (more) {
            port.end_look(connection);
        }
        core.after_completion();
    } else if (core.has_looked_enough() || !port.look_at_link(connection)) {
        port.look_once();
        core.turn_instead();
    }
    core.release();
}

}  // namespace sanpoll::engine::direct
