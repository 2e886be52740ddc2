// The completion protocol of the WSAOVERLAPPED, and WSPGetOverlappedResult.
#include <atomic>
#include <cstring>
#include <deque>
#include <thread>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class CompletionTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        pair = connected();
    }
    int recv(LPWSAOVERLAPPED operation, std::size_t length = 64, std::size_t offset = 0) {
        return san.recv(pair.server.s, pair.server.at(offset), length, operation);
    }
    int send(LPWSAOVERLAPPED operation, std::size_t length = 8, std::size_t offset = 0) {
        return san.send(pair.client.s, pair.client.at(offset), length, operation);
    }
    void send_now(std::size_t length = 8) {
        Polled operation;
        ASSERT_EQ(send(&operation, length), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }

    Pair pair;
};

// ---- polled: hEvent's low bit is 1 --------------------------------------------------------------------

TEST_F(CompletionTest, APendingOperationSaysSo) {
    Polled receive;
    receive.Internal = 1;
    receive.InternalHigh = 99;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    EXPECT_EQ(receive.Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
    EXPECT_EQ(receive.InternalHigh, 0U);  // project decision
    send_now();
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
}

TEST_F(CompletionTest, APolledOperationLeavesItsResultInTheFields) {
    Polled receive;
    receive.Offset = 77;
    receive.OffsetHigh = 88;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now(13);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
    EXPECT_NE(receive.Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
    EXPECT_EQ(receive.InternalHigh, 13U);
    EXPECT_EQ(receive.OffsetHigh, 0U);
    EXPECT_EQ(receive.Offset, 0U);
    EXPECT_EQ(receive.hEvent, reinterpret_cast<WSAEVENT>(1));
}

TEST_F(CompletionTest, APolledOperationMakesNoUpcall) {
    const std::size_t before = upcalls.upcalls().size();
    Polled receive;
    receive.hEvent = reinterpret_cast<WSAEVENT>(0x1001);  // bits beside the lowest do not matter
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now();
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
    let_time_pass();
    EXPECT_EQ(upcalls.upcalls().size(), before);
}

TEST_F(CompletionTest, APolledOperationMakesNoUpcallWhenTheSocketCloses) {
    Polled receive;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.server.s), 0);
    EXPECT_EQ(receive.Internal, 0U);
    EXPECT_EQ(receive.OffsetHigh, static_cast<DWORD>(WSA_OPERATION_ABORTED));
    EXPECT_EQ(receive.InternalHigh, 0U);
    EXPECT_EQ(upcalls.count(UpcallKind::kComplete), 0U);
}

TEST_F(CompletionTest, AFailedPolledOperationLeavesItsErrorInTheFields) {
    Polled receive;
    ASSERT_EQ(recv(&receive, 4), WSA_IO_PENDING);
    send_now(8);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAEMSGSIZE);
    EXPECT_EQ(receive.OffsetHigh, static_cast<DWORD>(WSAEMSGSIZE));
}

// ---- notified: the low bit is 0 -----------------------------------------------------------------------

void expect_one_good_upcall(const RecordingSwitch& upcalls, LPWSAOVERLAPPED operation,
                            SOCKET handle, DWORD error, DWORD bytes) {
    ASSERT_TRUE(upcalls.wait_for(operation));
    let_time_pass();
    const std::vector<Upcall> made = upcalls.completions(operation);
    ASSERT_EQ(made.size(), 1U);
    EXPECT_EQ(made[0].handle, handle);
    EXPECT_EQ(made[0].error, error);
    EXPECT_EQ(made[0].bytes, bytes);
    EXPECT_EQ(made[0].at_entry.OffsetHigh, error) << "the error is stored before the upcall";
    EXPECT_EQ(made[0].at_entry.Offset, 0U) << "the flags are stored before the upcall";
    EXPECT_EQ(made[0].at_entry.InternalHigh, bytes);  // project decision
}

TEST_F(CompletionTest, ANotifiedReceiveMakesOneUpcall) {
    Notified receive;
    receive.Offset = 77;
    receive.OffsetHigh = 88;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now(21);
    expect_one_good_upcall(upcalls, &receive, pair.server.handle, 0, 21);
}

TEST_F(CompletionTest, ANotifiedSendMakesOneUpcall) {
    Notified operation;
    ASSERT_EQ(send(&operation, 33), WSA_IO_PENDING);
    expect_one_good_upcall(upcalls, &operation, pair.client.handle, 0, 33);
}

TEST_F(CompletionTest, AnEventHandleWithoutTheBitIsNotSignalledByTheProvider) {
    const WSAEVENT event = upcalls.create_event();
    Notified receive(event);
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now();
    expect_one_good_upcall(upcalls, &receive, pair.server.handle, 0, 8);
    EXPECT_FALSE(upcalls.signaled(event));  // that is the switch's affair
    EXPECT_EQ(receive.hEvent, event);
}

TEST_F(CompletionTest, AFailedNotifiedOperationMakesOneUpcall) {
    Notified receive;
    ASSERT_EQ(recv(&receive, 4), WSA_IO_PENDING);
    send_now(8);
    expect_one_good_upcall(upcalls, &receive, pair.server.handle, WSAEMSGSIZE, 0);
}

TEST_F(CompletionTest, ANotifiedOperationThatIsAbortedMakesOneUpcall) {
    Notified receive;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    EXPECT_EQ(san.close(pair.server.s), 0);
    expect_one_good_upcall(upcalls, &receive, pair.server.handle, WSA_OPERATION_ABORTED, 0);
}

TEST_F(CompletionTest, ARefusedCallMakesNoUpcall) {
    Notified operation;
    char outside[8] = {};
    EXPECT_EQ(san.send(pair.client.s, outside, 8, &operation), WSAEFAULT);
    EXPECT_EQ(san.recv(pair.client.s, outside, 8, &operation), WSAEFAULT);
    let_time_pass();
    EXPECT_EQ(upcalls.count(UpcallKind::kComplete), 0U);
}

TEST_F(CompletionTest, TheBitIsReadAtSubmission) {  // project decision
    Notified receive;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    receive.hEvent = reinterpret_cast<WSAEVENT>(8);
    send_now();
    EXPECT_TRUE(upcalls.wait_for(&receive));
}

TEST_F(CompletionTest, UpcallsComeInTheOrderOfPosting) {
    constexpr std::size_t kCount = 2000;
    std::deque<Notified> receives(kCount);
    std::deque<Notified> sends(kCount);
    // A busy host may keep the holder of the core's token off its processor for longer than a post tries.
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(patiently([&] { return recv(&receives[i]); }), WSA_IO_PENDING);
        ASSERT_EQ(patiently([&] { return send(&sends[i], i % 64); }), WSA_IO_PENDING);
    }
    ASSERT_TRUE(upcalls.wait_for(UpcallKind::kComplete, 2 * kCount));
    // The last upcalls have not only begun: they write into the operations, which go with this test.
    ASSERT_TRUE(upcalls.wait_for(&receives.back()));
    ASSERT_TRUE(upcalls.wait_for(&sends.back()));
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

TEST_F(CompletionTest, PolledResultsAppearInTheOrderOfPosting) {
    constexpr std::size_t kCount = 200;
    std::deque<Polled> receives(kCount);
    for (Polled& receive : receives) {
        ASSERT_EQ(patiently([&] { return recv(&receive); }), WSA_IO_PENDING);
    }
    std::deque<Polled> sends(kCount);
    for (Polled& operation : sends) {
        ASSERT_EQ(patiently([&] { return send(&operation); }), WSA_IO_PENDING);
    }
    // Whatever is done, everything before it is done as well.
    EXPECT_EQ(san.finish(pair.server.s, &receives.back()).error, 0);
    for (Polled& receive : receives) {
        EXPECT_NE(receive.Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
    }
    EXPECT_EQ(san.finish(pair.client.s, &sends.back()).error, 0);
    for (Polled& operation : sends) {
        EXPECT_NE(operation.Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
    }
}

TEST_F(CompletionTest, PolledAndNotifiedOperationsKeepOneOrderOfFilling) {
    constexpr std::size_t kCount = 100;
    std::deque<Notified> notified(kCount);
    std::deque<Polled> polled(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(recv(&notified[i]), WSA_IO_PENDING);
        ASSERT_EQ(recv(&polled[i]), WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        send_now(1);
        send_now(2);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        EXPECT_EQ(san.finish(pair.server.s, &polled[i]).bytes, 2U);
        EXPECT_EQ(san.finish(pair.server.s, &notified[i]).bytes, 1U);
    }
}

// ---- from within the upcall ---------------------------------------------------------------------------

TEST_F(CompletionTest, ReceivesMayBePostedFromWithinTheUpcall) {
    constexpr int kCount = 500;
    Notified receive;
    std::atomic<int> arrived{0};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive && ++arrived < kCount) {
            EXPECT_EQ(recv(&receive), WSA_IO_PENDING);
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    for (int i = 0; i < kCount; ++i) {
        send_now();
    }
    EXPECT_TRUE(eventually([&] { return arrived == kCount; }));
}

TEST_F(CompletionTest, SendsMayBePostedFromWithinTheUpcall) {
    Notified receive;
    Notified reply;
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            EXPECT_EQ(san.send(pair.server.s, pair.server.at(1000), 5, &reply), WSA_IO_PENDING);
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    Polled answer;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(1000), 64, &answer), WSA_IO_PENDING);
    send_now();
    EXPECT_EQ(san.finish(pair.client.s, &answer).bytes, 5U);
    EXPECT_TRUE(upcalls.wait_for(&reply));
}

TEST_F(CompletionTest, TheResultMayBeFetchedFromWithinTheUpcall) {
    Notified receive;
    std::atomic<int> bytes{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            bytes = static_cast<int>(san.overlapped_result(pair.server.s, &receive, 1).bytes);
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now(17);
    EXPECT_TRUE(eventually([&] { return bytes == 17; }));
}

// The thread that would report the other operation is the one that asks: it must not wait for itself.
TEST_F(CompletionTest,
       WaitingWithinTheUpcallForANotifiedOperationIsIncomplete) {  // project decision
    Notified receive;
    Notified other;
    std::atomic<int> error{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            error = san.overlapped_result(pair.server.s, &other, 1).error;
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    ASSERT_EQ(recv(&other), WSA_IO_PENDING);
    send_now();
    ASSERT_TRUE(eventually([&] { return error != -1; }));
    EXPECT_EQ(error, WSA_IO_INCOMPLETE);
    EXPECT_EQ(upcalls.completions(&other).size(), 0U);  // it goes on
    send_now();
    ASSERT_TRUE(upcalls.wait_for(&other));
    EXPECT_EQ(upcalls.completions(&other).at(0).error, 0U);
}

TEST_F(CompletionTest, WaitingWithinTheUpcallForAPolledOperationEnds) {
    Notified receive;
    Polled other;
    std::atomic<int> error{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            error = san.overlapped_result(pair.server.s, &other, 1).error;
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    ASSERT_EQ(recv(&other), WSA_IO_PENDING);
    send_now();
    let_time_pass();
    EXPECT_EQ(error, -1);
    send_now();
    EXPECT_TRUE(eventually([&] { return error == 0; }));
}

TEST_F(CompletionTest, TheSocketMayBeClosedFromWithinTheUpcall) {
    std::deque<Notified> receives(3);
    std::atomic<int> closed{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receives[0]) {
            closed = san.close(pair.server.s);
            int error = 0;
            (void)san.accept(pair.server.s, &error);
            EXPECT_EQ(error, WSAENOTSOCK);
        }
    });
    for (Notified& receive : receives) {
        ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    }
    send_now();
    ASSERT_TRUE(upcalls.wait_for(UpcallKind::kComplete, 3));
    EXPECT_EQ(closed, 0);
    // The rest is aborted and then the handle closed.
    ASSERT_TRUE(eventually([&] {
        const std::vector<Upcall> closes = upcalls.upcalls(UpcallKind::kCloseSocketHandle);
        return !closes.empty() && closes.back().handle == pair.server.handle;
    }));
    EXPECT_EQ(upcalls.completions(&receives[1]).at(0).error,
              static_cast<DWORD>(WSA_OPERATION_ABORTED));
    EXPECT_EQ(upcalls.completions(&receives[2]).at(0).error,
              static_cast<DWORD>(WSA_OPERATION_ABORTED));
}

TEST_F(CompletionTest, AnotherSocketMayBeClosedFromWithinTheUpcall) {
    Notified receive;
    Notified other;
    std::atomic<int> closed{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            closed = san.close(pair.client.s);
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(100), 8, &other), WSA_IO_PENDING);
    Polled message;  // from here on the client may be closed: nothing more is asked of it
    ASSERT_EQ(send(&message), WSA_IO_PENDING);
    ASSERT_TRUE(upcalls.wait_for(&other));
    EXPECT_EQ(closed, 0);
    EXPECT_EQ(upcalls.completions(&other).at(0).error, static_cast<DWORD>(WSA_OPERATION_ABORTED));
}

TEST_F(CompletionTest, MemoryMayBeDeregisteredFromWithinTheUpcall) {
    Notified receive;
    std::atomic<int> result{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            result = san.deregister_memory(pair.server.s, pair.server.region);
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now();
    EXPECT_TRUE(eventually([&] { return result != -1; }));
    EXPECT_EQ(result, 0);
}

TEST_F(CompletionTest, TheLastCleanupFromWithinTheUpcallIsRefused) {  // project decision
    Notified receive;
    std::atomic<int> result{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            result = san.cleanup();
        }
    });
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now();
    EXPECT_TRUE(eventually([&] { return result != -1; }));
    EXPECT_EQ(result, WSAENETDOWN);
}

// ---- WSPGetOverlappedResult ---------------------------------------------------------------------------

TEST_F(CompletionTest, ARunningOperationIsIncomplete) {
    Polled polled;
    Notified notified;
    ASSERT_EQ(recv(&polled), WSA_IO_PENDING);
    ASSERT_EQ(recv(&notified), WSA_IO_PENDING);
    for (int i = 0; i < 10; ++i) {
        EXPECT_EQ(san.overlapped_result(pair.server.s, &polled, 0).error, WSA_IO_INCOMPLETE);
        EXPECT_EQ(san.overlapped_result(pair.server.s, &notified, 0).error, WSA_IO_INCOMPLETE);
    }
    EXPECT_EQ(san.close(pair.server.s), 0);
}

TEST_F(CompletionTest, AResultMayBeFetchedRepeatedly) {
    Polled receive;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now(9);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 9U);
    for (int i = 0; i < 3; ++i) {
        const Result again = san.overlapped_result(pair.server.s, &receive, i % 2);
        EXPECT_EQ(again.error, 0);
        EXPECT_EQ(again.bytes, 9U);
        EXPECT_EQ(again.flags, 0U);
    }
}

TEST_F(CompletionTest, ANotifiedOperationsResultMayBeFetchedToo) {
    Notified receive;
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    send_now(9);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 9U);
}

// The byte count's staying as it was on failure is checked by every call that these tests make.
TEST_F(CompletionTest, AFailuresResultMayBeFetchedRepeatedly) {  // project decision: no byte count
    Polled receive;
    ASSERT_EQ(recv(&receive, 4), WSA_IO_PENDING);
    send_now(8);
    EXPECT_EQ(san.finish(pair.server.s, &receive).error, WSAEMSGSIZE);
    EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 1).error, WSAEMSGSIZE);
}

class WaitTest : public CompletionTest, public testing::WithParamInterface<bool> {};

TEST_P(WaitTest, WaitReturnsWhenTheOperationEnds) {  // project decision: supported for both kinds
    WSAOVERLAPPED receive{};
    receive.hEvent = reinterpret_cast<WSAEVENT>(GetParam() ? 1 : 0);
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    std::thread sender([&] {
        let_time_pass();
        send_now(12);
    });
    const Result result = san.overlapped_result(pair.server.s, &receive, 1);
    sender.join();
    EXPECT_EQ(result.error, 0);
    EXPECT_EQ(result.bytes, 12U);
}

TEST_P(WaitTest, WaitReturnsWhenThePeerCloses) {
    WSAOVERLAPPED receive{};
    receive.hEvent = reinterpret_cast<WSAEVENT>(GetParam() ? 1 : 0);
    ASSERT_EQ(recv(&receive), WSA_IO_PENDING);
    std::thread closer([&] {
        let_time_pass();
        EXPECT_EQ(san.close(pair.client.s), 0);
    });
    const Result result = san.overlapped_result(pair.server.s, &receive, 1);
    closer.join();
    EXPECT_EQ(result.error, WSAECONNRESET);
}

TEST_P(WaitTest, WaitReturnsAtOnceForAFinishedOperation) {
    WSAOVERLAPPED operation{};
    operation.hEvent = reinterpret_cast<WSAEVENT>(GetParam() ? 1 : 0);
    ASSERT_EQ(send(&operation, 6), WSA_IO_PENDING);
    EXPECT_EQ(san.overlapped_result(pair.client.s, &operation, 1).bytes, 6U);
    EXPECT_EQ(san.overlapped_result(pair.client.s, &operation, 1).bytes, 6U);
}

INSTANTIATE_TEST_SUITE_P(Kinds, WaitTest, testing::Values(true, false),
                         [](const auto& kind) { return kind.param ? "Polled" : "Notified"; });

TEST_F(CompletionTest, MissingPointersAreInvalid) {
    Polled operation;
    DWORD value = 0;
    INT error = 0;
    const SOCKET s = pair.client.s;
    EXPECT_EQ(san.table.lpWSPGetOverlappedResult(s, nullptr, &value, 0, &value, &error), 0);
    EXPECT_EQ(error, WSAEINVAL);
    error = 0;
    EXPECT_EQ(san.table.lpWSPGetOverlappedResult(s, &operation, nullptr, 0, &value, &error), 0);
    EXPECT_EQ(error, WSAEINVAL);
    error = 0;
    EXPECT_EQ(san.table.lpWSPGetOverlappedResult(s, &operation, &value, 0, nullptr, &error), 0);
    EXPECT_EQ(error, WSAEINVAL);
}

}  // namespace
}  // namespace sanpoll::test
