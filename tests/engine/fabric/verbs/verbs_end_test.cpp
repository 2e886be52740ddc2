// How connections over verbs end, and what becomes of what was pending.
#include <gtest/gtest.h>

#include <span>

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

class VerbsEndTest : public testing::Test {
protected:
    explicit VerbsEndTest(const FakeDevice::Options& options = {})
        : net_(options), a_(net_.make_socket()), b_(net_.make_socket()) {
        ends_ = net_.connect(a_, b_);
    }

    TwoVerbsPorts net_;
    Socket& a_;
    Socket& b_;
    TwoVerbsPorts::Ends ends_{};
};

class VerbsEndOnIwarpTest : public VerbsEndTest {
protected:
    VerbsEndOnIwarpTest() : VerbsEndTest(iwarp()) {}
};

// ---- closing ------------------------------------------------------------------------------------------

TEST_F(VerbsEndTest, ACloseAbortsWhatIsPendingAtOnceAndResetsThePeer) {
    Operation& receive = a_.receive(10);
    Operation& send = a_.send_number(1, 100000);  // announced; nobody can read it
    Operation& behind = a_.send_number(2, 10);
    Operation& theirs = b_.receive(100000);
    Operation& theirs_next = b_.receive(10);
    Operation& theirs_too = b_.send_number(3, 100000);
    a_.close();
    EXPECT_EQ(receive.status, Status::kAborted);
    EXPECT_EQ(send.status, Status::kAborted);
    EXPECT_EQ(behind.status, Status::kAborted);
    EXPECT_EQ(a_.closures, 1);
    net_.settle();
    EXPECT_EQ(theirs.status, Status::kReset);
    EXPECT_EQ(theirs_next.status, Status::kReset) << "what came behind a lost one is lost, too";
    EXPECT_EQ(theirs_too.status, Status::kReset);
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
    EXPECT_EQ(b_.closures, 0);
    EXPECT_EQ(b_.send_number(4, 1).status, Status::kNotOpen);
    b_.close();
    net_.settle();
    EXPECT_EQ(b_.closures, 1);
    EXPECT_EQ(net_.net.queue_pairs(), 0U);
    EXPECT_EQ(net_.net.registrations(), 0U);
    for (Socket* socket : {&a_, &b_}) {
        for (const Operation& operation : socket->operations) {
            EXPECT_LE(operation.ends, 1);
        }
    }
}

TEST_F(VerbsEndTest, WhatWasSentBeforeACloseArrives) {
    for (std::uint64_t i = 0; i < 10; ++i) {
        (void)a_.send_number(i, 50);
    }
    a_.close();
    net_.settle();
    for (std::uint64_t i = 0; i < 10; ++i) {
        Operation& receive = b_.receive(50);
        ASSERT_TRUE(receive.good()) << i;
        EXPECT_EQ(receive.content(), message_of(i, 50));
    }
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kReset);
    EXPECT_EQ(b_.receive(50).status, Status::kNotOpen);
}

TEST_F(VerbsEndTest, AFarewellWaitsForThePeersBuffersAndTheQueuePairForIt) {
    net_.net.hold(ends_.first->id, true);
    constexpr std::uint32_t kCount = kReceiveBuffers - kBufferReserve;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        EXPECT_TRUE(a_.send_number(i, 8).good());
    }
    a_.close();
    EXPECT_EQ(a_.closures, 1);
    (void)net_.a.core.turn();
    EXPECT_EQ(net_.a.control(), 0U) << "the farewell has not left";
    net_.net.hold(ends_.first->id, false);
    net_.settle();
    EXPECT_EQ(net_.net.queue_pairs(), 0U);
    for (std::uint64_t i = 0; i < kCount; ++i) {
        EXPECT_TRUE(b_.receive(8).good());
    }
}

TEST_F(VerbsEndTest, AFarewellThatNobodyTakesIsGivenUp) {
    net_.net.hold(ends_.first->id, true);
    (void)a_.send_number(1, 8);
    a_.close();
    net_.settle();
    EXPECT_EQ(net_.net.queue_pairs(), 2U);
    net_.clock.advance_ms(10000);
    net_.settle();
    EXPECT_EQ(net_.net.queue_pairs(), 1U);
}

TEST_F(VerbsEndTest, BothEndsMayCloseAtOnce) {
    Operation& first = a_.receive(10);
    Operation& second = b_.receive(10);
    a_.close();
    b_.close();
    net_.settle();
    EXPECT_EQ(first.status, Status::kAborted);
    EXPECT_EQ(second.status, Status::kAborted);
    EXPECT_EQ(net_.net.queue_pairs(), 0U);
}

TEST_F(VerbsEndTest, ACloseInTheMiddleOfPiecesEndsBothSides) {
    Operation& receive = b_.receive(1000000);
    Operation& send = a_.send_number(1, 1000000);
    net_.turn(3);
    ASSERT_FALSE(receive.ended());
    ASSERT_FALSE(send.ended());
    a_.close();
    EXPECT_EQ(send.status, Status::kAborted);
    net_.settle();
    EXPECT_EQ(receive.status, Status::kReset);

    Socket& c = net_.make_socket();
    Socket& d = net_.make_socket();
    (void)net_.connect(c, d);
    Operation& second_receive = d.receive(1000000);
    Operation& second_send = c.send_number(1, 1000000);
    net_.turn(3);
    d.close();
    EXPECT_EQ(second_receive.status, Status::kAborted);
    net_.settle();
    EXPECT_EQ(second_send.status, Status::kReset);
}

TEST_F(VerbsEndTest, WhatCameBehindALostMessageIsLostToo) {
    Operation& long_receive = b_.receive(1000000);
    (void)a_.send_number(1, 1000000);
    net_.turn(3);  // pieces are under way
    Operation& next = b_.receive(10);
    net_.net.flush(ends_.second->id);
    net_.settle();
    EXPECT_EQ(long_receive.status, Status::kTransportFailed);
    EXPECT_EQ(next.status, Status::kTransportFailed);
    EXPECT_EQ(b_.gate.view().state, PostGate::State::kFailed);
}

TEST_F(VerbsEndTest, TheNextConnectionOfTheSameIndexIsAnother) {
    const std::uint32_t index = ends_.first->index;
    const std::uint16_t incarnation = ends_.first->incarnation;
    a_.close();
    b_.close();
    net_.settle();
    Socket& c = net_.make_socket();
    Socket& d = net_.make_socket();
    const TwoVerbsPorts::Ends ends = net_.connect(c, d);
    EXPECT_EQ(ends.first->index, index);
    EXPECT_NE(ends.first->incarnation, incarnation);
    Operation& receive = d.receive(10);
    (void)c.send_number(1, 10);
    net_.settle();
    EXPECT_TRUE(receive.good());
}

TEST_F(VerbsEndTest, AnInstalledConnectionThatIsNeverUpIsAbandoned) {
    Socket& from = net_.make_socket();
    Socket& to = net_.make_socket();
    const TwoVerbsPorts::Ends ends = net_.make(from, to);
    net_.a.port.abandon(*ends.first);
    net_.b.port.fail(*ends.second, Status::kReset);
    net_.b.port.abandon(*ends.second);
    net_.settle();
    EXPECT_EQ(net_.net.queue_pairs(), 2U) << "only those of the other connection";
    EXPECT_EQ(from.closures, 0);
    EXPECT_EQ(to.closures, 0);
}

TEST_F(VerbsEndTest, OneThatBreaksBeforeItIsUpOpensAndBreaksOff) {
    Socket& from = net_.make_socket();
    Socket& to = net_.make_socket();
    const TwoVerbsPorts::Ends ends = net_.make(from, to);
    ASSERT_TRUE(net_.a.port.establish(*ends.first, {}));
    (void)from.send_number(1, 10);
    from.close();
    net_.settle();
    ASSERT_TRUE(net_.b.port.establish(*ends.second, {}));
    Operation& receive = to.receive(10);
    EXPECT_TRUE(receive.good()) << "what came before the end is there";
    EXPECT_EQ(to.gate.view().state, PostGate::State::kReset);
}

// ---- failing ------------------------------------------------------------------------------------------

TEST_F(VerbsEndTest, EveryErrorEndsTheConnectionAsTheTableSays) {
    for (std::uint32_t status = 1; status < kWorkStatuses; ++status) {
        if (status == IBV_WC_WR_FLUSH_ERR) {
            continue;
        }
        Socket& c = net_.make_socket();
        Socket& d = net_.make_socket();
        const TwoVerbsPorts::Ends ends = net_.connect(c, d);
        Operation& receive = c.receive(10);
        Operation& waiting = c.send_number(1, 100000);
        net_.net.fail_next(ends.first->id, static_cast<ibv_wc_status>(status));
        Operation& sent = c.send_number(2, 10);
        net_.settle();
        ASSERT_TRUE(receive.ended()) << meaning_of(status).name;
        EXPECT_EQ(receive.status, meaning_of(status).status) << meaning_of(status).name;
        EXPECT_EQ(waiting.status, meaning_of(status).status);
        EXPECT_TRUE(sent.ended());
        EXPECT_EQ(net_.a.port.counters().errors[status].value(), 1U) << meaning_of(status).name;
        EXPECT_NE(c.gate.view().state, PostGate::State::kOpen);
        c.close();
        d.close();
        net_.settle();
        EXPECT_EQ(c.closures + d.closures, 2);
    }
    EXPECT_EQ(net_.net.queue_pairs(), 2U);
}

TEST_F(VerbsEndTest, AStatusFromTheFutureIsAFailure) {
    Operation& receive = a_.receive(10);
    net_.net.fail_next(ends_.first->id, static_cast<ibv_wc_status>(kWorkStatuses + 3));
    (void)a_.send_number(1, 10);
    net_.settle();
    EXPECT_EQ(receive.status, Status::kTransportFailed);
    EXPECT_EQ(net_.a.port.counters().errors[kWorkStatuses].value(), 1U);
}

TEST_F(VerbsEndTest, FlushedReceivesAreAFailureOfTheTransport) {
    Operation& receive = a_.receive(10);
    net_.net.flush(ends_.first->id);
    net_.settle();
    EXPECT_EQ(receive.status, Status::kTransportFailed);
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kFailed);
}

TEST_F(VerbsEndOnIwarpTest, FlushedReceivesAreThePeersEnd) {
    Operation& receive = a_.receive(10);
    net_.net.flush(ends_.first->id);
    net_.settle();
    EXPECT_EQ(receive.status, Status::kReset);
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kReset);
}

TEST_F(VerbsEndTest, WhatArrivedBeforeAnErrorIsDeliveredFirst) {
    (void)a_.receive(10);
    (void)b_.send_number(1, 10);
    (void)b_.send_number(2, 10);
    net_.net.fail_next(ends_.first->id, IBV_WC_RETRY_EXC_ERR);
    (void)a_.send_number(3, 10);
    net_.settle();
    EXPECT_EQ(a_.operations[0].content(), message_of(1, 10));
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kOpen) << "there is one more message";
    EXPECT_EQ(a_.receive(10).content(), message_of(2, 10));
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kFailed);
}

TEST_F(VerbsEndTest, AnotherConnectionOfTheSameQueueGoesOn) {
    Socket& c = net_.make_socket();
    Socket& d = net_.make_socket();
    (void)net_.connect(c, d);
    net_.net.flush(ends_.first->id);
    Operation& receive = d.receive(10);
    (void)c.send_number(1, 10);
    net_.settle();
    EXPECT_TRUE(receive.good());
}

TEST_F(VerbsEndTest, APeerThatTheControlThreadFindsGoneResets) {
    Operation& receive = a_.receive(10);
    (void)b_.send_number(1, 5);
    net_.a.port.fail(*ends_.first, Status::kReset);
    EXPECT_EQ(receive.content(), message_of(1, 5)) << "it had arrived";
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kReset);
}

TEST_F(VerbsEndTest, AProbeFindsAnIdlePeerGone) {
    Operation& receive = a_.receive(10);
    (void)a_.send_number(1, 10);  // its completion was not asked for
    net_.a.port.probe(*ends_.first);
    net_.settle();
    EXPECT_FALSE(receive.ended());
    const std::uint32_t sent = net_.net.posted_sends();
    net_.net.hold(ends_.first->id, true);
    net_.a.port.probe(*ends_.first);
    net_.a.port.probe(*ends_.first);
    (void)net_.a.core.turn();
    EXPECT_EQ(net_.net.posted_sends(), sent + 1) << "one at a time";
    net_.net.flush(ends_.second->id);
    net_.net.hold(ends_.first->id, false);
    net_.settle();
    EXPECT_EQ(receive.status, Status::kTransportFailed);
}

TEST_F(VerbsEndOnIwarpTest, AProbeThatIsAnsweredKeepsAnIdleConnection) {
    Operation& receive = a_.receive(10);
    for (int i = 0; i < 8; ++i) {
        net_.a.port.probe(*ends_.first);
        net_.settle();
    }
    EXPECT_FALSE(receive.ended());
    (void)b_.send_number(1, 10);
    net_.settle();
    EXPECT_TRUE(receive.good());
}

TEST_F(VerbsEndOnIwarpTest, APeerThatAnswersNoProbeIsGivenUp) {
    Operation& receive = a_.receive(10);
    net_.settle();
    net_.net.hold(ends_.first->id, true);
    for (int i = 0; i < 2; ++i) {
        net_.a.port.probe(*ends_.first);
        net_.settle();
        EXPECT_FALSE(receive.ended());
    }
    net_.a.port.probe(*ends_.first);
    net_.settle();
    EXPECT_EQ(receive.status, Status::kTransportFailed);
    EXPECT_EQ(net_.a.port.counters().errors[IBV_WC_RETRY_EXC_ERR].value(), 1U);
}

TEST_F(VerbsEndOnIwarpTest, AnAnswerThatCameInTimeCountsThoughNobodyHasPolledForIt) {
    const Operation& receive = a_.receive(10);
    net_.settle();
    net_.net.hold(ends_.first->id, true);
    for (int i = 0; i < 2; ++i) {
        net_.a.port.probe(*ends_.first);
        net_.settle();
    }
    net_.net.hold(ends_.first->id, false);
    net_.a.port.probe(*ends_.first);
    net_.settle();
    EXPECT_FALSE(receive.ended());
}

TEST_F(VerbsEndTest, WhoHasHeardNothingSinceHasFallenSilent) {
    (void)ends_.first->fell_silent();  // what was said when the connection was made
    EXPECT_TRUE(ends_.first->fell_silent());
    (void)a_.receive(10);
    (void)b_.send_number(1, 10);
    net_.settle();
    EXPECT_FALSE(ends_.first->fell_silent());
    EXPECT_TRUE(ends_.first->fell_silent());
}

TEST_F(VerbsEndTest, AQueueThatTakesNothingEndsTheConnection) {
    Operation& receive = a_.receive(10);
    net_.net.refuse_sends(true);
    (void)a_.send_number(1, 10);
    net_.settle();
    EXPECT_EQ(receive.status, Status::kTransportFailed);
    net_.net.refuse_sends(false);
}

TEST_F(VerbsEndTest, ALostDeviceEndsAllItsConnections) {
    Socket& c = net_.make_socket();
    Socket& d = net_.make_socket();
    (void)net_.connect(c, d);
    Operation* pending[] = {&a_.receive(10), &c.receive(10), &b_.receive(10), &d.receive(10)};
    net_.net.pull_out();
    net_.settle();
    for (const Operation* operation : pending) {
        EXPECT_EQ(operation->status, Status::kTransportFailed);
    }
    EXPECT_TRUE(net_.device_a->lost());
    Status status{};
    EXPECT_EQ(net_.a.port.make_connection(*net_.device_a, net_.net.make_id(),
                                          net_.make_socket().owner(), status),
              nullptr);
    EXPECT_EQ(status, Status::kTransportFailed);
}

TEST_F(VerbsEndTest, ADetachedDeviceIsKeptUntilItsLastConnectionHasGone) {
    Operation& receive = a_.receive(10);
    net_.a.port.detach(*net_.device_a);
    EXPECT_EQ(receive.status, Status::kTransportFailed);
    EXPECT_TRUE(net_.a.port.attached(*net_.device_a));
    net_.settle();
    EXPECT_TRUE(net_.a.port.attached(*net_.device_a)) << "the user has not closed";
    a_.close();
    net_.settle();
    EXPECT_FALSE(net_.a.port.attached(*net_.device_a));
    EXPECT_EQ(net_.a.port.attach(*net_.device_a), Status::kOk) << "it may come back";
}

// ---- lies -----------------------------------------------------------------------------------------------

class VerbsLiesTest : public VerbsEndTest {
protected:
    void expect_end(PacketHeader header, const std::vector<std::byte>& payload = {}) {
        std::vector<std::byte> packet(sizeof(header));
        std::memcpy(packet.data(), &header, sizeof(header));
        packet.insert(packet.end(), payload.begin(), payload.end());
        expect_end(packet);
    }
    // As if b had sent it.
    void expect_end(const std::vector<std::byte>& packet) {
        Operation& receive = a_.receive(100);
        net_.net.inject(ends_.second->id, packet.data(), static_cast<std::uint32_t>(packet.size()));
        net_.turn(2);
        EXPECT_EQ(receive.status, Status::kReset);
        EXPECT_EQ(net_.a.port.counters().lying_peers.value(), 1U);
    }
    static PacketHeader header(PacketKind kind) { return {kind, 0, 0, 0, kReceiveBuffers}; }
    static std::vector<std::byte> announced(std::uint32_t length,
                                            const std::vector<RemotePiece>& pieces = {}) {
        std::vector<std::byte> payload;
        const auto add = [&payload](const auto& value) {
            const auto bytes = std::as_bytes(std::span(&value, 1));
            payload.insert(payload.end(), bytes.begin(), bytes.end());
        };
        add(length);
        for (const RemotePiece& piece : pieces) {
            add(piece);
        }
        return payload;
    }
};

TEST_F(VerbsLiesTest, APacketWithoutAHeader) { expect_end(std::vector<std::byte>(7)); }
TEST_F(VerbsLiesTest, AnUnknownKind) { expect_end(header(static_cast<PacketKind>(99))); }
TEST_F(VerbsLiesTest, AnAnnouncementWithoutALength) {
    expect_end(header(PacketKind::kAnnounce), std::vector<std::byte>(3));
}
TEST_F(VerbsLiesTest, MoreBuffersThanItHas) {
    PacketHeader lie = header(PacketKind::kCredit);
    lie.buffers = kReceiveBuffers + 1;
    expect_end(lie);
}
TEST_F(VerbsLiesTest, FewerBuffersThanBefore) {
    PacketHeader lie = header(PacketKind::kCredit);
    lie.buffers = 3;
    expect_end(lie);
}
TEST_F(VerbsLiesTest, FewerReceivesThanBefore) {
    PacketHeader lie = header(PacketKind::kCredit);
    lie.granted = 0x8001;
    expect_end(lie);
}
TEST_F(VerbsLiesTest, AnAnswerToNothing) { expect_end(header(PacketKind::kDone)); }
TEST_F(VerbsLiesTest, AnInvitationOfNothing) { expect_end(header(PacketKind::kInvite)); }
TEST_F(VerbsLiesTest, APieceThatNobodyInvited) {
    expect_end(header(PacketKind::kPiece), std::vector<std::byte>(4));
}
TEST_F(VerbsLiesTest, AnAnnouncementOutOfOrder) {
    PacketHeader lie = header(PacketKind::kAnnounce);
    lie.announce = 1;
    expect_end(lie, announced(100000));
}
TEST_F(VerbsLiesTest, AnAnnouncementOfMorePiecesThanItHas) {
    PacketHeader lie = header(PacketKind::kAnnounce);
    lie.pieces = 2;
    expect_end(lie, announced(100000, {{4096, 100000, 1}}));
}
TEST_F(VerbsLiesTest, AnAnnouncementWhosePiecesDoNotMakeTheMessage) {
    PacketHeader lie = header(PacketKind::kAnnounce);
    lie.pieces = 1;
    expect_end(lie, announced(100000, {{4096, 99999, 1}}));
}
TEST_F(VerbsLiesTest, AMessageThatItHadNoReceiveFor) {
    PacketHeader first = header(PacketKind::kMessage);
    std::vector<std::byte> packet(sizeof(first) + 600);
    std::memcpy(packet.data(), &first, sizeof(first));
    net_.net.inject(ends_.second->id, packet.data(), static_cast<std::uint32_t>(packet.size()));
    net_.turn(2);
    EXPECT_EQ(net_.a.port.counters().lying_peers.value(), 1U);
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kReset);
}

}  // namespace
}  // namespace sanpoll::engine::verbs
