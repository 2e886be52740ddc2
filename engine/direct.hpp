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

/// Of one line at most. Unless it says kNothing the send has ended well, and `ended` was called.
template <typename Ended>
[[nodiscard, gnu::always_inline]] inline Outcome send(const Way& way, std::uint64_t address,
                                                      std::uint32_t length, Ended ended) noexcept {
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
    shm::Link* const link = connection.link;
    if (!shm::ShmPort::send_directly(connection, link, address, length)) [[unlikely]] {
        return nothing(token);
    }
    ended();
    connection.core->direct_counters().sends.add();
    connection.core->direct_counters().bytes_sent.add(length);
    if (link->sender.reader_sleeps()) [[unlikely]] {
        return Outcome::kHeld;
    }
    if (connection.core->somebody_waits()) [[unlikely]] {
        return Outcome::kHeld;
    }
    PollToken::leave(*token);
    return Outcome::kDone;
}

/// The second part of one that is held.
inline void end_send(const Way& way) noexcept {
    const shm::Connection& connection = connection_of(way);
    connection.link->sender.ring_doorbell();
    connection.core->after_completion();
    way.token.release();
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

/// `length` is not 0. Unless it says kNothing the receive is posted, and `begun` was called before it could end.
template <typename Begun>
[[nodiscard, gnu::always_inline]] inline Outcome receive(const Way& way, std::uint64_t context,
                                                         std::uint64_t address,
                                                         std::uint32_t length,
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
    begun();
    connection.core->direct_counters().receives.add();
    shm::ShmPort::receive_directly(connection, context, address, length, *region.holds);
    if (shm::ShmPort::credit_is_due(connection)) [[unlikely]] {
        return Outcome::kHeld;
    }
    PollToken::leave(*token);
    return Outcome::kDone;
}

/// The second part of one that is held.
inline void end_receive(const Way& way) noexcept {
    shm::Connection& connection = connection_of(way);
    port_of(connection).report_credit(connection);
    way.token.release();
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
    const bool may =
        region.contains(address, length) && port.may_post(connection, Opcode::kReceive, length);
    if (may) {
        begun();
        connection.core->count_direct_post();
        port.post_whole(connection, Opcode::kReceive, context, {address, length, region.ref});
        port.allow_direct(connection);
    }
    way.token.release();
    return may;
}

// ---- a look -----------------------------------------------------------------------------------------

/// PollingCore::poll_once() of who waits for something of this connection: looks there first. Of what has come
/// `ended(context, bytes)` is called, or Handlers::completed by the second part.
template <typename Ended>
[[nodiscard, gnu::always_inline]] inline Outcome look(const Way& way, Ended ended) noexcept {
    PollToken::Word* token = nullptr;
    if (!begin(way, token)) [[unlikely]] {
        return Outcome::kNothing;  // PollingCore::poll_once() gives way
    }
    shm::Connection& connection = connection_of(way);
    if (!connection.core->may_look_at_one()) [[unlikely]] {
        return Outcome::kHeld;
    }
    const shm::ShmPort::Taken taken = shm::ShmPort::take_directly(
        connection, [&](std::uint64_t context, std::uint32_t bytes) __attribute__((always_inline)) {
            ended(context, bytes);
            connection.core->direct_counters().received.add();
            connection.core->direct_counters().bytes_received.add(bytes);
        });
    if (taken == shm::ShmPort::Taken::kNothing) {
        return Outcome::kHeld;
    }
    if (taken == shm::ShmPort::Taken::kOneAndMore) [[unlikely]] {
        connection.core->note_one_taken();
        return Outcome::kHeld;
    }
    if (connection.core->somebody_waits()) [[unlikely]] {
        connection.core->note_one_taken();
        return Outcome::kHeld;
    }
    PollToken::leave(*token);
    return Outcome::kDone;
}

/// The second part of one that is held: goes round everywhere if nothing has come, or if looks at this one have gone well
/// a few times.
inline void end_look(const Way& way) noexcept {
    shm::Connection& connection = connection_of(way);
    shm::ShmPort& port = port_of(connection);
    if (connection.core->one_was_taken()) {
        port.end_look(connection);
        connection.core->after_completion();
    } else if (connection.core->has_looked_enough() || !port.look_at_link(connection)) {
        port.look_once();
        connection.core->turn_instead();
    }
    way.token.release();
}

}  // namespace sanpoll::engine::direct
