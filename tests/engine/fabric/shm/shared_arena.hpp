// An arena that the two ends of a link have shared, without control threads.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "engine/memory/arena.hpp"
#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::tests {

/// A shareable arena of this process, 32 MiB; made once, with whatever the last test left in it.
inline const engine::memory::Arena& shareable_arena(std::uint32_t which = 0) {
    static std::vector<const engine::memory::Arena*> made;
    while (made.size() <= which) {
        engine::memory::Arenas& arenas = engine::memory::Arenas::of_process();
        arenas.set_rules({32ULL << 20, 1024ULL << 20, engine::Hugepages::kOff, -1});
        engine::memory::Refusal refusal;
        made.push_back(arenas.make(true, 0, refusal));
        EXPECT_NE(made.back(), nullptr) << refusal.text;
    }
    return *made[which];
}

/// As if this process had received into all of it before: its pages are there, and known to be.
inline void go_over(const engine::memory::Arena& arena) {
    ASSERT_NE(arena.known, nullptr);
    if (!arena.known->all(0, arena.size)) {
        for (std::uint64_t at = arena.base; at != arena.base + arena.size; at += 4096) {
            *reinterpret_cast<volatile std::byte*>(at) = std::byte{0};
        }
        arena.known->note(0, arena.size);
    }
}

/// `lender` may describe what lies in the arena, `borrower` finds it there, and may write to it if `write`.
inline void lend(const engine::memory::Arena& arena, Side& lender, engine::shm::Link& from,
                 Side& borrower, engine::shm::Link& to, bool write = false) {
    engine::shm::ArenaMapping mapping;
    ASSERT_EQ(mapping.open(arena.fd, {arena.id, arena.size, arena.fd_offset}, write), "");
    ASSERT_EQ(mapping.writable(), write);
    borrower.port.add_peer_arena(to, arena.id, mapping);
    lender.port.lend_arena(from, arena.id);
}

/// Sends a message whose bytes are put into an arena first.
inline Operation& send_at(Socket& socket, std::byte* at, const Bytes& bytes,
                          const std::vector<std::uint32_t>& cuts = {}) {
    std::copy(bytes.begin(), bytes.end(), at);
    return socket.post_at(engine::Opcode::kSend, at, static_cast<std::uint32_t>(bytes.size()),
                          cuts);
}

}  // namespace sanpoll::tests
