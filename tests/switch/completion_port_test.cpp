#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <sanpoll/switch.hpp>
#include <thread>
#include <vector>

#include "tests/switch/no_system_calls.hpp"

namespace sanpoll_switch {
namespace {

class CompletionPortTest : public ::testing::Test {
protected:
    void SetUp() override {
        set_wait_spins(0);
        port_ = new_port();
        ASSERT_NE(port_, nullptr);
    }
    void TearDown() override {
        CloseHandle(port_);
        set_wait_spins(200);
    }
    static HANDLE new_port() { return CreateIoCompletionPort(INVALID_HANDLE_VALUE, nullptr, 0, 0); }

    // The number of entries, 0 with the last error set.
    ULONG take(OVERLAPPED_ENTRY* entries, ULONG count, DWORD timeout) {
        ULONG removed = 99;
        const BOOL good =
            GetQueuedCompletionStatusEx(port_, entries, count, &removed, timeout, FALSE);
        EXPECT_EQ(good != FALSE, removed != 0);
        return removed;
    }

    HANDLE port_ = nullptr;
};

TEST_F(CompletionPortTest, EmptyPortTimesOut) {
    OVERLAPPED_ENTRY entry;
    EXPECT_EQ(take(&entry, 1, 0), 0u);
    EXPECT_EQ(WSAGetLastError(), WAIT_TIMEOUT);
    EXPECT_EQ(take(&entry, 1, 1), 0u);
    EXPECT_EQ(WSAGetLastError(), WAIT_TIMEOUT);
}

TEST_F(CompletionPortTest, PostedEntriesComeOutAsPosted) {
    OVERLAPPED overlapped{};
    ASSERT_TRUE(PostQueuedCompletionStatus(port_, 11, 22, &overlapped));
    ASSERT_TRUE(PostQueuedCompletionStatus(port_, 33, 44, nullptr));
    std::array<OVERLAPPED_ENTRY, 8> entries{};
    ASSERT_EQ(take(entries.data(), 8, WSA_INFINITE), 2u);
    EXPECT_EQ(entries[0].dwNumberOfBytesTransferred, 11u);
    EXPECT_EQ(entries[0].lpCompletionKey, 22u);
    EXPECT_EQ(entries[0].lpOverlapped, &overlapped);
    EXPECT_EQ(entries[0].Internal, 0u);
    EXPECT_EQ(entries[1].dwNumberOfBytesTransferred, 33u);
    EXPECT_EQ(entries[1].lpCompletionKey, 44u);
    EXPECT_EQ(entries[1].lpOverlapped, nullptr);
}

TEST_F(CompletionPortTest, BatchTakesNoMoreThanAskedFor) {
    for (DWORD i = 0; i < 5; ++i)
        PostQueuedCompletionStatus(port_, i, 0, nullptr);
    std::array<OVERLAPPED_ENTRY, 3> entries{};
    EXPECT_EQ(take(entries.data(), 3, 0), 3u);
    EXPECT_EQ(take(entries.data(), 3, 0), 2u);
    EXPECT_EQ(entries[1].dwNumberOfBytesTransferred, 4u);
}

TEST_F(CompletionPortTest, WrongArguments) {
    OVERLAPPED_ENTRY entry;
    ULONG removed = 0;
    EXPECT_FALSE(GetQueuedCompletionStatusEx(port_, nullptr, 1, &removed, 0, FALSE));
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);
    EXPECT_FALSE(GetQueuedCompletionStatusEx(port_, &entry, 0, &removed, 0, FALSE));
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);
    EXPECT_FALSE(GetQueuedCompletionStatusEx(port_, &entry, 1, nullptr, 0, FALSE));
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);
    EXPECT_EQ(CreateIoCompletionPort(INVALID_HANDLE_VALUE, port_, 0, 0), nullptr);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);
}

TEST_F(CompletionPortTest, BadHandlesAreErrors) {
    const HANDLE closed = new_port();
    ASSERT_TRUE(CloseHandle(closed));
    const WSAEVENT event = WSACreateEvent();
    for (const HANDLE handle : {HANDLE{nullptr}, closed, HANDLE{event}, INVALID_HANDLE_VALUE}) {
        OVERLAPPED_ENTRY entry;
        ULONG removed = 7;
        EXPECT_FALSE(GetQueuedCompletionStatusEx(handle, &entry, 1, &removed, 0, FALSE));
        EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
        EXPECT_EQ(removed, 0u);
        EXPECT_FALSE(PostQueuedCompletionStatus(handle, 0, 0, nullptr));
        EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
    }
    EXPECT_FALSE(CloseHandle(closed));
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
    EXPECT_TRUE(CloseHandle(event));  // events are closed by it too
    EXPECT_FALSE(WSACloseEvent(event));
}

TEST_F(CompletionPortTest, AssociationNeedsASocket) {
    EXPECT_EQ(CreateIoCompletionPort(as_handle(12345), port_, 0, 0), nullptr);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
    EXPECT_EQ(CreateIoCompletionPort(as_handle(12345), nullptr, 0, 0), nullptr);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
}

TEST_F(CompletionPortTest, SleeperIsWokenByAPost) {
    for (int round = 0; round < 500; ++round) {
        std::thread sleeper([&] {
            OVERLAPPED_ENTRY entry;
            EXPECT_EQ(take(&entry, 1, WSA_INFINITE), 1u);
        });
        PostQueuedCompletionStatus(port_, 0, 0, nullptr);
        sleeper.join();
    }
}

TEST_F(CompletionPortTest, ClosingEndsTheWait) {
    for (int round = 0; round < 200; ++round) {
        const HANDLE port = new_port();
        std::vector<std::thread> sleepers;
        sleepers.reserve(4);
        for (int i = 0; i < 2; ++i) {
            sleepers.emplace_back([port] {
                OVERLAPPED_ENTRY entry;
                ULONG removed = 0;
                EXPECT_FALSE(
                    GetQueuedCompletionStatusEx(port, &entry, 1, &removed, WSA_INFINITE, FALSE));
                // Closed before the call has begun, or while it slept.
                EXPECT_TRUE(WSAGetLastError() == WSA_INVALID_HANDLE ||
                            WSAGetLastError() == ERROR_ABANDONED_WAIT_0);
            });
        }
        EXPECT_TRUE(CloseHandle(port));
        for (std::thread& sleeper : sleepers)
            sleeper.join();
    }
}

TEST_F(CompletionPortTest, NewPortIsEmptyAlsoInAnOldSlot) {
    for (int round = 0; round < 20; ++round) {
        const HANDLE port = new_port();
        PostQueuedCompletionStatus(port, 1, 1, nullptr);
        ASSERT_TRUE(CloseHandle(port));
    }
    const HANDLE fresh = new_port();
    OVERLAPPED_ENTRY entry;
    ULONG removed = 0;
    EXPECT_FALSE(GetQueuedCompletionStatusEx(fresh, &entry, 1, &removed, 0, FALSE));
    CloseHandle(fresh);
}

// Each entry is taken exactly once, whatever mixture of sleeping and running threads: a wake that
// went astray would leave a sleeper behind with an entry in the port, and the test hanging.
TEST_F(CompletionPortTest, NothingIsLostBetweenManyThreads) {
    constexpr int kProducers = 3;
    constexpr int kConsumers = 3;
    constexpr int kEach = 5000;
    constexpr ULONG_PTR kStop = ~ULONG_PTR{0};
    for (const unsigned spins : {0u, 50u}) {
        set_wait_spins(spins);
        std::vector<std::atomic<int>> seen(kProducers * kEach);
        std::vector<std::thread> consumers;
        consumers.reserve(4);
        for (int consumer = 0; consumer < kConsumers; ++consumer) {
            consumers.emplace_back([&, consumer] {
                std::vector<OVERLAPPED_ENTRY> entries(static_cast<std::size_t>(consumer) * 8 + 1);
                // One stop for each consumer; who takes several passes the others on.
                for (bool stop = false; !stop;) {
                    const ULONG taken =
                        take(entries.data(), static_cast<ULONG>(entries.size()), WSA_INFINITE);
                    EXPECT_GT(taken, 0u);
                    for (ULONG i = 0; i < taken; ++i) {
                        if (entries[i].lpCompletionKey != kStop) {
                            seen[entries[i].lpCompletionKey].fetch_add(1);
                        } else if (stop) {
                            PostQueuedCompletionStatus(port_, 0, kStop, nullptr);
                        } else {
                            stop = true;
                        }
                    }
                }
            });
        }
        std::vector<std::thread> producers;
        producers.reserve(4);
        for (int producer = 0; producer < kProducers; ++producer) {
            producers.emplace_back([&, producer] {
                for (int i = 0; i < kEach; ++i) {
                    EXPECT_TRUE(PostQueuedCompletionStatus(
                        port_, 0, static_cast<ULONG_PTR>(producer * kEach + i), nullptr));
                    if (i % 64 == 0) std::this_thread::yield();
                }
            });
        }
        for (std::thread& producer : producers)
            producer.join();
        for (int i = 0; i < kConsumers; ++i)
            PostQueuedCompletionStatus(port_, 0, kStop, nullptr);
        for (std::thread& consumer : consumers)
            consumer.join();
        for (const auto& count : seen)
            ASSERT_EQ(count.load(), 1);
    }
}

TEST_F(CompletionPortTest, PostersTakersAndClosersMayRace) {
    std::atomic<HANDLE> current{new_port()};
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            while (!stop.load())
                PostQueuedCompletionStatus(current.load(), 0, 0, nullptr);
        });
        threads.emplace_back([&] {
            while (!stop.load()) {
                OVERLAPPED_ENTRY entry;
                ULONG removed = 0;
                GetQueuedCompletionStatusEx(current.load(), &entry, 1, &removed, 1, FALSE);
            }
        });
    }
    for (int round = 0; round < 300; ++round) {
        EXPECT_TRUE(CloseHandle(current.exchange(new_port())));
        std::this_thread::yield();
    }
    stop.store(true);
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_TRUE(CloseHandle(current.load()));
}

TEST_F(CompletionPortTest, NoKernelWhileThereIsSomethingInIt) {
    const KernelCalls before = kernel_calls();
    std::array<OVERLAPPED_ENTRY, 4> entries{};
    for (int i = 0; i < 1000; ++i) {
        PostQueuedCompletionStatus(port_, 0, 0, nullptr);
        EXPECT_EQ(take(entries.data(), 4, WSA_INFINITE), 1u);
    }
    EXPECT_EQ(kernel_calls().sleeps, before.sleeps);
    EXPECT_EQ(kernel_calls().wakes, before.wakes);
}

TEST_F(CompletionPortTest, NoSystemCallWhileThereIsSomethingInIt) {
    if (!kCanForbidSystemCalls) GTEST_SKIP() << "not with this sanitizer";
    EXPECT_TRUE(runs_without_system_calls(
        [] {},
        [&] {
            OVERLAPPED_ENTRY entry;
            ULONG removed = 0;
            bool good = true;
            for (int i = 0; i < 10000; ++i) {
                good = good && PostQueuedCompletionStatus(port_, 0, 0, nullptr) &&
                       GetQueuedCompletionStatusEx(port_, &entry, 1, &removed, WSA_INFINITE, FALSE);
            }
            return good;
        }));
}

TEST_F(CompletionPortTest, NoSystemCallWhileABacklogDrains) {
    if (!kCanForbidSystemCalls) GTEST_SKIP() << "not with this sanitizer";
    constexpr int kBacklog = 2000;  // far beyond the ring
    const auto fill = [&] {
        for (int i = 0; i < kBacklog; ++i)
            PostQueuedCompletionStatus(port_, 0, static_cast<ULONG_PTR>(i), nullptr);
    };
    const auto drain = [&] {
        for (int i = 0; i < kBacklog; ++i) {
            OVERLAPPED_ENTRY entry;
            ULONG removed = 0;
            if (!GetQueuedCompletionStatusEx(port_, &entry, 1, &removed, WSA_INFINITE, FALSE))
                return false;
            if (entry.lpCompletionKey != static_cast<ULONG_PTR>(i)) return false;
        }
        return true;
    };
    EXPECT_TRUE(runs_without_system_calls(fill, drain));
}

}  // namespace
}  // namespace sanpoll_switch
