// Messages out of a shared arena: by one copy, in order with all others, and given up in the middle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <random>

#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/engine/fabric/shm/shm_port_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::uint32_t kMiB = 1U << 20;

class DescribedTest : public ShmPortTest {
protected:
    DescribedTest() : ShmPortTest(TwoPorts::small_config()) {}
    void SetUp() override {
        ShmPortTest::SetUp();
        lend(tests::shareable_arena(), ports_.a, *ports_.link_a, ports_.b, *ports_.link_b);
    }
    [[nodiscard]] static std::byte* arena(std::uint64_t offset = 0) {
        return reinterpret_cast<std::byte*>(tests::shareable_arena().base + offset);
    }
    void turn_a() { (void)ports_.a.core.turn(); }
    void turn_b() { (void)ports_.b.core.turn(); }
    [[nodiscard]] std::uint64_t described() const {
        return ports_.a.port.counters().messages_described.value();
    }
};

TEST_F(DescribedTest, ALongMessageIsCopiedOnceWhateverItsPiecesAre) {
    std::mt19937 random(3);
    std::uint64_t bytes = 0;
    for (std::uint64_t number = 0; number < tests::scaled(300) + 20; ++number) {
        const std::uint32_t length =
            ports_.config.eager_max + 1 + random() % (number % 10 == 0 ? 3 * kMiB : 100000);
        std::vector<std::uint32_t> cuts[2];
        for (auto& list : cuts) {
            list.resize(random() % kMaxSges);
            for (std::uint32_t& cut : list) {
                cut = random() % (length + 1);
            }
            std::sort(list.begin(), list.end());
        }
        Operation& receive = b_.receive(length, cuts[0]);
        Operation& send = send_at(a_, arena(random() % 1000), message_of(number, length), cuts[1]);
        ports_.settle();
        ASSERT_TRUE(send.good() && receive.good()) << number;
        ASSERT_EQ(send.length, length);
        ASSERT_TRUE(receive.content() == message_of(number, length)) << number;
        bytes += length;
        ASSERT_EQ(described(), number + 1);
        ASSERT_EQ(ports_.b.port.counters().bytes_from_arenas.value(), bytes);
    }
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_F(DescribedTest, ShortMessagesAndThoseFromElsewhereGoAsEver) {
    Bytes outside = message_of(1, kMiB);
    b_.receive(2 * kMiB);
    b_.receive(2 * kMiB);
    Operation& elsewhere = b_.receive(2 * kMiB);
    send_at(a_, arena(), message_of(0, ports_.config.eager_max));
    a_.send(outside);
    ports_.settle();
    // Half of it in the arena.
    std::memcpy(arena(), outside.data(), kMiB / 2);
    Operation& mixed = a_.operations.emplace_back();
    WorkRequest request{};
    request.opcode = Opcode::kSend;
    request.context = reinterpret_cast<std::uint64_t>(&mixed);
    request.length = kMiB;
    request.sge_count = 2;
    request.sge[0] = {reinterpret_cast<std::uint64_t>(arena()), kMiB / 2, a_.region};
    request.sge[1] = {reinterpret_cast<std::uint64_t>(outside.data()) + kMiB / 2, kMiB / 2,
                      a_.region};
    ASSERT_EQ(a_.core_slot.load()->post(request, a_.gate, a_.generation, a_.slot), Status::kOk);
    ports_.settle();
    EXPECT_TRUE(mixed.good() && elsewhere.good());
    EXPECT_TRUE(elsewhere.content() == outside);
    EXPECT_EQ(described(), 0U);
    EXPECT_EQ(ports_.b.port.counters().bytes_from_arenas.value(), 0U);
}

TEST_F(DescribedTest, TheSendEndsWhenTheReceiverHasCopied) {
    Operation& send = send_at(a_, arena(), message_of(1, kMiB));
    ports_.settle();
    EXPECT_EQ(described(), 1U);
    EXPECT_FALSE(send.ended());
    // What is changed before a receive takes it is changed: no copy has been made.
    std::memcpy(arena(), message_of(2, kMiB).data(), kMiB);
    Operation& receive = b_.receive(kMiB);
    ports_.settle();
    EXPECT_TRUE(send.good() && receive.good());
    EXPECT_TRUE(receive.content() == message_of(2, kMiB));
}

TEST_F(DescribedTest, ATurnCopiesABoundedPart) {
    Operation& receive = b_.receive(8 * kMiB);
    send_at(a_, arena(), message_of(1, 8 * kMiB));
    std::uint64_t before = 0;
    for (int turns = 0; !receive.ended(); ++turns) {
        ASSERT_LT(turns, 100);
        turn_b();
        const std::uint64_t now = ports_.b.port.counters().bytes_from_arenas.value();
        ASSERT_LE(now - before, 256U << 10);
        before = now;
    }
    EXPECT_TRUE(receive.content() == message_of(1, 8 * kMiB));
}

TEST_F(DescribedTest, AMessageThatIsBeingCopiedHoldsUpNoOtherConnection) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    Operation& big = b_.receive(16 * kMiB);
    send_at(a_, arena(), message_of(1, 16 * kMiB));
    turn_b();
    for (std::uint64_t number = 0; number < 10; ++number) {
        Operation& receive = other_b.receive(100);
        other_a.send_number(number, 100);
        turn_a();
        turn_b();
        ASSERT_TRUE(receive.good());
    }
    EXPECT_FALSE(big.ended());
    ports_.settle();
    EXPECT_TRUE(big.good());
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_F(DescribedTest, AStreamOfLongMessagesLeavesOthersTheirShare) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    std::deque<Operation*> stream;
    for (int i = 0; i < 16; ++i) {
        stream.push_back(&b_.receive(kMiB));
    }
    Operation& one = other_b.receive(kMiB);
    turn_b();
    turn_a();
    for (std::size_t i = 0; i < stream.size(); ++i) {
        send_at(a_, arena(), message_of(1, kMiB));
    }
    send_at(other_a, arena(2 * kMiB), message_of(2, kMiB));
    while (!stream.back()->ended()) {
        turn_a();
        turn_b();
        if (one.ended()) {
            break;
        }
    }
    EXPECT_TRUE(one.good());
    EXPECT_FALSE(stream[stream.size() / 2]->ended()) << "it waited for most of them";
    ports_.settle();
    for (Operation* receive : stream) {
        EXPECT_TRUE(receive->good());
    }
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_F(DescribedTest, MessagesOfAllKindsStayInOrder) {
    std::mt19937 random(11);
    std::deque<Operation*> receives;
    std::deque<Operation*> sends;
    std::vector<std::size_t> lengths;
    constexpr std::uint32_t kPlaces = 24;  // in the arena, one each of the sends that are pending
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t idle = 0;
    const std::uint64_t count = tests::scaled(4000) + 200;
    while (received < count) {
        while (receives.size() < 1 + random() % 12) {
            receives.push_back(&b_.receive(100000));
        }
        while (sends.size() < kPlaces && sent < count) {
            const std::uint32_t limits[] = {100, 300, 5000, 16384, 100000, 100000, 100000};
            const std::size_t length = random() % limits[random() % 7];
            lengths.push_back(length);
            if (random() % 8 == 0) {
                sends.push_back(&a_.send_number(sent, length));
            } else {
                sends.push_back(
                    &send_at(a_, arena(sent % kPlaces * kMiB), message_of(sent, length)));
            }
            ++sent;
        }
        if (random() % 2 == 0) {
            turn_a();
        }
        if (random() % 2 == 0) {
            turn_b();
        }
        ASSERT_LT(++idle, 2000U) << "nothing moves after " << received << " messages";
        while (!sends.empty() && sends.front()->ended()) {
            ASSERT_EQ(sends.front()->status, Status::kOk);
            sends.pop_front();
        }
        while (!receives.empty() && receives.front()->ended()) {
            ASSERT_EQ(receives.front()->status, Status::kOk);
            ASSERT_TRUE(receives.front()->content() == message_of(received, lengths[received]))
                << received;
            receives.pop_front();
            ++received;
            idle = 0;
        }
    }
    EXPECT_GT(described(), count / 4);
    ports_.settle();
    a_.close();
    b_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_F(DescribedTest, SeveralWaitAtOnceAndAReceiveThatIsTooShortFailsAlone) {
    std::deque<Operation*> sends;
    for (std::uint64_t number = 0; number < 10; ++number) {
        sends.push_back(&send_at(a_, arena(number * kMiB), message_of(number, 50000)));
    }
    ports_.settle();
    EXPECT_EQ(described(), 10U);
    Operation& small = b_.receive(49999);
    ports_.settle();
    EXPECT_EQ(small.status, Status::kMessageTooLong);
    for (std::uint64_t number = 0; number < 10; ++number) {
        Operation& receive = b_.receive(50000);
        ports_.settle();
        ASSERT_TRUE(receive.good() && sends[number]->good());
        ASSERT_TRUE(receive.content() == message_of(number, 50000));
    }
}

TEST_F(DescribedTest, BothDirectionsAtOnce) {
    lend(tests::shareable_arena(1), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a);
    auto* other = reinterpret_cast<std::byte*>(tests::shareable_arena(1).base);
    for (std::uint64_t number = 0; number < 50; ++number) {
        Operation& there = b_.receive(kMiB);
        Operation& back = a_.receive(kMiB);
        send_at(a_, arena(), message_of(number, kMiB));
        send_at(b_, other, message_of(number + 1000, kMiB));
        ports_.settle();
        ASSERT_TRUE(there.good() && back.good());
        ASSERT_TRUE(there.content() == message_of(number, kMiB));
        ASSERT_TRUE(back.content() == message_of(number + 1000, kMiB));
    }
}

// ---- ends -------------------------------------------------------------------------------------------

TEST_F(DescribedTest, ASenderThatClosesInTheMiddleSpoilsNoReceive) {
    Operation& receive = b_.receive(4 * kMiB);
    Operation& send = send_at(a_, arena(), message_of(1, 4 * kMiB));
    turn_b();
    EXPECT_FALSE(receive.ended());
    a_.close();
    EXPECT_EQ(send.status, Status::kAborted);
    std::memset(arena(), 0x55, 4 * kMiB);
    ports_.settle();
    EXPECT_TRUE(receive.ended());
    EXPECT_EQ(receive.status, Status::kReset);
    b_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
}

// It copies what the memory holds by then, all of it, before it takes the record that says that the sender has
// closed.
TEST_F(DescribedTest, WhatWasGivenUpBeforeItWasCopiedIsNotReceived) {
    Operation& receive = b_.receive(100000);
    send_at(a_, arena(), message_of(1, 100000));
    a_.close();
    std::memset(arena(), 0x55, 100000);
    turn_b();
    EXPECT_EQ(ports_.b.port.counters().bytes_from_arenas.value(), 100000U);
    EXPECT_EQ(receive.status, Status::kReset);
    EXPECT_EQ(receive.length, 0U);
}

TEST_F(DescribedTest, ACloseOfOneConnectionHasTheOthersAsk) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    Operation& mine = send_at(a_, arena(), message_of(1, kMiB));
    Operation& others = send_at(other_a, arena(2 * kMiB), message_of(2, kMiB));
    turn_b();
    other_a.close();  // takes back what it described
    EXPECT_EQ(others.status, Status::kAborted);
    Operation& receive = b_.receive(kMiB);
    for (int i = 0; i < 20; ++i) {
        turn_b();  // copies all of it
    }
    EXPECT_FALSE(receive.ended());
    EXPECT_FALSE(mine.ended());
    turn_a();
    EXPECT_TRUE(mine.good());
    turn_b();
    EXPECT_TRUE(receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, kMiB));
    // The next is described with the new count.
    Operation& next = b_.receive(kMiB);
    send_at(a_, arena(), message_of(3, kMiB));
    for (int i = 0; i < 20; ++i) {
        turn_b();
    }
    EXPECT_TRUE(next.good());
    other_b.close();
    ports_.settle();
}

TEST_F(DescribedTest, AReceiverThatClosesInTheMiddleResetsTheSender) {
    b_.receive(4 * kMiB);
    Operation& first = send_at(a_, arena(), message_of(1, 4 * kMiB));
    Operation& second = send_at(a_, arena(8 * kMiB), message_of(2, 4 * kMiB));
    turn_b();
    b_.close();
    ports_.settle();
    EXPECT_EQ(first.status, Status::kReset);
    EXPECT_EQ(second.status, Status::kReset);
    a_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_F(DescribedTest, WhatIsCopiedIsSaidBeforeTheReceiverCloses) {
    Operation& receive = b_.receive(100000);
    Operation& send = send_at(a_, arena(), message_of(1, 100000));
    turn_b();
    EXPECT_TRUE(receive.good());
    b_.close();
    ports_.settle();
    EXPECT_TRUE(send.good());
}

TEST_F(DescribedTest, ALinkThatGoesInTheMiddleResetsBothEnds) {
    Operation& receive = b_.receive(4 * kMiB);
    Operation& send = send_at(a_, arena(), message_of(1, 4 * kMiB));
    Operation& waiting = send_at(a_, arena(8 * kMiB), message_of(2, 4 * kMiB));
    turn_b();
    ports_.a.port.remove_link(*ports_.link_a, Status::kReset);
    ports_.b.port.remove_link(*ports_.link_b, Status::kReset);
    ports_.link_a.reset();
    ports_.link_b.reset();
    for (const Operation* one : {&receive, &send, &waiting}) {
        EXPECT_EQ(one->ends.load(), 1);
        EXPECT_EQ(one->status, Status::kReset);
    }
}

TEST_F(DescribedTest, ACloseAtAnyPointEndsEverythingOnce) {
    for (int turns = 0; turns < 24; ++turns) {
        for (const bool by_sender : {false, true}) {
            Socket from;
            Socket to;
            ports_.connect(from, to);
            to.receive(300);
            for (std::uint64_t number = 0; number < 6; ++number) {
                to.receive(2 * kMiB);
                send_at(from, arena(number * 2 * kMiB), message_of(number, 300000));
                from.send_number(number, 300);
            }
            for (int i = 0; i < turns; ++i) {
                (i % 2 == 0 ? turn_b() : turn_a());
            }
            (by_sender ? from : to).close();
            for (int i = 0; i < turns % 5; ++i) {
                turn_b();
            }
            (by_sender ? to : from).close();
            ports_.settle();
            ASSERT_EQ(from.closures.load() + to.closures.load(), 2);
            expect_all_ended(from);
            expect_all_ended(to);
        }
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
