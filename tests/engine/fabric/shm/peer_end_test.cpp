// The end of a link whose peer lives and says that it is copying: it is given time, at nobody else's expense.
#include <gtest/gtest.h>

#include "engine/fabric/on_core.hpp"
#include "tests/engine/fabric/shm/engine_bench.hpp"
#include "tests/engine/fabric/shm/liar.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::control;
using tests::EngineBench;
using tests::eventually;
using tests::Liar;
using tests::Socket;

// A connection of a peer that copies for ever, and then says what it must not.
class CopyingPeer {
public:
    CopyingPeer(Backlog& backlog, const Address& at) : liar_(at) {
        ControlMessage connect = control(MessageKind::kConnect);
        connect.connector_id = 5;
        connect.to_ip = at.ip;
        connect.to_port = at.port;
        liar_.say(connect);
        const auto request = backlog.next();
        EXPECT_TRUE(request != nullptr && request->accept(socket_.owner(), {}) == Status::kOk);
        EXPECT_EQ(liar_.hear().kind, MessageKind::kAnswer);
        uses() = ExposureSlot::kCopying;
    }
    void break_the_rules() {
        liar_.say(control(MessageKind::kHello));
        EXPECT_TRUE(
            eventually([&] { return socket_.gate.view().state == PostGate::State::kReset; }));
    }
    // It is not at what was exposed, but has taken a chunk of a message that the engine receives.
    tests::Operation& take_a_chunk() {
        constexpr std::uint32_t kLength = 100000;
        uses() = ExposureSlot::kUnused;
        tests::Operation& receive = socket_.receive(kLength);
        auto& connection = static_cast<Connection&>(*socket_.slot.load());
        on_core(static_cast<ShmPort&>(*connection.port), [&]() noexcept {
            connection.link->job.offer(connection, {0, 1, 5, 0, kLength});
        });
        seen_.emplace(liar_.offered_to_it());
        EXPECT_TRUE(seen_->look());
        EXPECT_NE(seen_->claim(kLength, JobChunks::kBytes).length, 0U);
        return receive;
    }
    void finish_the_chunk() { seen_->finish(); }
    [[nodiscard]] std::atomic<std::uint32_t>& uses() { return liar_.exposed_to_it()[3].uses; }
    [[nodiscard]] bool hung_up() { return liar_.hung_up(); }
    [[nodiscard]] bool lingers() { return !liar_.has_hung_up(); }
    void close() { tests::close_all({&socket_}); }

private:
    Liar liar_;
    Socket socket_;
    std::optional<JobSeen> seen_;
};

class PeerEndTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_EQ(backlog_.status, Status::kOk); }

    EngineBench bench_;
    Address at_ = EngineBench::fresh_address();
    Backlog backlog_{bench_, at_};
};

TEST_F(PeerEndTest, ItIsGivenUpInTheEnd) {
    CopyingPeer peer(backlog_, at_);
    peer.break_the_rules();
    EXPECT_TRUE(peer.hung_up());
    peer.close();
}

TEST_F(PeerEndTest, AReceiveThatItIsWritingToEndsWithThat) {
    bool held = false;
    // As below: its time may be over before we look.
    for (int tries = 0; tries < 50 && !held; ++tries) {
        CopyingPeer peer(backlog_, at_);
        const tests::Operation& receive = peer.take_a_chunk();
        peer.break_the_rules();
        held = !receive.ended() && peer.lingers();
        peer.finish_the_chunk();
        EXPECT_TRUE(peer.hung_up());
        EXPECT_EQ(receive.ends.load(), 1);
        EXPECT_EQ(receive.status, Status::kReset);
        peer.close();
    }
    EXPECT_TRUE(held);
}

TEST_F(PeerEndTest, AReceiveThatItIsWritingToForEverEndsToo) {
    CopyingPeer peer(backlog_, at_);
    const tests::Operation& receive = peer.take_a_chunk();
    peer.break_the_rules();
    EXPECT_TRUE(peer.hung_up());
    EXPECT_EQ(receive.ends.load(), 1);
    EXPECT_EQ(receive.status, Status::kReset);
    peer.close();
}

TEST_F(PeerEndTest, OthersConnectMeanwhile) {
    bool connected_meanwhile = false;
    // On a busy machine its time may be over before the connection is made: then again.
    for (int tries = 0; tries < 50 && !connected_meanwhile; ++tries) {
        CopyingPeer peer(backlog_, at_);
        peer.break_the_rules();
        Socket a;
        Socket b;
        ASSERT_NO_FATAL_FAILURE(tests::join(bench_, backlog_, at_, a, b));
        connected_meanwhile = peer.lingers();
        peer.uses() = ExposureSlot::kUnused;
        EXPECT_TRUE(peer.hung_up());
        peer.close();
        tests::close_all({&a, &b});
    }
    EXPECT_TRUE(connected_meanwhile);
}

TEST_F(PeerEndTest, TheEngineMayEndMeanwhile) {
    std::optional<CopyingPeer> peer;
    {
        EngineBench ending;
        const Address at = EngineBench::fresh_address();
        Backlog backlog(ending, at);
        peer.emplace(backlog, at);
        peer->break_the_rules();
        peer->close();
    }
    EXPECT_TRUE(peer->hung_up());
}

}  // namespace
}  // namespace sanpoll::engine::shm
