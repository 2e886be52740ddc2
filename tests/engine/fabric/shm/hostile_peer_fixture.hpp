// A peer that writes whatever it likes into the segment, for tests: a forged link beside an honest one.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "rings/spsc_ring.hpp"
#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::engine::shm {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

inline constexpr std::size_t kGuard = 128;

// A receive whose memory lies between guards.
struct GuardedReceive {
    GuardedReceive(Socket& socket, std::uint32_t room)
        : memory(room + 2 * kGuard, std::byte{0xA7}), length(room) {
        WorkRequest request{};
        request.opcode = Opcode::kReceive;
        request.context = reinterpret_cast<std::uint64_t>(&operation);
        request.length = room;
        request.sge_count = 1;
        request.sge[0] = {reinterpret_cast<std::uint64_t>(memory.data() + kGuard), room,
                          socket.region};
        PollingCore* core = socket.core_slot.load();
        posted = core->post(request, socket.gate, socket.generation, socket.slot) == Status::kOk;
    }
    [[nodiscard]] bool intact() const {
        const auto is_guard = [](std::byte value) { return value == std::byte{0xA7}; };
        return std::all_of(memory.begin(), memory.begin() + kGuard, is_guard) &&
               std::all_of(memory.end() - kGuard, memory.end(), is_guard);
    }
    Bytes memory;
    std::uint32_t length;
    Operation operation;
    bool posted = false;
};

// The victim (an acceptor) with an honest link beside the one that lies.
class HostilePeerTest : public testing::Test {
protected:
    void SetUp() override { honest_.connect(honest_a_, honest_b_); }

    // A segment whose other side is ours to forge, and connections of the victim's on it.
    struct Attack {
        static constexpr int kConnections = 3;
        std::unique_ptr<Segment> segment;  // the forger's mapping
        std::unique_ptr<Link> link;        // the victim's end
        std::unique_ptr<Link> doorbells;   // keeps the forger's doorbell ends open
        rings::SpscProducer forge;
        std::deque<Socket> sockets;
        std::vector<std::uint32_t> ids;
        std::deque<GuardedReceive> receives;

        [[nodiscard]] Direction to_victim() const { return segment->direction(0); }
        [[nodiscard]] Direction from_victim() const { return segment->direction(1); }
    };

    void begin(Attack& attack) {
        std::string error;
        const SegmentShape shape{256, 256U << 10};
        attack.segment = Segment::create(shape, error);
        ASSERT_NE(attack.segment, nullptr) << error;
        auto mapped = Segment::open(attack.segment->fd(), shape, error);
        ASSERT_NE(mapped, nullptr) << error;
        int ours[2];
        int theirs[2];
        ASSERT_TRUE(make_doorbell(ours) && make_doorbell(theirs));
        attack.link = std::make_unique<Link>(std::move(mapped), false, ours[0], theirs[1]);
        ::close(ours[1]);
        ::close(theirs[0]);
        victim().port.add_link(*attack.link);
        const Direction direction = attack.to_victim();
        attack.forge =
            rings::SpscProducer(direction.slots, shape.ring_slots, direction.slots_consumed);
        for (int i = 0; i < Attack::kConnections; ++i) {
            Socket& socket = attack.sockets.emplace_back();
            Connection* connection = victim().port.make_connection(socket.owner());
            ASSERT_NE(connection, nullptr);
            victim().port.install(*connection, *attack.link);
            attack.ids.push_back(connection->id);
            ASSERT_TRUE(victim().port.establish(*connection, 7));
        }
        for (int i = 0; i < 6; ++i) {
            Socket& socket = attack.sockets[static_cast<std::size_t>(i % 2)];
            static constexpr std::uint32_t kRooms[] = {64, 300, 0, 5000, 70000, kMaxInRing};
            attack.receives.emplace_back(socket, kRooms[i]);
            socket.send_number(1, kRooms[i]);
        }
    }

    void turn() { (void)victim().core.turn(); }

    // What the control thread does when it hears of a failed link. Everything must have ended.
    void end(Attack& attack) {
        const bool failed = attack.link->failed.load();
        victim().port.remove_link(*attack.link, Status::kReset);
        for (Socket& socket : attack.sockets) {
            if (failed) {
                // With messages still to be fetched the gate stays open; a receive or two drain it.
                for (int i = 0; i < 64 && socket.gate.view().state == PostGate::State::kOpen; ++i) {
                    attack.receives.emplace_back(socket, 70000);
                }
                // Or kFailed, where the forger has said so before.
                EXPECT_NE(socket.gate.view().state, PostGate::State::kOpen);
            }
            socket.close();
            EXPECT_EQ(socket.closures.load(), 1);
            for (const Operation& operation : socket.operations) {
                ASSERT_EQ(operation.ends.load(), operation.status == Status::kNotOpen ? 0 : 1);
            }
        }
        for (const GuardedReceive& receive : attack.receives) {
            ASSERT_EQ(receive.operation.ends.load(), receive.posted ? 1 : 0);
            ASSERT_TRUE(receive.intact());
            ASSERT_LE(receive.operation.length, receive.length);
        }
        turn();
        attack.link.reset();
    }

    void expect_honest_link_works() {
        const std::uint64_t number = ++messages_;
        const std::size_t length = number * 37 % 2000;
        Operation& there = honest_b_.receive(2000);
        Operation& back = honest_a_.receive(2000);
        honest_a_.send_number(number, length);
        honest_b_.send_number(number + 1, length);
        honest_.settle();
        ASSERT_TRUE(there.good() && back.good());
        ASSERT_TRUE(there.content() == message_of(number, length));
        ASSERT_TRUE(back.content() == message_of(number + 1, length));
        honest_a_.operations.clear();
        honest_b_.operations.clear();
    }

    // A record that an honest peer might send, then perhaps spoiled.
    RecordHeader forged_header(const Attack& attack, bool& spoiled) {
        static constexpr std::uint32_t kLengths[] = {
            0,          1,          43,         44,
            45,         64,         kMaxInRing, kMaxInRing + 1,
            5000,       16384,      16385,      65535,
            65536,      65537,      262144,     262145,
            1U << 20,   1U << 24,   0x7FFFFFFF, 0x80000000,
            0xFFFFFFC0, 0xFFFFFFFF, 100000,     300};
        RecordHeader header{};
        header.kind = static_cast<RecordKind>(random_() % 19 + 1);
        header.slots = 1;
        header.connection = attack.ids[random_() % attack.ids.size()];
        header.credit = random_() % 40;
        header.length = random_() % (kMaxInRing + 1);
        if (header.kind == RecordKind::kStaged || header.kind == RecordKind::kPiece) {
            header.length = random_() % 16384 + 1;
        } else if (header.kind == RecordKind::kAnnounce) {
            header.length = random_() % 100000;
        }
        spoiled = random_() % 3 == 0;
        if (spoiled) {
            switch (random_() % 7) {
                case 0:
                    header.kind = static_cast<RecordKind>(random_() % 256);
                    break;
                case 1:
                    header.slots = static_cast<std::uint8_t>(random_());
                    break;
                case 2:
                    header.turns = static_cast<std::uint16_t>(random_());
                    break;
                case 3:
                    header.connection = random_();
                    break;
                case 4:
                    header.connection += (random_() % 5) << 20;
                    break;
                case 5:
                    header.length = kLengths[random_() % std::size(kLengths)];
                    break;
                case 6:
                    header.credit = random_();
                    break;
            }
        }
        return header;
    }

    [[nodiscard]] tests::Side& victim() { return honest_.b; }

    Socket honest_a_;
    Socket honest_b_;
    TwoPorts honest_{TwoPorts::small_config()};
    std::mt19937 random_{4711};
    std::uint64_t messages_ = 0;
};

}  // namespace sanpoll::engine::shm
