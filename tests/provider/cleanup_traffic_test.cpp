// The last WSPCleanup while other threads post, look for results, wait for them and register memory: each of those calls is
// done before or is refused, and what was posted has ended.
#include <atomic>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr std::size_t kBytes = 1 << 13;

class CleanupTrafficTest : public RdmaFixture, public testing::WithParamInterface<const char*> {
protected:
    Knobs knobs() const override { return {{"mode", GetParam()}}; }

    // One connection and what has been posted on it, which stays until all has ended.
    struct Work {
        Pair pair;
        Exposed exposed;  // by the server, if anything
        std::deque<Polled> operations;
    };

    // Whether an answer says that there is nothing to be called any more.
    static bool is_over(int error) { return error == WSANOTINITIALISED || error == WSAENOTSOCK; }

    // Ends the provider while two threads, each with a connection of one core, repeat `call`, which returns a WSA error,
    // and starts it again: many times, for what could go wrong takes a narrow moment.
    void expect_refused_in_time(const std::function<int(Work&)>& call) {
        for (int round = 0; round < 30; ++round) {
            Work works[2];
            std::atomic<int> called[2]{};
            std::vector<std::thread> threads;
            for (int i : {0, 1}) {
                works[i].pair = connected(kBytes);
                threads.emplace_back([&, i] {
                    while (!is_over(call(works[i]))) {
                        ++called[i];
                    }
                });
            }
            EXPECT_TRUE(eventually([&] { return called[0] > 5 && called[1] > 5; }));
            stop();
            for (std::thread& thread : threads) {
                thread.join();
            }
            for (Work& work : works) {
                for (const Polled& operation : work.operations) {
                    EXPECT_NE(operation.Internal, WSS_OPERATION_IN_PROGRESS);
                }
            }
            EXPECT_EQ(upcalls.open_handles(), 0U);
            ProviderTest::SetUp();
        }
    }
    // The error of an operation that was posted.
    int look_until_it_ends(SOCKET s, Polled& operation) {
        int error = WSA_IO_INCOMPLETE;
        while (error == WSA_IO_INCOMPLETE) {
            error = san.overlapped_result(s, &operation, FALSE).error;
        }
        return error;
    }
};

TEST_P(CleanupTrafficTest, WhileMessagesGo) {
    for (const std::size_t length : {std::size_t{64}, kBytes / 2}) {
        expect_refused_in_time([&](Work& work) {
            Polled& receive = work.operations.emplace_back();
            End& server = work.pair.server;
            int error = san.recv(server.s, server.at(0), length, &receive);
            if (error != WSA_IO_PENDING) {
                return error;
            }
            Polled& sent = work.operations.emplace_back();
            End& client = work.pair.client;
            error = san.send(client.s, client.at(0), length, &sent);
            if (error != WSA_IO_PENDING) {
                return error;
            }
            error = look_until_it_ends(server.s, receive);
            return is_over(error) ? error : look_until_it_ends(client.s, sent);
        });
    }
}

TEST_P(CleanupTrafficTest, WhileAnEndIsWaitedFor) {
    expect_refused_in_time([&](Work& work) {
        Polled& receive = work.operations.emplace_back();
        End& server = work.pair.server;
        const int error = san.recv(server.s, server.at(0), 64, &receive);
        if (error != WSA_IO_PENDING) {
            return error;
        }
        // All but the first six are ended by the cleanup only.
        if (work.operations.size() <= 12) {
            Polled& sent = work.operations.emplace_back();
            EXPECT_EQ(san.send(work.pair.client.s, work.pair.client.at(0), 64, &sent),
                      WSA_IO_PENDING);
        }
        return san.overlapped_result(server.s, &receive, TRUE).error;
    });
}

TEST_P(CleanupTrafficTest, WhileMemoryIsRegistered) {
    expect_refused_in_time([&](Work& work) {
        End& end = work.pair.client;
        int error = 0;
        const HANDLE handle = san.register_memory(end.s, end.at(0), kBytes, MEM_READ, &error);
        return error != 0 ? error : san.deregister_memory(end.s, handle);
    });
}

TEST_P(CleanupTrafficTest, WhileMemoryIsExposed) {
    expect_refused_in_time([&](Work& work) {
        End& end = work.pair.client;
        Exposed exposed;
        const int error = san.register_rdma(end.s, end.at(0), kBytes, MEM_READWRITE,
                                            exposed.block.data(), &exposed.length);
        return error != 0 ? error : conceal(end, exposed);
    });
}

TEST_P(CleanupTrafficTest, WhileMemoryIsWritten) {
    for (const std::size_t length : {std::size_t{64}, kBytes}) {
        expect_refused_in_time([&](Work& work) {
            if (work.operations.empty()) {
                End& server = work.pair.server;
                const int error =
                    san.register_rdma(server.s, server.at(0), kBytes, MEM_READWRITE,
                                      work.exposed.block.data(), &work.exposed.length);
                if (error != 0) {
                    return error;
                }
            }
            End& client = work.pair.client;
            Polled& operation = work.operations.emplace_back();
            const int error = write(client, client.at(0), length, work.exposed, 0, &operation);
            return error != WSA_IO_PENDING ? error : look_until_it_ends(client.s, operation);
        });
    }
}

// What is pending may still be written: nobody who waits for it, or asks, is told before that there is nothing any more.
TEST_P(CleanupTrafficTest, AnOperationIsPendingUntilItHasEnded) {
    const Pair first = connected(64);
    std::atomic<bool> closing{false};
    std::atomic<bool> making{false};
    std::atomic<bool> may_close{false};
    std::atomic<bool> may_make{false};
    const auto hold = [](std::atomic<bool>& reached, std::atomic<bool>& may) {
        if (!reached.exchange(true)) {
            EXPECT_TRUE(eventually([&] { return may.load(); }));
        }
    };
    {
        const ActionScope scope =
            upcalls.on_close_handle([&](SOCKET) { hold(closing, may_close); });
        std::thread ending([&] { stop(); });
        ASSERT_TRUE(eventually([&] { return closing.load(); }));
        // Made behind its back: the cleanup finds it only when nobody uses the engine any more.
        Pair late = connected(64);
        Polled operation;
        ASSERT_EQ(san.recv(late.server.s, late.server.at(0), 64, &operation), WSA_IO_PENDING);
        std::atomic<bool> waiting{false};
        std::atomic<bool> told_too_early{false};
        std::thread waiter([&] {
            waiting = true;
            (void)san.overlapped_result(late.server.s, &operation, TRUE);
            told_too_early =
                std::atomic_ref<ULONG_PTR>(operation.Internal) == WSS_OPERATION_IN_PROGRESS;
        });
        upcalls.on_create_handle([&](SOCKET proposed) {
            hold(making, may_make);
            return proposed;
        });
        std::thread maker([&] { (void)san.socket(); });
        ASSERT_TRUE(eventually([&] { return waiting && making; }));
        may_close = true;
        ASSERT_TRUE(eventually([&] { return san.close(INVALID_SOCKET) == WSANOTINITIALISED; }));
        EXPECT_EQ(san.overlapped_result(late.server.s, &operation, FALSE).error, WSA_IO_INCOMPLETE);
        may_make = true;
        waiter.join();
        EXPECT_FALSE(told_too_early);
        maker.join();
        ending.join();
        // By the close of its own socket, or by that of its peer's before.
        EXPECT_TRUE(operation.OffsetHigh == static_cast<DWORD>(WSA_OPERATION_ABORTED) ||
                    operation.OffsetHigh == static_cast<DWORD>(WSAECONNRESET))
            << operation.OffsetHigh;
        EXPECT_EQ(san.overlapped_result(late.server.s, &operation, FALSE).error, WSANOTINITIALISED);
    }
    upcalls.on_create_handle({});
    ProviderTest::SetUp();
}

// The cleanup waits for an upcall, and that for an operation which only the cleanup ends.
TEST_P(CleanupTrafficTest, AWaitInsideAnUpcallDoesNotKeepIt) {
    Pair told = connected(64);
    Pair silent = connected(64);
    Notified receive;
    Polled pending;
    Polled sent;
    std::atomic<bool> waiting{false};
    std::atomic<int> answer{0};
    ASSERT_EQ(san.recv(silent.server.s, silent.server.at(0), 64, &pending), WSA_IO_PENDING);
    ASSERT_EQ(san.recv(told.server.s, told.server.at(0), 64, &receive), WSA_IO_PENDING);
    {
        const ActionScope scope = upcalls.on_complete([&](const Upcall&) {
            if (!waiting.exchange(true)) {
                answer = san.overlapped_result(silent.server.s, &pending, TRUE).error;
            }
        });
        ASSERT_EQ(san.send(told.client.s, told.client.at(0), 8, &sent), WSA_IO_PENDING);
        ASSERT_TRUE(eventually([&] { return waiting.load(); }));
        stop();
    }
    EXPECT_NE(answer, 0);
    EXPECT_NE(pending.Internal, WSS_OPERATION_IN_PROGRESS);
    ProviderTest::SetUp();
}

// A mistake of the caller's must not keep the provider: nothing will ever end what was never posted.
TEST_P(CleanupTrafficTest, AWaitForWhatNeverEndsEndsToo) {
    Pair pair = connected(64);
    Polled operation;
    operation.Internal = WSS_OPERATION_IN_PROGRESS;
    std::atomic<int> answer{0};
    std::atomic<bool> waiting{false};
    std::thread waiter([&] {
        waiting = true;
        answer = san.overlapped_result(pair.client.s, &operation, TRUE).error;
    });
    EXPECT_TRUE(eventually([&] { return waiting.load(); }));
    stop();
    waiter.join();
    EXPECT_TRUE(is_over(answer)) << answer;
    ProviderTest::SetUp();
}

INSTANTIATE_TEST_SUITE_P(Mode, CleanupTrafficTest, testing::Values("inline", "dedicated"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sanpoll::test
