// The completion protocol: section 10, the rules of the upcalls, and WSPGetOverlappedResult.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class CompletionTest : public PairTest {};

// ---- starting -----------------------------------------------------------------------------------------------

// [R10.1 P8]
TEST_F(CompletionTest, ARefusedCallNeverCompletes) {
    Notified told;
    told.Internal = 4711;
    char outside[8] = {};
    EXPECT_EQ(san.send(pair.client.s, outside, 8, &told), WSAEFAULT);
    EXPECT_EQ(san.recv(pair.client.s, outside, 8, &told), WSAEFAULT);
    let_time_pass();
    EXPECT_EQ(told.Internal, 4711U);
    EXPECT_EQ(upcalls.count(UpcallKind::kComplete), 0U);
}

// [R10.2 R10.3 F.WSPRecv.WSA_IO_PENDING F.WSPRecv.4]
TEST_F(CompletionTest, AStartedOperationSaysThatItIsInProgress) {
    Polled receive;
    receive.Internal = 1;
    receive.InternalHigh = 99;
    // That flags and byte count of the call are left alone is checked by every recv() and send().
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    EXPECT_EQ(receive.Internal, kInProgress);
    EXPECT_EQ(receive.InternalHigh, 0U);  // project decision
    send_now(pair.client, "x");
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
}

// [R10.17 C11 F.WSPSend.WSA_IO_PENDING F.WSPSend.5]
TEST_F(CompletionTest, NothingCompletesInline) {  // project decision
    send_now(pair.client, "it is there already");
    let_time_pass();
    Polled receive;
    EXPECT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 19U);
    Polled operation;
    EXPECT_EQ(send(pair.server, &operation), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &operation).bytes, 8U);
}

// ---- polled: the low bit of hEvent is 1 ---------------------------------------------------------------------

// [R10.5 R10.10 R20.9]
TEST_F(CompletionTest, APolledOperationLeavesItsResultInTheFields) {
    Polled receive;
    receive.Offset = 77;
    receive.OffsetHigh = 88;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    send_now(pair.client, "thirteen long");
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
    EXPECT_NE(receive.Internal, kInProgress);
    EXPECT_EQ(receive.InternalHigh, 13U);
    EXPECT_EQ(receive.OffsetHigh, 0U);
    EXPECT_EQ(receive.Offset, 0U);
    EXPECT_EQ(receive.hEvent, reinterpret_cast<WSAEVENT>(1));
}

// [R10.5 R20.9]
TEST_F(CompletionTest, APolledOperationMakesNoUpcall) {
    const std::size_t before = upcalls.upcalls().size();
    Polled receive;
    receive.hEvent = reinterpret_cast<WSAEVENT>(0x1001);  // the other bits do not matter
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    send_now(pair.client, "x");
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
    let_time_pass();
    EXPECT_EQ(upcalls.upcalls().size(), before);
}

// [C10 R10.10]
TEST_F(CompletionTest, APolledOperationMakesNoUpcallAtCloseEither) {  // project decision
    Polled here;
    Polled there;
    ASSERT_EQ(recv(pair.server, &here), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.client, &there), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(here.OffsetHigh, static_cast<DWORD>(WSA_OPERATION_ABORTED));
    EXPECT_EQ(here.InternalHigh, 0U);
    EXPECT_EQ(san.finish(pair.client.s, &there).error, WSAECONNRESET);
    EXPECT_EQ(there.InternalHigh, 0U);
    EXPECT_EQ(upcalls.count(UpcallKind::kComplete), 0U);
}

// ---- notified: the low bit is 0 -----------------------------------------------------------------------------

// [R10.4 R10.8 R10.10 R19.3 T1 B22 R20.9]
TEST_F(CompletionTest, ANotifiedOperationMakesOneUpcallWithItsResult) {
    Notified receive;
    receive.Offset = 77;
    receive.OffsetHigh = 88;
    Notified operation;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    ASSERT_EQ(send(pair.client, &operation, 21), WSA_IO_PENDING);
    expect_upcall(&receive, pair.server.handle, 0, 21);
    expect_upcall(&operation, pair.client.handle, 0, 21);
    let_time_pass();
    EXPECT_EQ(upcalls.count(UpcallKind::kComplete), 2U);
}

// [R10.4 R10.10 R10.15]
TEST_F(CompletionTest, AFailedNotifiedOperationMakesOneUpcallWithItsError) {
    Notified receive;
    ASSERT_EQ(recv(pair.server, &receive, 4), WSA_IO_PENDING);
    send_now(pair.client, "more than four");
    expect_upcall(&receive, pair.server.handle, WSAEMSGSIZE, 0);
}

// [R10.7 T2]
TEST_F(CompletionTest, AnEventWithoutTheBitIsNotSignalledByTheProvider) {
    const WSAEVENT event = upcalls.create_event();
    Notified receive(event);
    Notified null_event;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.server, &null_event), WSA_IO_PENDING);
    send_now(pair.client, "8 bytes.");
    send_now(pair.client, "8 bytes.");
    expect_upcall(&receive, pair.server.handle, 0, 8);
    expect_upcall(&null_event, pair.server.handle, 0, 8);
    EXPECT_FALSE(upcalls.signaled(event));
    EXPECT_EQ(receive.hEvent, event);
}

// [R10.6]
TEST_F(CompletionTest, TheBitIsReadAtSubmission) {  // project decision
    Notified told;
    Polled polled;
    ASSERT_EQ(recv(pair.server, &told), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.server, &polled), WSA_IO_PENDING);
    told.hEvent = reinterpret_cast<WSAEVENT>(8);
    polled.hEvent = reinterpret_cast<WSAEVENT>(8);
    send_now(pair.client, "a");
    send_now(pair.client, "b");
    EXPECT_TRUE(upcalls.wait_for(&told));
    EXPECT_EQ(san.finish(pair.server.s, &polled).error, 0);
    EXPECT_TRUE(upcalls.completions(&polled).empty());
}

// [R10.8]
TEST_F(CompletionTest, EveryOperationCompletesOnceAtCloseToo) {
    std::deque<Notified> operations(40);
    for (std::size_t i = 0; i < operations.size(); ++i) {
        ASSERT_EQ(
            i % 2 == 0 ? recv(pair.server, &operations[i]) : send(pair.server, &operations[i]),
            WSA_IO_PENDING);
    }
    send_now(pair.client, "one of them gets it");
    EXPECT_EQ(san.close(pair.server.s), 0);
    for (Notified& operation : operations) {
        EXPECT_EQ(upcalls.completions(&operation).size(), 1U);
    }
}

// [R10.19 T4]
TEST_F(CompletionTest, TheStructureIsTheSwitchsFromTheUpcallOn) {
    auto receive = std::make_unique<Notified>();
    std::atomic<bool> done{false};
    const LPWSAOVERLAPPED address = receive.get();
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == address) {
            receive.reset();  // a provider that touches it now is found by the sanitizers
            done = true;
        }
    });
    ASSERT_EQ(recv(pair.server, receive.get()), WSA_IO_PENDING);
    send_now(pair.client, "x");
    EXPECT_TRUE(eventually([&] { return done.load(); }));
    // And one that lives on with other contents keeps them.
    Notified reused;
    ASSERT_EQ(recv(pair.server, &reused), WSA_IO_PENDING);
    send_now(pair.client, "x");
    ASSERT_TRUE(upcalls.wait_for(&reused));
    std::memset(static_cast<WSAOVERLAPPED*>(&reused), 0x5A, sizeof(reused));
    WSAOVERLAPPED pattern;
    std::memset(&pattern, 0x5A, sizeof(pattern));
    expect_delivery(pair.client, pair.server, "some more traffic");
    EXPECT_EQ(std::memcmp(static_cast<WSAOVERLAPPED*>(&reused), &pattern, sizeof(pattern)), 0);
}

// ---- order --------------------------------------------------------------------------------------------------

// [R18.4]
TEST_F(CompletionTest, UpcallsComeInTheOrderOfPostingAndDoNotOverlap) {
    constexpr std::size_t kCount = 500;
    std::deque<Notified> receives(kCount);
    std::deque<Notified> sends(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(patiently([&] { return recv(pair.server, &receives[i]); }), WSA_IO_PENDING);
        ASSERT_EQ(patiently([&] { return send(pair.client, &sends[i], i % 64); }), WSA_IO_PENDING);
    }
    ASSERT_TRUE(upcalls.wait_for(UpcallKind::kComplete, 2 * kCount));
    std::size_t received = 0;
    std::size_t sent = 0;
    for (const Upcall& call : upcalls.upcalls(UpcallKind::kComplete)) {
        if (call.handle == pair.server.handle) {
            ASSERT_EQ(call.overlapped, &receives[received]);
            ASSERT_EQ(call.bytes, received++ % 64);
        } else {
            ASSERT_EQ(call.overlapped, &sends[sent++]);
        }
    }
    EXPECT_EQ(received, kCount);
    EXPECT_EQ(sent, kCount);
}

// [R18.4]
TEST_F(CompletionTest, WhatIsDoneHasEverythingBeforeItDone) {
    std::deque<Polled> receives(100);
    std::deque<Polled> sends(100);
    for (Polled& receive : receives) {
        ASSERT_EQ(patiently([&] { return recv(pair.server, &receive); }), WSA_IO_PENDING);
    }
    for (Polled& operation : sends) {
        ASSERT_EQ(patiently([&] { return send(pair.client, &operation); }), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.finish(pair.server.s, &receives.back()).error, 0);
    EXPECT_EQ(san.finish(pair.client.s, &sends.back()).error, 0);
    for (std::size_t i = 0; i < 100; ++i) {
        EXPECT_NE(receives[i].Internal, kInProgress);
        EXPECT_NE(sends[i].Internal, kInProgress);
    }
}

// ---- from within the upcall ---------------------------------------------------------------------------------

// [F.WSPRecv.3 T3 R18.3 R10.9 R20.9 P7]
TEST_F(CompletionTest, AReceiveMayBeRepostedFromWithinItsUpcall) {
    constexpr int kCount = 200;
    Notified receive;
    std::atomic<int> arrived{0};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive && ++arrived < kCount) {
            EXPECT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
        }
    });
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    for (int i = 0; i < kCount; ++i) {
        send_now(pair.client, "again");
    }
    EXPECT_TRUE(eventually([&] { return arrived == kCount; }));
}

// [R10.9 T3]
TEST_F(CompletionTest, MemoryMayBeDeregisteredFromWithinTheUpcall) {
    Notified receive;
    std::atomic<int> result{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            result = san.deregister_memory(pair.server.s, pair.server.region);
        }
    });
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    send_now(pair.client, "x");
    EXPECT_TRUE(eventually([&] { return result != -1; }));
    EXPECT_EQ(result, 0);
}

// [T3 R18.3]
TEST_F(CompletionTest, EveryFunctionMayBeCalledFromWithinTheUpcall) {
    Notified receive;
    std::atomic<bool> done{false};
    const sockaddr_in address = fresh_address();
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped != &receive) {
            return;
        }
        EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 1).bytes, 4U);
        const SOCKET s = listening(address);
        EXPECT_EQ(san.event_select(s, upcalls.create_event(), FD_ACCEPT), 0);
        EXPECT_EQ(events_of(s), 0);
        int error = 0;
        EXPECT_EQ(san.accept(s, &error), INVALID_SOCKET);
        EXPECT_EQ(error, WSAEWOULDBLOCK);
        EXPECT_EQ(san.close(s), 0);
        EXPECT_EQ(san.close(connecting(address)), 0);
        done = true;
    });
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    send_now(pair.client, "call");
    EXPECT_TRUE(eventually([&] { return done.load(); }));
}

// [R12.8 F.WSPCloseSocket.5 R18.2 R20.9]
TEST_F(CompletionTest, TheSocketMayBeClosedFromWithinItsUpcall) {
    std::deque<Notified> receives(3);
    std::atomic<int> closed{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receives[0]) {
            closed = san.close(pair.server.s);
            EXPECT_EQ(san.close(pair.server.s), WSAENOTSOCK);
            EXPECT_EQ(closes_of(pair.server.handle), 0U) << "while this upcall runs";
        }
    });
    for (Notified& receive : receives) {
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    }
    send_now(pair.client, "x");
    ASSERT_TRUE(eventually([&] { return closes_of(pair.server.handle) == 1; }));
    EXPECT_EQ(closed, 0);
    for (std::size_t i = 1; i < 3; ++i) {
        EXPECT_EQ(upcalls.completions(&receives[i]).at(0).error,
                  static_cast<DWORD>(WSA_OPERATION_ABORTED));
    }
}

// ---- WSPGetOverlappedResult -----------------------------------------------------------------------------------

// [F.WSPGetOverlappedResult.WSA_IO_INCOMPLETE R10.18]
TEST_F(CompletionTest, ARunningOperationIsIncomplete) {
    Polled polled;
    Notified told;
    ASSERT_EQ(recv(pair.server, &polled), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.server, &told), WSA_IO_PENDING);
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(san.overlapped_result(pair.server.s, &polled, 0).error, WSA_IO_INCOMPLETE);
        EXPECT_EQ(san.overlapped_result(pair.server.s, &told, 0).error, WSA_IO_INCOMPLETE);
    }
    EXPECT_EQ(san.close(pair.server.s), 0);
}

// [F.WSPGetOverlappedResult.1 F.WSPGetOverlappedResult.3 R10.18]
TEST_F(CompletionTest, TheResultMayBeFetchedRepeatedlyForBothKinds) {
    Polled polled;
    Notified told;
    ASSERT_EQ(recv(pair.server, &polled), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.server, &told), WSA_IO_PENDING);
    send_now(pair.client, "nine long");
    send_now(pair.client, "nine long");
    for (LPWSAOVERLAPPED operation :
         {static_cast<LPWSAOVERLAPPED>(&polled), static_cast<LPWSAOVERLAPPED>(&told)}) {
        EXPECT_EQ(san.finish(pair.server.s, operation).bytes, 9U);
        for (int i = 0; i < 3; ++i) {
            const Result again = san.overlapped_result(pair.server.s, operation, i % 2);
            EXPECT_EQ(again.error, 0);
            EXPECT_EQ(again.bytes, 9U);
            EXPECT_EQ(again.flags, 0U);
        }
    }
}

// [F.WSPGetOverlappedResult.2 B12]
TEST_F(CompletionTest,
       AFailuresErrorMayBeFetchedRepeatedly) {  // byte count untouched: project decision
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive, 4), WSA_IO_PENDING);
    send_now(pair.client, "more than four");
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAEMSGSIZE);
    }
}

// [F.WSPGetOverlappedResult.4 B13]
TEST_F(CompletionTest, WaitingReturnsWhenTheOperationEnds) {  // for both kinds: project decision
    for (const std::uintptr_t bit : {1U, 0U}) {
        WSAOVERLAPPED receive{};
        receive.hEvent = reinterpret_cast<WSAEVENT>(bit);
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
        std::thread sender([&] {
            let_time_pass();
            send_now(pair.client, "twelve bytes");
        });
        const Result result = san.overlapped_result(pair.server.s, &receive, 1);
        sender.join();
        EXPECT_EQ(result.error, 0);
        EXPECT_EQ(result.bytes, 12U);
        if (bit == 0) {
            EXPECT_TRUE(upcalls.wait_for(&receive));
        }
    }
}

// [F.WSPGetOverlappedResult.4]
TEST_F(CompletionTest, WaitingReturnsWhenThePeerCloses) {
    Polled receive;
    ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
    std::thread closer([&] { EXPECT_EQ(san.close(pair.client.s), 0); });
    EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 1).error, WSAECONNRESET);
    closer.join();
}

// [F.WSPGetOverlappedResult.WSAEINVAL]
TEST_F(CompletionTest, MissingPointersAreInvalid) {
    Polled operation;
    DWORD value = 0;
    INT error = 0;
    const SOCKET s = pair.client.s;
    const auto get = san.table.lpWSPGetOverlappedResult;
    EXPECT_EQ(get(s, nullptr, &value, 0, &value, &error), 0);
    EXPECT_EQ(std::exchange(error, 0), WSAEINVAL);
    EXPECT_EQ(get(s, &operation, nullptr, 0, &value, &error), 0);
    EXPECT_EQ(std::exchange(error, 0), WSAEINVAL);
    EXPECT_EQ(get(s, &operation, &value, 0, nullptr, &error), 0);
    EXPECT_EQ(error, WSAEINVAL);
}

LPWPUCOMPLETEOVERLAPPEDREQUEST original_complete = nullptr;

// [C30]
TEST_F(CompletionTest, AnUpcallThatFailsChangesNothing) {  // project decision
    // A second start brings a table whose completion upcall does its work and says that it failed.
    WSPUPCALLTABLEEX table = upcalls.table();
    original_complete = table.lpWPUCompleteOverlappedRequest;
    table.lpWPUCompleteOverlappedRequest = [](SOCKET s, LPWSAOVERLAPPED overlapped, DWORD code,
                                              DWORD bytes, LPINT error) {
        (void)original_complete(s, overlapped, code, bytes, error);
        *error = WSAEINVAL;
        return SOCKET_ERROR;
    };
    WSPDATA data{};
    WSAPROTOCOL_INFOW info{};
    WSPPROC_TABLE procedures{};
    ASSERT_EQ(Calls::startup()(MAKEWORD(2, 2), &data, &info, &table, &procedures), 0);
    Notified receives[2];
    for (Notified& receive : receives) {
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
        send_now(pair.client, "on we go");
        expect_upcall(&receive, pair.server.handle, 0, 8);
    }
    EXPECT_EQ(san.cleanup(), 0);
}

}  // namespace
}  // namespace sanpoll::conformance
