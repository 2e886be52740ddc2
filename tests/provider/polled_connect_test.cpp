// Connects whose both sides ask all the time instead of waiting for their events: no thread is woken for them,
// the calls do everything themselves.
#include <atomic>
#include <thread>

#include "tests/provider/provider_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::test {
namespace {

class PolledConnectTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        address_ = fresh_address();
        listener_ = listening(address_, 64);
    }

    // Asks until the connect has ended; its error, and closes the socket.
    int connect_polling() {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(address_, &event);
        WSANETWORKEVENTS events{};
        const bool ended = eventually([&] {
            EXPECT_EQ(san.enum_events(s, nullptr, &events), 0);
            return (events.lNetworkEvents & FD_CONNECT) != 0;
        });
        EXPECT_TRUE(ended);
        EXPECT_TRUE(!ended || eventually([&] { return upcalls.signaled(event); }))
            << "who asks is told by the event all the same";
        EXPECT_EQ(san.close(s), 0);
        upcalls.retire_event(event);
        return ended ? events.iErrorCode[FD_CONNECT_BIT] : WSAETIMEDOUT;
    }
    // Accepts and closes until told to stop.
    void accept_polling() {
        while (!stop_.load()) {
            int error = 0;
            const SOCKET s = san.accept(listener_, &error);
            if (s != INVALID_SOCKET) {
                accepted_.fetch_add(1);
                EXPECT_EQ(san.close(s), 0);
            }
        }
    }

    sockaddr_in address_{};
    SOCKET listener_ = INVALID_SOCKET;
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> accepted_{0};
};

TEST_F(PolledConnectTest, EachIsAcceptedByWhoPolls) {
    std::thread acceptor([&] { accept_polling(); });
    const std::uint64_t count = tests::scaled(1000);
    for (std::uint64_t i = 0; i < count; ++i) {
        ASSERT_EQ(connect_polling(), 0);
    }
    stop_.store(true);
    acceptor.join();
    EXPECT_EQ(accepted_.load(), count);
}

TEST_F(PolledConnectTest, ManyThreadsConnectAndAccept) {
    std::vector<std::thread> acceptors;
    std::vector<std::thread> connectors;
    const std::uint64_t count = tests::scaled(200);
    for (int i = 0; i < 2; ++i) {
        acceptors.emplace_back([&] { accept_polling(); });
        connectors.emplace_back([&] {
            for (std::uint64_t round = 0; round < count; ++round) {
                ASSERT_EQ(connect_polling(), 0);
            }
        });
    }
    for (std::thread& connector : connectors) {
        connector.join();
    }
    stop_.store(true);
    for (std::thread& acceptor : acceptors) {
        acceptor.join();
    }
    EXPECT_EQ(accepted_.load(), 2 * count);
}

TEST_F(PolledConnectTest, WhoWaitsAfterwardsIsWoken) {
    std::thread acceptor([&] { accept_polling(); });
    for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(connect_polling(), 0);
    }
    stop_.store(true);
    acceptor.join();
    for (int i = 0; i < 20; ++i) {
        // No call looks for anything between these: the events come by themselves.
        const WSAEVENT asked = upcalls.create_event();
        ASSERT_EQ(san.event_select(listener_, asked, FD_ACCEPT), 0);
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(address_, &event);
        ASSERT_TRUE(eventually([&] { return upcalls.signaled(asked); }));
        const SOCKET accepted = san.accept(listener_);
        ASSERT_NE(accepted, INVALID_SOCKET);
        ASSERT_TRUE(eventually([&] { return upcalls.signaled(event); }));
        EXPECT_EQ(connect_result(s, event), 0);
        EXPECT_EQ(san.close(s), 0);
        EXPECT_EQ(san.close(accepted), 0);
        ASSERT_EQ(san.event_select(listener_, nullptr, 0), 0);
    }
}

TEST_F(PolledConnectTest, OneThreadMayBeBothSides) {
    for (int i = 0; i < 100; ++i) {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(address_, &event);
        SOCKET accepted = INVALID_SOCKET;
        ASSERT_TRUE(eventually([&] {
            accepted = san.accept(listener_);
            return accepted != INVALID_SOCKET;
        }));
        WSANETWORKEVENTS events{};
        ASSERT_TRUE(eventually([&] {
            EXPECT_EQ(san.enum_events(s, nullptr, &events), 0);
            return (events.lNetworkEvents & FD_CONNECT) != 0;
        }));
        EXPECT_EQ(events.iErrorCode[FD_CONNECT_BIT], 0);
        EXPECT_EQ(san.close(s), 0);
        EXPECT_EQ(san.close(accepted), 0);
        upcalls.retire_event(event);
    }
}

TEST_F(PolledConnectTest, AListenerThatEndsMeanwhileLeavesNoConnectWithoutAnAnswer) {
    for (std::uint64_t round = 0; round < tests::scaled(40); ++round) {
        stop_.store(false);
        std::thread acceptor([&] { accept_polling(); });
        std::thread closer([&] {
            std::this_thread::yield();
            EXPECT_EQ(san.close(listener_), 0);
        });
        for (int i = 0; i < 5; ++i) {
            const int error = connect_polling();
            EXPECT_TRUE(error == 0 || error == WSAECONNREFUSED || error == WSAECONNRESET) << error;
        }
        closer.join();
        stop_.store(true);
        acceptor.join();
        address_ = fresh_address();
        listener_ = listening(address_, 64);
    }
}

TEST_F(PolledConnectTest, AConnectThatIsClosedAtOnceHarmsNoOther) {
    std::thread acceptor([&] { accept_polling(); });
    for (std::uint64_t i = 0; i < tests::scaled(200); ++i) {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(address_, &event);
        EXPECT_EQ(san.close(s), 0);
        upcalls.retire_event(event);
        ASSERT_EQ(connect_polling(), 0);
    }
    stop_.store(true);
    acceptor.join();
}

}  // namespace
}  // namespace sanpoll::test
