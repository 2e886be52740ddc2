// Several threads on one socket and on many.
#include <atomic>
#include <cstring>
#include <deque>
#include <random>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class ThreadsTest : public ProviderTest, public testing::WithParamInterface<const char*> {
protected:
    Knobs knobs() const override { return {{"mode", GetParam()}}; }
};

TEST_P(ThreadsTest, OneSendsAndOneReceivesAtEachEnd) {
    Pair pair = connected();
    constexpr std::uint32_t kCount = 5000;
    const auto send_all = [&](End& end) {
        for (std::uint32_t i = 0; i < kCount; ++i) {
            Polled operation;
            std::memcpy(end.at(0), &i, sizeof(i));
            ASSERT_EQ(san.send(end.s, end.at(0), 4 + i % 500, &operation), WSA_IO_PENDING);
            ASSERT_EQ(san.finish(end.s, &operation).error, 0);
        }
    };
    const auto receive_all = [&](End& end) {
        for (std::uint32_t i = 0; i < kCount; ++i) {
            Polled operation;
            ASSERT_EQ(san.recv(end.s, end.at(4096), 512, &operation), WSA_IO_PENDING);
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

// Two threads hand the socket to and fro: each posts the next messages when it is its turn, without
// waiting for the other's to complete. The order is that of the calls.
TEST_P(ThreadsTest, ASocketHandedToAndFroKeepsItsOrder) {
    Pair pair = connected();
    constexpr std::uint32_t kCount = 4000;
    std::deque<Polled> sends(kCount);
    std::atomic<std::uint32_t> turn{0};
    const auto post = [&](std::uint32_t mine) {
        while (true) {
            std::uint32_t next = turn.load(std::memory_order_acquire);
            if (next >= kCount) {
                return;
            }
            if (next / 3 % 2 != mine) {
                std::this_thread::yield();
                continue;
            }
            char* const place = pair.client.at(next * 4);
            std::memcpy(place, &next, sizeof(next));
            ASSERT_EQ(patiently([&] { return san.send(pair.client.s, place, 4, &sends[next]); }),
                      WSA_IO_PENDING);
            turn.store(next + 1, std::memory_order_release);
        }
    };
    std::thread one([&] { post(0); });
    std::thread two([&] { post(1); });
    for (std::uint32_t i = 0; i < kCount; ++i) {
        Polled receive;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
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

TEST_P(ThreadsTest, ReceivesHandedToAndFroAreFilledInOrder) {
    Pair pair = connected();
    constexpr std::uint32_t kCount = 2000;
    std::deque<Polled> receives(kCount);
    std::atomic<std::uint32_t> turn{0};
    const auto post = [&](std::uint32_t mine) {
        std::uint32_t next = 0;
        while ((next = turn.load(std::memory_order_acquire)) < kCount) {
            if (next % 2 != mine) {
                std::this_thread::yield();
                continue;
            }
            ASSERT_EQ(patiently([&] {
                          return san.recv(pair.server.s, pair.server.at(next * 4), 4,
                                          &receives[next]);
                      }),
                      WSA_IO_PENDING);
            turn.store(next + 1, std::memory_order_release);
        }
    };
    std::thread one([&] { post(0); });
    std::thread two([&] { post(1); });
    for (std::uint32_t i = 0; i < kCount; ++i) {
        Polled operation;
        std::memcpy(pair.client.at(0), &i, sizeof(i));
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 4, &operation), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    one.join();
    two.join();
    for (std::uint32_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(san.finish(pair.server.s, &receives[i]).error, 0);
        std::uint32_t number = 0;
        std::memcpy(&number, pair.server.at(i * 4), sizeof(number));
        ASSERT_EQ(number, i);
    }
}

TEST_P(ThreadsTest, OneOperationMayBePolledByManyThreads) {
    Pair pair = connected();
    for (int round = 0; round < 50; ++round) {
        Polled receive;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
        std::vector<std::thread> pollers;
        for (int i = 0; i < 3; ++i) {
            pollers.emplace_back([&, i] {
                const Result result = i == 0 ? san.overlapped_result(pair.server.s, &receive, 1)
                                             : san.finish(pair.server.s, &receive);
                EXPECT_EQ(result.bytes, 5U);
            });
        }
        Polled sent;
        EXPECT_EQ(san.send(pair.client.s, pair.client.at(0), 5, &sent), WSA_IO_PENDING);
        for (std::thread& poller : pollers) {
            poller.join();
        }
        EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
    }
}

// Every operation that was admitted ends, whenever the close comes.
TEST_P(ThreadsTest, CloseRacesWithPostsAndPolls) {
    for (int round = 0; round < 20; ++round) {
        Pair pair = connected(4096);
        constexpr int kPosters = 3;
        std::deque<std::deque<Polled>> posted(kPosters);
        std::deque<std::deque<Notified>> told(kPosters);
        std::atomic<int> ready{0};
        std::vector<std::thread> posters;
        for (std::size_t p = 0; p < kPosters; ++p) {
            posters.emplace_back([&, p] {
                ++ready;
                for (int i = 0;; ++i) {
                    LPWSAOVERLAPPED operation =
                        i % 2 == 0 ? static_cast<LPWSAOVERLAPPED>(&posted[p].emplace_back())
                                   : &told[p].emplace_back();
                    const int error =
                        i % 3 == 0 ? san.send(pair.client.s, pair.client.at(0), 8, operation)
                                   : san.recv(pair.client.s, pair.client.at(64), 8, operation);
                    if (error == WSAENOTSOCK) {
                        operation->OffsetHigh = 4711;  // nothing was started
                        return;
                    }
                    if (error == WSAEWOULDBLOCK) {
                        operation->OffsetHigh = 4711;
                        std::this_thread::yield();
                        continue;
                    }
                    ASSERT_EQ(error, WSA_IO_PENDING);
                    (void)san.overlapped_result(pair.client.s, operation, 0);
                }
            });
        }
        while (ready != kPosters) {
            std::this_thread::yield();
        }
        std::this_thread::sleep_for(std::chrono::microseconds(round * 60));
        EXPECT_EQ(san.close(pair.client.s), 0);
        for (std::thread& poster : posters) {
            poster.join();
        }
        for (std::size_t p = 0; p < kPosters; ++p) {
            for (const Polled& operation : posted[p]) {
                EXPECT_NE(operation.Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
            }
            for (const Notified& operation : told[p]) {
                EXPECT_NE(operation.Internal, static_cast<ULONG_PTR>(WSS_OPERATION_IN_PROGRESS));
            }
        }
        EXPECT_EQ(san.close(pair.server.s), 0);
    }
}

TEST_P(ThreadsTest, OfManyClosersOneSucceeds) {
    for (int round = 0; round < 50; ++round) {
        Pair pair = connected(64);
        std::atomic<int> successes{0};
        std::vector<std::thread> closers;
        for (int i = 0; i < 4; ++i) {
            closers.emplace_back([&] {
                const int error = san.close(pair.client.s);
                EXPECT_TRUE(error == 0 || error == WSAENOTSOCK) << error;
                successes += error == 0 ? 1 : 0;
            });
        }
        for (std::thread& closer : closers) {
            closer.join();
        }
        EXPECT_EQ(successes, 1);
        EXPECT_EQ(san.close(pair.server.s), 0);
    }
}

TEST_P(ThreadsTest, ManySocketsInManyThreads) {
    constexpr int kThreads = 4;
    std::deque<Pair> pairs;
    for (int i = 0; i < 40; ++i) {
        pairs.push_back(connected(4096));
    }
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 random(static_cast<unsigned>(t));
            for (int i = 0; i < 500; ++i) {
                // Each thread has its own sockets.
                Pair& pair = pairs[static_cast<std::size_t>(t) + kThreads * (random() % 10)];
                expect_delivery(pair.client, pair.server, std::to_string(random()));
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST_P(ThreadsTest, ShortLivedThreadsMayPost) {
    Pair pair = connected();
    for (int i = 0; i < 200; ++i) {
        std::thread([&] { expect_delivery(pair.client, pair.server, std::to_string(i)); }).join();
    }
}

TEST_P(ThreadsTest, MemoryIsRegisteredAndDeregisteredWhileOthersSend) {
    Pair pair = connected();
    std::atomic<bool> stopping{false};
    std::vector<char> memory(65536);
    std::thread registrar([&] {
        while (!stopping) {
            HANDLE handle =
                san.register_memory(pair.client.s, memory.data(), memory.size(), MEM_READWRITE);
            ASSERT_NE(handle, nullptr);
            // A send of this memory may be underway for a moment.
            ASSERT_TRUE(
                eventually([&] { return san.deregister_memory(pair.client.s, handle) == 0; }));
        }
    });
    std::mt19937 random(3);
    for (int i = 0; i < 2000; ++i) {
        Polled receive;
        Polled sent;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
        int error = san.send(pair.client.s, memory.data() + random() % 65000, 64, &sent);
        if (error == WSA_IO_PENDING) {
            error = san.finish(pair.client.s, &sent).error;
        }
        EXPECT_TRUE(error == 0 || error == WSAEFAULT) << error;
        if (error != 0) {
            ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 8, &sent), WSA_IO_PENDING);
            EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
        }
        EXPECT_EQ(san.finish(pair.server.s, &receive).error, 0);
    }
    stopping = true;
    registrar.join();
}

TEST_P(ThreadsTest, ConnectionsAreMadeInManyThreads) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < 25; ++i) {
                Pair pair = connected(256);
                expect_delivery(pair.client, pair.server, "hello");
                EXPECT_EQ(san.close(pair.client.s), 0);
                EXPECT_EQ(san.close(pair.server.s), 0);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

INSTANTIATE_TEST_SUITE_P(Modes, ThreadsTest, testing::Values("inline", "dedicated"),
                         [](const auto& mode) { return std::string(mode.param); });

}  // namespace
}  // namespace sanpoll::test
