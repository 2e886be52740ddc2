// What a verbs port takes from its devices: queues that cannot run over, doorbells, events, refusals.
#include <gtest/gtest.h>
#include <poll.h>

#include "tests/engine/fabric/verbs/two_verbs_ports.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::FakeDevice;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoVerbsPorts;

Config many_connections() {
    Config config;
    config.max_connections = 1024;
    return config;
}

TEST(VerbsAccountingTest, AFullCompletionQueueGetsABrother) {
    TwoVerbsPorts net({}, many_connections());
    constexpr std::uint32_t kFirst = CompletionQueue::kEntries / CompletionQueue::kPerConnection;
    EXPECT_EQ(net.net.completion_queues(), 2U);
    std::vector<TwoVerbsPorts::Ends> ends;
    for (std::uint32_t i = 0; i < kFirst; ++i) {
        ends.push_back(net.connect_new());
    }
    EXPECT_EQ(net.net.completion_queues(), 2U);
    ends.push_back(net.connect_new());
    EXPECT_EQ(net.net.completion_queues(), 4U);
    Operation& receive = net.sockets.back()->receive(10);
    (void)net.sockets[net.sockets.size() - 2]->send_number(1, 10);
    net.settle();
    EXPECT_TRUE(receive.good());
    // Everything fails at once, and nobody polls meanwhile.
    for (const TwoVerbsPorts::Ends& each : ends) {
        net.net.hold(each.first->id, true);
    }
    for (std::size_t i = 0; i < net.sockets.size(); i += 2) {
        for (std::uint64_t n = 0; n < 20; ++n) {
            (void)net.sockets[i]->send_number(n, 10);
        }
    }
    for (const TwoVerbsPorts::Ends& each : ends) {
        net.net.flush(each.first->id);
    }
    EXPECT_FALSE(net.net.overrun());
    net.settle();
    for (std::size_t i = 0; i < net.sockets.size(); i += 2) {
        EXPECT_EQ(net.sockets[i]->gate.view().state, PostGate::State::kFailed);
    }
}

TEST(VerbsAccountingTest, MoreReceivesThanAPacketCanTellOfAreToldOfBySeveral) {
    constexpr std::uint64_t kCount = 2 * kMostNews + 1000;
    Config config = TwoVerbsPorts::small_config();
    config.queue_depth = 1U << 17;
    TwoVerbsPorts net({}, config);
    Socket& from = net.make_socket();
    Socket& to = net.make_socket();
    (void)net.connect(from, to);
    for (std::uint64_t i = 0; i < kCount; ++i) {
        (void)to.receive(8);  // the other side has no buffers left to be told of most of them
    }
    net.settle();
    for (std::uint64_t i = 0; i < kCount; ++i) {
        (void)from.send_number(i, 8);
    }
    net.settle();
    ASSERT_TRUE(from.operations.back().good());
    ASSERT_TRUE(to.operations.back().good());
    EXPECT_EQ(to.operations.back().content(), message_of(kCount - 1, 8));
    EXPECT_EQ(net.a.port.counters().lying_peers.value(), 0U);
}

TEST(VerbsAccountingTest, AShortCompletionQueueTakesAsManyConnectionsAsFit) {
    FakeDevice::Options options;
    options.max_completions = 2 * CompletionQueue::kPerConnection + 5;
    TwoVerbsPorts net(options);
    for (int i = 0; i < 3; ++i) {
        (void)net.connect_new();
    }
    EXPECT_EQ(net.net.completion_queues(), 4U);
    net.net.refuse_completion_queues(true);
    (void)net.connect_new();
    Status status{};
    EXPECT_EQ(net.a.port.make_connection(*net.device_a, net.net.make_id(),
                                         net.make_socket().owner(), status),
              nullptr);
    EXPECT_EQ(status, Status::kNoMemory);
    net.net.refuse_completion_queues(false);
}

TEST(VerbsAccountingTest, ACompletionQueueTooShortForOneConnectionIsRefused) {
    FakeDevice::Options options;
    options.max_completions = CompletionQueue::kPerConnection - 1;
    TwoVerbsPorts net(options);
    Status status{};
    EXPECT_EQ(net.a.port.make_connection(*net.device_a, net.net.make_id(),
                                         net.make_socket().owner(), status),
              nullptr);
    EXPECT_EQ(status, Status::kFull);
}

TEST(VerbsAccountingTest, FurtherCompletionQueuesGoWhenTheyAreEmpty) {
    FakeDevice::Options options;
    options.max_completions = CompletionQueue::kPerConnection;
    TwoVerbsPorts net(options);
    for (int i = 0; i < 5; ++i) {
        (void)net.connect_new();
    }
    EXPECT_EQ(net.net.completion_queues(), 10U);
    for (const auto& socket : net.sockets) {
        socket->close();
    }
    net.settle();
    EXPECT_EQ(net.net.completion_queues(), 2U);
    EXPECT_EQ(net.net.channels(), 2U);
}

TEST(VerbsAccountingTest, RoomComesBackWithTheConnection) {
    FakeDevice::Options options;
    options.max_completions = CompletionQueue::kPerConnection;
    TwoVerbsPorts net(options);
    for (int i = 0; i < 200; ++i) {
        Socket& from = net.make_socket();
        Socket& to = net.make_socket();
        (void)net.connect(from, to);
        Operation& receive = to.receive(10);
        (void)from.send_number(1, 10);
        net.settle();
        ASSERT_TRUE(receive.good());
        from.close();
        to.close();
        net.settle();
        ASSERT_EQ(net.net.queue_pairs(), 0U);
    }
    EXPECT_EQ(net.net.completion_queues(), 2U);
}

TEST(VerbsAccountingTest, TheTableOfConnectionsIsBounded) {
    Config config;
    config.max_connections = 2;
    TwoVerbsPorts net({}, config);
    (void)net.connect_new();
    (void)net.connect_new();
    Status status{};
    EXPECT_EQ(net.a.port.make_connection(*net.device_a, net.net.make_id(),
                                         net.make_socket().owner(), status),
              nullptr);
    EXPECT_EQ(status, Status::kFull);
}

TEST(VerbsAccountingTest, WhatADeviceRefusesLeavesNothingBehind) {
    TwoVerbsPorts net;
    Status status{};
    Connection* made = nullptr;
    const auto refused = [&] {
        made = net.a.port.make_connection(*net.device_a, net.net.make_id(),
                                          net.make_socket().owner(), status);
        return made == nullptr;
    };
    net.net.refuse_registrations(ENOMEM);
    EXPECT_TRUE(refused());
    EXPECT_EQ(status, Status::kNoMemory);
    net.net.refuse_registrations(0);
    net.net.refuse_queue_pairs(ENOMEM);
    EXPECT_TRUE(refused());
    EXPECT_EQ(status, Status::kNoMemory);
    net.net.refuse_queue_pairs(0);
    net.net.refuse_receives(true);
    EXPECT_TRUE(refused());
    EXPECT_EQ(status, Status::kTransportFailed);
    net.net.refuse_receives(false);
    EXPECT_EQ(net.net.queue_pairs(), 0U);
    EXPECT_EQ(net.net.registrations(), 0U);
    EXPECT_EQ(net.net.domains(), 0U);
    EXPECT_FALSE(refused());
    net.a.port.drop_connection(made);
}

TEST(VerbsAccountingTest, AConnectionThatIsNeverInstalledIsGivenBack) {
    TwoVerbsPorts net;
    Status status{};
    Connection* connection = net.a.port.make_connection(*net.device_a, net.net.make_id(),
                                                        net.make_socket().owner(), status);
    ASSERT_NE(connection, nullptr);
    net.a.port.drop_connection(connection);
    EXPECT_EQ(net.net.queue_pairs(), 0U);
    EXPECT_EQ(net.net.registrations(), 0U);
}

TEST(VerbsAccountingTest, ADeviceThatIsNotAttachedCarriesNothing) {
    TwoVerbsPorts net;
    net.a.port.detach(*net.device_a);
    Status status{};
    EXPECT_EQ(net.a.port.make_connection(*net.device_a, net.net.make_id(),
                                         net.make_socket().owner(), status),
              nullptr);
    EXPECT_EQ(status, Status::kTransportFailed);
    net.net.refuse_completion_queues(true);
    EXPECT_EQ(net.a.port.attach(*net.device_a), Status::kNoMemory);
    EXPECT_FALSE(net.a.port.attached(*net.device_a));
    net.net.refuse_completion_queues(false);
}

// ---- doorbells ----------------------------------------------------------------------------------------

TEST(VerbsAccountingTest, MessagesThatWaitedGoWithOneDoorbell) {
    TwoVerbsPorts net;
    Socket& a = net.make_socket();
    Socket& b = net.make_socket();
    (void)net.connect(a, b);
    for (std::uint64_t i = 0; i < 12; ++i) {
        (void)a.send_number(i, 600);  // longer than what goes unasked
    }
    const std::uint32_t before = net.net.doorbells();
    const std::uint32_t sent = net.net.posted_sends();
    for (int i = 0; i < 12; ++i) {
        (void)b.receive(600);
    }
    const std::uint32_t asked = net.net.doorbells() - before;
    (void)net.a.core.turn();
    EXPECT_EQ(net.net.doorbells() - before - asked, 1U);
    EXPECT_GE(net.net.posted_sends() - sent, 8U);
    net.settle();
    EXPECT_TRUE(a.operations.back().good());
}

// The steady state of a ping-pong: what is done for all of its messages, and not for each.
TEST(VerbsAccountingTest, AMessageCostsOneDoorbellAndAQuarterOfARefill) {
    constexpr std::uint32_t kCount = 1000;
    TwoVerbsPorts net;
    Socket& a = net.make_socket();
    Socket& b = net.make_socket();
    (void)net.connect(a, b);
    for (int i = 0; i < 4; ++i) {
        (void)a.receive(64);
        (void)b.receive(64);
    }
    net.settle();
    const std::uint32_t doorbells = net.net.doorbells();
    const std::uint32_t receive_calls = net.net.receive_calls();
    for (std::uint32_t i = 0; i < kCount; ++i) {
        (void)a.send_number(i, 64);
        (void)net.b.core.turn();
        (void)b.send_number(i, 64);
        (void)net.a.core.turn();
        (void)a.receive(64);
        (void)b.receive(64);
    }
    EXPECT_EQ(net.net.doorbells() - doorbells, 2 * kCount) << "no packets of credit";
    EXPECT_EQ(net.net.receive_calls() - receive_calls, 2 * kCount / kRefill);
    EXPECT_EQ(net.a.port.counters().inline_packets.value(), kCount);
}

TEST(VerbsAccountingTest, ShortPacketsTravelWithinTheWorkRequest) {
    TwoVerbsPorts net;
    Socket& a = net.make_socket();
    Socket& b = net.make_socket();
    (void)net.connect(a, b);
    (void)b.receive(212);
    (void)b.receive(213);
    (void)a.send_number(1, 212);
    EXPECT_EQ(net.a.port.counters().inline_packets.value(), 1U);
    (void)a.send_number(2, 213);
    EXPECT_EQ(net.a.port.counters().inline_packets.value(), 1U);
    net.settle();
    EXPECT_TRUE(b.operations.back().good());
}

// ---- the edge of sleep --------------------------------------------------------------------------------

bool readable(int fd) {
    pollfd wanted{fd, POLLIN, 0};
    return ::poll(&wanted, 1, 0) == 1;
}

class VerbsSleepTest : public testing::Test {
protected:
    VerbsSleepTest() : a_(net_.make_socket()), b_(net_.make_socket()) {
        ends_ = net_.connect(a_, b_);
    }
    TwoVerbsPorts net_;
    Socket& a_;
    Socket& b_;
    TwoVerbsPorts::Ends ends_{};
};

TEST_F(VerbsSleepTest, AnArmedPortIsRungOnceAndTakesItsEvents) {
    const int fd = ends_.second->queue->fd();
    (void)a_.send_number(1, 10);
    EXPECT_FALSE(readable(fd)) << "it did not ask";
    (void)net_.b.core.turn();
    net_.b.port.arm();
    EXPECT_FALSE(readable(fd));
    (void)a_.send_number(2, 10);
    (void)a_.send_number(3, 10);
    EXPECT_TRUE(readable(fd));
    net_.b.port.disarm();
    EXPECT_FALSE(readable(fd));
    EXPECT_TRUE(net_.b.core.turn());
}

TEST_F(VerbsSleepTest, WhatCameBeforeItWasArmedIsFoundByThePollThatFollows) {
    (void)a_.send_number(1, 10);
    net_.b.port.arm();
    EXPECT_TRUE(net_.b.core.turn());
    net_.b.port.disarm();
}

TEST_F(VerbsSleepTest, ManyEventsAreAcknowledgedTogether) {
    for (std::uint64_t i = 0; i < 1000; ++i) {
        (void)b_.receive(10);
        net_.b.port.arm();
        (void)a_.send_number(i, 10);
        net_.b.port.disarm();
        net_.settle();
    }
    EXPECT_LT(net_.net.unacknowledged(), 300U);
    EXPECT_GT(net_.net.unacknowledged(), 0U);
}

TEST_F(VerbsSleepTest, AQueueThatIsMadeWhileTheCoreSleepsIsArmed) {
    net_.b.port.arm();
    net_.b.port.detach(*net_.device_b);
    b_.close();
    net_.settle();
    ASSERT_EQ(net_.b.port.attach(*net_.device_b), Status::kOk);
    Socket& c = net_.make_socket();
    Socket& d = net_.make_socket();
    const TwoVerbsPorts::Ends ends = net_.connect(c, d);
    (void)c.send_number(1, 10);
    EXPECT_TRUE(readable(ends.second->queue->fd()));
    net_.b.port.disarm();
}

TEST(VerbsAccountingTest, OnlySoftDevicesMayMissAWake) {
    EXPECT_FALSE(TwoVerbsPorts().a.port.may_miss_wake());
    for (const std::uint32_t vendor : {0xFFFFFFU, 0x626D74U}) {
        FakeDevice::Options soft;
        soft.vendor = vendor;
        soft.extended = true;
        TwoVerbsPorts net(soft);
        EXPECT_TRUE(net.a.port.may_miss_wake());
        Socket& a = net.make_socket();
        EXPECT_FALSE(net.connect(a, net.make_socket()).first->queue->extended());
        net.a.port.detach(*net.device_a);
        a.close();
        net.settle();
        EXPECT_FALSE(net.a.port.may_miss_wake());
    }
}

}  // namespace
}  // namespace sanpoll::engine::verbs
