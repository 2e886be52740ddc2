// WSPListen and WSPAccept: section 5.
#include <arpa/inet.h>
#include <unistd.h>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

// ---- listen -----------------------------------------------------------------------------------------------

class ListenTest : public CalledTest {};

// [F.WSPListen.WSAEINVAL]
TEST_F(ListenTest, AnUnboundSocketDoesNotListen) { EXPECT_EQ(san.listen(socket(), 5), WSAEINVAL); }

// [F.WSPListen.WSAEISCONN]
TEST_F(ListenTest, AConnectedSocketDoesNotListen) {
    Pair pair = connected();
    EXPECT_EQ(san.listen(pair.client.s, 5), WSAEISCONN);
    EXPECT_EQ(san.listen(pair.server.s, 5), WSAEISCONN);
}

// [F.WSPListen.1]
TEST_F(ListenTest, EveryBacklogIsMadeLegal) {
    for (const int backlog : {WSP_SOMAXCONN, 0, -1, -2147483647 - 1, 1, 100000}) {
        EXPECT_EQ(san.listen(bound(), backlog), 0) << backlog;
    }
}

// [F.WSPListen.1]
TEST_F(ListenTest, SomaxconnQueuesManyRequests) {
    be_called(WSP_SOMAXCONN);
    std::vector<std::pair<SOCKET, WSAEVENT>> clients(100);
    for (auto& [s, event] : clients) {
        s = connecting(address, &event);
    }
    for (std::size_t taken = 0; taken < clients.size() + 1;) {
        taken += san.accept(listener) != INVALID_SOCKET ? 1 : 0;
    }
    for (auto& [s, event] : clients) {
        EXPECT_EQ(connect_result(s, event), 0);
    }
}

// [C24]
TEST_F(ListenTest, BacklogZeroQueuesOneRequest) {  // project decision
    be_called(0);
    EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [R5.1 F.WSPListen.3 F.WSPEventSelect.3 R20.4]
TEST_F(ListenTest, ARequestBeforeTheEventIsSelectedIsSignalledAtOnce) {
    be_called();
    // Known to be queued now; another registration finds it there.
    const WSAEVENT event = upcalls.create_event();
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    EXPECT_TRUE(upcalls.signaled(event));
    EXPECT_EQ(events_of(listener, event), FD_ACCEPT);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [R5.2 F.WSPListen.4 F.WSPEventSelect.7 R4.4 F.WSPConnect.WSAECONNREFUSED R20.4]
TEST_F(ListenTest, AFullBacklogRefusesAtOnceAndDoesNotSignal) {
    be_called(1);
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
    EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
    EXPECT_FALSE(upcalls.signaled(accept_event));
    EXPECT_EQ(events_of(listener), 0);
    EXPECT_FALSE(upcalls.signaled(connect_event)) << "the one that waits is not touched";
}

// [F.WSPListen.2 R20.4]
TEST_F(ListenTest, ASmallerBacklogRefusesTheNewestRequests) {  // from the tail: project decision
    be_called(3);
    WSAEVENT second_event = nullptr;
    const SOCKET second = connecting(address, &second_event);
    WSAEVENT third_event = nullptr;
    const SOCKET third = connecting(address, &third_event);
    // Whether they are queued before or find the queue full then: both are refused.
    EXPECT_EQ(san.listen(listener, 1), 0);
    EXPECT_EQ(connect_result(second, second_event), WSAECONNREFUSED);
    EXPECT_EQ(connect_result(third, third_event), WSAECONNREFUSED);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [F.WSPListen.2]
TEST_F(ListenTest, AGreaterBacklogTakesMoreRequests) {
    be_called(1);
    EXPECT_EQ(san.listen(listener, 2), 0);
    WSAEVENT event = nullptr;
    const SOCKET second = connecting(address, &event);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    ASSERT_TRUE(eventually([&] { return san.accept(listener) != INVALID_SOCKET; }));
    EXPECT_EQ(connect_result(client, connect_event), 0);
    EXPECT_EQ(connect_result(second, event), 0);
}

// [R5.11 R4.4]
TEST_F(ListenTest, ClosingTheListenerRefusesTheRequestsThatWait) {
    be_called(8);
    EXPECT_EQ(san.close(listener), 0);
    upcalls.retire_event(accept_event);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

// ---- accept: the answers ------------------------------------------------------------------------------------

class AcceptTest : public CalledTest {};

// [F.WSPAccept.WSAEWOULDBLOCK R20.5]
TEST_F(AcceptTest, AnEmptyQueueWouldBlock) {
    listener = listening(fresh_address());
    Condition condition;
    EXPECT_EQ(accept_error(condition), WSAEWOULDBLOCK);
    EXPECT_EQ(condition.calls, 0);
}

// [R5.5 F.WSPAccept.5 R20.5]
TEST_F(AcceptTest, CfAcceptMakesTheHandleAndConnectsThePeer) {
    be_called();
    const std::size_t before = upcalls.count(UpcallKind::kCreateSocketHandle);
    Condition condition;
    condition.answer = [&](GROUP*) {
        EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), before) << "before the answer";
        return CF_ACCEPT;
    };
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_NE(accepted, INVALID_SOCKET);
    EXPECT_EQ(condition.calls, 1);
    EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), before + 1);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [R5.6 F.WSPAccept.WSAECONNREFUSED R4.4 F.WSPConnect.WSAECONNREFUSED R20.5]
TEST_F(AcceptTest, CfRejectRefusesThePeer) {
    be_called();
    const std::size_t handles = upcalls.count(UpcallKind::kCreateSocketHandle);
    Condition condition(CF_REJECT);
    EXPECT_EQ(accept_error(condition), WSAECONNREFUSED);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
    EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), handles);
    EXPECT_EQ(accept_error(condition), WSAEWOULDBLOCK);
}

// [R5.7 F.WSPAccept.WSATRY_AGAIN R20.5]
TEST_F(AcceptTest, CfDeferTellsNobodyAndKeepsTheRequest) {
    be_called();
    Condition condition(CF_DEFER);
    EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(connect_event));
    Condition second;
    EXPECT_EQ(accept_error(second), 0);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [R5.7 F.WSPAccept.6 F.WSPEventSelect.6]
TEST_F(AcceptTest, ADeferredRequestStaysAtTheHeadAndIsNotIndicatedAgain) {
    be_called();
    WSAEVENT second_event = nullptr;
    const SOCKET second = connecting(address, &second_event);
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
    Condition condition(CF_DEFER);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
        const sockaddr_in first = condition.caller;
        EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
        EXPECT_EQ(text(condition.caller), text(first));
    }
    EXPECT_FALSE(upcalls.signaled(accept_event));
    EXPECT_EQ(san.close(second), 0);
}

// [F.WSPAccept.4 R20.5]
TEST_F(AcceptTest, WithoutAConditionFunctionItAccepts) {
    be_called();
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [B10 F.WSPAccept.WSAEINVAL R20.5]
TEST_F(AcceptTest, AnotherAnswerIsInvalidAndRefusesThePeer) {  // project decision
    for (const int answer : {3, -1, 0x10000}) {
        be_called();
        Condition condition(answer);
        EXPECT_EQ(accept_error(condition), WSAEINVAL) << answer;
        EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
    }
}

// [F.WSPAccept.WSAEINVAL]
TEST_F(AcceptTest, AGroupIsInvalidAndRefusesThePeer) {
    be_called();
    Condition condition;
    condition.answer = [](GROUP* g) {
        *g = SG_UNCONSTRAINED_GROUP;
        return CF_ACCEPT;
    };
    EXPECT_EQ(accept_error(condition), WSAEINVAL);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

// [F.WSPAccept.WSAEINVAL]
TEST_F(AcceptTest, OnlyAListenerAccepts) {
    int error = 0;
    EXPECT_EQ(san.accept(bound(), &error), INVALID_SOCKET);
    EXPECT_EQ(error, WSAEINVAL);
}

// [F.WSPAccept.WSAENOBUFS R3.4]
TEST_F(AcceptTest, ARefusedHandleIsNoBuffersAndRefusesThePeer) {
    be_called();
    upcalls.on_create_handle([](SOCKET) { return INVALID_SOCKET; });
    Condition condition;
    EXPECT_EQ(accept_error(condition), WSAENOBUFS);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

// ---- accept: the condition function -------------------------------------------------------------------------

// [R5.3 R20.5]
TEST_F(AcceptTest, TheConditionFunctionRunsInTheCallingThread) {
    be_called();
    Condition condition;
    std::thread caller([&] {
        EXPECT_EQ(accept_error(condition), 0);
        EXPECT_EQ(condition.thread, std::this_thread::get_id());
    });
    caller.join();
    EXPECT_NE(condition.thread, std::this_thread::get_id());
}

// [R5.8 R20.5]
TEST_F(AcceptTest, ThePeerLearnsNothingBeforeTheAnswer) {
    be_called();
    Condition condition;
    condition.answer = [&](GROUP*) {
        let_time_pass();
        EXPECT_FALSE(upcalls.signaled(connect_event));
        return CF_ACCEPT;
    };
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [R5.4 R16.3 F.WSPAccept.2 B21]
TEST_F(AcceptTest, TheConditionFunctionGetsItsArguments) {
    be_called();
    Condition condition;  // its address, of pointer size, is the caller's value
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(condition.calls, 1);
    EXPECT_EQ(condition.caller.sin_family, AF_INET);
    EXPECT_EQ(text(condition.callee), text(address));
    EXPECT_EQ(condition.caller_data, std::nullopt) << "NULL when there is none";
    EXPECT_FALSE(condition.qos);
    EXPECT_EQ(condition.group, GROUP{0});  // project decision: a zeroed group and not NULL
}

// [R18.3 P7]
TEST_F(AcceptTest, TheConditionFunctionMayCallTheProvider) {
    be_called();
    Condition condition;
    condition.answer = [&](GROUP*) {
        EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
        EXPECT_EQ(san.event_select(listener, accept_event, FD_ACCEPT), 0);
        EXPECT_EQ(san.listen(listener, 5), 0);
        int error = 0;
        EXPECT_EQ(san.accept(listener, &error), INVALID_SOCKET);
        EXPECT_EQ(error, WSAEWOULDBLOCK);
        EXPECT_EQ(san.close(bound()), 0);
        return CF_ACCEPT;
    };
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(connect_result(client, connect_event), 0);
}

// [R18.3 R12.7]
TEST_F(AcceptTest, TheConditionFunctionMayCloseTheListener) {
    be_called();
    Condition condition;
    condition.answer = [&](GROUP*) {
        EXPECT_EQ(san.close(listener), 0);
        upcalls.retire_event(accept_event);
        return CF_REJECT;
    };
    EXPECT_EQ(accept_error(condition), WSAECONNREFUSED);
    EXPECT_EQ(connect_result(client, connect_event), WSAECONNREFUSED);
}

// ---- accept: the peer's address -----------------------------------------------------------------------------

// [F.WSPAccept.1 R20.5]
TEST_F(AcceptTest, ThePeersAddressIsFilledInWhateverTheAnswer) {
    be_called();
    for (const int answer : {CF_DEFER, CF_ACCEPT}) {
        Condition condition(answer);
        sockaddr_in peer{};
        INT length = 100;
        (void)san.accept(listener, nullptr, Condition::function, condition.data(), &peer, &length);
        EXPECT_EQ(length, 16);
        EXPECT_EQ(peer.sin_family, AF_INET);
        EXPECT_EQ(text(peer), text(condition.caller));
    }
    be_called();
    Condition condition(CF_REJECT);
    sockaddr_in peer{};
    INT length = 16;
    EXPECT_EQ(san.accept(listener, nullptr, Condition::function, condition.data(), &peer, &length),
              INVALID_SOCKET);
    EXPECT_EQ(text(peer), text(condition.caller));
}

// [F.WSPAccept.WSAEFAULT F.WSPAccept.10 R20.5]
TEST_F(AcceptTest, TooLittleRoomIsAFaultAndCostsNoRequest) {
    be_called();
    Condition condition;
    for (const INT room : {15, 0, -1}) {
        sockaddr_in peer{};
        INT length = room;
        int error = 0;
        EXPECT_EQ(
            san.accept(listener, &error, Condition::function, condition.data(), &peer, &length),
            INVALID_SOCKET);
        EXPECT_EQ(error, WSAEFAULT);
    }
    EXPECT_EQ(condition.calls, 0);
    EXPECT_EQ(accept_error(condition), 0);
}

// [F.WSPAccept.3 F.WSPListen.6 B25 R20.5]
TEST_F(AcceptTest, AWildcardListenerLearnsTheRealAddresses) {
    // Wildcard ports belong to the whole host: one that nobody listens at.
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
    sockaddr_in to = fresh_address();
    to.sin_port = htons(port);
    client = bound(address_of(INADDR_ANY, 4711));
    ASSERT_EQ(san.connect(client, to), WSAEWOULDBLOCK);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    Condition condition;
    sockaddr_in peer{};
    EXPECT_NE(san.accept(listener, nullptr, Condition::function, condition.data(), &peer),
              INVALID_SOCKET);
    EXPECT_EQ(text(condition.callee), text(to));
    EXPECT_NE(peer.sin_addr.s_addr, htonl(INADDR_ANY));
    EXPECT_EQ(ntohs(peer.sin_port), 4711);
}

// ---- accept: what becomes of the connection -----------------------------------------------------------------

// [F.WSPAccept.7 R5.13]
TEST_F(AcceptTest, TheNewSocketIsReadyAtOnce) {
    be_called();
    End server;
    server.s = san.accept(listener);
    ASSERT_NE(server.s, INVALID_SOCKET);
    give_memory(server, 1024);
    Polled receive;
    ASSERT_EQ(recv(server, &receive), WSA_IO_PENDING);
    ASSERT_EQ(connect_result(client, connect_event), 0);
    End end;
    end.s = client;
    give_memory(end, 1024);
    send_now(end, "first data");
    EXPECT_EQ(san.finish(server.s, &receive).bytes, 10U);
    EXPECT_EQ(std::string(server.at(0), 10), "first data");
}

// [F.WSPAccept.9]
TEST_F(AcceptTest, TheNewSocketOutlivesTheListenerAndDoesNotAccept) {
    Pair pair = connected();  // closes its listener
    expect_delivery(pair.client, pair.server, "still here");
    int error = 0;
    EXPECT_EQ(san.accept(pair.server.s, &error), INVALID_SOCKET);
    EXPECT_EQ(error, WSAEINVAL);
}

// [B5]
TEST_F(AcceptTest, TheNewSocketDoesNotInheritTheEvents) {  // project decision
    be_called();
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
    Condition condition;
    EXPECT_EQ(accept_error(condition), 0);
    EXPECT_EQ(events_of(accepted), 0);
    EXPECT_EQ(connect_result(client, connect_event), 0);
    EXPECT_EQ(san.close(accepted), 0);
    EXPECT_FALSE(upcalls.signaled(accept_event));
}

// [R5.12]
TEST_F(AcceptTest, ClosingTheNewSocketEndsThePeersConnection) {
    be_called();
    Condition condition;
    ASSERT_EQ(accept_error(condition), 0);
    EXPECT_EQ(san.close(accepted), 0);
    EXPECT_EQ(connect_result(client, connect_event), 0) << "it was connected for a moment";
    End end;
    end.s = client;
    end.memory.resize(64);
    EXPECT_TRUE(eventually([&] {
        Polled operation;
        const int error = recv(end, &operation, 0);
        return (error == WSA_IO_PENDING ? san.finish(client, &operation).error : error) ==
               WSAECONNRESET;
    }));
}

// [R5.10]
TEST_F(AcceptTest, AWithdrawnRequestLeavesTheQueueOrFails) {
    be_called();
    EXPECT_EQ(san.close(client), 0);
    Condition condition;
    const int error = accept_error(condition);
    if (error != 0) {
        EXPECT_TRUE(error == WSAEWOULDBLOCK || error == WSAECONNRESET) << error;
        return;
    }
    // The accept overtook the withdrawal: the connection ends as soon as that arrives.
    Polled receive;
    const int code = san.recv(accepted, nullptr, 0, &receive);
    EXPECT_EQ(code == WSA_IO_PENDING ? san.finish(accepted, &receive).error : code, WSAECONNRESET);
}

// [R5.10 F.WSPAccept.WSAECONNRESET B11]
TEST_F(AcceptTest, ARequestWithdrawnDuringTheConditionFails) {  // which code: project decision
    be_called();
    const std::size_t handles = upcalls.open_handles();
    Condition condition;
    condition.answer = [&](GROUP*) {
        EXPECT_EQ(san.close(client), 0);
        let_time_pass();
        return CF_ACCEPT;
    };
    const int error = accept_error(condition);
    EXPECT_EQ(error, WSAECONNRESET);
    EXPECT_EQ(upcalls.open_handles(), handles - 1) << "a handle is left";
}

}  // namespace
}  // namespace sanpoll::conformance
