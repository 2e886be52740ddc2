// Two processes show each other their arenas.
#include <unistd.h>

#include <utility>

#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

void Peer::offer_arenas() {
    if (state_ != State::kReady || sharing_ != Sharing::kNoneYet) {
        return;
    }
    const memory::Arenas& arenas = memory::Arenas::of_process();
    for (; arenas_seen_ < arenas.count(); ++arenas_seen_) {
        const memory::Arena& arena = arenas.arena(arenas_seen_);
        if (!arena.shareable || arena.fd < 0 || !PeerArenas::is_id(arena.id)) {
            continue;
        }
        ControlMessage offer = message_of(MessageKind::kArena);
        offer.arena_id = arena.id;
        offer.arena_size = arena.size;
        offer.arena_offset = arena.fd_offset;
        send_with(offer, {arena.fd});  // arenas are never closed
    }
}

// False for what no honest peer says. An arena that cannot be mapped is an honest peer's as well: what lies
// in it comes by another way.
bool Peer::take_arena(const ControlMessage& message, int& fd) {
    const std::uint32_t id = message.arena_id;
    // Only the control thread adds to them, so it may look.
    if ((sharing_ != Sharing::kNoneYet && sharing_ != Sharing::kOtherUser) ||
        !PeerArenas::is_id(id) || link_->arenas.has(id)) {
        return false;
    }
    ArenaMapping mapping;
    // The two ends may see users differently.
    const std::string why =
        sharing_ == Sharing::kOtherUser
            ? "it runs under another user id"
            : mapping.open(fd, {id, message.arena_size, message.arena_offset}, may_write_);
    ::close(std::exchange(fd, -1));
    ControlMessage answer = message_of(MessageKind::kArenaAnswer);
    answer.arena_id = id;
    if (why.empty()) {
        log(LogLevel::kInfo, "maps arena {} of process {}, {} MiB, for {}", id, copy_.pid,
            message.arena_size >> 20, mapping.writable() ? "reading and writing" : "reading");
        on_core(port_, [&]() noexcept { port_.add_peer_arena(*link_, id, mapping); });
    } else {
        answer.status = 1;
        log(LogLevel::kWarn, "does not map arena {} of process {}: {}", id, copy_.pid, why);
    }
    send(answer);
    return true;
}

bool Peer::take_arena_answer(const ControlMessage& message) {
    const memory::Arenas& arenas = memory::Arenas::of_process();
    for (std::uint32_t i = 0; i < arenas_seen_; ++i) {
        if (const memory::Arena& arena = arenas.arena(i);
            arena.id == message.arena_id && arena.shareable && arena.fd >= 0) {
            if (message.status == 0) {
                on_core(port_, [&]() noexcept { port_.lend_arena(*link_, arena.id); });
            }
            return true;
        }
    }
    return false;
}

// ---- arenas that are made while links stand ---------------------------------------------------------

void ShmFabric::offer_arenas_from_now_on() {
    arena_listener_ = memory::Arenas::of_process().add_listener([this] {
        control_.post([this] {
            for (const std::shared_ptr<Peer>& peer : peers_) {
                peer->offer_arenas();
            }
        });
    });
}

void ShmFabric::stop_offering_arenas() {
    if (arena_listener_ != 0) {
        memory::Arenas::of_process().remove_listener(arena_listener_);
        arena_listener_ = 0;
    }
}

}  // namespace sanpoll::engine::shm
