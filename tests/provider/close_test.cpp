// WSPCloseSocket, and WSPCleanup with open sockets.
#include <atomic>
#include <cstring>
#include <deque>
#include <thread>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr auto kAborted = static_cast<DWORD>(WSA_OPERATION_ABORTED);
constexpr auto kReset = static_cast<DWORD>(WSAECONNRESET);

class CloseTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected();
    }
    int recv(End& end, LPWSAOVERLAPPED operation, std::size_t length = 64) {
        return san.recv(end.s, end.at(0), length, operation);
    }
    int send(End& end, LPWSAOVERLAPPED operation, std::size_t length = 8) {
        return san.send(end.s, end.at(0), length, operation);
    }

    Pair pair;
};

TEST_F(CloseTest, TheDescriptorIsInvalidAfterwards) {
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.close(pair.client.s), WSAENOTSOCK);
    Polled operation;
    EXPECT_EQ(send(pair.client, &operation), WSAENOTSOCK);
}

TEST_F(CloseTest, TheHandleIsClosedOnceByTheTimeItReturns) {
    EXPECT_EQ(san.close(pair.client.s), 0);
    const std::vector<Upcall> closes = upcalls.upcalls(UpcallKind::kCloseSocketHandle);
    EXPECT_EQ(std::count_if(closes.begin(), closes.end(),
                            [&](const Upcall& call) { return call.handle == pair.client.handle; }),
              1);
}

TEST_F(CloseTest, SocketsInEveryStateClose) {
    const sockaddr_in address = fresh_address();
    const SOCKET created = socket();
    const SOCKET named = bound();
    const SOCKET listener = listening(address);
    const SOCKET on_its_way = connecting(address);
    End end = broken();
    for (const SOCKET s : {created, named, on_its_way, listener, end.s, pair.client.s}) {
        EXPECT_EQ(san.close(s), 0);
        EXPECT_EQ(san.close(s), WSAENOTSOCK);
    }
}

TEST_F(CloseTest, OwnPendingOperationsAreAbortedInOrderThenTheHandleIsClosed) {
    std::deque<Notified> receives(20);
    std::deque<Notified> sends(3);
    for (Notified& receive : receives) {
        ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    }
    for (Notified& operation : sends) {
        ASSERT_EQ(send(pair.client, &operation, 60000), WSA_IO_PENDING);  // wait for receives
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    std::size_t received = 0;
    std::size_t sent = 0;
    bool closed = false;
    for (const Upcall& call : upcalls.upcalls()) {
        if (call.handle != pair.client.handle || call.kind == UpcallKind::kCreateSocketHandle) {
            continue;
        }
        EXPECT_FALSE(closed) << "an upcall after WPUCloseSocketHandle";
        if (call.kind == UpcallKind::kCloseSocketHandle) {
            closed = true;
            continue;
        }
        EXPECT_EQ(call.error, kAborted);
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
    EXPECT_TRUE(closed);
}

TEST_F(CloseTest, OwnPolledOperationsAreFinishedWhenItReturns) {
    std::deque<Polled> receives(20);
    std::deque<Polled> sends(3);
    for (Polled& receive : receives) {
        ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    }
    for (Polled& operation : sends) {
        ASSERT_EQ(send(pair.client, &operation, 60000), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (const auto* all : {&receives, &sends}) {
        for (const Polled& operation : *all) {
            EXPECT_NE(operation.Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
            EXPECT_EQ(operation.OffsetHigh, kAborted);
            EXPECT_EQ(operation.InternalHigh, 0U);
        }
    }
}

TEST_F(CloseTest, NothingIsWrittenIntoReceivesAfterItHasReturned) {
    std::deque<Polled> receives(8);
    for (Polled& receive : receives) {
        ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    }
    std::deque<Polled> sends(8);
    std::memset(pair.server.at(0), 'x', 64);
    EXPECT_EQ(san.close(pair.client.s), 0);
    const std::vector<char> before = pair.client.memory;
    for (Polled& operation : sends) {
        (void)send(pair.server, &operation, 64);
    }
    let_time_pass();
    EXPECT_EQ(pair.client.memory, before);
    EXPECT_EQ(san.close(pair.server.s), 0);
}

// ---- the other end ------------------------------------------------------------------------------------

TEST_F(CloseTest, ThePeersPendingReceivesAreReset) {
    std::deque<Polled> polled(5);
    std::deque<Notified> notified(5);
    for (std::size_t i = 0; i < 5; ++i) {
        ASSERT_EQ(recv(pair.server, &polled[i]), WSA_IO_PENDING);
        ASSERT_EQ(recv(pair.server, &notified[i]), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_EQ(san.finish(pair.server.s, &polled[i]).error, WSAECONNRESET);
        ASSERT_TRUE(upcalls.wait_for(&notified[i]));
        EXPECT_EQ(upcalls.completions(&notified[i]).at(0).error, kReset);
    }
}

TEST_F(CloseTest, ThePeersPendingSendsAreReset) {
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

TEST_F(CloseTest, ThePeersLaterCallsGetTheConnectionsError) {
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAECONNRESET);
    Polled later;
    EXPECT_EQ(recv(pair.server, &later), WSAECONNRESET);
    EXPECT_EQ(send(pair.server, &later), WSAECONNRESET);
}

TEST_F(CloseTest, ThePeersDescriptorAndHandleStayUntilItCloses) {
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAECONNRESET);
    let_time_pass();
    for (const Upcall& call : upcalls.upcalls(UpcallKind::kCloseSocketHandle)) {
        EXPECT_NE(call.handle, pair.server.handle);
    }
    EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 0).error, WSAECONNRESET);
    EXPECT_EQ(san.close(pair.server.s), 0);
}

class DeliveryTest : public CloseTest, public testing::WithParamInterface<std::size_t> {};

TEST_P(DeliveryTest, MessagesWhoseSendHasCompletedArriveBeforeTheEnd) {  // project decision
    constexpr std::size_t kMost = 10;
    const std::size_t length = GetParam();
    std::deque<Polled> receives(kMost + 1);
    for (Polled& receive : receives) {
        ASSERT_EQ(recv(pair.server, &receive, 65536), WSA_IO_PENDING);
    }
    std::memset(pair.client.at(0), 'd', length);
    for (std::size_t i = 0; i < kMost; ++i) {
        Polled operation;
        ASSERT_EQ(send(pair.client, &operation, length), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (std::size_t i = 0; i < kMost; ++i) {
        const Result received = san.finish(pair.server.s, &receives[i]);
        EXPECT_EQ(received.error, 0) << i;
        EXPECT_EQ(received.bytes, length);
    }
    EXPECT_EQ(*pair.server.at(length - 1), 'd');
    EXPECT_EQ(san.finish(pair.server.s, &receives[kMost]).error, WSAECONNRESET);
}

INSTANTIATE_TEST_SUITE_P(Lengths, DeliveryTest, testing::Values(1, 500, 4000, 16000, 60000));

TEST_F(CloseTest, BufferedMessagesAreDeliveredToReceivesPostedAfterTheEnd) {  // project decision
    for (char c = 'a'; c < 'd'; ++c) {
        *pair.client.at(0) = c;
        Polled operation;
        ASSERT_EQ(send(pair.client, &operation, 1), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    let_time_pass();
    for (char c = 'a'; c < 'd'; ++c) {
        Polled receive;
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING) << c;
        EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 1U);
        EXPECT_EQ(*pair.server.at(0), c);
    }
    Polled receive;
    const int error = recv(pair.server, &receive);
    EXPECT_EQ(error == WSA_IO_PENDING ? san.finish(pair.server.s, &receive).error : error,
              WSAECONNRESET);
}

TEST_F(CloseTest, BothEndsMayCloseAtOnce) {
    for (int i = 0; i < 50; ++i) {
        Pair both = connected(64);
        std::thread other([&] { EXPECT_EQ(san.close(both.client.s), 0); });
        EXPECT_EQ(san.close(both.server.s), 0);
        other.join();
    }
}

TEST_F(CloseTest, CloseInTheMiddleOfALongMessage) {
    constexpr std::size_t kLong = 8U << 20;
    for (const bool receiver_closes : {true, false}) {
        Pair big = connected(kLong);
        Polled receive;
        Polled operation;
        ASSERT_EQ(san.recv(big.server.s, big.server.at(0), kLong, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.send(big.client.s, big.client.at(0), kLong, &operation), WSA_IO_PENDING);
        End& closing = receiver_closes ? big.server : big.client;
        End& staying = receiver_closes ? big.client : big.server;
        WSAOVERLAPPED& aborted = receiver_closes ? static_cast<WSAOVERLAPPED&>(receive) : operation;
        WSAOVERLAPPED& reset = receiver_closes ? static_cast<WSAOVERLAPPED&>(operation) : receive;
        EXPECT_EQ(san.close(closing.s), 0);
        // It may have been over already.
        EXPECT_TRUE(aborted.OffsetHigh == kAborted || aborted.OffsetHigh == 0);
        const int error = san.finish(staying.s, &reset).error;
        EXPECT_TRUE(error == WSAECONNRESET || error == 0) << error;
        EXPECT_EQ(san.close(staying.s), 0);
    }
}

TEST_F(CloseTest, OneConnectionsEndDoesNotTouchAnother) {
    Pair other = connected();
    Polled receive;
    ASSERT_EQ(recv(other.server, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.client.s), 0);
    EXPECT_EQ(san.close(pair.server.s), 0);
    Polled operation;
    ASSERT_EQ(send(other.client, &operation), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(other.server.s, &receive).bytes, 8U);
}

TEST_F(CloseTest, OldDescriptorsNeverFitNewSockets) {
    std::vector<SOCKET> old;
    for (int i = 0; i < 2000; ++i) {
        const SOCKET s = socket();
        EXPECT_EQ(san.close(s), 0);
        old.push_back(s);
    }
    std::vector<SOCKET> fresh;
    for (int i = 0; i < 600; ++i) {
        fresh.push_back(socket());
    }
    for (const SOCKET s : old) {
        ASSERT_EQ(san.close(s), WSAENOTSOCK);
    }
    for (const SOCKET s : fresh) {
        EXPECT_EQ(san.close(s), 0);
    }
}

TEST_F(CloseTest, ConnectionsComeAndGoManyTimes) {
    for (int i = 0; i < 300; ++i) {
        Pair next = connected(256);
        expect_delivery(next.client, next.server, "hello");
        EXPECT_EQ(san.close(i % 2 == 0 ? next.client.s : next.server.s), 0);
        EXPECT_EQ(san.close(i % 2 == 0 ? next.server.s : next.client.s), 0);
    }
}

// ---- cleanup ------------------------------------------------------------------------------------------

TEST_F(CloseTest, CleanupAbortsWhatIsPendingAndClosesEveryHandle) {
    std::deque<Polled> polled(4);
    std::deque<Notified> notified(4);
    for (std::size_t i = 0; i < 4; ++i) {
        ASSERT_EQ(recv(pair.client, &polled[i]), WSA_IO_PENDING);
        ASSERT_EQ(recv(pair.client, &notified[i]), WSA_IO_PENDING);
    }
    Notified other_end;
    ASSERT_EQ(recv(pair.server, &other_end), WSA_IO_PENDING);
    (void)listening(fresh_address());
    stop();
    EXPECT_EQ(upcalls.open_handles(), 0U);
    std::size_t aborted = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        EXPECT_NE(polled[i].Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
        ASSERT_EQ(upcalls.completions(&notified[i]).size(), 1U);
        aborted += polled[i].OffsetHigh == kAborted ? 1 : 0;
        aborted += upcalls.completions(&notified[i])[0].error == kAborted ? 1 : 0;
    }
    // Of two ends in one process, one is closed first and the other may see that.
    const DWORD other = upcalls.completions(&other_end).at(0).error;
    EXPECT_TRUE(aborted == 8 || other == kAborted) << aborted << " " << other;
}

TEST_F(CloseTest, NoUpcallComesAfterTheLastCleanup) {
    Notified receive;
    ASSERT_EQ(recv(pair.client, &receive), WSA_IO_PENDING);
    stop();
    const std::size_t made = upcalls.upcalls().size();
    let_time_pass();
    EXPECT_EQ(upcalls.upcalls().size(), made);
}

TEST_F(CloseTest, CleanupWithRequestsAndConnectsUnderwayAndStartAgain) {
    for (int i = 0; i < 5; ++i) {
        const sockaddr_in address = fresh_address();
        (void)listening(address);
        (void)connecting(address);
        (void)connecting(fresh_address());
        (void)connected(64);
        stop();
        EXPECT_EQ(upcalls.open_handles(), 0U);
        ProviderTest::SetUp();
    }
    Pair after = connected();
    expect_delivery(after.client, after.server, "started again");
}

TEST_F(CloseTest, CleanupWhileThreadsAskForEventsAndRequests) {
    for (int round = 0; round < 20; ++round) {
        const SOCKET listener = listening(fresh_address());
        std::atomic<int> asked{0};
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i) {
            threads.emplace_back([&, i] {
                int error = 0;
                while (error != WSANOTINITIALISED && error != WSAENOTSOCK) {
                    WSANETWORKEVENTS events{};
                    if (i == 0) {
                        error = san.enum_events(listener, nullptr, &events);
                    } else {
                        (void)san.accept(listener, &error);
                    }
                    asked.fetch_add(1);
                }
            });
        }
        EXPECT_TRUE(eventually([&] { return asked.load() > 100; }));
        stop();
        for (std::thread& thread : threads) {
            thread.join();
        }
        ProviderTest::SetUp();
    }
}

TEST_F(CloseTest, TheLastCleanupMayComeFromWithinTheEndOfAHandle) {
    bool asked = false;
    {
        const ActionScope acting = upcalls.on_close_handle([&](SOCKET handle) {
            if (handle == pair.client.handle && !asked) {
                asked = true;
                stop();
            }
        });
        EXPECT_EQ(san.close(pair.client.s), 0);
    }
    EXPECT_TRUE(asked);
    ProviderTest::SetUp();
    Pair after = connected();
    expect_delivery(after.client, after.server, "started again");
}

// A close inside an upcall ends its record when that has returned, on a thread that the last WSPCleanup joins.
TEST_F(CloseTest, TheLastCleanupWaitsForWhatAnUpcallHasClosed) {
    Pair other = connected();
    Notified first;
    Notified pending;
    ASSERT_EQ(recv(other.client, &pending), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.client, &first), WSA_IO_PENDING);
    std::thread ending;
    int started = 0;
    int ended = 0;
    std::atomic<bool> acted{false};
    {
        const ActionScope acting = upcalls.on_complete([&](const Upcall&) {
            if (acted) {
                return;
            }
            // Both, for the end would first wait here for what is still open and has upcalls to come.
            EXPECT_EQ(san.close(pair.client.s), 0);
            EXPECT_EQ(san.close(other.client.s), 0);
            ending = std::thread([&] { stop(); });
            EXPECT_TRUE(eventually([&] { return san.close(INVALID_SOCKET) == WSANOTINITIALISED; }));
            started = Calls().start();
            ended = san.cleanup();
            acted = true;
        });
        Polled sending;
        (void)send(pair.server, &sending);
        ASSERT_TRUE(eventually([&] { return acted.load(); }));
        ending.join();
    }
    EXPECT_EQ(started, WSASYSNOTREADY);
    EXPECT_EQ(ended, WSANOTINITIALISED) << "one too many";
    ASSERT_EQ(upcalls.completions(&pending).size(), 1U);
    EXPECT_EQ(upcalls.completions(&pending)[0].error, kAborted);
    EXPECT_EQ(upcalls.open_handles(), 0U);
}

TEST_F(CloseTest, DescriptorsOfAnEarlierStartAreNotSockets) {
    stop();
    ProviderTest::SetUp();
    EXPECT_EQ(san.close(pair.client.s), WSAENOTSOCK);
    EXPECT_EQ(san.close(pair.server.s), WSAENOTSOCK);
}

}  // namespace
}  // namespace sanpoll::test
