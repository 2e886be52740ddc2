// WSPDuplicateSocket, and WSPSocket with its token: section 13. The peer of the connection that moves is
// this process' other end, pair.server.
#include <unistd.h>

#include <cstring>

#include "tests/conformance/duplication_fixture.hpp"

namespace sanpoll::conformance {
namespace {

// ---- giving -----------------------------------------------------------------------------------------------------

// [R13.2 R10.14 F.WSPDuplicateSocket.1 R20.12]
TEST_F(DuplicationTest, PendingReceivesCompleteWithSuccessAndNoBytes) {
    std::deque<Polled> polled(4);
    std::deque<Notified> told(4);
    for (std::size_t i = 0; i < 4; ++i) {
        ASSERT_EQ(recv(pair.client, &polled[i]), WSA_IO_PENDING);
        ASSERT_EQ(recv(pair.client, &told[i]), WSA_IO_PENDING);
    }
    (void)give(pair.client.s, own_pid());
    for (std::size_t i = 0; i < 4; ++i) {
        // All of it before the call has returned.
        EXPECT_NE(polled[i].Internal, kInProgress);
        EXPECT_EQ(polled[i].OffsetHigh, 0U);
        EXPECT_EQ(polled[i].InternalHigh, 0U);
        ASSERT_EQ(upcalls.completions(&told[i]).size(), 1U);
        expect_upcall(&told[i], pair.client.handle, 0, 0);
    }
}

// [F.WSPDuplicateSocket.2 R13.4 C19]
TEST_F(DuplicationTest, TheProtocolInformationIsFilled) {  // whole: recommended
    WSAPROTOCOL_INFOW info{};
    ASSERT_EQ(san.duplicate(pair.client.s, own_pid(), &info), 0);
    EXPECT_NE(info.dwProviderReserved, 0U);
    EXPECT_EQ(info.iAddressFamily, AF_INET);
    EXPECT_EQ(info.iSocketType, SOCK_STREAM);
    EXPECT_EQ(info.iProtocol, IPPROTO_TCP);
    EXPECT_EQ(info.iMaxSockAddr, 16);
    EXPECT_EQ(info.dwServiceFlags1 & XP1_CONNECTIONLESS, 0U);
    EXPECT_NE(info.dwServiceFlags1 & XP1_MESSAGE_ORIENTED, 0U);
}

// [F.WSPDuplicateSocket.WSAEINVAL F.WSPDuplicateSocket.3 R20.12]
TEST_F(DuplicationTest, BadArgumentsAreInvalidAndTheSocketStaysUsable) {
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(san.duplicate(pair.client.s, own_pid(), nullptr), WSAEINVAL);
    for (const DWORD process : {0U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
        EXPECT_EQ(san.duplicate(pair.client.s, process, &info), WSAEINVAL) << process;
    }
    EXPECT_EQ(san.duplicate(socket(), own_pid(), &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(bound(), own_pid(), &info), WSAEINVAL);
    expect_delivery(pair.client, pair.server, "usable");
    expect_delivery(pair.server, pair.client, "both ways");
}

// ---- going on in another process --------------------------------------------------------------------------------

// [R13.1 R13.3 R13.10 F.WSPSocket.5 R20.12]
TEST_F(DuplicationTest, AnotherProcessGoesOnAndThePeerNoticesNothing) {
    Polled waiting;
    Notified told;
    ASSERT_EQ(recv(pair.server, &waiting, 64, 0), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.server, &told, 64, 100), WSA_IO_PENDING);
    Taker other;
    const DWORD token = give(pair.client.s, other.pid());
    ASSERT_EQ(other.take(token), 0);
    EXPECT_EQ(san.overlapped_result(pair.server.s, &waiting, 0).error, WSA_IO_INCOMPLETE);
    EXPECT_TRUE(upcalls.completions(&told).empty());
    EXPECT_EQ(events_of(pair.server.s), 0);
    other.register_memory();
    other.send("hello from there");
    other.send("and once more");
    EXPECT_EQ(san.finish(pair.server.s, &waiting).bytes, 16U);
    EXPECT_EQ(std::string(pair.server.at(0), 16), "hello from there");
    expect_upcall(&told, pair.server.handle, 0, 13);
    send_now(pair.server, "welcome");
    EXPECT_EQ(other.receive(), "welcome");
    // Posted before: a core of its own sees the close at once, and a receive would be refused.
    Polled last;
    ASSERT_EQ(recv(pair.server, &last), WSA_IO_PENDING);
    EXPECT_EQ(other.close(), 0);
    EXPECT_EQ(san.finish(pair.server.s, &last).error, WSAECONNRESET);
}

// [C32 R13.1]
TEST_F(DuplicationTest, MessagesSentDuringTheMoveArriveThere) {  // project decision
    send_now(pair.server, "before");
    Taker other;
    const DWORD token = give(pair.client.s, other.pid());
    Polled operation;  // no ordinary switch sends now
    std::memcpy(pair.server.at(0), "during", 6);
    ASSERT_EQ(send(pair.server, &operation, 6), WSA_IO_PENDING);
    ASSERT_EQ(other.take(token), 0);
    other.register_memory();
    EXPECT_EQ(other.receive(), "before");
    EXPECT_EQ(other.receive(), "during");
    EXPECT_EQ(san.finish(pair.server.s, &operation).error, 0);
}

// [R13.4 C18 R20.12]
TEST_F(DuplicationTest, TheTokenIsGoodOnceAndForOneProcess) {
    Taker other;
    const DWORD token = give(pair.client.s, other.pid());
    int error = 0;
    EXPECT_EQ(take(token, &error), INVALID_SOCKET) << "not for this process";
    EXPECT_EQ(error, WSAEINVAL);
    ASSERT_EQ(other.take(token), 0);
    EXPECT_EQ(other.take(token), WSAEINVAL) << "used";
    EXPECT_EQ(other.take(token ^ 0x5A5A5A5AU), WSAEINVAL) << "never given";
}

// [R13.6 R20.12]
TEST_F(DuplicationTest, ClosingTheOldDescriptorLeavesTheConnectionAlone) {
    for (const bool before : {true, false}) {
        pair = connected();
        Taker other;
        const DWORD token = give(pair.client.s, other.pid());
        if (before) {
            EXPECT_EQ(san.close(pair.client.s), 0);
        }
        ASSERT_EQ(other.take(token), 0);
        if (!before) {
            EXPECT_NE(socket(), pair.client.s) << "not reused before it is closed";
            EXPECT_EQ(san.close(pair.client.s), 0);
        }
        EXPECT_EQ(closes_of(pair.client.handle), 1U);
        EXPECT_EQ(san.close(pair.client.s), WSAENOTSOCK);
        other.register_memory();
        Polled receive;
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
        other.send("not harmed");
        EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 10U);
    }
}

// [R13.5 R13.11 C33 F.WSPDuplicateSocket.4 R20.12]
TEST_F(DuplicationTest, ItComesBackAndMayMoveAgainAtOnce) {  // again: project decision
    Taker other;
    for (int round = 0; round < 5; ++round) {
        ASSERT_EQ(other.take(give(pair.client.s, other.pid())), 0);
        other.register_memory();
        Polled receive;
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
        other.send(std::to_string(round));
        EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 1U);
        const DWORD token = other.give(own_pid());
        EXPECT_EQ(other.close(), 0);
        const std::size_t handles = upcalls.count(UpcallKind::kCreateSocketHandle);
        const SOCKET s = take(token);
        ASSERT_NE(s, INVALID_SOCKET);
        // The old descriptor without a new handle, or a new one with one; then the switch closes the old.
        EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle),
                  handles + (s == pair.client.s ? 0 : 1));
        if (s != pair.client.s) {
            EXPECT_EQ(san.close(pair.client.s), 0);
            pair.client.s = s;
            pair.client.handle = upcalls.latest_handle();
        }
        give_memory(pair.client, 65536);
        expect_delivery(pair.client, pair.server, "back again");
        expect_delivery(pair.server, pair.client, "welcome back");
    }
}

// [R13.9 R20.12]
TEST_F(DuplicationTest, OptionsMoveWithTheSocket) {
    const INT priority = 42;
    ASSERT_EQ(san.set_option(pair.client.s, WSP_SOL_SOCKET, SO_GROUP_PRIORITY,
                             reinterpret_cast<const char*>(&priority), sizeof(priority)),
              0);
    Taker other;
    ASSERT_EQ(other.take(give(pair.client.s, other.pid())), 0);
    EXPECT_EQ(other.priority(), 42U);
}

// [R13.10 C21]
TEST_F(DuplicationTest, RegistrationsEndWithTheMove) {
    Taker other;
    const DWORD token = give(pair.client.s, other.pid());
    const int error = san.deregister_memory(pair.client.s, pair.client.region);
    EXPECT_TRUE(error == 0 || error == WSAEINVAL) << error;  // harmless: project decision
    ASSERT_EQ(other.take(token), 0);
    other.register_memory();
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    other.send("x");
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 1U);
}

// [R13.12]
TEST_F(DuplicationTest, TheOldDescriptorOnlyCloses) {
    Taker other;
    const DWORD token = give(pair.client.s, other.pid());
    Polled operation;
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(send(pair.client, &operation), WSAENOTCONN);
    EXPECT_EQ(recv(pair.client, &operation), WSAENOTCONN);
    EXPECT_EQ(san.duplicate(pair.client.s, own_pid(), &info), WSAEINVAL);
    EXPECT_EQ(san.listen(pair.client.s, 5), WSAEINVAL);
    ASSERT_EQ(other.take(token), 0);
    EXPECT_EQ(send(pair.client, &operation), WSAENOTCONN);
    EXPECT_EQ(san.close(pair.client.s), 0);
}

// ---- death ------------------------------------------------------------------------------------------------------

class DuplicationDeathTest : public DuplicationTest {
protected:
    /// A connection whose far end belongs to `other`.
    End connection_with(Taker& other) {
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        int error = -1;
        std::thread connector([&] { error = other.connect(address); });
        End end;
        EXPECT_TRUE(wait_for_request(listener, upcalls.create_event()));
        end.s = san.accept(listener);
        connector.join();
        EXPECT_EQ(error, 0);
        give_memory(end, 65536);
        return end;
    }
};

// [R13.7 C20 R20.12]
TEST_F(DuplicationDeathTest, AGiverThatDiesBeforeItsTokenIsUsedResetsThePeer) {  // project decision
    Taker giver;
    End end = connection_with(giver);
    Polled receive;
    ASSERT_EQ(recv(end, &receive), WSA_IO_PENDING);
    const DWORD token = giver.give(own_pid());
    giver.kill();
    EXPECT_EQ(san.finish(end.s, &receive).error, WSAECONNRESET);
    int error = 0;
    EXPECT_EQ(take(token, &error), INVALID_SOCKET);
    EXPECT_TRUE(error == WSAEINVAL || error == WSAENETDOWN) << error;
}

// [R13.7 R20.12]
TEST_F(DuplicationDeathTest, ATakerThatDiesResetsThePeer) {
    Taker other;
    ASSERT_EQ(other.take(give(pair.client.s, other.pid())), 0);
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    other.kill();
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAECONNRESET);
}

// [R13.6 R20.12]
TEST_F(DuplicationDeathTest, AGiverThatDiesAfterwardsHarmsNothing) {
    Taker giver;
    End end = connection_with(giver);
    Taker other;
    ASSERT_EQ(other.take(giver.give(other.pid())), 0);
    giver.kill();
    other.register_memory();
    Polled receive;
    ASSERT_EQ(recv(end, &receive), WSA_IO_PENDING);
    other.send("still here");
    EXPECT_EQ(san.finish(end.s, &receive).bytes, 10U);
}

// ---- listeners --------------------------------------------------------------------------------------------------

class ListenerDuplicationTest : public DuplicationTest {};

// [R13.8 B23 R20.12]
TEST_F(ListenerDuplicationTest, AListenerGoesOnInAnotherProcess) {  // project decision: supported
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    Taker other;
    ASSERT_EQ(other.take(give(listener, other.pid())), 0);
    EXPECT_EQ(san.close(listener), 0);
    End end;
    WSAEVENT event = nullptr;
    end.s = connecting(address, &event);
    EXPECT_EQ(other.accept(), 0);
    ASSERT_EQ(connect_result(end.s, event), 0);
    give_memory(end, 65536);
    other.register_memory();
    send_now(end, "hello");
    EXPECT_EQ(other.receive(), "hello");
}

// [R13.8 R20.12]
TEST_F(ListenerDuplicationTest, ARequestThatWaitsIsHandedOverOrRefused) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT event = nullptr;
    const SOCKET client = connecting(address, &event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    Taker other;
    ASSERT_EQ(other.take(give(listener, other.pid())), 0);
    EXPECT_EQ(san.close(listener), 0);
    // It goes on listening until there is an answer: who comes when nobody does is not refused, but reset.
    int accepted = WSAEWOULDBLOCK;
    EXPECT_TRUE(eventually([&] {
        if (accepted == WSAEWOULDBLOCK) {
            accepted = other.accept_and_listen_on();
        }
        return upcalls.signaled(event);
    }));
    const int error = connect_result(client, event);
    EXPECT_TRUE(error == 0 || error == WSAECONNREFUSED) << error;
    EXPECT_EQ(accepted, error == 0 ? 0 : WSAEWOULDBLOCK);
    WSAEVENT second_event = nullptr;
    const SOCKET second = connecting(address, &second_event);
    EXPECT_EQ(other.accept(), 0);
    EXPECT_EQ(connect_result(second, second_event), 0);
}

// ---- where nothing moves ----------------------------------------------------------------------------------------

class NoDuplicationTest : public PairTest {
protected:
    void SetUp() override {
        if (fabric_under_test().moves_sockets) {
            GTEST_SKIP() << "a socket of this fabric moves";
        }
        PairTest::SetUp();
    }
};

// [F.WSPDuplicateSocket.WSAENETDOWN F.WSPDuplicateSocket.3]
TEST_F(NoDuplicationTest, TheAnswerIsNetworkDownAndEverythingGoesOn) {
    const auto process = static_cast<DWORD>(::getpid());
    WSAPROTOCOL_INFOW info{};
    Polled receive;
    ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.duplicate(pair.client.s, process, &info), WSAENETDOWN);
    EXPECT_EQ(receive.Internal, kInProgress);
    send_now(pair.server, "here");
    EXPECT_EQ(san.finish(pair.client.s, &receive).bytes, 4U);
    send_now(pair.client, "there");
    EXPECT_EQ(receive_now(pair.server), "there");

    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    EXPECT_EQ(san.duplicate(listener, process, &info), WSAENETDOWN);
    WSAEVENT event = nullptr;
    const SOCKET client = connecting(address, &event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_EQ(connect_result(client, event), 0);
}

}  // namespace
}  // namespace sanpoll::conformance
