// Two sockets connected through two ports, with the direct way as the provider goes it: each step by hand.
#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "engine/direct.hpp"
#include "tests/engine/fabric/shm/shm_port_fixture.hpp"

namespace sanpoll::engine::shm {

// A socket that has a handle, and the three calls as the provider makes them.
class DirectSocket : public tests::Socket {
public:
    [[nodiscard]] EndpointOwner owner() {
        EndpointOwner lent = Socket::owner();
        lent.handle = handle();
        return lent;
    }
    [[nodiscard]] std::uint64_t handle() const {
        return static_cast<std::uint64_t>(generation) << 32 | 1U;
    }
    [[nodiscard]] bool is_direct() const { return gate.is_direct(handle()); }
    [[nodiscard]] direct::Way way() {
        return {core_slot.load()->token(), gate, handle(), slot, regions};
    }

    // Each returns whether it went the direct way; the operation is the last one then.
    bool send_directly(std::uint64_t number, std::size_t size) {
        tests::Operation& operation = begin(tests::message_of(number, size));
        const auto address = reinterpret_cast<std::uint64_t>(operation.bytes.data());
        const auto length = static_cast<std::uint32_t>(size);
        direct::Turn turn{};
        const auto ended = [&] { end(operation, length); };
        direct::Outcome outcome = direct::send(way(), address, length, turn, ended);
        if (outcome == direct::Outcome::kTurn) {
            outcome = direct::send_in_turn(turn, address, length, ended);
            if (outcome == direct::Outcome::kNothing) {
                PollToken::leave(*turn.token);
            }
        }
        if (outcome == direct::Outcome::kHeld) {
            direct::end_send(static_cast<Connection&>(*turn.connection));
        }
        return outcome != direct::Outcome::kNothing ||
               post_directly(Opcode::kSend, operation, address, length);
    }
    bool receive_directly(std::size_t room) {
        tests::Operation& operation = begin(tests::Bytes(room, std::byte{0xEE}));
        const auto address = reinterpret_cast<std::uint64_t>(operation.bytes.data());
        const auto length = static_cast<std::uint32_t>(room);
        bool begun = false;
        Connection* held = nullptr;
        const direct::Outcome outcome =
            direct::receive(way(), reinterpret_cast<std::uint64_t>(&operation), address, length,
                            held, [&] { begun = true; });
        EXPECT_EQ(begun, outcome != direct::Outcome::kNothing);
        if (outcome == direct::Outcome::kHeld) {
            direct::end_receive(*held);
        }
        return outcome != direct::Outcome::kNothing ||
               post_directly(Opcode::kReceive, operation, address, length);
    }
    bool poll_directly() {
        const auto ended = [](std::uint64_t context, std::uint64_t bytes) {
            end(*reinterpret_cast<tests::Operation*>(context), static_cast<std::uint32_t>(bytes));
        };
        Endpoint* held = nullptr;
        const direct::Outcome outcome = direct::look(way(), held, ended);
        if (outcome == direct::Outcome::kTurn) {
            direct::look_in_turn(static_cast<Connection&>(*held));
        }
        if (outcome == direct::Outcome::kHeld) {
            direct::end_look(static_cast<Connection&>(*held), ended);
        }
        return outcome != direct::Outcome::kNothing;
    }
    // The direct way if it is to be had.
    void send_somehow(std::uint64_t number, std::size_t length) {
        if (!send_directly(number, length)) {
            (void)send_number(number, length);
        }
    }
    void receive_somehow(std::size_t room) {
        if (!receive_directly(room)) {
            (void)receive(room);
        }
    }

private:
    tests::Operation& begin(tests::Bytes bytes) {
        tests::Operation& operation = operations.emplace_back();
        operation.bytes = std::move(bytes);
        return operation;
    }
    bool post_directly(Opcode opcode, tests::Operation& operation, std::uint64_t address,
                       std::uint32_t length) {
        const auto context = reinterpret_cast<std::uint64_t>(&operation);
        int told = 0;
        const auto begun = [&] { ++told; };
        const bool posted = opcode == Opcode::kSend
                                ? direct::post_send(way(), context, address, length, begun,
                                                    [&] {
                                                        ++told;
                                                        end(operation, length);
                                                    })
                                : direct::post_receive(way(), context, address, length, begun);
        EXPECT_EQ(told, posted ? 1 : 0);
        if (!posted) {
            operations.pop_back();
        }
        return posted;
    }
    static void end(tests::Operation& operation, std::uint32_t bytes) {
        operation.length = bytes;
        operation.ends.fetch_add(1, std::memory_order_release);
    }
};

class DirectTest : public testing::Test {
protected:
    explicit DirectTest(Config config = {}) : ports_(std::move(config)) {}
    void SetUp() override {
        auto* first = ports_.a.port.make_connection(a_.owner());
        auto* second = ports_.b.port.make_connection(b_.owner());
        ASSERT_TRUE(first != nullptr && second != nullptr);
        ports_.a.port.install(*first, *ports_.link_a);
        ports_.b.port.install(*second, *ports_.link_b);
        ASSERT_TRUE(ports_.b.port.establish(*second, first->id));
        ASSERT_TRUE(ports_.a.port.establish(*first, second->id));
    }
    // The first post of each kind goes the long way.
    void warm_up() {
        tests::Operation& there = b_.receive(64);
        tests::Operation& sent = a_.send_number(1000, 64);
        ports_.settle();
        ASSERT_TRUE(there.good() && sent.good());
        ASSERT_TRUE(a_.is_direct());
        ASSERT_TRUE(b_.is_direct());
    }
    static void expect_message(const tests::Operation& operation, std::uint64_t number,
                               std::size_t length) {
        ASSERT_TRUE(operation.good()) << number;
        ASSERT_EQ(operation.ends.load(), 1) << number;
        ASSERT_EQ(operation.length, length) << number;
        ASSERT_TRUE(operation.content() == tests::message_of(number, length)) << number;
    }

    DirectSocket a_;
    DirectSocket b_;
    tests::TwoPorts ports_;
};

class SmallDirectTest : public DirectTest {
protected:
    SmallDirectTest() : DirectTest(tests::TwoPorts::small_config()) {}
};

}  // namespace sanpoll::engine::shm
