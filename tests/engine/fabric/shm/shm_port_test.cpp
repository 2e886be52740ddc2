// The data plane: credits, copies and order, each step by hand.
#include "engine/fabric/shm/shm_port.hpp"

#include <gtest/gtest.h>

#include <random>

#include "tests/engine/fabric/shm/shm_port_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

std::vector<std::size_t> sizes(const Config& config) {
    return {0,
            1,
            43,
            44,
            45,
            59,
            60,
            64,
            80,
            107,
            108,
            109,
            172,
            173,
            231,
            232,
            233,
            296,
            297,
            kMaxInRing,
            kMaxInRing + 1,
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
        sends.push_back(&a_.send_number(i, i * 7 % (kMaxInRing + 1)));
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
        ASSERT_TRUE(receive.content() == message_of(i, i * 7 % (kMaxInRing + 1))) << i;
    }
    for (const Operation* send : sends) {
        EXPECT_TRUE(send->good());
    }
}

TEST_F(ShmPortTest, LargerMessagesAreNotTakenUnasked) {
    for (const std::size_t size : {kMaxInRing + 1, 4096U, 16384U, 16385U}) {
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
    for (const std::size_t size :
         {20U, 100U, kMaxInRing, kMaxInRing + 1, 5000U, 16384U, 16385U, 100000U}) {
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

// With many receives waiting, reports are rarer. When there are fewer than that later, some are unreported for good, unless
// the sender stops without them: then it asks.
TEST_F(ShmPortTest, WhatIsUnreportedOfManyReceivesIsToldToWhomItStops) {
    constexpr std::uint64_t kReported = std::uint64_t{4} * kUnasked;
    constexpr std::uint64_t kUnreported = std::uint64_t{2} * kUnasked - 1;
    std::uint64_t stalls = 0;
    for (const std::size_t length : {8U, 64U, kMaxInRing, kMaxInRing + 1, 5000U}) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        std::vector<Operation*> receives;
        for (std::uint64_t i = 0; i < kReported; ++i) {
            receives.push_back(&to.receive(length));
            ports_.settle();
        }
        const auto& end = static_cast<const Connection&>(*to.slot.load());
        ASSERT_EQ(end.reported, kReported);
        for (std::uint64_t i = 0; i < kUnreported; ++i) {
            receives.push_back(&to.receive(length));
            ports_.settle();
        }
        ASSERT_EQ(end.granted - end.reported, kUnreported) << "they wait for one more";
        for (std::uint64_t i = 0; i < receives.size(); ++i) {
            (void)from.send_number(i, length);
        }
        ports_.settle();
        for (std::uint64_t i = 0; i < receives.size(); ++i) {
            ASSERT_TRUE(receives[i]->good()) << length << ": " << i;
            ASSERT_TRUE(receives[i]->bytes == message_of(i, length)) << length << ": " << i;
        }
        expect_all_ended(from);
        stalls += 1;
        EXPECT_EQ(ports_.a.port.counters().stalls.value(), stalls) << "told at once, of all";
        EXPECT_EQ(end.granted, end.reported);
        from.close();
        to.close();
        ports_.settle();
    }
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

}  // namespace
}  // namespace sanpoll::engine::shm
