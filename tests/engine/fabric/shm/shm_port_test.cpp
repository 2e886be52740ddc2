// The data plane: credits, copies, order and ends, each step by hand.
#include "engine/fabric/shm/shm_port.hpp"

#include <gtest/gtest.h>

#include <random>

#include "tests/engine/fabric/shm/two_ports.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

class ShmPortTest : public testing::Test {
protected:
    explicit ShmPortTest(Config config = {}) : ports_(std::move(config)) {}
    void SetUp() override { ports_.connect(a_, b_); }

    // Every operation ended exactly once.
    static void expect_all_ended(const Socket& socket) {
        for (const Operation& operation : socket.operations) {
            ASSERT_EQ(operation.ends.load(), 1);
        }
    }

    Socket a_;  // outlive the ports, which refer to them
    Socket b_;
    TwoPorts ports_;
};

class SmallShmPortTest : public ShmPortTest {
protected:
    SmallShmPortTest() : ShmPortTest(TwoPorts::small_config()) {}
};

std::vector<std::size_t> sizes(const Config& config) {
    return {0,
            1,
            43,
            44,
            45,
            59,
            60,
            64,
            103,
            104,
            105,
            164,
            165,
            224,
            225,
            284,
            285,
            512,
            4095,
            4096,
            4097,
            8192,
            16383,
            config.eager_max,
            config.eager_max + 1U,
            32767,
            32768,
            32769,
            65536,
            1U << 20,
            (1U << 20) + 1,
            config.max_message};
}

// ---- sizes ------------------------------------------------------------------------------------------

TEST_F(ShmPortTest, EverySizeArrivesInAReceiveThatWaits) {
    for (const std::size_t size : sizes(ports_.config)) {
        Operation& receive = b_.receive(size);
        Operation& send = a_.send_number(size, size);
        ports_.settle();
        ASSERT_TRUE(send.good()) << size;
        ASSERT_TRUE(receive.good()) << size;
        ASSERT_EQ(send.length, size);
        ASSERT_EQ(receive.length, size);
        ASSERT_TRUE(receive.bytes == message_of(size, size)) << size;
    }
}

TEST_F(ShmPortTest, EverySizeArrivesInAReceiveThatComesLate) {
    for (const std::size_t size : sizes(ports_.config)) {
        Operation& send = a_.send_number(size, size);
        ports_.settle();
        ASSERT_EQ(send.ended(), size <= kMaxInRing) << size;
        Operation& receive = b_.receive(size + 5);
        ports_.settle();
        ASSERT_TRUE(send.good()) << size;
        ASSERT_TRUE(receive.good()) << size;
        ASSERT_TRUE(receive.content() == message_of(size, size)) << size;
        for (std::size_t i = size; i < size + 5; ++i) {
            ASSERT_EQ(receive.bytes[i], std::byte{0xEE}) << "wrote beyond the message of " << size;
        }
    }
}

TEST_F(ShmPortTest, EveryLengthUpToSixSlotsArrivesUndamaged) {
    for (std::size_t size = 0; size <= 360; ++size) {
        Operation& receive = b_.receive(size + 64);
        a_.send_number(size, size);
        ports_.settle();
        ASSERT_TRUE(receive.good()) << size;
        ASSERT_TRUE(receive.content() == message_of(size, size)) << size;
        ASSERT_EQ(receive.bytes[size], std::byte{0xEE});
    }
}

TEST_F(ShmPortTest, BothDirectionsAtOnce) {
    for (const std::size_t size : {0U, 64U, 300U, 5000U, 100000U}) {
        Operation& at_b = b_.receive(size);
        Operation& at_a = a_.receive(size);
        a_.send_number(1, size);
        b_.send_number(2, size);
        ports_.settle();
        ASSERT_TRUE(at_b.good() && at_a.good()) << size;
        ASSERT_TRUE(at_b.bytes == message_of(1, size));
        ASSERT_TRUE(at_a.bytes == message_of(2, size));
    }
}

// ---- pieces -----------------------------------------------------------------------------------------

std::vector<std::uint32_t> random_cuts(std::mt19937& random, std::size_t length) {
    std::vector<std::uint32_t> cuts(random() % kMaxSges);
    for (std::uint32_t& cut : cuts) {
        cut = static_cast<std::uint32_t>(random() % (length + 1));
    }
    std::sort(cuts.begin(), cuts.end());
    return cuts;
}

TEST_F(ShmPortTest, GathersAndScattersUpToEightPieces) {
    std::mt19937 random(17);
    const std::uint64_t rounds = tests::scaled(1500);
    for (std::uint64_t round = 0; round < rounds; ++round) {
        const std::size_t limits[] = {60, 300, 2000, 20000, 100000};
        const std::size_t size = random() % limits[round % 5];
        const std::size_t room = size + random() % 3;
        const bool late = random() % 2 == 0;
        Operation* receive = late ? nullptr : &b_.receive(room, random_cuts(random, room));
        a_.send(message_of(round, size), random_cuts(random, size));
        if (late) {
            ports_.settle();
            receive = &b_.receive(room, random_cuts(random, room));
        }
        ports_.settle();
        ASSERT_TRUE(receive->good()) << round;
        ASSERT_TRUE(receive->content() == message_of(round, size)) << round << ": " << size;
        a_.operations.clear();
        b_.operations.clear();
    }
}

TEST_F(ShmPortTest, NoPieceAtAllIsAnEmptyMessage) {
    Operation& receive = b_.receive(10);
    WorkRequest request{};
    Operation send;
    request.opcode = Opcode::kSend;
    request.context = reinterpret_cast<std::uint64_t>(&send);
    ASSERT_EQ(ports_.a.core.post(request, a_.gate, a_.generation, a_.slot), Status::kOk);
    ports_.settle();
    EXPECT_TRUE(send.good());
    EXPECT_TRUE(receive.good());
    EXPECT_EQ(receive.length, 0U);
}

// ---- before any receive -----------------------------------------------------------------------------

TEST_F(ShmPortTest, SixteenSmallMessagesAreTakenUnaskedAndTheRestWaitsAtTheSender) {
    std::vector<Operation*> sends;
    for (std::uint64_t i = 0; i < 40; ++i) {
        sends.push_back(&a_.send_number(i, i * 7 % 285));
    }
    ports_.settle();
    for (std::uint64_t i = 0; i < 40; ++i) {
        EXPECT_EQ(sends[i]->ended(), i < kUnasked) << i;
    }
    EXPECT_EQ(ports_.b.port.counters().early_messages.value(), kUnasked);
    for (std::uint64_t i = 0; i < 40; ++i) {
        Operation& receive = b_.receive(300);
        ports_.settle();
        ASSERT_TRUE(receive.good()) << i;
        ASSERT_TRUE(receive.content() == message_of(i, i * 7 % 285)) << i;
    }
    for (const Operation* send : sends) {
        EXPECT_TRUE(send->good());
    }
}

TEST_F(ShmPortTest, LargerMessagesAreNotTakenUnasked) {
    for (const std::size_t size : {285U, 4096U, 16384U, 16385U}) {
        Operation& send = a_.send_number(size, size);
        ports_.settle();
        EXPECT_FALSE(send.ended()) << size;
        Operation& receive = b_.receive(size);
        ports_.settle();
        EXPECT_TRUE(send.good());
        EXPECT_TRUE(receive.bytes == message_of(size, size));
    }
}

TEST_F(ShmPortTest, ALargeMessageKeepsItsPlaceBetweenSmallOnes) {
    const std::size_t lengths[] = {10, 5000, 10, 100000, 10, 300, 0};
    std::uint64_t number = 0;
    for (const std::size_t length : lengths) {
        a_.send_number(number++, length);
    }
    ports_.settle();
    number = 0;
    for (const std::size_t length : lengths) {
        Operation& receive = b_.receive(100000);
        ports_.settle();
        ASSERT_TRUE(receive.good()) << number;
        ASSERT_TRUE(receive.content() == message_of(number, length)) << number;
        ++number;
    }
}

// ---- flow -------------------------------------------------------------------------------------------

TEST_F(SmallShmPortTest, ASlowReceiverStallsNobodyElse) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    for (std::uint64_t i = 0; i < 500; ++i) {
        a_.send_number(i, i % 3 == 0 ? 4000 : 100);
    }
    for (std::uint64_t i = 0; i < tests::scaled(10000); ++i) {
        Operation& receive = other_b.receive(4000);
        other_a.send_number(i, i % 3 == 0 ? 4000 : 100);
        for (int turns = 0; !receive.ended(); ++turns) {
            ASSERT_LT(turns, 10) << "message " << i << " is held up";
            (void)ports_.a.core.turn();
            (void)ports_.b.core.turn();
        }
        ASSERT_TRUE(receive.bytes.size() >= receive.length && receive.good());
        other_a.operations.clear();
        other_b.operations.clear();
    }
    for (std::uint64_t i = 0; i < 500; ++i) {
        Operation& receive = b_.receive(4000);
        ports_.settle();
        ASSERT_TRUE(receive.content() == message_of(i, i % 3 == 0 ? 4000 : 100)) << i;
    }
    other_a.close();
    other_b.close();
    ports_.settle();
}

void stream(TwoPorts& ports, Socket& from, Socket& to, std::uint32_t window, std::uint64_t count) {
    std::mt19937 random(window);
    std::vector<std::size_t> lengths;
    std::deque<Operation*> receives;
    std::deque<Operation*> sends;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t idle = 0;
    while (received < count) {
        while (receives.size() < window) {
            receives.push_back(&to.receive(40000));
        }
        while (sends.size() < 8 && sent < count) {
            const std::size_t length =
                random() % 50 == 0 ? 40000 : (random() % 5 == 0 ? random() % 6000 : random() % 290);
            lengths.push_back(length);
            sends.push_back(&from.send_number(sent++, length));
        }
        (void)ports.a.core.turn();
        (void)ports.b.core.turn();
        ASSERT_LT(++idle, 1000U) << "nothing moves after " << received << " messages";
        while (!sends.empty() && sends.front()->ended()) {
            ASSERT_EQ(sends.front()->status, Status::kOk);
            sends.pop_front();
        }
        while (!receives.empty() && receives.front()->ended()) {
            ASSERT_EQ(receives.front()->status, Status::kOk);
            ASSERT_TRUE(receives.front()->content() == message_of(received, lengths[received]))
                << received;
            receives.pop_front();
            to.operations.pop_front();
            ++received;
            idle = 0;
        }
    }
}

TEST_F(ShmPortTest, CreditsLastForThousandsOfMessagesWhateverTheNumberOfReceives) {
    for (const std::uint32_t window : {1U, 2U, 3U, 7U, 8U, 9U, 16U, 17U, 32U}) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        ASSERT_NO_FATAL_FAILURE(stream(ports_, from, to, window, tests::scaled(3000))) << window;
        from.close();
        to.close();
        ports_.settle();
        ASSERT_EQ(from.closures.load() + to.closures.load(), 2);
    }
}

TEST_F(SmallShmPortTest, CreditsLastOnASmallLink) {
    for (const std::uint32_t window : {1U, 32U}) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        ASSERT_NO_FATAL_FAILURE(stream(ports_, from, to, window, tests::scaled(2000))) << window;
        from.close();
        to.close();
        ports_.settle();
    }
}

TEST_F(SmallShmPortTest, AFullRingIsDrainedAndNothingIsLost) {
    constexpr std::uint64_t kCount = 2000;
    std::vector<Operation*> receives;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        receives.push_back(&b_.receive(100));  // its credits fill the way back, too
    }
    ports_.settle();
    std::vector<Operation*> sends;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        sends.push_back(&a_.send_number(i, i % 101));
    }
    for (int i = 0; i < 10; ++i) {
        (void)ports_.a.core.turn();
    }
    EXPECT_GT(ports_.a.port.counters().full_rings.value(), 0U);
    EXPECT_FALSE(sends.back()->ended());
    ports_.settle();
    for (std::uint64_t i = 0; i < kCount; ++i) {
        ASSERT_TRUE(sends[i]->good()) << i;
        ASSERT_TRUE(receives[i]->good()) << i;
        ASSERT_TRUE(receives[i]->content() == message_of(i, i % 101)) << i;
    }
}

TEST_F(SmallShmPortTest, AFullStagingAreaIsDrainedAndNothingIsLost) {
    constexpr std::uint64_t kCount = 200;
    std::vector<Operation*> receives;
    std::vector<Operation*> sends;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        receives.push_back(&b_.receive(16384));
    }
    ports_.settle();
    for (std::uint64_t i = 0; i < kCount; ++i) {
        sends.push_back(&a_.send_number(i, 16384 - i * 13));
    }
    EXPECT_FALSE(sends.back()->ended());
    ports_.settle();
    for (std::uint64_t i = 0; i < kCount; ++i) {
        ASSERT_TRUE(receives[i]->content() == message_of(i, 16384 - i * 13)) << i;
    }
}

// ---- too short --------------------------------------------------------------------------------------

TEST_F(ShmPortTest, ATooShortReceiveFailsAndTheMessageGoesToTheNext) {
    for (const std::size_t size : {20U, 284U, 285U, 5000U, 16384U, 16385U, 100000U}) {
        for (const bool late : {false, true}) {
            if (late) {
                a_.send_number(size, size);
                ports_.settle();
            }
            Operation& first = b_.receive(size - 1);
            Operation& second = b_.receive(0);
            Operation& third = b_.receive(size);
            Operation& fourth = b_.receive(8);
            if (!late) {
                a_.send_number(size, size);
            }
            a_.send_number(1, 8);
            ports_.settle();
            EXPECT_EQ(first.status, Status::kMessageTooLong) << size;
            EXPECT_EQ(second.status, Status::kMessageTooLong) << size;
            EXPECT_EQ(first.length, 0U);
            ASSERT_TRUE(third.good()) << size << (late ? " late" : "");
            ASSERT_TRUE(third.bytes == message_of(size, size)) << size;
            ASSERT_TRUE(fourth.good()) << size;
            ASSERT_TRUE(fourth.bytes == message_of(1, 8));
            expect_all_ended(b_);
        }
    }
}

TEST_F(ShmPortTest, TooShortReceivesCostNoCredit) {
    for (std::uint64_t i = 0; i < 200; ++i) {
        a_.send_number(i, 400);
        Operation& tiny = b_.receive(1);
        ports_.settle();
        ASSERT_EQ(tiny.status, Status::kMessageTooLong) << i;
        Operation& receive = b_.receive(400);
        ports_.settle();
        ASSERT_TRUE(receive.good()) << i;
        ASSERT_TRUE(receive.bytes == message_of(i, 400));
    }
    EXPECT_EQ(ports_.a.port.counters().lying_peers.value(), 0U);
    EXPECT_EQ(ports_.b.port.counters().lying_peers.value(), 0U);
}

// ---- regions ----------------------------------------------------------------------------------------

TEST_F(ShmPortTest, APendingRequestHoldsItsRegion) {
    Operation& receive = b_.receive(10);
    Operation& send = a_.send_number(1, 1000);  // no receive is long enough to have it
    EXPECT_FALSE(b_.regions.retire(b_.region));
    ports_.settle();
    EXPECT_EQ(receive.status, Status::kMessageTooLong);
    EXPECT_TRUE(b_.regions.retire(b_.region)) << "the receive has ended";
    EXPECT_TRUE(send.good());
}

TEST_F(ShmPortTest, APendingSendHoldsItsRegion) {
    Operation& send = a_.send_number(1, 1000);
    ports_.settle();
    EXPECT_FALSE(send.ended());
    EXPECT_FALSE(a_.regions.retire(a_.region));
    b_.receive(1000);
    ports_.settle();
    EXPECT_TRUE(send.good());
    EXPECT_TRUE(a_.regions.retire(a_.region));
}

TEST_F(ShmPortTest, ARegionThatIsGoneIsRefusedWhenTheRequestTakesEffect) {
    ASSERT_TRUE(a_.regions.retire(a_.region));
    ASSERT_TRUE(b_.regions.retire(b_.region));
    EXPECT_EQ(a_.send_number(1, 10).status, Status::kBadRegion);
    EXPECT_EQ(a_.send_number(1, 1000).status, Status::kBadRegion);
    EXPECT_EQ(b_.receive(10).status, Status::kBadRegion);
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
}

// ---- the end ----------------------------------------------------------------------------------------

TEST_F(ShmPortTest, CloseEndsWhatIsPendingOnBothSides) {
    for (std::uint64_t i = 0; i < 30; ++i) {
        a_.send_number(i, 1000);  // no credit
        a_.receive(100);
        b_.send_number(i, 100000);  // announced, and longer than any receive
    }
    ports_.settle();
    a_.close();
    for (const Operation& operation : a_.operations) {
        ASSERT_EQ(operation.ends.load(), 1);
        ASSERT_TRUE(operation.status == Status::kAborted ||
                    operation.status == Status::kMessageTooLong);
    }
    EXPECT_EQ(a_.closures.load(), 1);
    ports_.settle();
    for (const Operation& operation : b_.operations) {
        ASSERT_EQ(operation.ends.load(), 1);
        ASSERT_EQ(operation.status, Status::kReset);
    }
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
    EXPECT_EQ(b_.closures.load(), 0) << "the owner closes it";
    b_.receive(10);
    EXPECT_EQ(b_.last, Status::kNotOpen);
    b_.close();
    ports_.settle();
    EXPECT_EQ(b_.closures.load(), 1);
}

TEST_F(ShmPortTest, WhatWasSentBeforeTheCloseIsDeliveredFirst) {
    for (std::uint64_t i = 0; i < 10; ++i) {
        ASSERT_TRUE(a_.send_number(i, i * 28).good());
    }
    a_.close();
    ports_.settle();
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kOpen);
    for (std::uint64_t i = 0; i < 10; ++i) {
        Operation& receive = b_.receive(300);
        ASSERT_EQ(b_.last, Status::kOk) << i;
        ASSERT_TRUE(receive.good()) << i;
        ASSERT_TRUE(receive.content() == message_of(i, i * 28));
    }
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
}

TEST_F(ShmPortTest, WhatIsStillInTheRingAtTheCloseIsDeliveredFirst) {
    std::vector<Operation*> receives;
    for (int i = 0; i < 30; ++i) {
        receives.push_back(&b_.receive(5000));
    }
    ports_.settle();
    for (std::uint64_t i = 0; i < 20; ++i) {
        ASSERT_TRUE(a_.send_number(i, i * 250).good()) << i;
    }
    a_.close();
    ports_.settle();
    for (std::uint64_t i = 0; i < 30; ++i) {
        if (i < 20) {
            ASSERT_TRUE(receives[i]->good()) << i;
            ASSERT_TRUE(receives[i]->content() == message_of(i, i * 250));
        } else {
            ASSERT_EQ(receives[i]->status, Status::kReset) << i;
        }
    }
    expect_all_ended(b_);
}

TEST_F(ShmPortTest, BothSidesMayCloseAtOnce) {
    for (std::uint64_t i = 0; i < 40; ++i) {
        a_.send_number(i, 100);
        b_.send_number(i, 40000);
    }
    a_.close();
    b_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
    EXPECT_EQ(a_.closures.load() + b_.closures.load(), 2);
    EXPECT_EQ(ports_.a.port.counters().lying_peers.value(), 0U);
    EXPECT_EQ(ports_.b.port.counters().lying_peers.value(), 0U);
}

TEST_F(SmallShmPortTest, AFarewellThatFindsNoRoomIsSentLater) {
    for (int i = 0; i < 1000; ++i) {
        b_.receive(0);
    }
    ports_.settle();
    for (std::uint64_t i = 0; i < 1000; ++i) {
        a_.send_number(i, 0);
    }
    // More farewells than the reserve has room for.
    std::deque<Socket> firsts(50);
    std::deque<Socket> seconds(50);
    for (int i = 0; i < 50; ++i) {
        ports_.connect(firsts[static_cast<std::size_t>(i)], seconds[static_cast<std::size_t>(i)]);
    }
    for (Socket& first : firsts) {
        first.close();
        EXPECT_EQ(first.closures.load(), 1);
    }
    ports_.settle();
    for (Socket& second : seconds) {
        EXPECT_EQ(second.gate.view().state, PostGate::State::kReset);
        second.close();
    }
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_F(SmallShmPortTest, ConnectionsComeAndGoManyTimes) {
    // Far more than the table holds at a time: ids are used again with another generation.
    for (std::uint64_t i = 0; i < 1000; ++i) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        Operation& receive = to.receive(100);
        from.send_number(i, 100);
        if (i % 2 == 0) {
            ports_.settle();
            ASSERT_TRUE(receive.good());
        }
        from.close();
        if (i % 3 == 0) {
            ports_.settle();
        }
        to.close();
        ports_.settle();
        ASSERT_EQ(receive.ends.load(), 1);
        ASSERT_EQ(from.closures.load() + to.closures.load(), 2);
    }
    Operation& receive = b_.receive(10);
    a_.send_number(7, 10);
    ports_.settle();
    EXPECT_TRUE(receive.good()) << "the first connection is untouched";
}

TEST_F(SmallShmPortTest, TheTableOfConnectionsIsBounded) {
    Socket owner;
    std::vector<Connection*> made;
    for (std::uint32_t i = 0; i < 2 * ports_.config.max_connections; ++i) {
        if (Connection* one = ports_.a.port.make_connection(owner.owner()); one != nullptr) {
            made.push_back(one);
        }
    }
    EXPECT_EQ(made.size(), ports_.config.max_connections - 1) << "one is in use";
    for (Connection* one : made) {
        ports_.a.port.drop_connection(one);
    }
    Connection* again = ports_.a.port.make_connection(owner.owner());
    EXPECT_NE(again, nullptr);
    ports_.a.port.drop_connection(again);
}

TEST_F(ShmPortTest, TheEndOfTheLinkResetsItsConnectionsAfterDelivery) {
    Operation& first = b_.receive(100);
    Operation& second = b_.receive(100);
    ports_.settle();
    ASSERT_TRUE(a_.send_number(1, 100).good());
    ports_.b.port.remove_link(*ports_.link_b, Status::kReset);  // not yet polled
    ports_.link_b.reset();
    EXPECT_TRUE(first.good());
    EXPECT_TRUE(first.bytes == message_of(1, 100));
    EXPECT_EQ(second.status, Status::kReset);
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
    b_.close();
    EXPECT_EQ(b_.closures.load(), 1);
}

TEST_F(ShmPortTest, AnOwnerThatClosedInTheMeantimeIsNotOpened) {
    Socket owner;
    Connection* connection = ports_.a.port.make_connection(owner.owner());
    ports_.a.port.install(*connection, *ports_.link_a);
    ASSERT_TRUE(owner.gate.close(owner.generation).has_value());
    EXPECT_FALSE(ports_.a.port.establish(*connection, 5));
    ports_.a.port.abandon(*connection);
    ports_.settle();
    EXPECT_EQ(owner.closures.load(), 0);
}

}  // namespace
}  // namespace sanpoll::engine::shm
