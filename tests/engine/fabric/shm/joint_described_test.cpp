// Described messages that both ends copy: all bytes, whoever comes by and whenever.
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>

#include "tests/engine/fabric/shm/joint_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::Socket;

constexpr std::uint32_t kChunk = JobChunks::kBytes;

TEST_F(JointTest, BothEndsCopyALongMessage) {
    Operation& there = receive(b_, kMiB);
    Operation& sent = send(a_, 1, kMiB);
    for (int i = 0; i < 8 && !there.ended(); ++i) {
        turn_b();
        turn_a();
    }
    ports_.settle();
    ASSERT_TRUE(there.good() && sent.good());
    EXPECT_EQ(there.length, kMiB);
    EXPECT_TRUE(holds(target(), 1, kMiB));
    EXPECT_NE(by_receiver(), 0U);
    EXPECT_NE(by_sender(), 0U);
    EXPECT_EQ(by_sender(), placed());
    EXPECT_EQ(by_receiver() + by_sender(), kMiB);
}

TEST_F(JointTest, AllBytesOfAnyLengthArriveAndNoOthersAreTouched) {
    std::mt19937 random(5);
    std::vector<std::uint32_t> lengths;
    for (const std::uint32_t chunks : {3U, 4U, 5U, 8U, 9U, 31U, 32U, 33U, 64U, 100U}) {
        for (const int more : {-65, -64, -1, 0, 1, 63, 64, 65}) {
            lengths.push_back(static_cast<std::uint32_t>(static_cast<int>(chunks * kChunk) + more));
        }
    }
    std::uint64_t number = 0;
    for (const std::uint32_t length : lengths) {
        const std::uint64_t at = 64 + random() % 5000;
        std::memset(target(at - 64), 0xEE, length + 128);
        Operation& there = receive(b_, length + random() % 100, at);
        Operation& sent = send(a_, ++number, length, random() % 5000);
        for (int i = 0; i < 200 && !there.ended(); ++i) {
            (random() % 2 == 0 ? turn_a() : turn_b());
        }
        ports_.settle();
        ASSERT_TRUE(there.good() && sent.good()) << length;
        ASSERT_EQ(there.length, length);
        ASSERT_TRUE(holds(target(at), number, length)) << length;
        for (std::uint32_t i = 0; i < 64; ++i) {
            ASSERT_EQ(target(at - 64)[i], std::byte{0xEE}) << length;
            ASSERT_EQ(target(at + length)[i], std::byte{0xEE}) << length;
        }
    }
    EXPECT_NE(by_sender(), 0U);
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_F(JointTest, ASenderThatDoesNotPollIsNotWaitedFor) {
    Operation& there = receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    for (int i = 0; i < 17; ++i) {
        turn_b();
    }
    ASSERT_TRUE(there.good());
    EXPECT_TRUE(holds(target(), 1, 4 * kMiB));
    EXPECT_EQ(placed(), 0U);
}

// The receiver's core has used up its turn, or does something else: the sender goes on.
TEST_F(JointTest, AReceiverThatIsBusyFindsItDone) {
    Operation& there = receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    for (int i = 0; i < 80; ++i) {
        turn_a();
    }
    EXPECT_FALSE(there.ended());
    turn_b();
    ASSERT_TRUE(there.good());
    EXPECT_TRUE(holds(target(), 1, 4 * kMiB));
    EXPECT_GE(placed(), 3 * kMiB);
}

// Else nobody would come back to a receive whose last chunk is the sender's.
TEST_F(JointTest, ASleepingReceiverIsRungWhenAChunkIsThere) {
    receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    const auto rung = [&] {
        pollfd bell{ports_.link_b->own_doorbell(), POLLIN, 0};
        return ::poll(&bell, 1, 0) == 1;
    };
    turn_a();
    EXPECT_FALSE(rung());  // it is awake
    ports_.b.port.arm();
    turn_a();
    EXPECT_TRUE(rung());
    ports_.b.port.disarm();
}

TEST_F(JointTest, WhatCannotBePlacedItsReceiverCopies) {
    const std::uint32_t length = 4 * JointChoices::kFrom;
    std::uint64_t number = 0;
    const auto expect_alone = [&](Operation& there, auto content) {
        turn_b();
        turn_a();
        ports_.settle();
        ASSERT_TRUE(there.good()) << number;
        ASSERT_TRUE(content()) << number;
        ASSERT_EQ(by_sender(), 0U) << number;
    };
    const auto in_arena = [&] { return holds(target(), number, length); };
    {
        SCOPED_TRACE("a receive in two pieces");
        Operation& there = b_.post_at(Opcode::kReceive, target(), length, {100});
        send(a_, ++number, length);
        expect_alone(there, in_arena);
    }
    {
        SCOPED_TRACE("a message in two pieces");
        Operation& there = receive(b_, length);
        send_at(a_, source(), message_of(++number, length), {100});
        expect_alone(there, in_arena);
    }
    {
        SCOPED_TRACE("into ordinary memory");
        Operation& there = b_.receive(length);
        send(a_, ++number, length);
        expect_alone(there, [&] { return there.content() == message_of(number, length); });
    }
    {
        SCOPED_TRACE("a short one");
        Operation& there = receive(b_, JointChoices::kFrom);
        send(a_, ++number, JointChoices::kFrom - 1);
        expect_alone(there, [&] { return holds(target(), number, JointChoices::kFrom - 1); });
    }
    {
        SCOPED_TRACE("arenas that are shared for reading only");
        ports_.link_b->sharing = Sharing::kShared;
        Operation& there = receive(b_, length);
        send(a_, ++number, length);
        expect_alone(there, in_arena);
    }
}

// Only the numbers that both ends have of a message tell it from others.
TEST_F(JointTest, TheCountOfMessagesMayWrapAround) {
    Connection& from = end_of(a_);
    Connection& to = end_of(b_);
    from.sent = from.credit = to.arrived = to.granted = to.reported = ~0U - 2;
    from.stop_direct();
    to.stop_direct();
    for (std::uint64_t number = 0; number < 6; ++number) {
        Operation& there = receive(b_, kMiB);
        Operation& sent = send(a_, number, kMiB);
        turn_b();
        turn_a();
        ports_.settle();
        ASSERT_TRUE(there.good() && sent.good());
        ASSERT_TRUE(holds(target(), number, kMiB));
        ASSERT_NE(by_sender(), 0U);
        ASSERT_EQ(by_receiver() + by_sender(), (number + 1) * kMiB);
    }
}

// Both directions, several connections, short ones in between, turns as they come.
TEST_F(JointTest, ManyAtOnceInBothDirections) {
    constexpr std::uint32_t kConnections = 3;
    constexpr std::uint32_t kRoom = 600000;
    struct Flow {
        Socket* from;
        Socket* to;
        std::uint64_t place;  // of its four messages, in the source's arena and in the target's
        bool forth;
        std::deque<std::pair<std::uint64_t, Operation*>> sent;
        std::deque<Operation*> posted;
        std::uint64_t next = 0;
    };
    std::deque<Socket> sockets;
    std::vector<Flow> flows;
    for (std::uint32_t i = 0; i < kConnections; ++i) {
        Socket& first = sockets.emplace_back();
        Socket& second = sockets.emplace_back();
        ports_.connect(first, second);
        flows.push_back({&first, &second, std::uint64_t{i} * 8 * kRoom, true, {}, {}, 0});
        flows.push_back(
            {&second, &first, std::uint64_t{i} * 8 * kRoom + 4 * kRoom, false, {}, {}, 0});
    }
    const auto at = [&](const Flow& flow, bool source_side, std::uint64_t number) {
        const std::uint64_t offset = flow.place + number % 4 * kRoom;
        return flow.forth == source_side ? source(offset) : target(offset);
    };
    const auto length_of = [](std::uint64_t number) {
        return number % 5 == 4
                   ? 200U
                   : static_cast<std::uint32_t>(20000 + number * 7919 % (kRoom - 20000));
    };
    std::mt19937 random(11);
    const std::uint64_t messages = tests::scaled(400) + 40;
    for (bool busy = true; busy;) {
        busy = false;
        for (Flow& flow : flows) {
            while (!flow.posted.empty() && flow.posted.front()->ended()) {
                const std::uint64_t number = flow.next - flow.posted.size();
                ASSERT_TRUE(flow.posted.front()->good());
                ASSERT_EQ(flow.posted.front()->length, length_of(number));
                ASSERT_TRUE(holds(at(flow, false, number), number, length_of(number))) << number;
                flow.posted.pop_front();
            }
            while (!flow.sent.empty() && flow.sent.front().second->ended()) {
                ASSERT_TRUE(flow.sent.front().second->good());
                flow.sent.pop_front();
            }
            busy = busy || !flow.posted.empty() || !flow.sent.empty() || flow.next != messages;
            if (flow.next != messages && flow.posted.size() < 4 && flow.sent.size() < 4 &&
                random() % 2 == 0) {
                const std::uint64_t number = flow.next++;
                flow.posted.push_back(
                    &flow.to->post_at(Opcode::kReceive, at(flow, false, number), kRoom));
                flow.sent.emplace_back(number, &send_at(*flow.from, at(flow, true, number),
                                                        message_of(number, length_of(number))));
            }
        }
        for (std::uint32_t turns = random() % 4; turns != 0; --turns) {
            (random() % 2 == 0 ? turn_a() : turn_b());
        }
    }
    EXPECT_NE(by_sender(), 0U);
    EXPECT_NE(ports_.b.port.counters().bytes_placed_at_peers.value(), 0U);
    for (Socket& socket : sockets) {
        socket.close();
    }
    ports_.settle();
    for (const Socket& socket : sockets) {
        expect_all_ended(socket);
        EXPECT_EQ(socket.closures.load(), 1);
    }
}

// ---- beside other work ------------------------------------------------------------------------------

// a's core has an open job of b's, and receives itself, on more connections than a turn's bytes are for.
TEST_F(JointTest, HelpTakesNothingFromTheCoresOwnCopies) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    receive(b_, 8 * kMiB);
    send(a_, 1, 8 * kMiB);
    turn_b();
    Operation& first = a_.receive(kMiB);
    Operation& second = other_a.receive(kMiB);
    send_at(b_, target(16 * kMiB), message_of(2, kMiB));
    send_at(other_b, target(18 * kMiB), message_of(3, kMiB));
    turn_b();
    for (int i = 0; i < 9; ++i) {
        turn_a();
    }
    EXPECT_TRUE(first.good() && second.good());
    EXPECT_EQ(first.content(), message_of(2, kMiB));
    EXPECT_EQ(second.content(), message_of(3, kMiB));
    // A little more, when there is nothing else to do.
    const std::uint64_t before = by_sender();
    turn_a();
    EXPECT_NE(by_sender(), before);
    EXPECT_LE(by_sender() - before, 64U << 10);
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_F(JointTest, WhatComesBehindWaitsForTheChunk) {
    Operation& there = receive(b_, kMiB);
    Operation& behind = receive(b_, 100, 8 * kMiB);
    send(a_, 1, kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(kMiB));
    send(a_, 2, 100, 8 * kMiB);
    for (int i = 0; i < 20; ++i) {
        turn_b();
    }
    EXPECT_FALSE(there.ended() || behind.ended());
    std::copy_n(source(kMiB - kChunk), kChunk, target(kMiB - kChunk));
    finish_the_chunk();
    ports_.settle();
    EXPECT_TRUE(there.good() && behind.good());
    EXPECT_TRUE(holds(target(), 1, kMiB));
    EXPECT_TRUE(holds(target(8 * kMiB), 2, 100));
}

// Pages of the receive are its owner's: the first message there its core copies alone, and they are there when the sender's
// comes by.
TEST_F(JointTest, ASenderIsNotTheFirstOnAPage) {
    const memory::Arena& fresh = tests::shareable_arena(2);
    lend(fresh, ports_.b, *ports_.link_b, ports_.a, *ports_.link_a, true);
    auto* const place = reinterpret_cast<std::byte*>(fresh.base + 4 * kMiB);
    const auto pages = [&] {
        struct stat about {};
        EXPECT_EQ(::fstat(fresh.fd, &about), 0);
        return about.st_blocks;
    };
    for (const std::uint64_t number : {1U, 2U}) {
        const std::uint64_t before = by_sender();
        Operation& there = b_.post_at(Opcode::kReceive, place, kMiB);
        Operation& sent = send(a_, number, kMiB);
        turn_b();
        const auto had = pages();
        for (int i = 0; i < 20; ++i) {
            turn_a();
        }
        EXPECT_EQ(pages(), had);
        EXPECT_EQ(by_sender() != before, number == 2) << number;
        ports_.settle();
        ASSERT_TRUE(there.good() && sent.good());
        EXPECT_TRUE(holds(place, number, kMiB));
    }
}

TEST_F(JointTest, NeitherEndDoesItWhereItIsOff) {
    for (const bool by_receiver_only : {false, true}) {
        Socket from;
        Socket to;
        Config off = tests::TwoPorts::small_config();
        off.joint_copy = JointCopy::kOff;
        tests::TwoPorts ports(by_receiver_only ? tests::TwoPorts::small_config() : off);
        ports.connect(from, to);
        lend(tests::shareable_arena(0), ports.a, *ports.link_a, ports.b, *ports.link_b, true);
        lend(tests::shareable_arena(1), ports.b, *ports.link_b, ports.a, *ports.link_a, true);
        Operation& there = receive(to, kMiB);
        send(from, 1, kMiB);
        for (int i = 0; i < 8; ++i) {
            (void)ports.b.core.turn();
            (void)ports.a.core.turn();
        }
        ports.settle();
        EXPECT_TRUE(there.good());
        EXPECT_EQ(ports.a.port.counters().bytes_placed_at_peers.value() != 0, by_receiver_only);
        from.close();
        to.close();
        ports.settle();
    }
}

// ---- what the choice is told ------------------------------------------------------------------------

// Two streams: the one that found the job taken has not shown what the joint way takes.
TEST_F(JointTest, AMessageThatFoundTheJobTakenIsNoSample) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    receive(b_, 4 * kMiB);
    send(a_, 1, 4 * kMiB);
    turn_b();
    ASSERT_TRUE(take_a_chunk(4 * kMiB));  // so that it does not end
    const JointChoice before = ports_.link_b->joint_choices.of(2 * kMiB);
    Operation& there = receive(other_b, 2 * kMiB, 8 * kMiB);
    send(other_a, 2, 2 * kMiB, 8 * kMiB);
    while (!there.ended()) {
        turn_b();
    }
    EXPECT_TRUE(ports_.link_b->joint_choices.of(2 * kMiB) == before);
    finish_the_chunk();
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_F(JointTest, TheTimeOfAnApplicationIsNotTheCopys) {
    const auto ended = [&] { return end_of(b_).long_ended_ns; };
    receive(b_, kMiB);
    for (std::uint64_t number = 0; number < 3; ++number) {
        send(a_, number, kMiB, number * kMiB);
    }
    ports_.settle();
    EXPECT_EQ(ended(), 0U);  // the next one is there, and its receive is not
    receive(b_, kMiB, kMiB);
    Operation& last = receive(b_, kMiB, 2 * kMiB);
    while (!last.ended()) {
        turn_b();
        turn_a();
    }
    EXPECT_EQ(ended(), 0U);
    ports_.settle();
}

}  // namespace
}  // namespace sanpoll::engine::shm
