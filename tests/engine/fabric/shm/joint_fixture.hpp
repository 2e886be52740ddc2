// Two ports whose long messages lie, and are received, in arenas that both may write to.
#pragma once

#include <gtest/gtest.h>

#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/engine/fabric/shm/shm_port_fixture.hpp"

namespace sanpoll::engine::shm {

class JointTest : public ShmPortTest {
protected:
    static constexpr std::uint32_t kMiB = 1U << 20;

    JointTest() : ShmPortTest(tests::TwoPorts::small_config()) {}
    void SetUp() override {
        ShmPortTest::SetUp();
        for (const std::uint32_t which : {0U, 1U}) {
            ASSERT_NO_FATAL_FAILURE(tests::go_over(tests::shareable_arena(which)));
        }
        lend(tests::shareable_arena(0), ports_.a, *ports_.link_a, ports_.b, *ports_.link_b, true);
        lend(tests::shareable_arena(1), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a, true);
    }
    // Of the sender's and of the receiver's; of either if they change places.
    [[nodiscard]] static std::byte* source(std::uint64_t offset = 0) {
        return reinterpret_cast<std::byte*>(tests::shareable_arena(0).base + offset);
    }
    [[nodiscard]] static std::byte* target(std::uint64_t offset = 0) {
        return reinterpret_cast<std::byte*>(tests::shareable_arena(1).base + offset);
    }
    void turn_a() { (void)ports_.a.core.turn(); }
    void turn_b() { (void)ports_.b.core.turn(); }
    tests::Operation& send(tests::Socket& from, std::uint64_t number, std::uint32_t length,
                           std::uint64_t offset = 0) {
        return send_at(from, source(offset), tests::message_of(number, length));
    }
    static tests::Operation& receive(tests::Socket& to, std::uint32_t room,
                                     std::uint64_t offset = 0) {
        return to.post_at(Opcode::kReceive, target(offset), room);
    }
    [[nodiscard]] static bool holds(const std::byte* at, std::uint64_t number,
                                    std::uint32_t length) {
        const tests::Bytes wanted = tests::message_of(number, length);
        return std::equal(wanted.begin(), wanted.end(), at);
    }
    [[nodiscard]] static Connection& end_of(tests::Socket& socket) {
        return static_cast<Connection&>(*socket.slot.load());
    }
    [[nodiscard]] std::uint64_t by_receiver() const {
        return ports_.b.port.counters().bytes_from_arenas.value();
    }
    [[nodiscard]] std::uint64_t by_sender() const {
        return ports_.a.port.counters().bytes_placed_at_peers.value();
    }
    [[nodiscard]] std::uint64_t placed() const {
        return ports_.b.port.counters().bytes_placed_by_peers.value();
    }
    // a's core has taken a chunk of what b receives, and is interrupted. False: there is none.
    [[nodiscard]] bool take_a_chunk(std::uint32_t length) {
        return ports_.link_a->peer_job.look() &&
               ports_.link_a->peer_job.claim(length, JobChunks::kBytes).length != 0;
    }
    void finish_the_chunk() { ports_.link_a->peer_job.finish(); }
};

}  // namespace sanpoll::engine::shm
