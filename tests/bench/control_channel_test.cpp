#include "bench/control_channel.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

// For what must come: however busy the machine is.
constexpr milliseconds kPatience{60'000};

TEST(ControlChannel, CarriesMessagesInOrder) {
    auto [ours, theirs] = ControlChannel::pair();
    ours.send({{"do", "first"}});
    ours.send({{"do", "second"}});
    EXPECT_EQ(theirs.receive(kPatience).at("do"), "first");
    EXPECT_EQ(theirs.receive(kPatience).at("do"), "second");
}

TEST(ControlChannel, CarriesMessagesLargerThanASocketBuffer) {
    auto [ours, theirs] = ControlChannel::pair();
    json large = json::array();
    for (int i = 0; i < 200'000; ++i)
        large.push_back(i);
    std::thread sender([&, &channel = ours] { channel.send(large); });
    const json received = theirs.receive(kPatience);
    sender.join();
    EXPECT_EQ(received, large);
}

TEST(ControlChannel, ReachesAnotherHostByTcp) {
    const std::uint16_t port = reserve_port("127.0.0.1").port;  // free a moment ago
    std::optional<ControlChannel> theirs;
    std::thread server([&] { theirs = ControlChannel::accept("127.0.0.1", port); });
    // It tries again until somebody listens.
    const ControlChannel ours = ControlChannel::connect("127.0.0.1", port, kPatience);
    server.join();
    ours.send({{"do", "there"}});
    EXPECT_EQ(theirs->receive(kPatience).at("do"), "there");
    theirs->send({{"do", "back"}});
    EXPECT_EQ(ours.receive(kPatience).at("do"), "back");
    EXPECT_THROW((void)ControlChannel::connect("127.0.0.1", port, milliseconds(1)),
                 std::runtime_error)
        << "it took one and listens no more";
}

TEST(ControlChannel, GivesUpInTime) {
    auto [ours, theirs] = ControlChannel::pair();
    EXPECT_THROW(theirs.receive(milliseconds(20)), ChannelTimeout);
}

TEST(ControlChannel, NoticesThatTheOtherEndHasGone) {
    auto [ours, theirs] = ControlChannel::pair();
    ours.close();
    EXPECT_THROW(theirs.receive(kPatience), ChannelClosed);
    EXPECT_THROW(theirs.send({{"do", "nothing"}}), ChannelClosed);
}

TEST(ControlChannel, RefusesAnImpossibleLength) {
    auto [ours, theirs] = ControlChannel::pair();
    const std::uint32_t length = 0xFFFFFFFF;
    ASSERT_EQ(write(ours.fd(), &length, sizeof length), static_cast<ssize_t>(sizeof length));
    EXPECT_THROW(theirs.receive(kPatience), ChannelClosed);
}

}  // namespace
}  // namespace sanpoll::bench
