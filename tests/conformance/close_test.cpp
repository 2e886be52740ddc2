// WSPCloseSocket at both ends: section 12.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class CloseTest : public PairTest {};

// ---- this end -------------------------------------------------------------------------------------------------

// [F.WSPCloseSocket.3 F.WSPCloseSocket.WSAENOTSOCK]
TEST_F(CloseTest, TheDescriptorIsInvalidAfterwards) {
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.close(pair.client.s), WSAENOTSOCK);
    EXPECT_EQ(san.close(INVALID_SOCKET), WSAENOTSOCK);
}

// [R12.7]
TEST_F(CloseTest, EveryStateCloses) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    End end = broken();
    for (const SOCKET s :
         {socket(), bound(), connecting(address), listener, end.s, pair.client.s}) {
        EXPECT_EQ(san.close(s), 0);
        EXPECT_EQ(san.close(s), WSAENOTSOCK);
    }
}

// [R12.1 R10.11 F.WSPCloseSocket.1 F.WSPCloseSocket.2 F.WSPCloseSocket.4 R15.3 B15 F.WSPSend.WSA_OPERATION_ABORTED F.WSPRecv.WSA_OPERATION_ABORTED R20.11]
TEST_F(CloseTest, WhatIsPendingIsAbortedInOrderThenTheHandleIsClosed) {
    std::deque<Notified> receives(20);
    std::deque<Notified> sends(3);
    std::deque<Polled> polled(2);
    for (Notified& receive : receives) {
        ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    }
    for (Notified& operation : sends) {  // too long to be sent before there is a receive
        ASSERT_EQ(send(pair.client, &operation, 60000), WSA_IO_PENDING);
    }
    ASSERT_EQ(recv(pair.client, &polled[0]), WSA_IO_PENDING);
    ASSERT_EQ(send(pair.client, &polled[1], 60000), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.client.s), 0);
    std::size_t received = 0;
    std::size_t sent = 0;
    std::size_t closed = 0;
    for (const Upcall& call : upcalls.upcalls()) {
        if (call.handle != pair.client.handle || call.kind == UpcallKind::kCreateSocketHandle) {
            continue;
        }
        EXPECT_EQ(closed, 0U) << "an upcall after WPUCloseSocketHandle";
        if (call.kind == UpcallKind::kCloseSocketHandle) {
            ++closed;
            continue;
        }
        EXPECT_EQ(call.error, static_cast<DWORD>(WSA_OPERATION_ABORTED));
        EXPECT_EQ(call.bytes, 0U);
        if (received < receives.size() && call.overlapped == &receives[received]) {
            ++received;
        } else if (sent < sends.size() && call.overlapped == &sends[sent]) {
            ++sent;
        } else {
            ADD_FAILURE() << "out of order";
        }
    }
    EXPECT_EQ(received, receives.size());
    EXPECT_EQ(sent, sends.size());
    EXPECT_EQ(closed, 1U);
    for (const Polled& operation : polled) {
        EXPECT_NE(operation.Internal, kInProgress);
        EXPECT_EQ(operation.OffsetHigh, static_cast<DWORD>(WSA_OPERATION_ABORTED));
        EXPECT_EQ(operation.InternalHigh, 0U);
    }
}

// [R12.6]
TEST_F(CloseTest, AfterItHasReturnedThereIsNoUpcall) {
    for (int i = 0; i < 20; ++i) {
        Pair both = connected(4096);
        std::deque<Notified> operations(10);
        for (Notified& operation : operations) {
            ASSERT_EQ(recv(both.client, &operation), WSA_IO_PENDING);
        }
        send_now(both.server, "some complete");
        send_now(both.server, "just now");
        EXPECT_EQ(san.close(both.client.s), 0);
        EXPECT_EQ(closes_of(both.client.handle), 1U);
        for (Notified& operation : operations) {
            EXPECT_EQ(completions_of(both.client.handle, &operation), 1U);
        }
        // Later upcalls for the handle are violations, which the fixture looks for.
    }
}

// [F.WSPCloseSocket.6]
TEST_F(CloseTest, NothingIsWrittenIntoReceivesAfterwards) {
    std::deque<Polled> receives(8);
    for (Polled& receive : receives) {
        ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    }
    std::memset(pair.server.at(0), 'x', 64);
    EXPECT_EQ(san.close(pair.client.s), 0);
    const std::vector<char> before = pair.client.memory;
    std::deque<Polled> sends(8);
    for (Polled& operation : sends) {
        (void)send(pair.server, &operation, 64);
    }
    let_time_pass();
    EXPECT_EQ(pair.client.memory, before);
    EXPECT_EQ(san.close(pair.server.s), 0);
}

// [R7.5]
TEST_F(CloseTest, MemoryOfPendingOperationsIsReleased) {
    Polled receive;
    ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.client.s, pair.client.region), WSAEINVAL);
    EXPECT_EQ(san.close(pair.client.s), 0);
    // Whatever record the next socket gets, the registration is gone.
    for (int i = 0; i < 50; ++i) {
        Pair next = connected(64);
        EXPECT_EQ(san.deregister_memory(next.client.s, pair.client.region), WSAEINVAL);
        Polled operation;
        EXPECT_EQ(san.send(next.client.s, pair.client.at(0), 8, &operation), WSAEFAULT);
        EXPECT_EQ(san.close(next.client.s), 0);
        EXPECT_EQ(san.close(next.server.s), 0);
    }
}

// [F.WSPCloseSocket.3 P2]
TEST_F(CloseTest, OldDescriptorsNeverFitNewSockets) {
    std::vector<SOCKET> old;
    for (int i = 0; i < 500; ++i) {
        old.push_back(socket());
        EXPECT_EQ(san.close(old.back()), 0);
    }
    for (int i = 0; i < 300; ++i) {
        (void)socket();
    }
    for (const SOCKET s : old) {
        ASSERT_EQ(san.close(s), WSAENOTSOCK);
    }
}

// ---- the other end --------------------------------------------------------------------------------------------

// [R11.2 R10.12 B14 B15 F.WSPRecv.WSAECONNRESET R20.11]
TEST_F(CloseTest, EveryPendingReceiveOfThePeerIsReset) {  // which code: project decision
    std::deque<Polled> polled(5);
    std::deque<Notified> told(5);
    for (std::size_t i = 0; i < 5; ++i) {
        ASSERT_EQ(recv(pair.server, &polled[i]), WSA_IO_PENDING);
        ASSERT_EQ(recv(pair.server, &told[i]), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(san.finish(pair.server.s, &polled[i]).error, WSAECONNRESET);
        expect_upcall(&told[i], pair.server.handle, WSAECONNRESET, 0);
    }
}

// [R12.3 F.WSPSend.WSAECONNRESET R20.11]
TEST_F(CloseTest, ThePeersPendingSendsFail) {
    std::deque<Polled> sends(3);
    for (Polled& operation : sends) {
        ASSERT_EQ(send(pair.server, &operation, 60000), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (Polled& operation : sends) {
        const int error = san.finish(pair.server.s, &operation).error;
        EXPECT_TRUE(error == WSAECONNRESET || error == WSAECONNABORTED) << error;
    }
}

// [R12.3 B30 F.WSPSend.WSAECONNRESET F.WSPRecv.WSAECONNRESET]
TEST_F(CloseTest, ThePeersLaterCallsGetTheConnectionsErrorAtOnce) {
    End end = broken();
    Polled later;
    EXPECT_EQ(recv(end, &later), WSAECONNRESET);
    EXPECT_EQ(send(end, &later), WSAECONNRESET);
}

// [R12.4 R20.11]
TEST_F(CloseTest, ThePeersDescriptorAndHandleStayUntilItCloses) {
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAECONNRESET);
    let_time_pass();
    EXPECT_EQ(closes_of(pair.server.handle), 0U);
    EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 0).error, WSAECONNRESET);
    EXPECT_EQ(events_of(pair.server.s), 0);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(closes_of(pair.server.handle), 1U);
}

// [R12.2 R12.5 B29]
TEST_F(CloseTest, MessagesWhoseSendsHaveCompletedArriveBeforeTheEnd) {  // project decision
    const std::size_t lengths[] = {1, 500, 4000, 16000, 60000, 64};
    std::deque<Polled> receives(std::size(lengths) + 1);
    for (Polled& receive : receives) {
        ASSERT_EQ(recv(pair.server, &receive, 65536), WSA_IO_PENDING);
    }
    for (const std::size_t length : lengths) {
        Polled operation;
        ASSERT_EQ(send(pair.client, &operation, length), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (std::size_t i = 0; i < std::size(lengths); ++i) {
        const Result received = san.finish(pair.server.s, &receives[i]);
        EXPECT_EQ(received.error, 0) << i;
        EXPECT_EQ(received.bytes, lengths[i]);
    }
    EXPECT_EQ(san.finish(pair.server.s, &receives.back()).error, WSAECONNRESET);
}

// [R12.2 B30]
TEST_F(CloseTest, ReceivesPostedAfterTheEndGetTheWaitingMessagesFirst) {  // project decision
    for (const char* message : {"one", "two", "three"}) {
        send_now(pair.client, message);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    let_time_pass();
    for (const char* message : {"one", "two", "three"}) {
        EXPECT_EQ(receive_now(pair.server), message);
    }
    Polled receive;
    const int error = recv(pair.server, &receive);
    EXPECT_EQ(error == WSA_IO_PENDING ? san.finish(pair.server.s, &receive).error : error,
              WSAECONNRESET);
}

// [R18.1]
TEST_F(CloseTest, BothEndsMayCloseAtOnce) {
    for (int i = 0; i < 30; ++i) {
        Pair both = connected(64);
        std::thread other([&] { EXPECT_EQ(san.close(both.client.s), 0); });
        EXPECT_EQ(san.close(both.server.s), 0);
        other.join();
    }
}

}  // namespace
}  // namespace sanpoll::conformance
