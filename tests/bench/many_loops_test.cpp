// The patterns over connections whose other end is in the test.
#include "bench/many_loops.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <optional>

#include "bench/paced_loop.hpp"

namespace sanpoll::bench {
namespace {

// What is sent comes back as an echo does; or goes to where the test looks, and what it has put comes.
class FakeConnection {
public:
    bool echoes = true;
    std::deque<std::uint64_t> incoming;
    std::vector<std::uint64_t> outgoing;
    std::size_t recycled = 0;
    std::size_t most_under_way = 0;
    std::size_t held_back = 0;  // looks that find nothing before the next message
    std::uint64_t held_from = 0;
    std::uint64_t held_until = 0;

    void send(std::uint32_t, std::uint64_t stamp) {
        outgoing.push_back(stamp);
        if (echoes) incoming.push_back(reply_stamp(stamp));
        most_under_way = std::max(most_under_way, incoming.size());
    }
    std::uint64_t receive(std::uint32_t size) {
        const auto stamp = try_receive(size);
        if (!stamp) throw ConnectionFault("nothing comes");
        return *stamp;
    }
    std::optional<std::uint64_t> try_receive(std::uint32_t) {
        if (incoming.empty()) return std::nullopt;
        if (held_back != 0) {
            --held_back;
            if (held_from == 0) held_from = Clock::monotonic_ns();
            held_until = Clock::monotonic_ns();
            return std::nullopt;
        }
        const std::uint64_t stamp = incoming.front();
        incoming.pop_front();
        return stamp;
    }
    void recycle() { ++recycled; }
    void drain() {}
};

struct Fakes {
    std::vector<std::unique_ptr<FakeConnection>> own;
    std::vector<FakeConnection*> all;
    explicit Fakes(std::size_t count, bool echoes = true) {
        for (std::size_t i = 0; i < count; ++i) {
            own.push_back(std::make_unique<FakeConnection>());
            own.back()->echoes = echoes;
            all.push_back(own.back().get());
        }
    }
};

TEST(Stream, GoesRoundAndWaitsForAcknowledgements) {
    Fakes data(3, false);
    Fakes acknowledgements(1, false);
    FakeConnection* heard = acknowledgements.all[0];
    constexpr std::uint64_t kCount = 100;
    for (std::uint64_t i = kStreamAck; i < kCount; i += kStreamAck)
        heard->incoming.push_back(i);
    heard->incoming.push_back(kCount);
    send_round_robin(data.all, heard, Clock(), 64, kCount);
    EXPECT_TRUE(heard->incoming.empty());
    EXPECT_EQ(heard->recycled, 7U);
    EXPECT_EQ(data.all[0]->outgoing.size(), 34U);
    EXPECT_EQ(data.all[1]->outgoing.size(), 33U);
    EXPECT_EQ(data.all[2]->outgoing[1], 5U);
}

TEST(Stream, DoesNotSendBeyondItsWindow) {
    Fakes data(1, false);
    Fakes acknowledgements(1, false);
    EXPECT_THROW(send_round_robin(data.all, acknowledgements.all[0], Clock(), 64, 1000),
                 ConnectionFault);
    EXPECT_EQ(data.all[0]->outgoing.size(), kStreamWindow);
}

TEST(Stream, IsAcknowledgedByTheReceiver) {
    Fakes data(2, false);
    Fakes acknowledgements(1, false);
    for (std::uint64_t i = 0; i < 20; ++i)
        data.all[i % 2]->incoming.push_back(i);
    take_round_robin(data.all, acknowledgements.all[0], 64, 20);
    EXPECT_EQ(acknowledgements.all[0]->outgoing, (std::vector<std::uint64_t>{16, 20}));
    EXPECT_EQ(data.all[0]->recycled, 10U);
}

TEST(Stream, NoticesWhatIsOutOfOrder) {
    Fakes data(2, false);
    Fakes acknowledgements(1, false);
    data.all[0]->incoming = {0, 3};
    data.all[1]->incoming = {1};
    EXPECT_THROW(take_round_robin(data.all, acknowledgements.all[0], 64, 4), ConnectionFault);
}

TEST(Stream, HasReceivesForItsWindow) {
    for (const std::uint64_t connections : {1, 3, 10, 64, 1000})
        EXPECT_GT(stream_receives(connections) * connections, kStreamWindow) << connections;
}

TEST(Volley, KeepsOneEchoUnderWayOnEachConnection) {
    Fakes connections(3);
    LatencyHistogram histogram;
    volley(connections.all, SpinRule{}, 64, 4, 20, histogram);
    EXPECT_EQ(histogram.total(), 20U);
    std::size_t sent = 0;
    for (const FakeConnection* connection : connections.all) {
        EXPECT_EQ(connection->most_under_way, 1U);
        EXPECT_GE(connection->outgoing.size(), 7U);
        EXPECT_EQ(connection->recycled, connection->outgoing.size());
        sent += connection->outgoing.size();
    }
    EXPECT_EQ(sent, 24U);
}

TEST(Volley, MayHaveMoreConnectionsThanMessages) {
    Fakes connections(5);
    LatencyHistogram histogram;
    volley(connections.all, SpinRule{}, 64, 0, 3, histogram);
    EXPECT_EQ(histogram.total(), 3U);
    EXPECT_TRUE(connections.all[4]->outgoing.empty());
}

TEST(Volley, NoticesAWrongEcho) {
    Fakes connections(1, false);
    connections.all[0]->incoming = {reply_stamp(1)};
    LatencyHistogram histogram;
    EXPECT_THROW(volley(connections.all, SpinRule{}, 64, 0, 2, histogram), ConnectionFault);
}

TEST(EchoAll, AnswersWhatComesWhereverItComes) {
    Fakes connections(3, false);
    connections.all[2]->incoming = {8, 9};
    connections.all[0]->incoming = {7};
    echo_all(connections.all, SpinRule{}, 64, 3);
    EXPECT_EQ(connections.all[2]->outgoing,
              (std::vector<std::uint64_t>{reply_stamp(8), reply_stamp(9)}));
    EXPECT_EQ(connections.all[0]->outgoing, (std::vector<std::uint64_t>{reply_stamp(7)}));
    EXPECT_TRUE(connections.all[1]->outgoing.empty());
}

TEST(Paced, RecordsAllButWhatItSkips) {
    FakeConnection connection;
    LatencyHistogram histogram;
    const PacedLoad load{64, 5, 10, 50, 1e6, 4};
    const PacedRun run = send_paced(connection, SpinRule{}, load, histogram);
    EXPECT_EQ(histogram.total(), 50U);
    EXPECT_EQ(connection.outgoing.size(), 60U);
    EXPECT_EQ(connection.outgoing.front(), 5U);
    // The last one is meant for 49 us after the first recorded one, and nothing goes before it is due.
    EXPECT_GE(run.elapsed_ns, 49'000U);
}

TEST(Paced, CountsTheWaitingOfThoseBehindASlowOne) {
    // A stall of many looks at the first reply: all the others are due long before it ends, so their latencies are
    // from when they were meant to go. Timed from when they went, only those in the window would have seen it.
    FakeConnection connection;
    connection.held_back = 1000;
    LatencyHistogram histogram;
    const PacedLoad load{64, 0, 0, 100, 1e9, 2};
    const PacedRun run = send_paced(connection, SpinRule{}, load, histogram);
    EXPECT_GE(run.held_up, 1U);
    EXPECT_LE(connection.most_under_way, 2U);
    // All are due within 100 ns of the start, and none is answered before the stall is over.
    EXPECT_GE(histogram.min() + 100, connection.held_until - connection.held_from);
}

TEST(Paced, NoticesAWrongReply) {
    FakeConnection connection;
    connection.echoes = false;
    connection.incoming = {reply_stamp(1)};
    LatencyHistogram histogram;
    const PacedLoad load{64, 0, 0, 2, 0, 2};
    EXPECT_THROW(send_paced(connection, SpinRule{}, load, histogram), ConnectionFault);
}

}  // namespace
}  // namespace sanpoll::bench
