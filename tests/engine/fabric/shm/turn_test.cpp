// Messages that answer in the turn line, and their order among the records of the rings.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <deque>
#include <random>

#include "tests/engine/fabric/shm/shm_port_fixture.hpp"
#include "tests/engine/fabric/shm/swap_by_hand.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

class TurnTest : public SmallShmPortTest {
protected:
    Socket next_;

    [[nodiscard]] bool turn_of_a() const { return ports_.link_a->turn.mine(); }
    [[nodiscard]] bool turn_of_b() const { return ports_.link_b->turn.mine(); }
    [[nodiscard]] static Connection& end_of(Socket& socket) {
        return static_cast<Connection&>(*socket.slot.load());
    }
    // From one end to the other, with a receive that waits.
    void exchange(Socket& from, Socket& to, std::uint64_t number, std::size_t length) {
        Operation& receive = to.receive(length);
        Operation& send = from.send_number(number, length);
        ports_.settle();
        ASSERT_TRUE(send.good()) << length;
        ASSERT_TRUE(receive.good()) << length;
        ASSERT_TRUE(receive.content() == message_of(number, length)) << length;
    }
};

TEST_F(TurnTest, AShortMessageGivesTheTurnAndItsAnswerGivesItBack) {
    ASSERT_TRUE(turn_of_a());
    ASSERT_FALSE(turn_of_b());
    exchange(a_, b_, 1, 8);
    EXPECT_FALSE(turn_of_a());
    EXPECT_TRUE(turn_of_b());
    exchange(b_, a_, 2, 64);
    EXPECT_TRUE(turn_of_a());
    EXPECT_FALSE(turn_of_b());
}

TEST_F(TurnTest, WhatHasNoTurnGoesByTheRing) {
    exchange(b_, a_, 1, 8);
    EXPECT_TRUE(turn_of_a()) << "the first turn is the initiator's still";
    exchange(a_, b_, 2, 8);
    exchange(a_, b_, 3, 8);
    EXPECT_TRUE(turn_of_b());
}

TEST_F(TurnTest, LongerOnesAndThoseOfSeveralPiecesLeaveTheTurnAlone) {
    exchange(a_, b_, 1, kTurnMost + 1);
    EXPECT_TRUE(turn_of_a());
    Operation& receive = b_.receive(40);
    Operation& send = a_.send(message_of(2, 40), {10});
    ports_.settle();
    ASSERT_TRUE(send.good());
    ASSERT_TRUE(receive.bytes == message_of(2, 40));
    EXPECT_TRUE(turn_of_a());
}

TEST_F(TurnTest, EveryLengthArrivesUndamagedEitherWay) {
    for (std::size_t there = 0; there <= kTurnMost + 2; there += there < 400 ? 1 : 61) {
        for (const std::size_t back : {there, std::size_t{7}, std::size_t{kTurnMost}}) {
            ASSERT_NO_FATAL_FAILURE(exchange(a_, b_, 2 * there, there));
            ASSERT_NO_FATAL_FAILURE(exchange(b_, a_, 2 * there + 1, back));
        }
    }
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_F(TurnTest, AnEchoArrives) {
    for (const std::size_t length : {8U, 48U, 49U, 64U, 65U, 4096U}) {
        for (int i = 0; i < 4; ++i) {  // the same bytes to and fro
            ASSERT_NO_FATAL_FAILURE(exchange(a_, b_, 5, length));
            ASSERT_NO_FATAL_FAILURE(exchange(b_, a_, 5, length));
        }
    }
}

TEST_F(TurnTest, OneOrderWithTheRecordsOfTheRing) {
    std::deque<Operation*> receives;
    for (int i = 0; i < 12; ++i)
        receives.push_back(&b_.receive(200));
    ports_.settle();
    // Line, ring, ring; the answer gives the turn back between two of the ring: ring, line, ring.
    std::uint64_t number = 0;
    for (int i = 0; i < 3; ++i)
        (void)a_.send_number(number++, 16);
    (void)a_.receive(8);
    (void)ports_.b.core.turn();
    (void)b_.send_number(99, 8);
    (void)a_.send_number(number++, 16);  // the turn has not come back yet
    (void)ports_.a.core.turn();
    ports_.link_a->patience.give_up();
    (void)ports_.a.core.turn();
    ASSERT_TRUE(turn_of_a());
    (void)a_.send_number(number++, 64);
    ASSERT_FALSE(turn_of_a());
    (void)a_.send_number(number++, 150);
    ports_.settle();
    for (std::uint64_t i = 0; i < number; ++i) {
        ASSERT_TRUE(receives[i]->good()) << i;
        const std::size_t length = i < 4 ? 16 : i == 4 ? 64 : 150;
        EXPECT_TRUE(receives[i]->content() == message_of(i, length)) << i;
    }
}

// Both send as they like, each end is turned as it comes: every message once, in order, undamaged.
TEST_F(TurnTest, RandomTrafficKeepsItsOrder) {
    std::mt19937 random(23);
    static constexpr std::size_t kLengths[] = {0,  8,   48,  49,   64,   64,
                                               65, 300, 357, 1000, 4096, 5000};
    struct Way {
        Socket& from;
        Socket& to;
        std::deque<std::size_t> lengths;
        std::deque<Operation*> sends;
        std::deque<Operation*> receives;
    };
    Way ways[2] = {{a_, b_, {}, {}, {}}, {b_, a_, {}, {}, {}}};
    const std::uint64_t steps = tests::scaled(20'000);
    for (std::uint64_t step = 0; step < steps; ++step) {
        Way& way = ways[random() % 2];
        switch (random() % 4) {
            case 0:
                if (way.lengths.size() < way.receives.size() + 30) {
                    way.lengths.push_back(kLengths[random() % std::size(kLengths)]);
                    way.sends.push_back(
                        &way.from.send_number(way.lengths.size(), way.lengths.back()));
                }
                break;
            case 1:
                if (way.receives.size() < way.lengths.size() + 30)
                    way.receives.push_back(&way.to.receive(5000));
                break;
            case 2:
                (void)ports_.a.core.turn();
                break;
            case 3:
                (void)ports_.b.core.turn();
                break;
        }
    }
    for (Way& way : ways) {
        while (way.receives.size() < way.lengths.size())
            way.receives.push_back(&way.to.receive(5000));
    }
    ports_.settle();
    for (Way& way : ways) {
        for (std::size_t i = 0; i < way.lengths.size(); ++i) {
            ASSERT_TRUE(way.sends[i]->good()) << i;
            ASSERT_TRUE(way.receives[i]->good()) << i;
            ASSERT_TRUE(way.receives[i]->content() == message_of(i + 1, way.lengths[i])) << i;
        }
    }
    EXPECT_FALSE(ports_.link_a->failed.load());
    EXPECT_FALSE(ports_.link_b->failed.load());
}

TEST_F(TurnTest, AMessageBeforeItsReceiveIsKept) {
    (void)a_.send_number(1, 64);
    ports_.settle();
    EXPECT_TRUE(turn_of_b()) << "it was taken out of the line";
    Operation& receive = b_.receive(64);
    ports_.settle();
    ASSERT_TRUE(receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, 64));
}

TEST_F(TurnTest, AMessageThatIsTooLongForItsReceiveStaysForTheNext) {
    Operation& too_short = b_.receive(10);
    (void)a_.send_number(1, 64);
    ports_.settle();
    EXPECT_EQ(too_short.status, Status::kMessageTooLong);
    Operation& receive = b_.receive(64);
    ports_.settle();
    ASSERT_TRUE(receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, 64));
}

TEST_F(TurnTest, AMessageIsScatteredOverThePiecesOfItsReceive) {
    for (const std::size_t length : {40U, 64U, 500U, 4096U}) {
        Operation& receive = b_.receive(length, {7, 33});
        (void)a_.send_number(length, length);
        ports_.settle();
        ASSERT_TRUE(receive.good()) << length;
        EXPECT_TRUE(receive.bytes == message_of(length, length)) << length;
        ASSERT_NO_FATAL_FAILURE(exchange(b_, a_, 1, 8));
        ASSERT_TRUE(turn_of_a());
    }
}

// Ahead of its credit only what the ring would carry: the receiver keeps no more.
TEST_F(TurnTest, ALongerMessageWaitsForAReceive) {
    Operation& send = a_.send_number(1, 1000);
    ports_.settle();
    EXPECT_FALSE(send.ended());
    EXPECT_TRUE(turn_of_a());
    Operation& receive = b_.receive(1000);
    ports_.settle();
    ASSERT_TRUE(send.good());
    ASSERT_TRUE(receive.good());
    EXPECT_TRUE(receive.bytes == message_of(1, 1000));
}

TEST_F(TurnTest, ConnectionsOfALinkShareTheLine) {
    Socket c;
    Socket d;
    ports_.connect(c, d);
    for (std::uint64_t i = 0; i < 50; ++i) {
        const std::size_t length = i % 3 == 0 ? 8 : 64;
        ASSERT_NO_FATAL_FAILURE(exchange(a_, b_, i, length));
        ASSERT_NO_FATAL_FAILURE(exchange(d, c, i + 1000, length));
        ASSERT_NO_FATAL_FAILURE(exchange(c, d, i + 2000, 64));
        ASSERT_NO_FATAL_FAILURE(exchange(b_, a_, i + 3000, 64));
    }
    c.close();
    d.close();
    ports_.settle();
    ASSERT_NO_FATAL_FAILURE(exchange(a_, b_, 1, 64)) << "what is left of it goes on";
}

// A whole line has no room for credit: it goes another way, and in time. The others carry it.
TEST_F(TurnTest, CreditArrivesInTimeWithOneReceiveAtATime) {
    for (const std::size_t length : {8U, 64U, 65U, kMaxInRing}) {
        const std::uint32_t before = ports_.link_a->sender.position();
        for (std::uint64_t i = 0; i < 200; ++i) {
            ASSERT_NO_FATAL_FAILURE(exchange(a_, b_, i, length));
            ASSERT_NO_FATAL_FAILURE(exchange(b_, a_, i, length));
        }
        const std::uint32_t records = ports_.link_a->sender.position() - before;
        EXPECT_LE(records, goes_whole(length) ? 230U : 201U) << length;
    }
    EXPECT_EQ(ports_.a.port.counters().stalls.value(), 0U);
    EXPECT_EQ(ports_.b.port.counters().stalls.value(), 0U);
}

// What a note said once must not be taken for credit ever after: half the numbers further on it looks new.
TEST_F(TurnTest, NoCreditIsOlderThanItLooks) {
    exchange(a_, b_, 1, 64);
    exchange(b_, a_, 2, 64);
    constexpr std::uint32_t kMany = (1U << 31) + 5;
    for (Socket* socket : {&a_, &b_}) {  // as if so many pairs had been exchanged
        Connection& end = end_of(*socket);
        end.sent += kMany;
        end.arrived += kMany;
        end.granted += kMany;
        end.reported = end.granted;
    }
    end_of(a_).credit = end_of(b_).granted;
    end_of(b_).credit = end_of(a_).granted;
    for (std::uint64_t i = 0; i < 40; ++i) {
        ASSERT_NO_FATAL_FAILURE(exchange(a_, b_, i, 64));
        ASSERT_NO_FATAL_FAILURE(exchange(b_, a_, i, 64));
    }
    EXPECT_EQ(ports_.b.port.counters().stalls.value(), 0U);
}

// The next owner of an end has promised other receives than the last one.
TEST_F(TurnTest, NoCreditOutlivesTheOwnerOfAnEnd) {
    for (int i = 0; i < 100; ++i)
        (void)b_.receive(64);
    ports_.settle();
    (void)a_.send_number(1, 64);
    (void)a_.receive(64);
    ports_.settle();
    (void)b_.send_number(2, 64);
    ports_.settle();
    // b's end leaves, and the next one is on the same link.
    tests::SwapByHand swap(ports_);
    ASSERT_NO_FATAL_FAILURE(swap.begin(b_));
    ASSERT_NO_FATAL_FAILURE(swap.hold_at_once());
    ASSERT_NO_FATAL_FAILURE(swap.leave());
    ASSERT_NO_FATAL_FAILURE(swap.arrive(next_));
    ports_.settle();
    exchange(a_, next_, 3, 64);
    exchange(next_, a_, 4, 64);  // to the same id and as long as the last owner's
    EXPECT_LE(end_of(a_).credit, end_of(next_).granted);
    for (std::uint64_t i = 0; i < 60; ++i)
        (void)a_.send_number(i, 300);
    ports_.settle();
    EXPECT_FALSE(ports_.link_b->failed.load()) << ports_.link_b->failure;
}

TEST_F(TurnTest, TheCountOfTurnsInARecordMayWrap) {
    std::uint64_t number = 0;
    for (int i = 0; i < 70'000; ++i) {
        Operation& question = b_.receive(8);
        (void)a_.send_number(++number, 8);
        (void)ports_.b.core.turn();
        ASSERT_TRUE(question.good()) << i;
        Operation& answer = a_.receive(8);
        (void)b_.send_number(number, 8);
        ports_.link_a->patience.give_up();
        (void)ports_.a.core.turn();
        ASSERT_TRUE(answer.good()) << i;
        if (i % 100 == 0) {
            ASSERT_NO_FATAL_FAILURE(exchange(a_, b_, number, 4097)) << "by the ring";
        }
        a_.operations.clear();
        b_.operations.clear();
    }
    EXPECT_FALSE(ports_.link_b->failed.load()) << ports_.link_b->failure;
}

TEST_F(TurnTest, TheFarewellComesAfterTheLastMessage) {
    Operation& receive = b_.receive(64);
    Operation& pending = b_.receive(64);
    (void)a_.send_number(1, 64);
    a_.close();
    ports_.settle();
    ASSERT_TRUE(receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, 64));
    EXPECT_EQ(pending.status, Status::kReset);
}

TEST_F(TurnTest, WhatADeadPeerLeftInTheLineIsDelivered) {
    Operation& receive = b_.receive(64);
    (void)a_.send_number(1, 64);
    ports_.b.port.remove_link(*ports_.link_b, Status::kReset);
    ASSERT_TRUE(receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, 64));
    ports_.link_b.reset();
}

TEST_F(TurnTest, ASleepingReaderIsRung) {
    (void)b_.receive(64);
    ports_.settle();
    ports_.b.port.arm();
    (void)a_.send_number(1, 64);
    char ring = 0;
    EXPECT_EQ(::recv(ports_.link_b->own_doorbell(), &ring, 1, MSG_DONTWAIT), 1);
    ports_.b.port.disarm();
    ports_.settle();
    EXPECT_TRUE(b_.operations.back().good());
}

// A question of a's that is answered while it is not yet to be looked at.
class PatientTurnTest : public TurnTest {
protected:
    void SetUp() override {
        TurnTest::SetUp();
        for (int i = 0; i < 400; ++i) {  // early looks, so that it becomes patient
            patience().begin(0, 8);
            patience().looked_in_vain();
            patience().found_late(rings::Patience::kSlow - 1);
        }
        receive_ = &a_.receive(8);
        (void)b_.receive(8);
        (void)a_.send_number(1, 8);
        (void)ports_.b.core.turn();
        (void)b_.send_number(2, 8);
    }
    [[nodiscard]] rings::Patience& patience() { return ports_.link_a->patience; }
    // Its wait begins now: for a microsecond and a half it would not look.
    void ask_anew() {
        patience().begin(__builtin_ia32_rdtsc(), 8);
        ASSERT_TRUE(patience().waiting());
    }

    Operation* receive_ = nullptr;
};

// Else it would sleep although the answer is there, and nobody would ring.
TEST_F(PatientTurnTest, WhoGoesToSleepLooksNow) {
    ask_anew();
    ports_.a.port.arm();
    (void)ports_.a.port.poll(64);
    EXPECT_TRUE(receive_->good());
    ports_.a.port.disarm();
}

TEST_F(PatientTurnTest, WhatIsThereIsTakenAtTheEndOfALink) {
    ask_anew();
    ports_.a.port.break_link(*ports_.link_a, Status::kReset);
    EXPECT_TRUE(receive_->good());
}

// A wait is bounded by itself, and ended by a record in the ring.
TEST_F(TurnTest, WhoWaitsForTheTurnSeesWhatIsThere) {
    Link& link = *ports_.link_a;
    EXPECT_FALSE(link.wait_for_turn()) << "the turn is its own";
    exchange(a_, b_, 1, 8);
    EXPECT_FALSE(link.wait_for_turn()) << "no answer";
    EXPECT_TRUE(link.patience.looked_early());
    (void)a_.receive(8);
    (void)a_.receive(8);
    ports_.settle();
    (void)b_.send_number(2, 8);
    EXPECT_TRUE(link.wait_for_turn());
    EXPECT_TRUE(link.wait_for_turn()) << "it stays until it is taken";
    ports_.settle();
    EXPECT_FALSE(link.wait_for_turn());
}

TEST_F(TurnTest, WhoWaitsForTheTurnComesBackForARecord) {
    exchange(a_, b_, 1, 8);
    (void)b_.send_number(2, kTurnMost + 1);  // not in the line
    Link& link = *ports_.link_a;
    ASSERT_NE(link.receiver.front(), nullptr);
    link.patience.begin(__builtin_ia32_rdtsc(), 8);
    EXPECT_FALSE(link.wait_for_turn());
}

// Its wait is longer than it may stay; but this thread may lose its processor for longer than that, so it tries again.
TEST_F(PatientTurnTest, WhoWaitsForTheTurnComesBackToTheOthers) {
    Link& link = *ports_.link_a;
    bool came_back = false;
    for (int tries = 0; !came_back && tries < 10'000; ++tries) {
        ask_anew();
        patience().settle(__builtin_ia32_rdtsc());
        came_back = !link.wait_for_turn();
    }
    EXPECT_TRUE(came_back);
    EXPECT_FALSE(patience().looked_early()) << "no look while it was waiting";
    while (!link.wait_for_turn()) {
    }
    EXPECT_FALSE(patience().waiting());
    EXPECT_FALSE(patience().looked_early());
}

TEST_F(TurnTest, ALinkCountsWhatItsPeerHasTakenInBoth) {
    LinkSender& sender = ports_.link_a->sender;
    const std::uint32_t before = sender.position();
    (void)b_.receive(64);
    (void)a_.send_number(1, 64);
    const std::uint32_t after = sender.position();
    EXPECT_EQ(after, before + 1);
    EXPECT_FALSE(sender.has_taken(after));
    ports_.settle();
    EXPECT_FALSE(sender.has_taken(after)) << "nobody has asked to be told";
    ports_.link_b->receiver.publish_taken();
    EXPECT_TRUE(sender.has_taken(after));
    EXPECT_FALSE(sender.has_taken(after + 1));
}

}  // namespace
}  // namespace sanpoll::engine::shm
