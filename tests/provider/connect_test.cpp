// WSPConnect.
#include <arpa/inet.h>

#include <algorithm>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class ConnectTest : public ProviderTest {};

TEST_F(ConnectTest, NoListenerIsReset) { EXPECT_EQ(try_connect(fresh_address()), WSAECONNRESET); }

TEST_F(ConnectTest, AClosedListenerIsReset) {
    const sockaddr_in address = fresh_address();
    EXPECT_EQ(san.close(listening(address)), 0);
    EXPECT_EQ(try_connect(address), WSAECONNRESET);
}

TEST_F(ConnectTest, ListenerOnAnotherAddressIsReset) {
    const sockaddr_in address = fresh_address();
    (void)listening(address);
    EXPECT_EQ(try_connect(address_of(INADDR_LOOPBACK, ntohs(address.sin_port))), WSAECONNRESET);
}

TEST_F(ConnectTest, AForeignAddressTimesOut) {  // the answer that lets the switch try TCP/IP
    const SOCKET s = bound();
    const WSAEVENT event = upcalls.create_event();
    EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    const int error = san.connect(s, address_of(0xC6336401U, 4000));
    EXPECT_EQ(error == WSAEWOULDBLOCK ? connect_result(s, event) : error, WSAETIMEDOUT);
}

TEST_F(ConnectTest, TheWildcardIsNoDestination) {
    EXPECT_EQ(san.connect(bound(), address_of(INADDR_ANY, 4000)), WSAEADDRNOTAVAIL);
}

TEST_F(ConnectTest, PortZeroIsNoDestination) {  // project decision
    EXPECT_EQ(san.connect(bound(), address_of(INADDR_LOOPBACK, 0)), WSAEADDRNOTAVAIL);
}

TEST_F(ConnectTest, AnotherFamilyIsNotSupported) {
    sockaddr_in address = fresh_address();
    address.sin_family = 10;
    EXPECT_EQ(san.connect(bound(), address), WSAEAFNOSUPPORT);
}

TEST_F(ConnectTest, ShortOrMissingAddressIsAFault) {
    const SOCKET s = bound();
    const sockaddr_in address = fresh_address();
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    INT error = 0;
    EXPECT_EQ(san.table.lpWSPConnect(s, name, 15, nullptr, nullptr, nullptr, nullptr, &error),
              SOCKET_ERROR);
    EXPECT_EQ(error, WSAEFAULT);
    error = 0;
    EXPECT_EQ(san.table.lpWSPConnect(s, nullptr, 16, nullptr, nullptr, nullptr, nullptr, &error),
              SOCKET_ERROR);
    EXPECT_EQ(error, WSAEFAULT);
}

TEST_F(ConnectTest, FlowSpecificationIsNotSupported) {  // project decision: there is no QoS
    QOS qos{};
    const sockaddr_in address = fresh_address();
    INT error = 0;
    EXPECT_EQ(san.table.lpWSPConnect(bound(), reinterpret_cast<const sockaddr*>(&address), 16,
                                     nullptr, nullptr, &qos, nullptr, &error),
              SOCKET_ERROR);
    EXPECT_EQ(error, WSAEOPNOTSUPP);
}

TEST_F(ConnectTest, ASecondConnectIsAlreadyRunning) {
    const sockaddr_in address = fresh_address();
    (void)listening(address);
    const SOCKET s = connecting(address);
    EXPECT_EQ(san.connect(s, address), WSAEALREADY);
    EXPECT_EQ(san.connect(s, fresh_address()), WSAEALREADY);
}

TEST_F(ConnectTest, AfterAFailureItCanBeTriedAgain) {
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

TEST_F(ConnectTest, AFailureMayBeRepeatedManyTimes) {
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(fresh_address(), &event);
    for (int i = 0; i < 20; ++i) {
        ASSERT_EQ(connect_result(s, event), WSAECONNRESET);
        ASSERT_EQ(san.connect(s, fresh_address()), WSAEWOULDBLOCK);
    }
    ASSERT_EQ(connect_result(s, event), WSAECONNRESET);
}

TEST_F(ConnectTest, NothingIsReportedBeforeThePeerHasAccepted) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(event));
    char byte = 0;
    Polled send;
    EXPECT_EQ(san.send(s, &byte, 1, &send), WSAENOTCONN);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(s, event), 0);
}

TEST_F(ConnectTest, NobodyAcceptingTimesOut) {
    stop();
    const Knobs brief{{"connect_timeout_ms", "50"}};
    set_knobs(brief);
    ASSERT_EQ(san.start(), 0);
    unset_knobs(brief);
    const sockaddr_in address = fresh_address();
    (void)listening(address);
    EXPECT_EQ(try_connect(address), WSAETIMEDOUT);
    stop();
}

TEST_F(ConnectTest, TheResultMayBeSelectedAfterwards) {
    const sockaddr_in address = fresh_address();
    const SOCKET s = bound();
    ASSERT_EQ(san.connect(s, address), WSAEWOULDBLOCK);
    let_time_pass();  // the result is known by now, most of the time
    const WSAEVENT event = upcalls.create_event();
    EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    EXPECT_EQ(connect_result(s, event), WSAECONNRESET);
}

TEST_F(ConnectTest, TheResultIsReportedOnce) {
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(fresh_address(), &event);
    ASSERT_EQ(connect_result(s, event), WSAECONNRESET);
    WSANETWORKEVENTS events{};
    EXPECT_EQ(san.enum_events(s, nullptr, &events), 0);
    EXPECT_EQ(events.lNetworkEvents, 0);
    EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    EXPECT_FALSE(upcalls.signaled(event));
}

TEST_F(ConnectTest, OfManyEachGetsItsResult) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address, 64);
    std::vector<std::pair<SOCKET, WSAEVENT>> clients(32);
    for (auto& [s, event] : clients) {
        s = connecting(address, &event);
    }
    for (std::size_t i = 0; i < clients.size(); ++i) {
        int error = 0;
        ASSERT_TRUE(eventually([&] {
            return san.accept(listener, &error) != INVALID_SOCKET || error != WSAEWOULDBLOCK;
        }));
        ASSERT_EQ(error, 0);
    }
    for (auto& [s, event] : clients) {
        EXPECT_EQ(connect_result(s, event), 0);
    }
}

// ---- close while connecting ---------------------------------------------------------------------------

TEST_F(ConnectTest, CloseTakesTheRequestOutOfTheListenersQueue) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    EXPECT_EQ(san.close(s), 0);
    upcalls.retire_event(event);  // a violation if it is signalled from here on
    int error = 0;
    EXPECT_TRUE(eventually([&] {
        // Between the close and the withdrawal's arrival the request may still be taken, and fails.
        (void)san.accept(listener, &error);
        return error == WSAEWOULDBLOCK || error == WSAECONNRESET || error == WSAEACCES;
    }));
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(event));
}

TEST_F(ConnectTest, CloseRightAfterConnectLeavesNothingBehind) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address, 1000);
    for (int i = 0; i < 200; ++i) {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(address, &event);
        EXPECT_EQ(san.close(s), 0);
        upcalls.retire_event(event);
    }
    WSAEVENT event = nullptr;
    const SOCKET s = connecting(address, &event);
    // A request whose withdrawal is still on its way may be taken like any other; its connection then ends
    // at once. So all are taken until the last connect has its answer.
    EXPECT_TRUE(eventually([&] {
        (void)san.accept(listener);
        return upcalls.signaled(event);
    }));
    EXPECT_EQ(connect_result(s, event), 0);
}

TEST_F(ConnectTest, CloseWhileTheConnectFailsIsQuiet) {
    for (int i = 0; i < 200; ++i) {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(fresh_address(), &event);
        EXPECT_EQ(san.close(s), 0);
        upcalls.retire_event(event);
    }
}

// ---- caller's and callee's data -------------------------------------------------------------------------

struct Asked {
    std::string caller_data;
    bool had_caller_data = false;
    std::string answer;
};

int answer_with_data(LPWSABUF, LPWSABUF caller_data, LPQOS, LPQOS, LPWSABUF, LPWSABUF callee_data,
                     GROUP*, DWORD_PTR data) {
    auto& asked = *reinterpret_cast<Asked*>(data);
    asked.had_caller_data = caller_data != nullptr;
    if (caller_data != nullptr) {
        asked.caller_data.assign(caller_data->buf, caller_data->len);
    }
    if (callee_data != nullptr && asked.answer.size() <= callee_data->len) {
        asked.answer.copy(callee_data->buf, asked.answer.size());
        callee_data->len = static_cast<ULONG>(asked.answer.size());
    }
    return CF_ACCEPT;
}

// Connecting with data is optional for a provider; this one carries it: project decision.
class ConnectDataTest : public ProviderTest {
protected:
    int connect_with(WSABUF* caller, WSABUF* callee, Asked& asked) {
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        const SOCKET s = bound();
        const WSAEVENT event = upcalls.create_event();
        EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
        EXPECT_EQ(san.connect(s, address, caller, callee), WSAEWOULDBLOCK);
        EXPECT_TRUE(wait_for_request(listener, upcalls.create_event()));
        EXPECT_NE(
            san.accept(listener, nullptr, answer_with_data, reinterpret_cast<DWORD_PTR>(&asked)),
            INVALID_SOCKET);
        return connect_result(s, event);
    }
};

TEST_F(ConnectDataTest, DataGoesBothWays) {
    std::string to = "knock knock";
    std::string room(64, '.');
    WSABUF caller{static_cast<ULONG>(to.size()), to.data()};
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    Asked asked;
    asked.answer = "who is there?";
    EXPECT_EQ(connect_with(&caller, &callee, asked), 0);
    EXPECT_EQ(asked.caller_data, to);
    EXPECT_EQ(std::string(room.data(), callee.len), asked.answer);
}

TEST_F(ConnectDataTest, AnAnswerThatFillsAllTheRoomArrives) {
    std::string room(300, '.');
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    Asked asked;
    asked.answer.assign(256, 'y');  // leaves `len` at the capacity that it came with
    EXPECT_EQ(connect_with(nullptr, &callee, asked), 0);
    EXPECT_EQ(std::string(room.data(), callee.len), asked.answer);
}

TEST_F(ConnectDataTest, AFunctionThatIgnoresTheCalleesDataSendsNone) {
    std::string room(300, '.');
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    Asked asked;
    asked.answer.assign(1000, 'y');  // more than there is room for, so it is not stored
    EXPECT_EQ(connect_with(nullptr, &callee, asked), 0);
    EXPECT_EQ(callee.len, 0U);
}

TEST_F(ConnectDataTest, NoCallersDataIsNull) {
    Asked asked;
    asked.had_caller_data = true;
    EXPECT_EQ(connect_with(nullptr, nullptr, asked), 0);
    EXPECT_FALSE(asked.had_caller_data);
}

TEST_F(ConnectDataTest, EmptyCallersDataIsNone) {
    WSABUF caller{0, nullptr};
    Asked asked;
    EXPECT_EQ(connect_with(&caller, nullptr, asked), 0);
    EXPECT_EQ(asked.caller_data, "");
}

TEST_F(ConnectDataTest, NoCalleesDataIsLengthZero) {
    std::string room(64, '.');
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    Asked asked;
    EXPECT_EQ(connect_with(nullptr, &callee, asked), 0);
    EXPECT_EQ(callee.len, 0U);
}

TEST_F(ConnectDataTest, CalleesDataIsLengthZeroAfterAFailure) {
    std::string room(64, '.');
    WSABUF callee{static_cast<ULONG>(room.size()), room.data()};
    const SOCKET s = bound();
    const WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    ASSERT_EQ(san.connect(s, fresh_address(), nullptr, &callee), WSAEWOULDBLOCK);
    EXPECT_EQ(connect_result(s, event), WSAECONNRESET);
    EXPECT_EQ(callee.len, 0U);
}

TEST_F(ConnectDataTest, CalleesDataIsNotWrittenBeyondItsRoom) {
    std::string room = "....||||";
    WSABUF callee{4, room.data()};
    Asked asked;
    asked.answer = "more than four";
    EXPECT_EQ(connect_with(nullptr, &callee, asked), 0);
    EXPECT_EQ(room.substr(4), "||||");
    EXPECT_LE(callee.len, 4U);
}

TEST_F(ConnectDataTest, TheLongestCallersDataArrivesWhole) {
    std::string to(256, 'x');
    std::generate(to.begin(), to.end(), [n = 0]() mutable { return static_cast<char>(n++); });
    WSABUF caller{static_cast<ULONG>(to.size()), to.data()};
    Asked asked;
    EXPECT_EQ(connect_with(&caller, nullptr, asked), 0);
    EXPECT_EQ(asked.caller_data, to);
}

TEST_F(ConnectDataTest, TooMuchCallersDataIsAFault) {
    std::string to(257, 'x');
    WSABUF caller{static_cast<ULONG>(to.size()), to.data()};
    EXPECT_EQ(san.connect(bound(), fresh_address(), &caller), WSAEFAULT);
}

TEST_F(ConnectDataTest, NullBuffersAreAFault) {
    WSABUF null{5, nullptr};
    EXPECT_EQ(san.connect(bound(), fresh_address(), &null), WSAEFAULT);
    EXPECT_EQ(san.connect(bound(), fresh_address(), nullptr, &null), WSAEFAULT);
}

}  // namespace
}  // namespace sanpoll::test
