// Threads that wait for signals, inside upcalls, of each other's and of their own.
#include <array>
#include <atomic>
#include <thread>

#include "tests/engine/thread_state.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

// ---- beside a signal in another thread ------------------------------------------------------------------

// A thread is in the middle of signalling a listener's event while a completion upcall ends the registration.
class SignalBesideTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        event = upcalls.create_event();
        address = fresh_address();
    }
    template <typename Ending>
    void expect_waits(Ending end) {
        const SOCKET listener = listening(address);
        (void)connecting(address);
        ASSERT_TRUE(wait_for_request(listener, event));
        Pair pair = connected();
        Notified receive;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
        const WSAEVENT other = upcalls.create_event();
        std::atomic<bool> signalling{false};
        std::atomic<bool> ending{false};
        std::atomic<bool> ended{false};
        bool ended_meanwhile = false;
        const ActionScope signals = upcalls.on_set_event([&](WSAEVENT which) {
            if (which == other) {
                signalling.store(true);
                (void)eventually([&] { return ending.load(); });
                let_time_pass();
                ended_meanwhile = ended.load();
            }
        });
        const ActionScope completions = upcalls.on_complete([&](const Upcall& call) {
            if (call.overlapped == &receive) {
                ending.store(true);
                EXPECT_EQ(end(listener), 0);
                ended.store(true);
            }
        });
        std::thread signaller([&] { EXPECT_EQ(san.event_select(listener, other, FD_ACCEPT), 0); });
        EXPECT_TRUE(eventually([&] { return signalling.load(); }));
        Polled send;
        EXPECT_EQ(san.send(pair.client.s, pair.client.at(0), 8, &send), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &send).error, 0);
        signaller.join();
        EXPECT_TRUE(eventually([&] { return ended.load(); }));
        EXPECT_FALSE(ended_meanwhile) << "the event was signalled after its registration had ended";
    }

    WSAEVENT event = nullptr;
    sockaddr_in address{};
};

TEST_F(SignalBesideTest, ACloseInAnUpcallWaitsForIt) {
    expect_waits([&](SOCKET listener) { return san.close(listener); });
}

TEST_F(SignalBesideTest, ASelectionInAnUpcallWaitsForIt) {
    expect_waits([&](SOCKET listener) { return san.event_select(listener, nullptr, 0); });
}

// ---- threads that would wait for each other's signals ---------------------------------------------------------

class SignalCircleTest : public ProviderTest {
protected:
    // A listener with an event that two requests can be told by: the second once the first is accepted.
    struct Listener {
        SOCKET s = INVALID_SOCKET;
        WSAEVENT event = nullptr;
    };
    Listener with_two_requests() {
        const sockaddr_in to = fresh_address();
        const Listener listener{listening(to), upcalls.create_event()};
        for (std::size_t requests = 1; requests <= 2; ++requests) {
            (void)connecting(to);
            const WSAEVENT seen = upcalls.create_event();
            EXPECT_TRUE(wait_for_request(listener.s, seen));
        }
        EXPECT_EQ(san.event_select(listener.s, nullptr, 0), 0);
        return listener;
    }
};

TEST_F(SignalCircleTest, TwoUpcallsOfOneSocketMayBothEndItsRegistration) {
    for (const bool by_close : {false, true}) {
        const Listener listener = with_two_requests();
        std::atomic<int> inside{0};
        std::atomic<int> ended{0};
        const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
            if (which != listener.event) {
                return;
            }
            const bool first = inside.fetch_add(1) == 0;
            EXPECT_TRUE(eventually([&] { return inside.load() == 2; }));
            if (first && by_close) {
                EXPECT_EQ(san.close(listener.s), 0);
            } else {
                const int error = san.event_select(listener.s, nullptr, 0);
                EXPECT_TRUE(error == 0 || (by_close && error == WSAENOTSOCK)) << error;
            }
            ++ended;
        });
        std::thread selecting(
            [&] { EXPECT_EQ(san.event_select(listener.s, listener.event, FD_ACCEPT), 0); });
        EXPECT_TRUE(eventually([&] { return inside.load() == 1; }));
        // Takes one request and tells of the other.
        std::thread accepting([&] { EXPECT_NE(san.accept(listener.s), INVALID_SOCKET); });
        selecting.join();
        accepting.join();
        // The second request may have been late, and the notifier thread told of it.
        EXPECT_TRUE(eventually([&] { return ended.load() == 2; }));
    }
}

TEST_F(SignalCircleTest, UpcallsOfTwoSocketsMayEachEndTheOthersRegistration) {
    const Listener one = with_two_requests();
    const Listener two = with_two_requests();
    std::atomic<int> inside{0};
    std::atomic<int> ended{0};
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == one.event || which == two.event) {
            ++inside;
            EXPECT_TRUE(eventually([&] { return inside.load() == 2; }));
            EXPECT_EQ(san.event_select(which == one.event ? two.s : one.s, nullptr, 0), 0);
            ++ended;
        }
    });
    std::thread first([&] { EXPECT_EQ(san.event_select(one.s, one.event, FD_ACCEPT), 0); });
    std::thread second([&] { EXPECT_EQ(san.event_select(two.s, two.event, FD_ACCEPT), 0); });
    first.join();
    second.join();
    EXPECT_EQ(ended, 2);
}

// Each gives way to who waits for it, and to nobody else.
TEST_F(SignalCircleTest, WhoIsInNoCircleIsWaitedFor) {
    const Listener one = with_two_requests();
    const Listener two = with_two_requests();
    std::atomic<bool> outer{false};
    std::atomic<bool> inner{false};
    std::atomic<bool> inner_over{false};
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == two.event) {
            inner = true;
            EXPECT_TRUE(eventually([&] { return outer.load(); }));
            let_time_pass();
            inner_over = true;
        } else if (which == one.event) {
            EXPECT_TRUE(eventually([&] { return inner.load(); }));
            outer = true;
            EXPECT_EQ(san.event_select(two.s, nullptr, 0), 0);
            EXPECT_TRUE(inner_over.load());
        }
    });
    std::thread second([&] { EXPECT_EQ(san.event_select(two.s, two.event, FD_ACCEPT), 0); });
    std::thread first([&] { EXPECT_EQ(san.event_select(one.s, one.event, FD_ACCEPT), 0); });
    first.join();
    second.join();
}

// The one upcall closes a connection whose last completion the notifier thread has to tell, and this thread's upcall
// ends the registration that the other one is of.
TEST_F(SignalCircleTest, TheNotifierThreadGivesWayToWhoWaitsForIt) {
    for (const bool close_first : {false, true}) {
        const Listener listener = with_two_requests();
        Pair told = connected();
        Pair closed = connected();
        Notified receive;
        Notified aborted;
        ASSERT_EQ(san.recv(told.server.s, told.server.at(0), 64, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.recv(closed.server.s, closed.server.at(0), 64, &aborted), WSA_IO_PENDING);
        std::atomic<bool> signalling{false};
        std::atomic<bool> notifying{false};
        std::atomic<int> ended{0};
        const ActionScope signals = upcalls.on_set_event([&](WSAEVENT which) {
            if (which == listener.event) {
                signalling = true;
                EXPECT_TRUE(eventually([&] { return notifying.load(); }));
                if (!close_first) {
                    let_time_pass();
                }
                EXPECT_EQ(san.close(closed.server.s), 0);
                ++ended;
            }
        });
        const ActionScope completions = upcalls.on_complete([&](const Upcall& call) {
            if (call.overlapped == &receive) {
                notifying = true;
                if (close_first) {
                    let_time_pass();
                }
                EXPECT_EQ(san.event_select(listener.s, nullptr, 0), 0);
                ++ended;
            }
        });
        std::thread signaller(
            [&] { EXPECT_EQ(san.event_select(listener.s, listener.event, FD_ACCEPT), 0); });
        EXPECT_TRUE(eventually([&] { return signalling.load(); }));
        Polled send;
        EXPECT_EQ(san.send(told.client.s, told.client.at(0), 8, &send), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(told.client.s, &send).error, 0);
        signaller.join();
        EXPECT_TRUE(eventually([&] { return ended.load() == 2; }));
        EXPECT_TRUE(upcalls.wait_for(&aborted));
    }
}

// Each of some threads ends the registration whose signal the next one is in the middle of, the last one that of the
// first. One more waits for the first, and nobody for that: it is in no circle and has to wait.
TEST_F(SignalCircleTest, ARingOfThreadsEndsAndItsTailWaitsForIt) {
    constexpr std::size_t kMost = 4;
    for (const std::size_t count : {std::size_t{3}, kMost}) {
        std::array<Listener, kMost + 1> listeners;  // behind those of the ring, the tail's
        for (std::size_t i = 0; i <= count; ++i) {
            listeners[i] = with_two_requests();
        }
        std::atomic<std::size_t> inside{0};
        std::atomic<bool> first_over{false};
        const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
            for (std::size_t i = 0; i <= count; ++i) {
                if (which != listeners[i].event) {
                    continue;
                }
                ++inside;
                EXPECT_TRUE(eventually([&] { return inside.load() == count + 1; }));
                const std::size_t awaited = i == count ? 0 : (i + 1) % count;
                EXPECT_EQ(san.event_select(listeners[awaited].s, nullptr, 0), 0);
                if (i == 0) {
                    first_over = true;
                } else if (i == count) {
                    EXPECT_TRUE(first_over.load()) << "of " << count;
                }
            }
        });
        std::array<std::thread, kMost + 1> threads;
        for (std::size_t i = 0; i <= count; ++i) {
            threads[i] = std::thread([&, i] {
                EXPECT_EQ(san.event_select(listeners[i].s, listeners[i].event, FD_ACCEPT), 0);
            });
        }
        for (std::size_t i = 0; i <= count; ++i) {
            threads[i].join();
        }
    }
}

// Two threads are in the middle of signals of `one`, two of signals of `two`:
//
//   a (two)  ends one's registration: waits for b and d
//   b (one)  ends two's: gives way to a, with which it closes a circle, and waits for c
//   c (two)  is busy for a while
//   d (one)  ends one's: a waits for it, but b does not wait for a, so it has to wait for b
TEST_F(SignalCircleTest, WhoWaitsForSomebodyElseOnlyIsWaitedFor) {
    const Listener one = with_two_requests();
    const Listener two = with_two_requests();
    let_time_pass();  // the second request of each may be on its way
    std::atomic<int> inside{0};
    std::atomic<int> inside_one{0};
    std::atomic<int> inside_two{0};
    std::array<std::atomic<int>, 4> waiting{};  // thread ids
    std::atomic<bool> c_over{false};
    std::atomic<bool> b_over{false};
    const auto end_of = [&](SOCKET s, std::size_t who) {
        waiting[who] = tests::this_thread_id();
        EXPECT_EQ(san.event_select(s, nullptr, 0), 0);
    };
    // What it looks at it may sleep for as well, but for a short time: three looks in a row.
    const auto is_waiting = [&](std::size_t who) {
        int asleep = 0;
        EXPECT_TRUE(eventually([&] {
            const int id = waiting[who].load();
            asleep = id != 0 && tests::thread_sleeps(id) ? asleep + 1 : 0;
            return asleep == 3;
        }));
    };
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which != one.event && which != two.event) {
            return;
        }
        const bool first = (which == one.event ? inside_one : inside_two).fetch_add(1) == 0;
        ++inside;
        EXPECT_TRUE(eventually([&] { return inside.load() == 4; }));
        if (which == two.event && first) {
            end_of(one.s, 0);
        } else if (which == one.event && first) {
            is_waiting(0);
            end_of(two.s, 1);
            EXPECT_TRUE(c_over.load());
            b_over = true;
        } else if (which == one.event) {
            is_waiting(1);
            end_of(one.s, 3);
            EXPECT_TRUE(b_over.load()) << "it has not waited for who does not wait for it";
        } else {
            is_waiting(1);
            let_time_pass();
            c_over = true;
        }
    });
    std::array<std::thread, 4> threads;
    threads[0] = std::thread([&] { EXPECT_EQ(san.event_select(one.s, one.event, FD_ACCEPT), 0); });
    threads[1] = std::thread([&] { EXPECT_EQ(san.event_select(two.s, two.event, FD_ACCEPT), 0); });
    EXPECT_TRUE(eventually([&] { return inside.load() == 2; }));
    // Each takes one request and tells of the other.
    threads[2] = std::thread([&] { EXPECT_NE(san.accept(one.s), INVALID_SOCKET); });
    threads[3] = std::thread([&] { EXPECT_NE(san.accept(two.s), INVALID_SOCKET); });
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(inside, 4);
}

}  // namespace
}  // namespace sanpoll::test
