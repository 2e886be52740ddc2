// Who may send first on a new connection.
#include <gtest/gtest.h>

#include "tests/engine/fabric/verbs/two_verbs_ports.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::FakeDevice;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoVerbsPorts;

FakeDevice::Options iwarp() {
    FakeDevice::Options options;
    options.transport = IBV_TRANSPORT_IWARP;
    return options;
}

TEST(VerbsFirstWordTest, OnIwarpWhoAcceptedIsSilentUntilWhoConnectedHasSpoken) {
    TwoVerbsPorts net(iwarp());
    Socket& originator = net.make_socket();
    Socket& acceptor = net.make_socket();
    const TwoVerbsPorts::Ends ends = net.make(originator, acceptor);
    PeerTerms of_originator;
    of_originator.speaks_first = true;
    ASSERT_TRUE(net.b.port.establish(*ends.second, of_originator));

    Operation& send = acceptor.send_number(1, 64);
    for (int i = 0; i < 5; ++i) {
        (void)net.b.core.turn();
    }
    EXPECT_EQ(net.b.port.counters().doorbells.value(), 0U);

    // Its first word is not the user's: that may never come.
    ASSERT_TRUE(net.a.port.establish(*ends.first, {}));
    Operation& receive = originator.receive(64);
    net.settle();
    EXPECT_GT(net.a.port.counters().doorbells.value(), 0U);
    EXPECT_TRUE(send.good());
    ASSERT_TRUE(receive.good());
    EXPECT_EQ(receive.content(), message_of(1, 64));
}

TEST(VerbsFirstWordTest, OnIwarpAWordThatCameBeforeTheAcceptorStoodCounts) {
    TwoVerbsPorts net(iwarp());
    Socket& originator = net.make_socket();
    Socket& acceptor = net.make_socket();
    const TwoVerbsPorts::Ends ends = net.make(originator, acceptor);
    ASSERT_TRUE(net.a.port.establish(*ends.first, {}));
    net.turn();
    PeerTerms of_originator;
    of_originator.speaks_first = true;
    ASSERT_TRUE(net.b.port.establish(*ends.second, of_originator));

    Operation& receive = originator.receive(64);
    Operation& send = acceptor.send_number(1, 64);
    net.settle();
    EXPECT_TRUE(send.good());
    EXPECT_TRUE(receive.good());
}

TEST(VerbsFirstWordTest, OnInfiniBandNobodyHasToSpeak) {
    TwoVerbsPorts net;
    (void)net.connect_new();
    net.settle();
    EXPECT_EQ(net.a.port.counters().packets.value(), 0U);
    EXPECT_EQ(net.b.port.counters().packets.value(), 0U);
}

}  // namespace
}  // namespace sanpoll::engine::verbs
