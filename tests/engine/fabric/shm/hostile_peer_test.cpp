// A peer that writes whatever it likes into the segment: it may end its own link's connections, and
// nothing else may happen.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "rings/spsc_ring.hpp"
#include "tests/engine/fabric/shm/two_ports.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::size_t kGuard = 128;

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

TEST_F(HostilePeerTest, ForgedRecordsEndTheirOwnLinkOnly) {
    constexpr std::uint64_t kForged = 30000;
    std::uint64_t forged = 0;
    std::uint64_t failed = 0;
    std::uint64_t rounds = 0;
    while (forged < kForged) {
        Attack attack;
        ASSERT_NO_FATAL_FAILURE(begin(attack));
        const std::uint64_t limit = forged + 1 + random_() % 60;
        while (forged < limit && !attack.link->failed.load()) {
            bool spoiled = false;
            const RecordHeader header = forged_header(attack, spoiled);
            const std::uint32_t slots =
                spoiled ? random_() % 6 + 1
                        : (header.kind == RecordKind::kMessage ? slots_for(header.length) : 1);
            if (!attack.forge.has_room(slots)) {
                turn();
                if (!attack.forge.has_room(slots)) {
                    break;  // the victim takes nothing more
                }
            }
            for (std::uint32_t i = 0; i < slots; ++i) {
                for (std::size_t at = 0; at < rings::kSlotPayload; ++at) {
                    attack.forge.payload(i)[at] = static_cast<std::byte>(random_());
                }
            }
            write_header(attack.forge.payload(), header, header.slots);
            if (header.turns != 0) {
                std::memcpy(attack.forge.payload() + 2, &header.turns, 2);
            }
            attack.forge.publish_record(slots);
            ++forged;
            if (random_() % 3 == 0) {
                turn();
            }
            if (random_() % 8 == 0) {  // the victim goes on working meanwhile
                Socket& socket = attack.sockets[random_() % Attack::kConnections];
                if (random_() % 2 == 0) {
                    attack.receives.emplace_back(socket, random_() % 2000);
                } else {
                    socket.send_number(forged, random_() % 20000);
                }
            }
        }
        turn();
        failed += attack.link->failed.load() ? 1 : 0;
        ASSERT_NO_FATAL_FAILURE(end(attack));
        ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
        ++rounds;
    }
    EXPECT_GT(failed, rounds / 4) << "too few forgeries were noticed: is the forger harmless?";
    EXPECT_EQ(victim().port.counters().lying_peers.value(), failed);
}

TEST_F(HostilePeerTest, ForgedProgressEndsTheirOwnLinkOnly) {
    std::uint64_t failed = 0;
    const std::uint64_t rounds = tests::scaled(2000);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        Attack attack;
        ASSERT_NO_FATAL_FAILURE(begin(attack));
        const Direction direction = attack.from_victim();
        bool credited = false;
        for (int step = 0; step < 30 && !attack.link->failed.load(); ++step) {
            if (!credited && attack.forge.has_room(1)) {
                for (const std::uint32_t id : attack.ids) {
                    write_header(attack.forge.payload(),
                                 {RecordKind::kCredit, 1, 0, id, 0, 1U << 20}, 1);
                    attack.forge.publish();
                }
                credited = true;
            }
            switch (random_() % 6) {
                case 0:
                    direction.slots_consumed->value.store(random_());
                    break;
                case 1:
                    direction.slots_consumed->value.store(random_() % 400);
                    break;
                case 2:
                    direction.staging_consumed->value.store(random_());
                    break;
                case 3:
                    direction.staging_consumed->value.store(random_() % 5000);
                    break;
                case 4:
                    direction.armed->store(random_());
                    break;
                case 5:
                    attack.to_victim().writer_waits->store(random_());
                    break;
            }
            for (int i = 0; i < 20; ++i) {
                attack.sockets[random_() % Attack::kConnections].send_number(
                    round, random_() % 4 == 0 ? random_() % 16384 : random_() % (kMaxInRing + 1));
            }
            turn();
        }
        failed += attack.link->failed.load() ? 1 : 0;
        ASSERT_NO_FATAL_FAILURE(end(attack));
        if (round % 10 == 0) {
            ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
        }
    }
    EXPECT_GT(failed, rounds / 4);
}

TEST_F(HostilePeerTest, AFailedLinkResetsItsConnectionsAtOnce) {
    Attack attack;
    ASSERT_NO_FATAL_FAILURE(begin(attack));
    write_header(attack.forge.payload(), {static_cast<RecordKind>(99), 1, 0, attack.ids[0], 0, 0},
                 1);
    attack.forge.publish();
    turn();
    EXPECT_TRUE(attack.link->failed.load());
    EXPECT_FALSE(attack.link->failure.empty());
    for (Socket& socket : attack.sockets) {
        EXPECT_EQ(socket.gate.view().state, PostGate::State::kReset);
    }
    for (const GuardedReceive& receive : attack.receives) {
        EXPECT_EQ(receive.operation.ends.load(), 1);
        EXPECT_EQ(receive.operation.status, Status::kReset);
    }
    ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
    ASSERT_NO_FATAL_FAILURE(end(attack));
}

// The forger has an end of the turn line: mostly it does what an honest end would, and then does not.
TEST_F(HostilePeerTest, ForgedTurnsEndTheirOwnLinkOnly) {
    const std::uint64_t rounds = tests::scaled(3000);
    std::uint64_t failed = 0;
    std::uint64_t taken = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        Attack attack;
        ASSERT_NO_FATAL_FAILURE(begin(attack));
        rings::TurnLine& line = attack.segment->turn_line();
        rings::TurnEnd end(line, true);
        const std::uint64_t before = victim().port.counters().messages_received.value();
        std::uint32_t turns = 0;
        for (int i = 0; i < 20 && !attack.link->failed.load(); ++i) {
            if (end.look()) {
                end.take();  // the victim has answered
            }
            const std::uint32_t which = random_() % Attack::kConnections;
            for (std::uint64_t& word : line.message.rest)
                word = random_() | (std::uint64_t{random_()} << 32);
            const bool spoiled = random_() % 10 == 0;
            const auto length =
                static_cast<std::uint32_t>(spoiled ? random_() : random_() % (kTurnMost + 1));
            const std::uint32_t id = spoiled && random_() % 2 == 0 ? random_() : attack.ids[which];
            const std::uint64_t credit = random_() % 16 == 0 ? random_() : 20;
            const std::uint64_t to = TurnMessage::where(id, length);
            const bool whole = spoiled ? random_() % 2 == 0 : goes_whole(length);
            line.notes[0].words[0] = whole ? to : 0;
            line.message.rest[0] = credit;
            const std::uint64_t first = whole ? random_() : to;
            if (end.mine() && end.would_show(first)) {
                end.publish(first);
                ++turns;
            } else if (random_() % 4 == 0) {
                line.message.first.store(random_());  // out of turn
            }
            turn();
            if (random_() % 4 == 0 && attack.forge.has_room(1)) {
                const std::uint32_t wrong = random_() % 20 == 0 ? random_() : 0;
                write_header(attack.forge.payload(),
                             {RecordKind::kCredit, 1, 0, attack.ids[0], 0, 20}, 1, turns + wrong);
                attack.forge.publish();
                turn();
            }
            Socket& socket = attack.sockets[which];
            attack.receives.emplace_back(socket, 70000);
            socket.send_number(1, 8);  // so that the turn comes back
        }
        taken += victim().port.counters().messages_received.value() - before;
        failed += attack.link->failed.load() ? 1 : 0;
        ASSERT_NO_FATAL_FAILURE(HostilePeerTest::end(attack));
        if (round % 100 == 0) {
            ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
        }
    }
    EXPECT_GT(failed, rounds / 4);
    EXPECT_GT(taken, 2 * rounds) << "most of what is forged is taken";
}

TEST_F(HostilePeerTest, ARecordBehindAMessageThatIsNotThereFailsTheLink) {
    Attack attack;
    ASSERT_NO_FATAL_FAILURE(begin(attack));
    write_header(attack.forge.payload(), {RecordKind::kCredit, 1, 0, attack.ids[0], 0, 1}, 1, 1);
    attack.forge.publish();
    turn();
    EXPECT_TRUE(attack.link->failed.load());
    EXPECT_EQ(attack.link->failure,
              "a record comes after a message in the turn line that is not there");
    ASSERT_NO_FATAL_FAILURE(end(attack));
}

TEST_F(HostilePeerTest, AMessageInTheTurnLineOfAnImpossibleLengthFailsTheLink) {
    Attack attack;
    ASSERT_NO_FATAL_FAILURE(begin(attack));
    rings::TurnLine& line = attack.segment->turn_line();
    line.notes[0].words[0] = TurnMessage::where(attack.ids[0], kTurnMost + 1);
    line.message.first.store(12345);
    turn();
    EXPECT_TRUE(attack.link->failed.load());
    EXPECT_EQ(attack.link->failure, "a message in the turn line has an impossible length");
    ASSERT_NO_FATAL_FAILURE(end(attack));
}

TEST_F(HostilePeerTest, AnothersConnectionIdsAreOutOfReach) {
    Attack attack;
    ASSERT_NO_FATAL_FAILURE(begin(attack));
    Operation& waiting = honest_b_.receive(100);
    honest_.settle();
    for (std::uint32_t id = 0; id < 64; ++id) {
        for (const RecordKind kind : {RecordKind::kMessage, RecordKind::kDisconnect}) {
            if (std::find(attack.ids.begin(), attack.ids.end(), id) != attack.ids.end()) {
                continue;
            }
            ASSERT_TRUE(attack.forge.has_room(1));
            write_header(attack.forge.payload(), {kind, 1, 0, id, 10, 0}, 1);
            attack.forge.publish();
            turn();
        }
    }
    EXPECT_FALSE(attack.link->failed.load()) << "records for a connection that is gone are normal";
    EXPECT_FALSE(waiting.ended());
    EXPECT_EQ(honest_b_.gate.view().state, PostGate::State::kOpen);
    honest_a_.send_number(1, 100);
    honest_.settle();
    EXPECT_TRUE(waiting.good());
    ASSERT_NO_FATAL_FAILURE(end(attack));
}

TEST_F(HostilePeerTest, AFloodIsTakenInBoundedTurns) {
    Attack attack;
    ASSERT_NO_FATAL_FAILURE(begin(attack));
    // All slots look full for ever: each time round, the sequence words are those of the next lap.
    const Direction direction = attack.to_victim();
    std::uint32_t position = 0;
    for (int lap = 0; lap < 20; ++lap) {
        for (std::uint32_t i = 0; i < 256; ++i, ++position) {
            write_header(direction.slots[i].payload, {RecordKind::kCredit, 1, 0, 0xFFFFF, 0, 0}, 1);
            direction.slots[i].sequence.store(position + 1);
        }
        for (int turns = 0; turns < 4; ++turns) {
            const std::uint64_t before = victim().port.counters().stale_records.value();
            turn();
            ASSERT_LE(victim().port.counters().stale_records.value() - before, 64U);
        }
    }
    ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
    ASSERT_NO_FATAL_FAILURE(end(attack));
}

TEST_F(HostilePeerTest, ScribblingWhileTheVictimReadsIsSurvived) {
    // From another process, so that what is checked may have changed when it is used.
    const std::uint64_t rounds = tests::scaled(200) + 10;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        Attack attack;
        ASSERT_NO_FATAL_FAILURE(begin(attack));
        const int fd = ::dup(attack.segment->fd());
        const SegmentShape shape = attack.segment->shape();
        const std::uint32_t id = attack.ids[round % Attack::kConnections];
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            std::string error;
            const auto segment = Segment::open(fd, shape, error);  // ours was not inherited
            if (!segment) {
                ::_exit(1);
            }
            std::mt19937 random(static_cast<unsigned>(round));
            const Direction in = segment->direction(0);
            const Direction out = segment->direction(1);
            std::uint32_t position = 0;
            for (int i = 0; i < 20000; ++i) {
                const std::uint32_t slot = position % 256;
                const auto kind = static_cast<RecordKind>(random() % 19 + 1);
                write_header(in.slots[slot].payload,
                             {kind, 1, 0, id, static_cast<std::uint32_t>(random() % 300),
                              static_cast<std::uint32_t>(random() % 50)},
                             1);
                in.slots[slot].sequence.store(position + 1, std::memory_order_release);
                ++position;
                // Change the lengths of what was just handed over.
                for (std::uint32_t back = 0; back < 8; ++back) {
                    const std::uint32_t length = random();
                    std::memcpy(in.slots[(slot - back) % 256].payload + 8, &length, 4);
                }
                out.slots_consumed->value.store(random() % 300, std::memory_order_relaxed);
            }
            ::_exit(0);
        }
        ::close(fd);
        int status = -1;
        while (::waitpid(child, &status, WNOHANG) == 0) {
            turn();
        }
        EXPECT_EQ(status, 0);
        turn();
        ASSERT_NO_FATAL_FAILURE(end(attack));
        ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
