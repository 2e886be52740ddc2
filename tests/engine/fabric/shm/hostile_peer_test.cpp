// A peer that writes whatever it likes into the segment: it may end its own link's connections, and
// nothing else may happen.
#include <sys/wait.h>

#include <algorithm>
#include <cstring>

#include "tests/engine/fabric/shm/hostile_peer_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

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
                for (std::size_t at = 0; at < rings::kSlotPayload; at += 4) {
                    const std::uint32_t word = random_();
                    std::memcpy(attack.forge.payload(i) + at, &word,
                                std::min(sizeof(word), rings::kSlotPayload - at));
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
