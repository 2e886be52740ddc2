// A peer that writes whatever it likes into the turn line.
#include "tests/engine/fabric/shm/hostile_peer_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

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

}  // namespace
}  // namespace sanpoll::engine::shm
