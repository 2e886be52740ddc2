// WSPDuplicateSocket of a listening socket, for the own process.
#include "tests/provider/duplicate_fixture.hpp"

namespace sanpoll::test {
namespace {

class DuplicateListenerTest : public DuplicateTest {};

TEST_F(DuplicateListenerTest, AListenerGoesOnListening) {
    const sockaddr_in address = fresh_address();
    const SOCKET old = listening(address);
    const WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(old, event, FD_ACCEPT), 0);
    WSAEVENT early_event = nullptr;
    const SOCKET early = connecting(address, &early_event);  // before
    ASSERT_TRUE(upcalls.wait_for(event));
    const WSAPROTOCOL_INFOW info = leave(old);
    upcalls.retire_event(event);
    WSAEVENT late_event = nullptr;
    const SOCKET late = connecting(address, &late_event);  // meanwhile
    let_time_pass();
    int error = 0;
    (void)san.accept(old, &error);
    EXPECT_EQ(error, WSAEINVAL);
    EXPECT_EQ(san.event_select(old, event, FD_ACCEPT), WSAEINVAL);
    Polled operation;
    EXPECT_EQ(san.send(old, &error, 1, &operation), WSAENOTCONN);
    EXPECT_EQ(san.close(old), 0);
    const SOCKET next = arrive(info);
    ASSERT_NE(next, INVALID_SOCKET);
    EXPECT_EQ(san.bind(next, address), WSAEINVAL);
    WSAEVENT after_event = nullptr;
    const SOCKET after = connecting(address, &after_event);
    for (int i = 0; i < 3; ++i) {
        sockaddr_in peer{};
        SOCKET accepted = INVALID_SOCKET;
        ASSERT_TRUE(eventually([&] {
            accepted = san.accept(next, &error, nullptr, 0, &peer);
            return accepted != INVALID_SOCKET;
        })) << error;
    }
    EXPECT_EQ(connect_result(early, early_event), 0);
    EXPECT_EQ(connect_result(late, late_event), 0);
    EXPECT_EQ(connect_result(after, after_event), 0);
    EXPECT_EQ(san.close(next), 0);
    EXPECT_EQ(try_connect(address), WSAECONNRESET);
}

TEST_F(DuplicateListenerTest, AListenersBacklogGoesAlong) {
    const sockaddr_in address = fresh_address();
    const SOCKET old = listening(address, 1);
    const SOCKET next = arrive(leave(old));
    const WSAEVENT event = upcalls.create_event();
    (void)connecting(address);
    EXPECT_TRUE(wait_for_request(next, event));
    EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
    EXPECT_EQ(san.listen(next, 5), 0);
}

TEST_F(DuplicateListenerTest, AnotherListenerOfTheSameAddressGoesOn) {
    const sockaddr_in address = fresh_address();
    const SOCKET leaving = listening(address);
    const SOCKET staying = listening(address);
    const WSAPROTOCOL_INFOW info = leave(leaving);
    const WSAEVENT event = upcalls.create_event();
    (void)connecting(address);
    EXPECT_TRUE(wait_for_request(staying, event));
    EXPECT_EQ(san.close(staying), 0);
    const SOCKET next = arrive(info);
    (void)connecting(address);
    const WSAEVENT next_event = upcalls.create_event();
    EXPECT_TRUE(wait_for_request(next, next_event));
}

TEST_F(DuplicateListenerTest, AListenerThatNobodyFetchesIsGoneWithItsProvider) {
    const SOCKET old = listening(fresh_address());
    (void)leave(old);
    stop();
}

}  // namespace
}  // namespace sanpoll::test
