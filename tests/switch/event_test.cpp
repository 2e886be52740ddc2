#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <sanpoll/switch.hpp>
#include <thread>
#include <vector>

#include "tests/switch/no_system_calls.hpp"

namespace sanpoll_switch {
namespace {

DWORD wait_one(WSAEVENT event, DWORD timeout = WSA_INFINITE) {
    return WSAWaitForMultipleEvents(1, &event, FALSE, timeout, FALSE);
}

class EventTest : public ::testing::Test {
protected:
    // Sleeping at once, so that the tests with threads go through the kernel.
    void SetUp() override { set_wait_spins(0); }
    void TearDown() override {
        for (WSAEVENT event : made_)
            WSACloseEvent(event);
        set_wait_spins(200);
    }
    WSAEVENT make() {
        made_.push_back(WSACreateEvent());
        EXPECT_NE(made_.back(), WSAEVENT{WSA_INVALID_EVENT});
        return made_.back();
    }

private:
    std::vector<WSAEVENT> made_;
};

TEST_F(EventTest, NewEventIsNotSignaled) { EXPECT_EQ(wait_one(make(), 0), WSA_WAIT_TIMEOUT); }

TEST_F(EventTest, StaysSignaledUntilReset) {
    const WSAEVENT event = make();
    EXPECT_TRUE(WSASetEvent(event));
    EXPECT_EQ(wait_one(event), WSA_WAIT_EVENT_0);
    EXPECT_EQ(wait_one(event), WSA_WAIT_EVENT_0);
    EXPECT_TRUE(WSASetEvent(event));
    EXPECT_TRUE(WSAResetEvent(event));
    EXPECT_EQ(wait_one(event, 0), WSA_WAIT_TIMEOUT);
    EXPECT_TRUE(WSAResetEvent(event));
    EXPECT_EQ(wait_one(event, 0), WSA_WAIT_TIMEOUT);
}

TEST_F(EventTest, HandleLeavesTheControlBitFree) {
    for (int i = 0; i < 100; ++i)
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(make()) & 3, 0u);
}

TEST_F(EventTest, TimeoutPasses) { EXPECT_EQ(wait_one(make(), 1), WSA_WAIT_TIMEOUT); }

TEST_F(EventTest, AnyReportsTheLowestSignaledIndex) {
    const std::array<WSAEVENT, 3> events{make(), make(), make()};
    WSASetEvent(events[2]);
    EXPECT_EQ(WSAWaitForMultipleEvents(3, events.data(), FALSE, 0, FALSE), WSA_WAIT_EVENT_0 + 2);
    WSASetEvent(events[1]);
    EXPECT_EQ(WSAWaitForMultipleEvents(3, events.data(), FALSE, WSA_INFINITE, FALSE),
              WSA_WAIT_EVENT_0 + 1);
}

TEST_F(EventTest, AllNeedsEveryOne) {
    const std::array<WSAEVENT, 3> events{make(), make(), make()};
    WSASetEvent(events[0]);
    WSASetEvent(events[2]);
    EXPECT_EQ(WSAWaitForMultipleEvents(3, events.data(), TRUE, 1, FALSE), WSA_WAIT_TIMEOUT);
    WSASetEvent(events[1]);
    EXPECT_EQ(WSAWaitForMultipleEvents(3, events.data(), TRUE, WSA_INFINITE, FALSE),
              WSA_WAIT_EVENT_0);
}

TEST_F(EventTest, SixtyFourEventsAreTheMost) {
    std::array<WSAEVENT, 65> events{};
    for (WSAEVENT& event : events)
        event = make();
    WSASetEvent(events[63]);
    EXPECT_EQ(WSAWaitForMultipleEvents(64, events.data(), FALSE, 0, FALSE), WSA_WAIT_EVENT_0 + 63);
    EXPECT_EQ(WSAWaitForMultipleEvents(65, events.data(), FALSE, 0, FALSE), WSA_WAIT_FAILED);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);
    EXPECT_EQ(WSAWaitForMultipleEvents(0, events.data(), FALSE, 0, FALSE), WSA_WAIT_FAILED);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);
    EXPECT_EQ(WSAWaitForMultipleEvents(1, nullptr, FALSE, 0, FALSE), WSA_WAIT_FAILED);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);
}

TEST_F(EventTest, BadHandlesAreErrors) {
    const WSAEVENT closed = WSACreateEvent();
    ASSERT_TRUE(WSACloseEvent(closed));
    const WSAEVENT good = make();
    const HANDLE port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, nullptr, 0, 0);
    const auto good_bits = reinterpret_cast<std::uintptr_t>(good);
    const std::array<WSAEVENT, 8> bad{
        WSA_INVALID_EVENT,
        closed,
        INVALID_HANDLE_VALUE,
        port,
        reinterpret_cast<WSAEVENT>(good_bits | 1),
        reinterpret_cast<WSAEVENT>(good_bits + (std::uintptr_t{2} << 32)),
        reinterpret_cast<WSAEVENT>(good_bits ^ (std::uintptr_t{0xFFFFFF} << 8)),
        reinterpret_cast<WSAEVENT>(0x1234)};
    for (const WSAEVENT event : bad) {
        WSASetLastError(0);
        EXPECT_FALSE(WSASetEvent(event));
        EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
        WSASetLastError(0);
        EXPECT_FALSE(WSAResetEvent(event));
        EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
        WSASetLastError(0);
        EXPECT_FALSE(WSACloseEvent(event));
        EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
        WSASetLastError(0);
        EXPECT_EQ(wait_one(event, 0), WSA_WAIT_FAILED);
        EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
        const std::array<WSAEVENT, 2> pair{good, event};
        EXPECT_EQ(WSAWaitForMultipleEvents(2, pair.data(), FALSE, 0, FALSE), WSA_WAIT_FAILED);
    }
    EXPECT_TRUE(CloseHandle(port));
}

TEST_F(EventTest, ClosedEventsSlotDoesNotInheritTheSignal) {
    const WSAEVENT first = WSACreateEvent();
    WSASetEvent(first);
    WSACloseEvent(first);
    for (int i = 0; i < 10; ++i)
        EXPECT_EQ(wait_one(make(), 0), WSA_WAIT_TIMEOUT);
}

TEST_F(EventTest, LastErrorBelongsToTheThread) {
    WSASetLastError(WSAECONNRESET);
    std::thread([] {
        EXPECT_EQ(WSAGetLastError(), 0);
        WSASetLastError(WSAEINVAL);
    }).join();
    EXPECT_EQ(WSAGetLastError(), WSAECONNRESET);
}

TEST_F(EventTest, OneSetWakesEverySleeper) {
    const WSAEVENT event = make();
    std::vector<std::thread> sleepers;
    sleepers.reserve(4);
    for (int i = 0; i < 4; ++i) {
        sleepers.emplace_back([event] { EXPECT_EQ(wait_one(event), WSA_WAIT_EVENT_0); });
    }
    WSASetEvent(event);
    for (std::thread& sleeper : sleepers)
        sleeper.join();
}

TEST_F(EventTest, SleeperOnManyIsWokenByAnyOne) {
    std::array<WSAEVENT, 64> events{};
    for (WSAEVENT& event : events)
        event = make();
    for (DWORD i = 0; i < 64; ++i) {
        std::thread sleeper([&] {
            EXPECT_EQ(WSAWaitForMultipleEvents(64, events.data(), FALSE, WSA_INFINITE, FALSE),
                      WSA_WAIT_EVENT_0 + i);
        });
        WSASetEvent(events[i]);
        sleeper.join();
        WSAResetEvent(events[i]);
    }
}

TEST_F(EventTest, SleeperOnAllIsWokenByTheLastOne) {
    const std::array<WSAEVENT, 3> events{make(), make(), make()};
    std::thread sleeper([&] {
        EXPECT_EQ(WSAWaitForMultipleEvents(3, events.data(), TRUE, WSA_INFINITE, FALSE),
                  WSA_WAIT_EVENT_0);
    });
    for (const WSAEVENT event : events)
        WSASetEvent(event);
    sleeper.join();
}

TEST_F(EventTest, SameEventTwiceIsOneCondition) {
    const WSAEVENT event = make();
    const std::array<WSAEVENT, 2> events{event, event};
    std::thread sleeper([&] {
        EXPECT_EQ(WSAWaitForMultipleEvents(2, events.data(), TRUE, WSA_INFINITE, FALSE),
                  WSA_WAIT_EVENT_0);
    });
    WSASetEvent(event);
    sleeper.join();
}

TEST_F(EventTest, ClosingEndsTheWait) {
    for (int round = 0; round < 200; ++round) {
        const std::array<WSAEVENT, 2> events{make(), WSACreateEvent()};
        std::thread sleeper([&] {
            EXPECT_EQ(WSAWaitForMultipleEvents(2, events.data(), FALSE, WSA_INFINITE, FALSE),
                      WSA_WAIT_FAILED);
            EXPECT_EQ(WSAGetLastError(), WSA_INVALID_HANDLE);
        });
        EXPECT_TRUE(WSACloseEvent(events[1]));
        sleeper.join();
    }
}

// "All" means at the same moment: here never more than one of the two is signaled.
TEST_F(EventTest, AllNeverSeesTwoMomentsAsOne) {
    const std::array<WSAEVENT, 2> events{make(), make()};
    std::atomic<bool> stop{false};
    std::thread toggler([&] {
        while (!stop.load()) {
            for (const WSAEVENT event : events) {
                WSASetEvent(event);
                WSAResetEvent(event);
            }
        }
    });
    for (int i = 0; i < 20000; ++i) {
        ASSERT_EQ(WSAWaitForMultipleEvents(2, events.data(), TRUE, 0, FALSE), WSA_WAIT_TIMEOUT);
    }
    stop.store(true);
    toggler.join();
}

// The way a provider tells network events: record first, signal second; reset first, read the
// record second.
TEST_F(EventTest, NoRecordIsLostBetweenSetAndReset) {
    constexpr int kRecords = 20000;
    for (const unsigned spins : {0u, 200u}) {
        set_wait_spins(spins);
        const WSAEVENT event = make();
        // Relaxed on purpose: the event alone orders them.
        std::atomic<int> recorded{0};
        std::thread producer([&] {
            for (int i = 0; i < kRecords; ++i) {
                recorded.fetch_add(1, std::memory_order_relaxed);
                WSASetEvent(event);
            }
        });
        for (int seen = 0; seen < kRecords;) {
            ASSERT_EQ(wait_one(event), WSA_WAIT_EVENT_0);
            WSAResetEvent(event);
            seen += recorded.exchange(0, std::memory_order_relaxed);
        }
        producer.join();
    }
}

// What was written before the set is seen after the wait; checked by the thread sanitizer too.
TEST_F(EventTest, SetPublishesPlainWrites) {
    const WSAEVENT ping = make();
    const WSAEVENT pong = make();
    int value = 0;
    std::thread other([&] {
        for (int i = 0; i < 2000; ++i) {
            wait_one(ping);
            WSAResetEvent(ping);
            ++value;
            WSASetEvent(pong);
        }
    });
    for (int i = 0; i < 2000; ++i) {
        ++value;
        WSASetEvent(ping);
        wait_one(pong);
        WSAResetEvent(pong);
        ASSERT_EQ(value, 2 * (i + 1));
    }
    other.join();
}

TEST_F(EventTest, SettersWaitersAndClosersMayRace) {
    std::array<std::atomic<WSAEVENT>, 4> slots{};
    for (auto& slot : slots)
        slot.store(WSACreateEvent());
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            while (!stop.load()) {
                for (auto& slot : slots) {
                    WSASetEvent(slot.load());
                    WSAResetEvent(slot.load());
                }
            }
        });
    }
    threads.emplace_back([&] {
        while (!stop.load()) {
            std::array<WSAEVENT, 4> events{};
            for (std::size_t i = 0; i < 4; ++i)
                events[i] = slots[i].load();
            WSAWaitForMultipleEvents(4, events.data(), FALSE, 1, FALSE);
        }
    });
    for (int round = 0; round < 2000; ++round) {
        auto& slot = slots[static_cast<std::size_t>(round) % 4];
        EXPECT_TRUE(WSACloseEvent(slot.exchange(WSACreateEvent())));
    }
    stop.store(true);
    for (std::thread& thread : threads)
        thread.join();
    for (auto& slot : slots)
        EXPECT_TRUE(WSACloseEvent(slot.load()));
}

TEST_F(EventTest, NoKernelWhereNobodySleeps) {
    const WSAEVENT event = make();
    const KernelCalls before = kernel_calls();
    for (int i = 0; i < 1000; ++i) {
        WSASetEvent(event);
        WSASetEvent(event);
        wait_one(event);
        WSAResetEvent(event);
    }
    EXPECT_EQ(kernel_calls().sleeps, before.sleeps);
    EXPECT_EQ(kernel_calls().wakes, before.wakes);
}

TEST_F(EventTest, NoSystemCallWhereNobodySleeps) {
    if (!kCanForbidSystemCalls) GTEST_SKIP() << "not with this sanitizer";
    WSAEVENT event = WSA_INVALID_EVENT;
    EXPECT_TRUE(runs_without_system_calls([&] { event = WSACreateEvent(); },
                                          [&] {
                                              bool good = true;
                                              for (int i = 0; i < 1000; ++i) {
                                                  good = good && WSASetEvent(event) &&
                                                         wait_one(event) == WSA_WAIT_EVENT_0 &&
                                                         WSAResetEvent(event) &&
                                                         wait_one(event, 0) == WSA_WAIT_TIMEOUT;
                                              }
                                              return good;
                                          }));
}

TEST_F(EventTest, ProofOfNoSystemCallNoticesOne) {
    if (!kCanForbidSystemCalls) GTEST_SKIP() << "not with this sanitizer";
    EXPECT_FALSE(runs_without_system_calls([] {}, [] { return ::syscall(SYS_getppid) > 0; }));
    EXPECT_FALSE(runs_without_system_calls([] {}, [] { return false; }));
}

}  // namespace
}  // namespace sanpoll_switch
