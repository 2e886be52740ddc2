// Several threads: section 18. Nothing here depends on how the threads happen to run.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <unordered_map>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class ThreadsTest : public PairTest {};

// [R18.1 P7]
TEST_F(ThreadsTest, EachEndSendsAndReceivesInThreadsOfTheirOwn) {
    constexpr std::uint32_t kCount = 1000;
    const auto send_all = [&](End& end) {
        for (std::uint32_t i = 0; i < kCount; ++i) {
            Polled operation;
            std::memcpy(end.at(0), &i, sizeof(i));
            ASSERT_EQ(send(end, &operation, 4 + i % 500), WSA_IO_PENDING);
            ASSERT_EQ(san.finish(end.s, &operation).error, 0);
        }
    };
    const auto receive_all = [&](End& end) {
        for (std::uint32_t i = 0; i < kCount; ++i) {
            Polled operation;
            ASSERT_EQ(recv(end, &operation, 512, 4096), WSA_IO_PENDING);
            ASSERT_EQ(san.finish(end.s, &operation).bytes, 4 + i % 500);
            std::uint32_t number = 0;
            std::memcpy(&number, end.at(4096), sizeof(number));
            ASSERT_EQ(number, i);
        }
    };
    std::thread threads[] = {std::thread([&] { send_all(pair.client); }),
                             std::thread([&] { receive_all(pair.client); }),
                             std::thread([&] { send_all(pair.server); }),
                             std::thread([&] { receive_all(pair.server); })};
    for (std::thread& thread : threads) {
        thread.join();
    }
}

// [R18.4 R8.2]
TEST_F(ThreadsTest, ASocketHandedToAndFroKeepsTheOrderOfTheCalls) {
    constexpr std::uint32_t kCount = 1000;
    std::deque<Polled> sends(kCount);
    std::atomic<std::uint32_t> turn{0};
    const auto post = [&](std::uint32_t mine) {
        for (std::uint32_t next = turn; next < kCount; next = turn) {
            if (next / 3 % 2 != mine) {
                std::this_thread::yield();
                continue;
            }
            std::memcpy(pair.client.at(next * 4), &next, sizeof(next));
            ASSERT_EQ(patiently([&] { return send(pair.client, &sends[next], 4, next * 4); }),
                      WSA_IO_PENDING);
            turn = next + 1;
        }
    };
    std::thread one([&] { post(0); });
    std::thread two([&] { post(1); });
    for (std::uint32_t i = 0; i < kCount; ++i) {
        Polled receive;
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.server.s, &receive).error, 0);
        std::uint32_t number = 0;
        std::memcpy(&number, pair.server.at(0), sizeof(number));
        ASSERT_EQ(number, i);
    }
    one.join();
    two.join();
    for (Polled& operation : sends) {
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
}

// [F.WSPGetOverlappedResult.3 R18.1]
TEST_F(ThreadsTest, OneOperationMayBePolledByManyThreads) {
    for (int round = 0; round < 20; ++round) {
        Polled receive;
        ASSERT_EQ(recv(pair.server, &receive), WSA_IO_PENDING);
        std::vector<std::thread> pollers;
        for (int i = 0; i < 3; ++i) {
            pollers.emplace_back([&, i] {
                const Result result = i == 0 ? san.overlapped_result(pair.server.s, &receive, 1)
                                             : san.finish(pair.server.s, &receive);
                EXPECT_EQ(result.bytes, 5U);
            });
        }
        send_now(pair.client, "five.");
        for (std::thread& poller : pollers) {
            poller.join();
        }
    }
}

// [R18.1 P8 R10.8]
TEST_F(ThreadsTest, CloseRacesWithPostsAndPolls) {
    for (int round = 0; round < 10; ++round) {
        Pair both = connected(4096);
        constexpr std::size_t kPosters = 3;
        std::deque<std::deque<Polled>> polled(kPosters);
        std::deque<std::deque<Notified>> told(kPosters);
        std::atomic<std::size_t> ready{0};
        std::vector<std::thread> posters;
        for (std::size_t p = 0; p < kPosters; ++p) {
            posters.emplace_back([&, p] {
                ++ready;
                for (int i = 0;; ++i) {
                    const bool by_upcall = i % 2 != 0;
                    LPWSAOVERLAPPED operation =
                        by_upcall ? static_cast<LPWSAOVERLAPPED>(&told[p].emplace_back())
                                  : &polled[p].emplace_back();
                    const int error = i % 3 == 0 ? send(both.client, operation)
                                                 : recv(both.client, operation, 8, 64);
                    if (error == WSA_IO_PENDING) {
                        (void)san.overlapped_result(both.client.s, operation, 0);
                        continue;
                    }
                    if (by_upcall) {  // nothing was started
                        told[p].pop_back();
                    } else {
                        polled[p].pop_back();
                    }
                    if (error == WSAENOTSOCK) {
                        return;
                    }
                    ASSERT_EQ(error, WSAEWOULDBLOCK);
                    std::this_thread::yield();
                }
            });
        }
        while (ready != kPosters) {
            std::this_thread::yield();
        }
        EXPECT_EQ(san.close(both.client.s), 0);
        for (std::thread& poster : posters) {
            poster.join();
        }
        std::unordered_map<LPWSAOVERLAPPED, int> completions;
        for (const Upcall& call : upcalls.upcalls(UpcallKind::kComplete)) {
            if (call.handle == both.client.handle) {
                ++completions[call.overlapped];
            }
        }
        for (std::size_t p = 0; p < kPosters; ++p) {
            for (const Polled& operation : polled[p]) {
                EXPECT_NE(operation.Internal, kInProgress);
            }
            for (Notified& operation : told[p]) {
                EXPECT_EQ(completions[&operation], 1);
            }
        }
        EXPECT_EQ(san.close(both.server.s), 0);
    }
}

// [R18.1 F.WSPCloseSocket.1]
TEST_F(ThreadsTest, DeregistrationsRaceWithClose) {
    for (int round = 0; round < 100; ++round) {
        Pair both = connected(64);
        constexpr int kRegistrars = 4;
        std::vector<std::vector<char>> memory(kRegistrars, std::vector<char>(64));
        std::atomic<int> ready{0};
        std::vector<std::thread> registrars;
        for (std::vector<char>& mine : memory) {
            registrars.emplace_back([&] {
                int error = 0;
                for (int i = 0; error == 0; ++i) {
                    ready += i == 3 ? 1 : 0;
                    HANDLE handle = san.register_memory(both.client.s, mine.data(), mine.size(),
                                                        MEM_READWRITE, &error);
                    if (error == 0) {
                        error = san.deregister_memory(both.client.s, handle);
                    }
                }
                EXPECT_EQ(error, WSAENOTSOCK);
            });
        }
        ASSERT_TRUE(eventually([&] { return ready == kRegistrars; }));
        EXPECT_EQ(san.close(both.client.s), 0);
        for (std::thread& registrar : registrars) {
            registrar.join();
        }
        EXPECT_EQ(san.close(both.server.s), 0);
    }
}

// [R18.1 F.WSPCloseSocket.1]
TEST_F(ThreadsTest, DeregistrationsOfRdmaMemoryRaceWithClose) {
    for (int round = 0; round < 50; ++round) {
        Pair both = connected(64);
        constexpr int kRegistrars = 4;
        std::vector<std::vector<char>> memory(kRegistrars, std::vector<char>(64));
        std::atomic<int> ready{0};
        std::vector<std::thread> registrars;
        for (std::vector<char>& mine : memory) {
            registrars.emplace_back([&] {
                int error = 0;
                for (int i = 0; error == 0; ++i) {
                    ready += i == 3 ? 1 : 0;
                    char descriptor[64];
                    DWORD length = sizeof(descriptor);
                    error = san.register_rdma(both.client.s, mine.data(), mine.size(), MEM_READ,
                                              descriptor, &length);
                    if (error == 0) {
                        error = san.deregister_rdma(both.client.s, descriptor, length);
                    }
                }
                EXPECT_EQ(error, WSAENOTSOCK);
            });
        }
        ASSERT_TRUE(eventually([&] { return ready == kRegistrars; }));
        EXPECT_EQ(san.close(both.client.s), 0);
        for (std::thread& registrar : registrars) {
            registrar.join();
        }
        EXPECT_EQ(san.close(both.server.s), 0);
    }
}

// [R18.1 F.WSPCloseSocket.WSAENOTSOCK F.WSPCloseSocket.2]
TEST_F(ThreadsTest, OfManyClosersOneSucceeds) {
    for (int round = 0; round < 20; ++round) {
        Pair both = connected(64);
        std::atomic<int> successes{0};
        std::vector<std::thread> closers;
        for (int i = 0; i < 4; ++i) {
            closers.emplace_back([&] {
                const int error = san.close(both.client.s);
                EXPECT_TRUE(error == 0 || error == WSAENOTSOCK) << error;
                successes += error == 0 ? 1 : 0;
            });
        }
        for (std::thread& closer : closers) {
            closer.join();
        }
        EXPECT_EQ(successes, 1);
        EXPECT_EQ(closes_of(both.client.handle), 1U);
        EXPECT_EQ(san.close(both.server.s), 0);
    }
}

// [R18.2 R12.6]
TEST_F(ThreadsTest, TheHandleIsNotClosedWhileAnUpcallRuns) {
    for (int round = 0; round < 10; ++round) {
        Pair both = connected(4096);
        Notified receive;
        std::atomic<bool> inside{false};
        std::atomic<bool> leave{false};
        const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
            if (call.overlapped == &receive) {
                inside = true;
                (void)eventually([&] { return leave.load(); });
            }
        });
        ASSERT_EQ(recv(both.client, &receive), WSA_IO_PENDING);
        send_now(both.server, "x");
        ASSERT_TRUE(eventually([&] { return inside.load(); }));
        std::thread closer([&] { EXPECT_EQ(san.close(both.client.s), 0); });
        // The switch notes a violation if the handle is closed now.
        std::this_thread::yield();
        EXPECT_EQ(closes_of(both.client.handle), 0U);
        leave = true;
        closer.join();
        ASSERT_TRUE(eventually([&] { return closes_of(both.client.handle) == 1; }));
        EXPECT_EQ(san.close(both.server.s), 0);
    }
}

// [R18.1 P7]
TEST_F(ThreadsTest, ConnectionsAreMadeAndEndedInManyThreads) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 10; ++i) {
                Pair both = connected(256);
                expect_delivery(both.client, both.server, "hello");
                EXPECT_EQ(san.close(both.client.s), 0);
                EXPECT_EQ(san.close(both.server.s), 0);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace
}  // namespace sanpoll::conformance
