// WSPListen and WSPAccept.
#include <arpa/inet.h>

#include <atomic>
#include <functional>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

// The condition function of the test that runs, with what it was given.
struct Condition {
    std::function<int(GROUP*)> answer = [](GROUP*) { return CF_ACCEPT; };
    int calls = 0;
    std::thread::id thread;
    sockaddr_in caller{};
    sockaddr_in callee{};
    bool qos = false;
    GROUP group = 99;

    static int function(LPWSABUF caller_id, LPWSABUF, LPQOS sqos, LPQOS gqos, LPWSABUF callee_id,
                        LPWSABUF, GROUP* g, DWORD_PTR data) {
        auto& self = *reinterpret_cast<Condition*>(data);
        ++self.calls;
        self.thread = std::this_thread::get_id();
        EXPECT_EQ(caller_id->len, 16U);
        EXPECT_EQ(callee_id->len, 16U);
        self.caller = *reinterpret_cast<sockaddr_in*>(caller_id->buf);
        self.callee = *reinterpret_cast<sockaddr_in*>(callee_id->buf);
        self.qos = sqos != nullptr || gqos != nullptr;
        self.group = g != nullptr ? *g : 99;
        return self.answer(g);
    }
    DWORD_PTR data() { return reinterpret_cast<DWORD_PTR>(this); }
};

class ListenTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        address = fresh_address();
        accept_event = upcalls.create_event();
    }
    /// A listener with one request queued.
    void listen_and_be_called(int backlog = 16) {
        listener = listening(address, backlog);
        client = connecting(address, &connect_event);
        ASSERT_TRUE(wait_for_request(listener, accept_event));
    }
    int accept_error(Condition& condition) {
        int error = 0;
        accepted = san.accept(listener, &error, Condition::function, condition.data());
        return error;
    }

    sockaddr_in address{};
    SOCKET listener = INVALID_SOCKET;
    SOCKET client = INVALID_SOCKET;
    SOCKET accepted = INVALID_SOCKET;
    WSAEVENT accept_event = nullptr;
    WSAEVENT connect_event = nullptr;
};

// ---- listen -------------------------------------------------------------------------------------------

TEST_F(ListenTest, AnUnboundSocketCannotListen) { EXPECT_EQ(san.listen(socket(), 5), WSAEINVAL); }

TEST_F(ListenTest, AnyBacklogIsTaken) {
    for (const int backlog : {WSP_SOMAXCONN, 0, -1, -2147483647 - 1, 1, 100000}) {
        EXPECT_EQ(san.listen(bound(), backlog), 0) << backlog;
    }
}

TEST_F(ListenTest, ARequestBeforeTheEventIsSelectedIsNotLost) {
    listener = listening(address);
    client = connecting(address, &connect_event);
    let_time_pass();  // it is queued by now, most of the time
    ASSERT_TRUE(wait_for_request(listener, accept_event));
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, AFullBacklogRefusesAtOnce) {
    listen_and_be_called(1);
    EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
}

TEST_F(ListenTest, AFullBacklogDoesNotSignal) {
    listen_and_be_called(1);
    WSANETWORKEVENTS events{};
    ASSERT_EQ(san.enum_events(listener, accept_event, &events), 0);
    EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(accept_event));
}

TEST_F(ListenTest, BacklogZeroQueuesOne) {  // project decision
    listen_and_be_called(0);
    EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, TheBacklogCountsRequestsAndNotConnections) {
    listener = listening(address, 1);
    for (int i = 0; i < 5; ++i) {
        accept_event = upcalls.create_event();
        client = connecting(address, &connect_event);
        ASSERT_TRUE(wait_for_request(listener, accept_event));
        EXPECT_NE(san.accept(listener), INVALID_SOCKET);
        EXPECT_EQ(connect_result(client, connect_event), 0);
    }
}

TEST_F(ListenTest, AWithdrawnRequestMakesRoom) {
    listen_and_be_called(1);
    EXPECT_EQ(san.close(client), 0);
    // The withdrawal needs its time; until it is there the queue counts as full.
    EXPECT_TRUE(eventually([&] {
        WSAEVENT event = nullptr;
        const SOCKET s = connecting(address, &event);
        let_time_pass();
        const bool refused = upcalls.signaled(event);
        EXPECT_EQ(san.close(s), 0);
        return !refused;
    }));
}

TEST_F(ListenTest, AGreaterBacklogTakesMore) {
    listen_and_be_called(1);
    EXPECT_EQ(san.listen(listener, 2), 0);
    WSAEVENT event = nullptr;
    const SOCKET second = connecting(address, &event);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    ASSERT_TRUE(eventually([&] { return san.accept(listener) != INVALID_SOCKET; }));
    EXPECT_EQ(connect_result(client, connect_event), 0);
    EXPECT_EQ(connect_result(second, event), 0);
}

TEST_F(ListenTest, ASmallerBacklogRefusesTheNewestRequests) {  // project decision: from the tail
    listen_and_be_called(3);
    // These go the way that the first one has made, in order.
    WSAEVENT second_event = nullptr;
    const SOCKET second = connecting(address, &second_event);
    WSAEVENT third_event = nullptr;
    const SOCKET third = connecting(address, &third_event);
    let_time_pass();
    EXPECT_EQ(san.listen(listener, 1), 0);
    EXPECT_EQ(connect_result(second, second_event), WSAECONNREFUSED);
    EXPECT_EQ(connect_result(third, third_event), WSAECONNREFUSED);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, ClosingTheListenerRefusesQueuedRequests) {
    listener = listening(address, 8);
    std::vector<std::pair<SOCKET, WSAEVENT>> clients(3);
    for (auto& [s, event] : clients) {
        s = connecting(address, &event);
    }
    ASSERT_TRUE(wait_for_request(listener, accept_event));
    EXPECT_EQ(san.close(listener), 0);
    upcalls.retire_event(accept_event);
    for (auto& [s, event] : clients) {
        const int error = connect_result(s, event);
        // One that had not arrived yet finds no listener.
        EXPECT_TRUE(error == WSAECONNREFUSED || error == WSAECONNRESET) << error;
    }
}

TEST_F(ListenTest, ClosingTheListenerLeavesAcceptedSocketsAlone) {
    Pair pair = connected();  // closes its listener
    expect_delivery(pair.client, pair.server, "still here");
}

TEST_F(ListenTest, TwoListenersOnOneAddressAreAllowed) {
    listener = listening(address);
    const SOCKET second = listening(address);
    client = connecting(address, &connect_event);
    SOCKET taken = INVALID_SOCKET;
    ASSERT_TRUE(eventually([&] {
        taken = san.accept(listener);
        if (taken == INVALID_SOCKET) {
            taken = san.accept(second);
        }
        return taken != INVALID_SOCKET;
    }));
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// ---- accept -------------------------------------------------------------------------------------------

TEST_F(ListenTest, AnEmptyQueueWouldBlock) {
    listener = listening(address);
    Condition condition;
    EXPECT_EQ(accept_error(condition), WSAEWOULDBLOCK);
    EXPECT_EQ(condition.calls, 0);
}

TEST_F(ListenTest, OnlyAListenerAccepts) {
    int error = 0;
    EXPECT_EQ(san.accept(bound(), &error), INVALID_SOCKET);
    EXPECT_EQ(error, WSAEINVAL);
}

TEST_F(ListenTest, NoConditionFunctionAccepts) {
    listen_and_be_called();
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, CfAcceptConnectsThePeer) {
    listen_and_be_called();
    Condition condition;
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(condition.calls, 1);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, CfRejectRefusesThePeer) {
    listen_and_be_called();
    Condition condition;
    condition.answer = [](GROUP*) { return CF_REJECT; };
    EXPECT_EQ(accept_error(condition), WSAECONNREFUSED);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
    EXPECT_EQ(san.accept(listener), INVALID_SOCKET);
}

TEST_F(ListenTest, CfDeferTellsNobodyAndKeepsTheRequest) {
    listen_and_be_called();
    Condition condition;
    condition.answer = [](GROUP*) { return CF_DEFER; };
    EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(connect_event));
    condition.answer = [](GROUP*) { return CF_ACCEPT; };
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(condition.calls, 2);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, ADeferredRequestStaysFirst) {
    listen_and_be_called();
    WSAEVENT event = nullptr;
    const SOCKET second = connecting(address, &event);
    Condition condition;
    condition.answer = [](GROUP*) { return CF_DEFER; };
    EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
    const sockaddr_in first = condition.caller;
    EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
    EXPECT_EQ(text(condition.caller), text(first));
    EXPECT_EQ(san.close(second), 0);
}

TEST_F(ListenTest, CfDeferSignalsNothing) {
    listen_and_be_called();
    WSANETWORKEVENTS events{};
    ASSERT_EQ(san.enum_events(listener, accept_event, &events), 0);
    Condition condition;
    condition.answer = [](GROUP*) { return CF_DEFER; };
    EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(accept_event));
}

TEST_F(ListenTest, AnotherAnswerIsInvalidAndRefusesThePeer) {  // project decision
    listen_and_be_called();
    Condition condition;
    condition.answer = [](GROUP*) { return 3; };
    EXPECT_EQ(accept_error(condition), WSAEINVAL);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

TEST_F(ListenTest, AGroupIsInvalidAndRefusesThePeer) {
    listen_and_be_called();
    Condition condition;
    condition.answer = [](GROUP* g) {
        *g = 7;
        return CF_ACCEPT;
    };
    EXPECT_EQ(accept_error(condition), WSAEINVAL);
    EXPECT_EQ(condition.group, 0U);  // what the function was given; project decision
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

TEST_F(ListenTest, TheConditionFunctionRunsInTheCallingThread) {
    listen_and_be_called();
    Condition condition;
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(condition.thread, std::this_thread::get_id());
}

TEST_F(ListenTest, ThePeerKnowsNothingBeforeTheAnswer) {
    listen_and_be_called();
    Condition condition;
    condition.answer = [&](GROUP*) {
        let_time_pass();
        EXPECT_FALSE(upcalls.signaled(connect_event));
        return CF_ACCEPT;
    };
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, TheHandleIsMadeAfterTheAnswerOnly) {
    listen_and_be_called();
    const std::size_t before = upcalls.count(UpcallKind::kCreateSocketHandle);
    Condition condition;
    condition.answer = [&](GROUP*) {
        EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), before);
        return CF_REJECT;
    };
    EXPECT_EQ(accept_error(condition), WSAECONNREFUSED);
    EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), before);
}

TEST_F(ListenTest, TheConditionFunctionMayCallTheProvider) {
    listen_and_be_called();
    Condition condition;
    condition.answer = [&](GROUP*) {
        WSANETWORKEVENTS events{};
        EXPECT_EQ(san.enum_events(listener, accept_event, &events), 0);
        EXPECT_EQ(san.event_select(listener, accept_event, FD_ACCEPT), 0);
        EXPECT_EQ(san.listen(listener, 5), 0);
        EXPECT_EQ(san.close(bound()), 0);
        return CF_ACCEPT;
    };
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

TEST_F(ListenTest, TheConditionFunctionMayCloseTheListener) {
    listen_and_be_called();
    Condition condition;
    condition.answer = [&](GROUP*) {
        EXPECT_EQ(san.close(listener), 0);
        upcalls.retire_event(accept_event);
        return CF_REJECT;
    };
    EXPECT_EQ(accept_error(condition), WSAECONNREFUSED);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

TEST_F(ListenTest, NoQosIsNegotiated) {
    listen_and_be_called();
    Condition condition;
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_FALSE(condition.qos);
}

TEST_F(ListenTest, ThePeersAddressIsTheOneItWasBoundTo) {
    listener = listening(address);
    const sockaddr_in from = fresh_address();
    client = bound(from);
    ASSERT_EQ(san.connect(client, address), WSAEWOULDBLOCK);
    ASSERT_TRUE(wait_for_request(listener, accept_event));
    Condition condition;
    sockaddr_in peer{};
    INT length = sizeof(peer);
    EXPECT_NE(san.accept(listener, nullptr, Condition::function, condition.data(), &peer, &length),
              INVALID_SOCKET);
    EXPECT_EQ(length, 16);
    EXPECT_EQ(peer.sin_family, AF_INET);
    EXPECT_EQ(text(peer), text(from));
    EXPECT_EQ(text(condition.caller), text(from));
    EXPECT_EQ(text(condition.callee), text(address));
}

TEST_F(ListenTest, AWildcardListenerLearnsTheRealAddresses) {
    // Wildcard ports belong to the whole host: take one that nobody listens at.
    std::uint16_t port = 0;
    for (int tries = 0; tries < 1000 && listener == INVALID_SOCKET; ++tries) {
        port = static_cast<std::uint16_t>(20000 + (::getpid() * 31 + tries) % 40000);
        const SOCKET s = bound(address_of(INADDR_ANY, port));
        if (san.listen(s, 5) == 0) {
            listener = s;
        } else {
            EXPECT_EQ(san.close(s), 0);
        }
    }
    ASSERT_NE(listener, INVALID_SOCKET);
    const sockaddr_in to = address_of(0x7F0A0B0CU, port);  // 127.10.11.12
    client = bound(address_of(INADDR_ANY, 4711));
    ASSERT_EQ(san.connect(client, to), WSAEWOULDBLOCK);
    ASSERT_TRUE(wait_for_request(listener, accept_event));
    Condition condition;
    sockaddr_in peer{};
    EXPECT_NE(san.accept(listener, nullptr, Condition::function, condition.data(), &peer),
              INVALID_SOCKET);
    EXPECT_EQ(text(condition.callee), text(to));
    EXPECT_NE(peer.sin_addr.s_addr, htonl(INADDR_ANY));
    EXPECT_EQ(ntohs(peer.sin_port), 4711);
}

TEST_F(ListenTest, TheAddressIsFilledInWhateverTheAnswer) {
    for (const int answer : {CF_DEFER, CF_REJECT}) {
        if (listener == INVALID_SOCKET) {
            listen_and_be_called();
        }
        Condition condition;
        condition.answer = [=](GROUP*) { return answer; };
        sockaddr_in peer{};
        INT length = 100;
        EXPECT_EQ(
            san.accept(listener, nullptr, Condition::function, condition.data(), &peer, &length),
            INVALID_SOCKET);
        EXPECT_EQ(length, 16);
        EXPECT_EQ(text(peer), text(condition.caller));
    }
}

TEST_F(ListenTest, TooLittleRoomForTheAddressIsAFaultAndCostsNoRequest) {
    listen_and_be_called();
    Condition condition;
    sockaddr_in peer{};
    INT length = 15;
    int error = 0;
    EXPECT_EQ(san.accept(listener, &error, Condition::function, condition.data(), &peer, &length),
              INVALID_SOCKET);
    EXPECT_EQ(error, WSAEFAULT);
    EXPECT_EQ(condition.calls, 0);
    EXPECT_EQ(accept_error(condition), 0);
}

TEST_F(ListenTest, AWithdrawnRequestIsNotIndicatedOrFails) {
    listen_and_be_called();
    EXPECT_EQ(san.close(client), 0);
    Condition condition;
    const int error = accept_error(condition);
    if (error != 0) {
        EXPECT_TRUE(error == WSAEWOULDBLOCK || error == WSAECONNRESET || error == WSAEACCES)
            << error;
        return;
    }
    // The accept overtook the withdrawal: the connection ends as soon as that arrives.
    Polled receive;
    if (const int code = san.recv(accepted, nullptr, 0, &receive); code == WSA_IO_PENDING) {
        EXPECT_EQ(san.finish(accepted, &receive).error, WSAECONNRESET);
    } else {
        EXPECT_EQ(code, WSAECONNRESET);
    }
}

TEST_F(ListenTest, ARequestWithdrawnDuringTheConditionFails) {
    listen_and_be_called();
    const std::size_t handles = upcalls.open_handles();
    Condition condition;
    condition.answer = [&](GROUP*) {
        EXPECT_EQ(san.close(client), 0);
        let_time_pass();
        return CF_ACCEPT;
    };
    const int error = accept_error(condition);
    EXPECT_TRUE(error == WSAECONNRESET || error == WSAEACCES) << error;
    EXPECT_EQ(upcalls.open_handles(), handles - 1);
}

TEST_F(ListenTest, ARefusedHandleIsNoBuffersAndRefusesThePeer) {
    listen_and_be_called();
    upcalls.on_create_handle([](SOCKET) { return INVALID_SOCKET; });
    Condition condition;
    EXPECT_EQ(accept_error(condition), WSAENOBUFS);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

TEST_F(ListenTest, AnAcceptedSocketDoesNotAccept) {
    Pair pair = connected();
    int error = 0;
    EXPECT_EQ(san.accept(pair.server.s, &error), INVALID_SOCKET);
    EXPECT_EQ(error, WSAEINVAL);
}

TEST_F(ListenTest, AnAcceptedSocketIsReadyAtOnce) {
    listen_and_be_called();
    End end;
    end.s = san.accept(listener);
    ASSERT_NE(end.s, INVALID_SOCKET);
    give_memory(end, 64);
    Polled receive;
    Polled send;
    EXPECT_EQ(san.recv(end.s, end.at(0), 16, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.send(end.s, end.at(32), 16, &send), WSA_IO_PENDING);
    EXPECT_EQ(san.close(end.s), 0);
}

}  // namespace
}  // namespace sanpoll::test
