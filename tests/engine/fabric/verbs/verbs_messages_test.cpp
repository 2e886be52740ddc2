// Messages over verbs: matched in order, credited, complete once.
#include <gtest/gtest.h>

#include "tests/engine/fabric/verbs/two_verbs_ports.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::Bytes;
using tests::FakeDevice;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoVerbsPorts;

/// Every test runs with both ways to poll, and over both kinds of transport.
struct Kind {
    const char* name;
    FakeDevice::Options options;
};
std::vector<Kind> kinds() {
    FakeDevice::Options plain;
    FakeDevice::Options extended;
    extended.extended = true;
    FakeDevice::Options iwarp;
    iwarp.transport = IBV_TRANSPORT_IWARP;
    FakeDevice::Options modest;
    modest.max_inline = 0;
    modest.max_sges = 1;
    modest.max_read_sges = 1;
    return {{"Plain", plain}, {"Extended", extended}, {"Iwarp", iwarp}, {"Modest", modest}};
}

class VerbsMessagesTest : public testing::TestWithParam<Kind> {
protected:
    VerbsMessagesTest() : net_(GetParam().options), a_(net_.make_socket()), b_(net_.make_socket()) {
        ends_ = net_.connect(a_, b_);
    }
    ~VerbsMessagesTest() override { EXPECT_EQ(net_.net.rnr(), 0U); }

    TwoVerbsPorts net_;
    Socket& a_;
    Socket& b_;
    TwoVerbsPorts::Ends ends_{};
};

INSTANTIATE_TEST_SUITE_P(Devices, VerbsMessagesTest, testing::ValuesIn(kinds()),
                         [](const auto& each) { return each.param.name; });

TEST_P(VerbsMessagesTest, EverySizeArrivesWhole) {
    std::uint64_t number = 0;
    for (const std::size_t length :
         {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{212}, std::size_t{213},
          std::size_t{248}, std::size_t{249}, std::size_t{512}, std::size_t{513},
          std::size_t{kMaxPayload - 1}, std::size_t{kMaxPayload}, std::size_t{kMaxPayload + 1},
          std::size_t{3 * kMaxPayload}, std::size_t{1000000}}) {
        Operation& receive = b_.receive(length);
        Operation& send = a_.send_number(++number, length);
        net_.settle();
        ASSERT_TRUE(send.good()) << length;
        ASSERT_TRUE(receive.good()) << length;
        ASSERT_EQ(receive.content(), message_of(number, length)) << length;
    }
}

TEST_P(VerbsMessagesTest, AShortMessageGoesWithItsPost) {
    Operation& receive = b_.receive(64);
    Operation& send = a_.send_number(1, 64);
    EXPECT_TRUE(send.good());  // nobody has turned a core
    (void)net_.b.core.turn();
    EXPECT_TRUE(receive.good());
    EXPECT_EQ(receive.content(), message_of(1, 64));
}

TEST_P(VerbsMessagesTest, PiecesAreGatheredAndScattered) {
    for (const std::uint32_t length : {64U, 700U, 30000U}) {
        Operation& receive =
            b_.receive(length, {1, 1, 9, length / 3, length / 2, length - 7, length - 7});
        Operation& send =
            a_.send(message_of(length, length), {0, 3, 3, 17, length / 2, length - 9, length - 1});
        net_.settle();
        ASSERT_TRUE(send.good());
        ASSERT_TRUE(receive.good());
        EXPECT_EQ(receive.content(), message_of(length, length));
    }
}

TEST_P(VerbsMessagesTest, MessagesWaitForReceivesInOrder) {
    for (std::uint64_t i = 0; i < 40; ++i) {
        (void)a_.send_number(i, 20 + i * 100);
    }
    net_.settle();
    for (std::uint64_t i = 0; i < 40; ++i) {
        Operation& receive = b_.receive(5000);
        net_.settle();
        ASSERT_TRUE(receive.good()) << i;
        ASSERT_EQ(receive.content(), message_of(i, 20 + i * 100)) << i;
    }
    for (const Operation& send : a_.operations) {
        EXPECT_TRUE(send.good());
    }
}

TEST_P(VerbsMessagesTest, OnlySoManyGoAheadOfReceives) {
    for (std::uint64_t i = 0; i < kUnasked + 5; ++i) {
        (void)a_.send_number(i, 8);
    }
    net_.settle();
    std::uint32_t ended = 0;
    for (const Operation& send : a_.operations) {
        ended += send.ended() ? 1 : 0;
    }
    EXPECT_EQ(ended, kUnasked);
    Operation& longer = a_.send_number(99, kUnaskedBytes + 1);
    for (std::uint64_t i = 0; i < kUnasked + 5; ++i) {
        (void)b_.receive(8);
    }
    net_.settle();
    EXPECT_FALSE(longer.ended()) << "one of that length needs a receive";
    Operation& last = b_.receive(kUnaskedBytes + 1);
    net_.settle();
    EXPECT_TRUE(longer.good());
    EXPECT_TRUE(last.good());
}

TEST_P(VerbsMessagesTest, ATooShortReceiveFailsAndTheMessageStays) {
    for (const std::size_t length : {std::size_t{100}, std::size_t{2000}, std::size_t{50000}}) {
        Operation& small = b_.receive(99);
        Operation& smaller = b_.receive(0);
        Operation& send = a_.send_number(7, length);
        net_.settle();
        ASSERT_TRUE(small.ended());
        EXPECT_EQ(small.status, Status::kMessageTooLong);
        EXPECT_EQ(smaller.status, Status::kMessageTooLong);
        Operation& enough = b_.receive(length);
        net_.settle();
        ASSERT_TRUE(enough.good());
        EXPECT_EQ(enough.content(), message_of(7, length));
        EXPECT_TRUE(send.good());
    }
    // Receives that a too long message has used up grant nothing: what follows is still in step.
    for (std::uint64_t i = 0; i < 100; ++i) {
        Operation& receive = b_.receive(600);
        Operation& send = a_.send_number(i, 600);
        net_.settle();
        ASSERT_TRUE(send.good() && receive.good()) << i;
    }
}

TEST_P(VerbsMessagesTest, LongAndShortMessagesKeepTheirOrderAndTheirsOfCompletion) {
    const std::size_t lengths[] = {100000, 10, 9000, 0, 300000, 8184, 8185, 513, 70000, 1};
    std::vector<Operation*> sends;
    std::vector<Operation*> receives;
    for (std::uint64_t i = 0; i < 50; ++i) {
        sends.push_back(&a_.send_number(i, lengths[i % 10]));
    }
    for (std::uint64_t i = 0; i < 50; ++i) {
        receives.push_back(&b_.receive(300000));
    }
    for (int turns = 0; turns < 2000 && !sends.back()->ended(); ++turns) {
        (void)net_.a.core.turn();
        (void)net_.b.core.turn();
        for (const auto& list : {sends, receives}) {
            for (std::size_t i = 1; i < list.size(); ++i) {
                ASSERT_TRUE(!list[i]->ended() || list[i - 1]->ended()) << "they end in order";
            }
        }
    }
    net_.settle();
    for (std::uint64_t i = 0; i < 50; ++i) {
        ASSERT_TRUE(sends[i]->good()) << i;
        ASSERT_TRUE(receives[i]->good()) << i;
        ASSERT_EQ(receives[i]->content(), message_of(i, lengths[i % 10])) << i;
    }
}

TEST_P(VerbsMessagesTest, BothDirectionsStreamWithoutStandingStill) {
    constexpr std::uint64_t kCount = 3000;
    constexpr std::size_t kLength = 5000;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        (void)a_.receive(kLength);
        (void)b_.receive(kLength);
    }
    for (std::uint64_t i = 0; i < kCount; ++i) {
        (void)a_.send_number(i, kLength);
        (void)b_.send_number(i + kCount, kLength);
    }
    net_.settle();
    for (Socket* socket : {&a_, &b_}) {
        for (const Operation& operation : socket->operations) {
            ASSERT_TRUE(operation.good());
        }
    }
}

TEST_P(VerbsMessagesTest, OneSidedTrafficReturnsCreditsByItself) {
    for (std::uint64_t i = 0; i < 50; ++i) {
        for (int n = 0; n < 10; ++n) {
            (void)b_.receive(8000);
        }
        for (int n = 0; n < 10; ++n) {
            (void)a_.send_number(i, 8000);
        }
        net_.settle();
        ASSERT_TRUE(a_.operations.back().good() && b_.operations.back().good()) << i;
    }
    EXPECT_GT(net_.b.port.counters().packets.value(), 0U);
    EXPECT_LE(net_.b.port.counters().packets.value(), 250U) << "one for several messages";
}

TEST_P(VerbsMessagesTest, AMessageThatArrivesBeforeTheConnectionIsUpIsKept) {
    Socket& from = net_.make_socket();
    Socket& to = net_.make_socket();
    const TwoVerbsPorts::Ends ends = net_.make(from, to);
    ASSERT_TRUE(net_.a.port.establish(*ends.first, {}));
    Operation& send = from.send_number(5, 100);
    net_.settle();
    EXPECT_TRUE(send.good());
    ASSERT_TRUE(net_.b.port.establish(*ends.second, {}));
    Operation& receive = to.receive(100);
    net_.settle();
    ASSERT_TRUE(receive.good());
    EXPECT_EQ(receive.content(), message_of(5, 100));
}

TEST_P(VerbsMessagesTest, ASmallerPeerIsServedInItsSizes) {
    Socket& from = net_.make_socket();
    Socket& to = net_.make_socket();
    const TwoVerbsPorts::Ends ends = net_.make(from, to);
    ASSERT_TRUE(net_.a.port.establish(*ends.first, {kReceiveBuffers, 1024}));
    ASSERT_TRUE(net_.b.port.establish(*ends.second, {}));
    for (const std::size_t length : {std::size_t{1016}, std::size_t{1017}, std::size_t{100000}}) {
        Operation& receive = to.receive(length);
        Operation& send = from.send_number(length, length);
        net_.settle();
        ASSERT_TRUE(send.good() && receive.good()) << length;
        EXPECT_EQ(receive.content(), message_of(length, length));
    }
}

TEST_P(VerbsMessagesTest, TermsThatMakeNoSenseAreRefused) {
    Socket& from = net_.make_socket();
    Socket& to = net_.make_socket();
    const TwoVerbsPorts::Ends ends = net_.make(from, to);
    EXPECT_FALSE(net_.a.port.establish(*ends.first, {kFewestBuffers - 1, kReceiveBufferBytes}));
    EXPECT_FALSE(net_.b.port.establish(*ends.second, {kReceiveBuffers, 16}));
    EXPECT_FALSE(net_.b.port.establish(*ends.second, {kMostNews + 1, kReceiveBufferBytes}));
    net_.a.port.abandon(*ends.first);
    net_.b.port.abandon(*ends.second);
    net_.settle();
    EXPECT_EQ(from.send_number(1, 1).status, Status::kNotOpen);
}

TEST_P(VerbsMessagesTest, SaturationIsToldAtBothEdges) {
    for (std::uint32_t i = 0; i < net_.config.queue_depth; ++i) {
        (void)b_.receive(1);
    }
    EXPECT_TRUE(b_.saturation.receives.load());
    (void)a_.send_number(1, 1);
    net_.settle();
    EXPECT_FALSE(b_.saturation.receives.load());
}

TEST_P(VerbsMessagesTest, ARegionThatWasDeregisteredMeanwhileIsRefused) {
    ASSERT_TRUE(a_.regions.retire(a_.region));
    EXPECT_EQ(a_.send_number(1, 10).status, Status::kBadRegion);
    EXPECT_EQ(a_.receive(10).status, Status::kBadRegion);
    EXPECT_TRUE(a_.send_number(1, 0).good()) << "nothing needs no region";
}

TEST_P(VerbsMessagesTest, ASlowDeviceGetsNoMoreThanItsQueueTakes) {
    net_.net.hold(ends_.first->id, true);
    for (std::uint64_t i = 0; i < 200; ++i) {
        (void)a_.send_number(i, i % 3 == 0 ? 4000 : 30);
        (void)b_.receive(4000);
    }
    net_.turn();
    while (net_.net.posted_sends() != 0 && !a_.operations.back().ended()) {
        net_.net.deliver(ends_.first->id, 1);
        net_.turn(1);
    }
    net_.net.hold(ends_.first->id, false);
    net_.settle();
    for (std::uint64_t i = 0; i < 200; ++i) {
        ASSERT_TRUE(a_.operations[i].good());
        ASSERT_EQ(b_.operations[i].content(), message_of(i, i % 3 == 0 ? 4000 : 30)) << i;
    }
}

}  // namespace
}  // namespace sanpoll::engine::verbs
