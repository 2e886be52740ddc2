// Kernel TCP as a Connection, and with it the loops that every transport shares.
#include "bench/tcp_connection.hpp"

#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "bench/cpu_placement.hpp"
#include "bench/ping_loops.hpp"

namespace sanpoll::bench {
namespace {

struct Pair {
    std::optional<TcpConnection> server;
    std::optional<TcpConnection> client;
};

void connect(Pair& pair, const ConnectionShape& shape, TcpConnection::Waiting waiting) {
    const TcpListener listener("127.0.0.1");
    ASSERT_NE(listener.port(), 0);
    SpinRule rule;
    rule.yield = true;  // tests run beside others on few CPUs
    Descriptor socket = tcp_connect("127.0.0.1", listener.port());
    pair.server.emplace(listener.accept(), shape, waiting, rule);
    pair.client.emplace(std::move(socket), shape, waiting, rule);
}

class TcpLoops : public testing::TestWithParam<std::tuple<std::uint32_t, TcpConnection::Waiting>> {
};

TEST_P(TcpLoops, PingsAndStreams) {
    const std::uint32_t size = std::get<0>(GetParam());
    const TcpConnection::Waiting waiting = std::get<1>(GetParam());
    const ConnectionShape shape{size, 64, 32};
    Pair pair;
    connect(pair, shape, waiting);
    ASSERT_TRUE(pair.client);
    constexpr std::uint64_t kSkip = 3, kCount = 200, kStream = 333;
    std::thread server([&] {
        serve(*pair.server, size, 0, kSkip + kCount);
        take_stream(*pair.server, size, kStream, shape.receives);
    });
    LatencyHistogram histogram;
    ping(*pair.client, Clock(), size, 0, kSkip, kCount, histogram);
    const std::uint64_t ticks = send_stream(*pair.client, Clock(), size, kStream, shape.receives);
    server.join();
    EXPECT_EQ(histogram.total(), kCount);
    EXPECT_GT(histogram.min(), 500U);  // no system call pair is faster
    EXPECT_GT(ticks, 0U);
}

std::string name_of(const testing::TestParamInfo<TcpLoops::ParamType>& info) {
    const auto [size, waiting] = info.param;
    using Waiting = TcpConnection::Waiting;
    return (waiting == Waiting::kSpin    ? "spinning"
            : waiting == Waiting::kEpoll ? "epoll"
                                         : "blocking") +
           std::to_string(size);
}

INSTANTIATE_TEST_SUITE_P(Sizes, TcpLoops,
                         testing::Combine(testing::Values(0U, 1U, 7U, 8U, 64U, 65536U),
                                          testing::Values(TcpConnection::Waiting::kSpin,
                                                          TcpConnection::Waiting::kEpoll,
                                                          TcpConnection::Waiting::kBlock)),
                         name_of);

TEST(TcpConnection, TellsThatThePeerHasGone) {
    Pair pair;
    connect(pair, {64, 8, 2}, TcpConnection::Waiting::kSpin);
    ASSERT_TRUE(pair.client);
    pair.server.reset();
    EXPECT_THROW(pair.client->receive(64), ConnectionFault);
}

TEST(TcpConnection, RefusesAForeignAddress) {
    EXPECT_THROW(TcpListener("192.0.2.1"), ConnectionFault);
    EXPECT_THROW(reserve_port("not an address"), ConnectionFault);
}

TEST(TcpConnection, KeepsAReservedPortForItself) {
    const ReservedPort first = reserve_port("127.0.0.1");
    const ReservedPort second = reserve_port("127.0.0.1");
    EXPECT_NE(first.port, 0);
    EXPECT_NE(first.port, second.port);
}

TEST(PingLoops, NoticeAWrongStamp) {
    EXPECT_NO_THROW(check_stamp(64, 5, 5));
    EXPECT_NO_THROW(check_stamp(4, 5, 0));  // no room for a stamp
    EXPECT_THROW(check_stamp(64, 5, 6), ConnectionFault);
}

TEST(PingLoops, AcknowledgeLongBeforeTheReceivesAreUsedUp) {
    EXPECT_EQ(acknowledgement_interval(64), 16U);
    EXPECT_EQ(acknowledgement_interval(4), 1U);
    EXPECT_EQ(acknowledgement_interval(1), 1U);
}

}  // namespace
}  // namespace sanpoll::bench
