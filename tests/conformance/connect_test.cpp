// WSPConnect: section 4.
#include <arpa/inet.h>

#include <algorithm>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class ConnectTest : public ConformanceTest {
protected:
    /// WSPConnect with every argument: the error.
    int connect_error(SOCKET s, const sockaddr* name, int length, LPWSABUF caller = nullptr,
                      LPWSABUF callee = nullptr, LPQOS sqos = nullptr) {
        INT error = 0;
        const int result =
            san.table.lpWSPConnect(s, name, length, caller, callee, sqos, nullptr, &error);
        EXPECT_EQ(result, error == 0 ? 0 : SOCKET_ERROR);
        return error;
    }
};

// [R4.1 R4.2 F.WSPConnect.WSAEWOULDBLOCK F.WSPEnumNetworkEvents.1 R11.3]
TEST_F(ConnectTest, TheResultComesAsFdConnectAndTheEventIsReset) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    const SOCKET s = bound();
    const WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    ASSERT_EQ(san.connect(s, address), WSAEWOULDBLOCK);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    ASSERT_NE(san.accept(listener), INVALID_SOCKET);
    ASSERT_TRUE(upcalls.wait_for(event));
    WSANETWORKEVENTS events{};
    events.iErrorCode[FD_CONNECT_BIT] = 4711;
    ASSERT_EQ(san.enum_events(s, event, &events), 0);
    EXPECT_EQ(events.lNetworkEvents, FD_CONNECT);
    EXPECT_EQ(events.iErrorCode[4], 0);
    EXPECT_FALSE(upcalls.signaled(event));
}

// [R4.1 R11.4]
TEST_F(ConnectTest, TheResultIsRecordedBeforeTheEventIsSet) {
    const SOCKET s = bound();
    const WSAEVENT event = upcalls.create_event();
    std::atomic<LONG> seen{-1};
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT set) {
        if (set == event) {
            seen = events_of(s);
        }
    });
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    ASSERT_EQ(san.connect(s, fresh_address()), WSAEWOULDBLOCK);
    EXPECT_TRUE(eventually([&] { return seen != -1; }));
    EXPECT_EQ(seen, FD_CONNECT);
}

// [R4.3 F.WSPConnect.WSAECONNRESET C15 R20.6]
TEST_F(ConnectTest, NoListenerIsReset) {
    EXPECT_EQ(try_connect(fresh_address()), WSAECONNRESET);
    const sockaddr_in address = fresh_address();
    EXPECT_EQ(san.close(listening(address)), 0);
    EXPECT_EQ(try_connect(address), WSAECONNRESET);
    EXPECT_EQ(san.bind(socket(), address), 0);
    EXPECT_EQ(try_connect(address), WSAECONNRESET) << "bound is not listening";
}

// [R4.5 F.WSPConnect.WSAETIMEDOUT R20.6]
TEST_F(ConnectTest, AnAddressThatNobodyKnowsTimesOut) {
    if (fabric_under_test().knows_missing_hosts) {
        GTEST_SKIP() << "this fabric can tell";
    }
    const SOCKET s = bound();
    const WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    const int error = san.connect(s, address_of(fabric_under_test().foreign, 4000));
    EXPECT_EQ(error == WSAEWOULDBLOCK ? connect_result(s, event) : error, WSAETIMEDOUT);
}

// [R4.7 R18.5 R20.6]
TEST_F(ConnectTest, TheEventMayBeSetBeforeTheCallReturns) {
    // Which of the two comes first is chance; both orders must leave the result to be found.
    for (int i = 0; i < 50; ++i) {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(fresh_address(), &event);
        ASSERT_EQ(connect_result(s, event), WSAECONNRESET);
        EXPECT_EQ(san.close(s), 0);
    }
}

// [R4.8]
TEST_F(ConnectTest, SuccessIsReportedOnlyAfterAcceptance) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(event));
    EXPECT_EQ(events_of(s), 0);
    ASSERT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(s, event), 0);
}

// [F.WSPConnect.WSAEALREADY]
TEST_F(ConnectTest, ASecondConnectIsAlreadyRunning) {
    const sockaddr_in address = fresh_address();
    (void)listening(address);
    const SOCKET s = connecting(address);
    EXPECT_EQ(san.connect(s, address), WSAEALREADY);
    EXPECT_EQ(san.connect(s, fresh_address()), WSAEALREADY);
}

// [F.WSPConnect.WSAEADDRNOTAVAIL]
TEST_F(ConnectTest, TheWildcardAndPortZeroAreNoDestination) {  // port 0: project decision
    EXPECT_EQ(san.connect(bound(), address_of(INADDR_ANY, 4000)), WSAEADDRNOTAVAIL);
    sockaddr_in address = fresh_address();
    address.sin_port = 0;
    EXPECT_EQ(san.connect(bound(), address), WSAEADDRNOTAVAIL);
}

// [F.WSPConnect.WSAEAFNOSUPPORT P9 B24]
TEST_F(ConnectTest, AnotherFamilyIsNotSupported) {
    for (const unsigned family : {0U, 1U, 10U, 23U}) {
        sockaddr_in address = fresh_address();
        address.sin_family = static_cast<sa_family_t>(family);
        EXPECT_EQ(san.connect(bound(), address), WSAEAFNOSUPPORT) << family;
    }
}

// [F.WSPConnect.WSAEFAULT]
TEST_F(ConnectTest, AMissingOrShortNameIsAFault) {
    const SOCKET s = bound();
    const sockaddr_in address = fresh_address();
    for (const int length : {15, 2, 0, -1}) {
        EXPECT_EQ(connect_error(s, reinterpret_cast<const sockaddr*>(&address), length), WSAEFAULT);
    }
    EXPECT_EQ(connect_error(s, nullptr, 16), WSAEFAULT);
    EXPECT_EQ(san.connect(s, address), WSAEWOULDBLOCK) << "nothing was started before";
}

// [F.WSPConnect.WSAEINVAL C13]
TEST_F(ConnectTest, UnboundAndListeningSocketsDoNotConnect) {  // unbound: project decision
    const sockaddr_in address = fresh_address();
    EXPECT_EQ(san.connect(socket(), address), WSAEINVAL);
    EXPECT_EQ(san.connect(listening(fresh_address()), address), WSAEINVAL);
}

// [F.WSPConnect.WSAEISCONN]
TEST_F(ConnectTest, BothEndsOfAConnectionAreConnected) {
    Pair pair = connected();
    const sockaddr_in address = fresh_address();
    EXPECT_EQ(san.connect(pair.client.s, address), WSAEISCONN);
    EXPECT_EQ(san.connect(pair.server.s, address), WSAEISCONN);
}

// [F.WSPConnect.WSAEOPNOTSUPP R16.4]
TEST_F(ConnectTest, AFlowSpecificationIsNotSupported) {  // project decision
    QOS qos{};
    const sockaddr_in address = fresh_address();
    EXPECT_EQ(connect_error(bound(), reinterpret_cast<const sockaddr*>(&address), 16, nullptr,
                            nullptr, &qos),
              WSAEOPNOTSUPP);
}

// [F.WSPConnect.WSAETIMEDOUT C16]
TEST_F(ConnectTest, ARequestThatNobodyAnswersTimesOut) {  // project decision
    stop();
    Knobs brief = knobs();
    brief.emplace_back("connect_timeout_ms", "50");
    test::set_knobs(brief);
    ASSERT_EQ(san.start(), 0);
    test::unset_knobs(brief);
    const sockaddr_in address = fresh_address();
    (void)listening(address);
    EXPECT_EQ(try_connect(address), WSAETIMEDOUT);
    stop();
}

// [F.WSPConnect.1]
TEST_F(ConnectTest, ThePeerSeesTheAddressOfTheBind) {
    const sockaddr_in address = fresh_address();
    const sockaddr_in from = fresh_address();
    const SOCKET listener = listening(address);
    const SOCKET s = bound(from);
    ASSERT_EQ(san.connect(s, address), WSAEWOULDBLOCK);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    Condition condition;
    EXPECT_EQ(accept_error(listener, condition), 0);
    EXPECT_EQ(text(condition.caller), text(from));
}

// [F.WSPConnect.2]
TEST_F(ConnectTest, AFailedAttemptMayBeRepeated) {
    const sockaddr_in address = fresh_address();
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    ASSERT_EQ(connect_result(s, event), WSAECONNRESET);
    const SOCKET listener = listening(address);
    EXPECT_EQ(san.connect(s, address), WSAEWOULDBLOCK);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(s, event), 0);
}

// [F.WSPEventSelect.6]
TEST_F(ConnectTest, TheResultIsReportedOnce) {
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(fresh_address(), &event);
    ASSERT_EQ(connect_result(s, event), WSAECONNRESET);
    EXPECT_EQ(events_of(s), 0);
    EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    EXPECT_FALSE(upcalls.signaled(event));
}

// [C14 R19.4]
TEST_F(ConnectTest, AConnectionWithinTheHostWorks) {  // project decision
    Pair pair = connected();
    expect_delivery(pair.client, pair.server, "to myself");
    expect_delivery(pair.server, pair.client, "and back");
}

// ---- close while connecting -------------------------------------------------------------------------------

// [R4.11 R15.2 F.WSPConnect.3 R20.6]
TEST_F(ConnectTest, CloseCancelsAConnectThatWaits) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    const SOCKET handle = upcalls.latest_handle();
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    EXPECT_EQ(san.close(s), 0);
    upcalls.retire_event(event);  // a violation if it is signalled from here on
    EXPECT_EQ(closes_of(handle), 1U);
    int error = 0;
    EXPECT_TRUE(eventually([&] {  // what is left of the request goes
        (void)san.accept(listener, &error);
        return error == WSAEWOULDBLOCK;
    }));
}

// [R4.11 F.WSPConnect.3 R20.6]
TEST_F(ConnectTest, CloseWhileTheResultArrivesIsQuiet) {
    for (int i = 0; i < 100; ++i) {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(fresh_address(), &event);
        if (i % 2 != 0) {
            std::this_thread::yield();
        }
        EXPECT_EQ(san.close(s), 0);
        upcalls.retire_event(event);
    }
}

// ---- caller's and callee's data ---------------------------------------------------------------------------

class ConnectDataTest : public ConnectTest {
protected:
    int connect_with(LPWSABUF caller, LPWSABUF callee, Condition& condition) {
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        const SOCKET s = bound();
        const WSAEVENT event = upcalls.create_event();
        EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
        EXPECT_EQ(san.connect(s, address, caller, callee), WSAEWOULDBLOCK);
        EXPECT_TRUE(wait_for_request(listener, upcalls.create_event()));
        EXPECT_EQ(accept_error(listener, condition), 0);
        return connect_result(s, event);
    }
};

// [R4.9 R4.10 B9]
TEST_F(ConnectDataTest, DataGoesBothWays) {  // project decision: supported
    std::string to(256, '\0');               // the longest
    std::generate(to.begin(), to.end(), [n = 0]() mutable { return static_cast<char>(n++); });
    std::string room(300, '.');
    WSABUF caller{static_cast<ULONG>(to.size()), to.data()};
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    Condition condition;
    condition.callee_data = "who is there?";
    EXPECT_EQ(connect_with(&caller, &callee, condition), 0);
    EXPECT_EQ(condition.caller_data, to);
    EXPECT_GE(condition.callee_room, condition.callee_data.size());
    EXPECT_EQ(room.substr(0, callee.len), condition.callee_data);
    EXPECT_EQ(room.substr(callee.len), std::string(room.size() - callee.len, '.'));
}

// [R4.10]
TEST_F(ConnectDataTest, NoCalleeDataIsLengthZero) {
    std::string room(64, '.');
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    Condition condition;
    EXPECT_EQ(connect_with(nullptr, &callee, condition), 0);
    EXPECT_EQ(condition.caller_data, std::nullopt);
    EXPECT_EQ(callee.len, 0U);
    EXPECT_EQ(room, std::string(64, '.'));
}

// [R4.10]
TEST_F(ConnectDataTest, AFailedConnectLeavesLengthZero) {
    std::string room(64, '.');
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    const SOCKET s = bound();
    const WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    ASSERT_EQ(san.connect(s, fresh_address(), nullptr, &callee), WSAEWOULDBLOCK);
    EXPECT_EQ(connect_result(s, event), WSAECONNRESET);
    EXPECT_EQ(callee.len, 0U);
}

// [F.WSPConnect.4]
TEST_F(ConnectDataTest, CalleeDataStaysWithinItsRoom) {
    std::string room = "....||||";
    WSABUF callee{4, room.data()};
    Condition condition;
    condition.callee_data = "more than four";
    EXPECT_EQ(connect_with(nullptr, &callee, condition), 0);
    EXPECT_EQ(room.substr(4), "||||");
    EXPECT_LE(callee.len, 4U);
}

// [B9 F.WSPConnect.WSAEFAULT]
TEST_F(ConnectDataTest, TooMuchCallerDataIsAFault) {  // project decision
    std::string to(70000, 'x');
    WSABUF caller{static_cast<ULONG>(to.size()), to.data()};
    EXPECT_EQ(san.connect(bound(), fresh_address(), &caller), WSAEFAULT);
    caller.len = 257;
    EXPECT_EQ(san.connect(bound(), fresh_address(), &caller), WSAEFAULT);
}

// [B9]
TEST_F(ConnectDataTest, EmptyCallerDataIsNone) {  // project decision
    WSABUF caller{0, nullptr};
    Condition condition;
    EXPECT_EQ(connect_with(&caller, nullptr, condition), 0);
    EXPECT_EQ(condition.caller_data.value_or(""), "");
}

// [F.WSPConnect.WSAEFAULT]
TEST_F(ConnectDataTest, NullBuffersAreAFault) {
    WSABUF null{5, nullptr};
    EXPECT_EQ(san.connect(bound(), fresh_address(), &null), WSAEFAULT);
    EXPECT_EQ(san.connect(bound(), fresh_address(), nullptr, &null), WSAEFAULT);
}

}  // namespace
}  // namespace sanpoll::conformance
