// RDMA that asks the peer nothing: into or out of what it has exposed in an arena that is mapped here.
#include <algorithm>
#include <atomic>
#include <utility>

#include "engine/fabric/shm/direct_rdma.hpp"
#include "engine/fabric/shm/pieces.hpp"
#include "engine/fabric/shm/shm_port.hpp"

namespace sanpoll::engine::shm {

namespace {

using Phase = RdmaInitiator::Phase;

// Copied at once whatever else was copied in this turn: as a message that travels in the ring is.
constexpr std::uint32_t kFree = 1024;

// Below, both ranges may stay in the nearer caches, and it is all the same where a copy begins.
constexpr std::uint32_t kToAndFroFrom = 256 * 1024;

}  // namespace

void ShmPort::copy_any(void* to, const void* from, std::uint32_t length) noexcept {
    if (length == 8) {
        copy_exactly<8>(to, from);  // one store: nobody sees a part of it
    } else if (length <= 128) {
        copy_slot(to, from, length);
    } else if (length < kToAndFroFrom) {
        copy_long(to, from, length);
    } else {
        // Whoever looks at the last byte of a range instead of waiting for a message is promised nothing. But the way back would
        // show it first of all; so it comes last, as it does by the way there.
        constexpr std::uint32_t kLast = 64;
        const std::uint32_t body = length - kLast;
        if (backwards_ = !backwards_; backwards_) {
            copy_backwards(to, from, body);
        } else {
            copy_long(to, from, body);
        }
        std::atomic_signal_fence(std::memory_order_release);  // the compiler's order, for that
        copy_exactly<kLast>(static_cast<std::byte*>(to) + body,
                            static_cast<const std::byte*>(from) + body);
    }
}

// ---- what we have exposed ---------------------------------------------------------------------------

std::uint32_t Connection::show(std::uint64_t base, std::uint32_t range, std::uint32_t access,
                               std::uint32_t key, std::uint64_t nonce) noexcept {
    if (link == nullptr || broken || !established ||
        (link->sharing != Sharing::kNoneYet && link->sharing != Sharing::kShared &&
         link->sharing != Sharing::kStores)) {
        return 0;
    }
    const memory::Arena* arena = memory::Arenas::of_process().find(base, range);
    if (arena == nullptr || !arena->shareable) {
        return 0;
    }
    link->receiver.publish_progress();  // the peer has to know of what was taken before
    // Whether the peer has mapped the arena is for the peer to see.
    return link->shown.show({0, peer_id, nonce, base - arena->base, key, arena->id, range, access});
}

bool Connection::hide(std::uint32_t place) noexcept {
    return link == nullptr || link->shown.hide(place);
}

void Connection::revoke(std::uint32_t place) noexcept {
    if (link != nullptr) {
        link->shown.revoke(place);
    }
}

void Connection::drop(std::uint32_t place) noexcept {
    if (link != nullptr && !link->shown.drop(place)) {
        link->shown.remember(place, still_used);
    }
}

// A connection that is closed: whether the peer is just copying a part that it had begun before. It has a while for
// it; where that does not come to an end, what it does to the memory is as if it had done so before. Of an operation
// that is between two parts the next one finds out.
bool ShmPort::lingers(Connection& connection) noexcept {
    if (holds_receives(connection)) {
        return true;
    }
    if (connection.closed_due) {
        if (connection.link != nullptr) {
            ExposuresShown& shown = connection.link->shown;
            shown.forget_unused(connection.still_used);
            const bool copying = shown.copying_any(connection.still_used);
            if (copying && core_.clock().now_ns() < connection.linger_until) {
                return true;
            }
            if (copying) {
                counters_.abandoned_uses.add();
            }
        }
        say_closed(connection);
    }
    return false;
}

void ShmPort::say_closed(Connection& connection) noexcept {
    if (std::exchange(connection.closed_due, false)) {
        core_.endpoint_closed(connection);
    }
}

// ---- what the peer has exposed ----------------------------------------------------------------------

// Whether every message that was sent before has been taken by the peer's core; see rdma_state.hpp.
bool ShmPort::peer_has_taken_all(Connection& connection) noexcept {
    if (connection.taken == connection.sent) [[likely]] {
        return true;
    }
    if (connection.sent != connection.sent_before) {
        connection.sent_before = connection.sent;
        connection.last_record = connection.link->sender.position();
    }
    if (!connection.link->sender.has_taken(connection.last_record)) {
        return false;
    }
    connection.taken = connection.sent;
    return true;
}

// Where the range is, with its use announced; nullptr if the peer has to be asked.
inline std::byte* ShmPort::announce_use(Connection& connection, const RemotePlace& place,
                                        std::uint32_t length, bool write, Exposure& seen) noexcept {
    Link& link = *connection.link;
    if (!link.seen.look(place.hint, seen) || seen.nonce != place.nonce || seen.key != place.key ||
        seen.connection != connection.id || (seen.access & (write ? kWrite : kRead)) == 0 ||
        place.offset > seen.length || length > seen.length - place.offset) [[unlikely]] {
        return nullptr;
    }
    const std::uint64_t offset = seen.offset + place.offset;
    std::byte* range = write ? link.arenas.find_to_write(seen.arena, offset, length)
                             : const_cast<std::byte*>(link.arenas.find(seen.arena, offset, length));
    return range != nullptr && link.seen.begin(place.hint, seen) ? range : nullptr;
}

// Whether an operation can be done at once, as far as this end knows: nearly all can that nanoseconds matter to. `limit`:
// what a long one may copy.
inline bool ShmPort::may_store(Connection& connection, const RemotePlace& place,
                               std::uint32_t length, std::uint32_t limit) noexcept {
    return place.hint != 0 && !connection.broken && connection.sends.empty() &&
           !connection.suspended &&
           (length <= kFree || (length <= limit && starved_head_ == nullptr)) &&
           peer_has_taken_all(connection);
}

// For the next one on the same exposure.
void ShmPort::remember_target(Connection& connection, const RdmaOne& one,
                              const Exposure& seen) noexcept {
    Link& link = *connection.link;
    StoreTarget& target = one.write ? connection.written : connection.read;
    target.length = 0;
    std::byte* base =
        one.write ? link.arenas.find_to_write(seen.arena, seen.offset, seen.length)
                  : const_cast<std::byte*>(link.arenas.find(seen.arena, seen.offset, seen.length));
    ExposureSlot* slot = link.seen.quick_slot(one.place.hint, seen);
    if (base != nullptr && slot != nullptr) [[likely]] {
        target = {RemoteName::from(one.name), base, slot, seen.state,
                  std::min(seen.length, one.exposed)};
    }
}

inline void ShmPort::count_store(bool write, std::uint32_t length) noexcept {
    if (length > kFree) {
        copy_left_ -= std::min(length, copy_left_);
    }
    (write ? counters_.rdma_bytes_stored : counters_.rdma_bytes_loaded).add(length);
    counters_.rdma_stores.add();
    counters_.rdma_operations.add();
}

// What may be copied in the call that posts it. The only connection keeps nobody waiting but the thread whose call this is.
// In parts it would be slower: between two of them the backstop may take over, on another processor, for which all of it
// has to be moved.
inline std::uint32_t ShmPort::limit_at_once(const Connection& connection,
                                            std::uint32_t length) const noexcept {
    return length <= copy_left_ || !is_alone(connection) ? copy_left_ : copy_per_turn(connection);
}

bool ShmPort::rdma_again(Connection& connection, bool write, const void* name, std::uint32_t offset,
                         std::uint64_t address, std::uint32_t length) noexcept {
    const bool is_free = length <= kFree;
    if (!is_free && (length > limit_at_once(connection, length) || starved_head_ != nullptr))
        [[unlikely]] {
        return false;
    }
    if (!move_again(connection, write, name, offset, address, length,
                    [=, this](std::byte* to, const std::byte* from) {
                        copy_any(to, from, length);
                    })) [[unlikely]] {
        return false;
    }
    if (!is_free) {
        copy_left_ -= std::min(length, copy_left_);
    }
    return true;
}

bool ShmPort::rdma_one(Endpoint& endpoint, const RdmaOne& one) noexcept {
    auto& connection = static_cast<Connection&>(endpoint);
    const std::uint32_t limit = limit_at_once(connection, one.length);
    Exposure found;
    std::byte* range = nullptr;
    if (!may_store(connection, one.place, one.length, limit) ||
        (range = announce_use(connection, one.place, one.length, one.write, found)) == nullptr)
        [[unlikely]] {
        return false;
    }
    ExposuresSeen& seen = connection.link->seen;
    auto* ours = reinterpret_cast<std::byte*>(one.address);
    copy_any(one.write ? range : ours, one.write ? ours : range, one.length);
    // A read of what was taken back meanwhile may be of something else.
    const bool good = one.write || seen.stands(one.place.hint, found.state);
    seen.end(one.place.hint);
    if (good) [[likely]] {
        count_store(one.write, one.length);
        if (one.name != nullptr) {
            remember_target(connection, one, found);
        }
    }
    return good;
}

// The same of a request, of any number of pieces. Nothing has been changed if it is false.
bool ShmPort::store_common(Connection& connection, const WorkRequest& request) noexcept {
    const RemotePlace place = remote_of(request.sge);
    if (!may_store(connection, place, request.length, copy_left_)) {
        return false;
    }
    for (std::uint32_t i = kRemoteSges; i < request.sge_count; ++i) {
        // Deregistered between the poster's check and now: the long way has the answer.
        if (request.piece(i).length != 0 && !connection.regions->live(request.piece(i).region))
            [[unlikely]] {
            return false;
        }
    }
    const bool write = request.opcode == Opcode::kRdmaWrite;
    Exposure found;
    std::byte* range = announce_use(connection, place, request.length, write, found);
    if (range == nullptr) [[unlikely]] {
        return false;
    }
    ExposuresSeen& seen = connection.link->seen;
    for (std::uint32_t i = kRemoteSges; i < request.sge_count; ++i) {
        const Sge& piece = request.piece(i);
        auto* ours = reinterpret_cast<std::byte*>(piece.address);
        copy_any(write ? range : ours, write ? ours : range, piece.length);
        range += piece.length;
    }
    const bool good = write || seen.stands(place.hint, found.state);
    seen.end(place.hint);
    if (!good) [[unlikely]] {
        return false;
    }
    count_store(write, request.length);
    core_.complete({connection.owner, request.context, request.length, Status::kOk, request.flags});
    return true;
}

// The first in the queue. False if the peer has to be asked.
bool ShmPort::begin_store(Connection& connection) noexcept {
    RdmaInitiator& out = connection.rdma_out;
    const QueuedRequest& front = connection.sends.front();
    const RemotePlace place = remote_of(front.sge);
    if (place.hint == 0 || out.asks || !peer_has_taken_all(connection)) {
        return false;
    }
    Exposure found;
    out.stored =
        announce_use(connection, place, front.length, front.opcode == Opcode::kRdmaWrite, found);
    if (out.stored == nullptr) {
        return false;
    }
    out.state = found.state;
    out.place = place.hint;
    out.progress = 0;
    out.began_ns = 0;
    enter(connection, Phase::kStoring);
    return true;
}

// Copies the next part. True when the operation has completed.
bool ShmPort::store_part(Connection& connection) noexcept {
    RdmaInitiator& out = connection.rdma_out;
    ExposuresSeen& seen = connection.link->seen;
    const QueuedRequest& front = connection.sends.front();
    const bool write = front.opcode == Opcode::kRdmaWrite;
    if (out.progress != front.length && !may_copy(connection)) {
        if (out.progress == 0) {
            hold_store(connection);  // announced, and not begun
        }
        return false;
    }
    if (out.keeps_awake && !seen.begin(out.place, out.state)) [[unlikely]] {
        ask_instead(connection);
        return false;
    }
    const std::uint32_t step = std::min(front.length - out.progress, copy_left_);
    std::byte* at = out.stored + out.progress;
    for_each_piece(connection.sends, out.progress, step,
                   [&](std::uint64_t address, std::uint32_t length) {
                       auto* ours = reinterpret_cast<std::byte*>(address);
                       copy_any(write ? at : ours, write ? ours : at, length);
                       at += length;
                   });
    copy_left_ -= step;
    out.progress += step;
    (write ? counters_.rdma_bytes_stored : counters_.rdma_bytes_loaded).add(step);
    ++moved_;
    const bool ended = out.progress == front.length;
    if (!(ended && write) && !seen.stands(out.place, out.state)) [[unlikely]] {
        ask_instead(connection);
        return false;
    }
    if (!ended) {
        hold_store(connection);
        come_back_to(connection);
        return false;
    }
    end_store(connection);
    counters_.rdma_stores.add();
    finish_rdma(connection);
    return true;
}

// The connection has ended there, or its owner tries to deregister just now: that core knows.
void ShmPort::ask_instead(Connection& connection) noexcept {
    end_store(connection);
    connection.rdma_out.asks = true;
    if (!connection.held_back() && ask_rdma(connection) &&
        connection.rdma_out.phase == Phase::kPutting) {
        put_rdma_pieces(connection);
    }
}

// Between two parts. Nobody but the core comes back to it: where its owner polls now and then, that is the backstop.
void ShmPort::hold_store(Connection& connection) noexcept {
    connection.link->seen.hold(connection.rdma_out.place);
    if (!std::exchange(connection.rdma_out.keeps_awake, true)) {
        core_.keep_awake();
    }
}

// Whatever became of it: nothing more is copied.
void ShmPort::end_store(Connection& connection) noexcept {
    if (connection.rdma_out.phase == Phase::kStoring) {
        connection.link->seen.end(connection.rdma_out.place);
        if (std::exchange(connection.rdma_out.keeps_awake, false)) {
            core_.let_sleep();
        }
        enter(connection, Phase::kIdle);
    }
}

}  // namespace sanpoll::engine::shm
