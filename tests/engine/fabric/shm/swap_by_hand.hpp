// An end of b's that goes to a socket which stands for the next process, over the same link and step by step: what the
// control threads of three processes do, see engine/fabric/shm/suspension.hpp.
#pragma once

#include <gtest/gtest.h>

#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::tests {

/// Its functions in their order, with turns in between as the test likes; of stay() and leave() one. To be called with
/// ASSERT_NO_FATAL_FAILURE.
class SwapByHand {
public:
    explicit SwapByHand(TwoPorts& ports) : ports_(ports) {}

    /// The owner of the end begins: it posts nothing more.
    void begin(Socket& from) {
        ASSERT_TRUE(from.gate.suspend(from.generation).has_value());
        end_ = static_cast<engine::shm::Connection*>(from.slot.load());
        engine::shm::Link* link = nullptr;
        ASSERT_EQ(ports_.b.port.start_leaving(*end_, link, peer_id), engine::shm::Hold::kHeld);
        ASSERT_EQ(link, ports_.link_b.get());
    }
    /// The peer says how far it is; it may have to finish something first.
    [[nodiscard]] engine::shm::Hold hold() {
        return ports_.a.port.suspend(peer_id, *ports_.link_a, false);
    }
    [[nodiscard]] engine::shm::Hold held() {
        return ports_.a.port.suspended(peer_id, *ports_.link_a, counts);
    }
    void hold_at_once() {
        ASSERT_EQ(hold(), engine::shm::Hold::kHeld);
        ASSERT_EQ(held(), engine::shm::Hold::kHeld);
    }
    void stay() {
        ports_.b.port.stay(*end_);
        ports_.a.port.go_on(peer_id, *ports_.link_a);
    }
    void leave() {
        ASSERT_EQ(ports_.b.port.freeze(*end_, counts, frozen), engine::Status::kOk);
        ports_.b.port.take_out(*end_);
        ports_.a.port.let_go(peer_id, *ports_.link_a);
    }
    /// The next process has it.
    void arrive(Socket& next) {
        engine::shm::Connection* const connection = ports_.b.port.make_connection(next.owner());
        ASSERT_NE(connection, nullptr);
        ASSERT_TRUE(ports_.b.port.stock(*connection, frozen));
        ports_.b.port.install(*connection, *ports_.link_b);
        std::uint32_t granted = 0;
        ASSERT_TRUE(ports_.a.port.go_on_with(peer_id, *ports_.link_a, connection->id, frozen.counts,
                                             frozen.granted(), granted));
        ASSERT_TRUE(ports_.b.port.establish_with(*connection, peer_id, granted));
    }

    std::uint32_t peer_id = 0;
    engine::shm::Counts counts;
    engine::shm::Frozen frozen;

private:
    TwoPorts& ports_;
    engine::shm::Connection* end_ = nullptr;
};

}  // namespace sanpoll::tests
