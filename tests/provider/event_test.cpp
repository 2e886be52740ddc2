// WSPEventSelect and WSPEnumNetworkEvents.
#include <atomic>
#include <thread>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class EventTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        event = upcalls.create_event();
        address = fresh_address();
    }
    LONG events_of(SOCKET s, WSAEVENT reset = nullptr) {
        WSANETWORKEVENTS events{};
        EXPECT_EQ(san.enum_events(s, reset, &events), 0);
        return events.lNetworkEvents;
    }

    WSAEVENT event = nullptr;
    sockaddr_in address{};
};

TEST_F(EventTest, OtherEventsThanAcceptAndConnectAreInvalid) {
    const SOCKET s = socket();
    for (const LONG mask :
         {FD_READ, FD_WRITE, FD_OOB, FD_CLOSE, FD_QOS, FD_GROUP_QOS, FD_ROUTING_INTERFACE_CHANGE,
          FD_ADDRESS_LIST_CHANGE, FD_ACCEPT | FD_READ, FD_ALL_EVENTS, -1, 1 << 30}) {
        EXPECT_EQ(san.event_select(s, event, mask), WSAEINVAL) << mask;
    }
}

TEST_F(EventTest, AcceptAndConnectMayBeSelectedInAnyState) {
    const SOCKET s = socket();
    EXPECT_EQ(san.event_select(s, event, FD_ACCEPT), 0);
    EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    EXPECT_EQ(san.event_select(s, event, FD_ACCEPT | FD_CONNECT), 0);
}

TEST_F(EventTest, NoEventWithAMaskIsInvalid) {  // project decision
    EXPECT_EQ(san.event_select(socket(), nullptr, FD_ACCEPT), WSAEINVAL);
}

TEST_F(EventTest, MaskZeroIgnoresTheEvent) {
    EXPECT_EQ(san.event_select(socket(), nullptr, 0), 0);
    EXPECT_EQ(san.event_select(socket(), reinterpret_cast<WSAEVENT>(0x123), 0), 0);
}

TEST_F(EventTest, NothingHappenedIsAnEmptyRecord) {
    EXPECT_EQ(events_of(socket()), 0);
    EXPECT_EQ(events_of(listening(address)), 0);
}

TEST_F(EventTest, NullRecordIsInvalid) {  // project decision
    EXPECT_EQ(san.enum_events(socket(), nullptr, nullptr), WSAEINVAL);
}

TEST_F(EventTest, AFailingEnumerationResetsNothing) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_EQ(san.enum_events(listener, event, nullptr), WSAEINVAL);
    EXPECT_TRUE(upcalls.signaled(event));
    EXPECT_EQ(events_of(listener), FD_ACCEPT);
}

TEST_F(EventTest, EnumerationResetsTheEventAndClearsTheRecord) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_EQ(events_of(listener, event), FD_ACCEPT);
    EXPECT_FALSE(upcalls.signaled(event));
    EXPECT_EQ(events_of(listener, event), 0);
}

TEST_F(EventTest, EnumerationWithoutAnEventResetsNone) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_EQ(events_of(listener, nullptr), FD_ACCEPT);
    EXPECT_TRUE(upcalls.signaled(event));
}

TEST_F(EventTest, EnumerationResetsTheEventItIsGiven) {  // project decision
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    const WSAEVENT other = upcalls.create_event();
    EXPECT_EQ(events_of(listener, other), FD_ACCEPT);
    EXPECT_TRUE(upcalls.signaled(event));
}

TEST_F(EventTest, OnlyReportedErrorsAreWritten) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    WSANETWORKEVENTS events{};
    for (INT& code : events.iErrorCode) {
        code = 4711;
    }
    ASSERT_EQ(san.enum_events(listener, event, &events), 0);
    for (int bit = 0; bit < FD_MAX_EVENTS; ++bit) {
        EXPECT_EQ(events.iErrorCode[bit], bit == FD_ACCEPT_BIT ? 0 : 4711) << bit;
    }
}

TEST_F(EventTest, OneIndicationMayStandForTwoRequests) {
    const SOCKET listener = listening(address);
    WSAEVENT first = nullptr;
    WSAEVENT second = nullptr;
    const SOCKET a = connecting(address, &first);
    const SOCKET b = connecting(address, &second);
    // A switch that calls WSPAccept once for each indication gets both.
    for (int taken = 0; taken < 2; ++taken) {
        ASSERT_TRUE(taken == 0 ? wait_for_request(listener, event) : upcalls.wait_for(event));
        EXPECT_EQ(events_of(listener, event), FD_ACCEPT);
        EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    }
    EXPECT_EQ(connect_result(a, first), 0);
    EXPECT_EQ(connect_result(b, second), 0);
}

TEST_F(EventTest, AcceptIsIndicatedAgainAfterARejection) {
    const SOCKET listener = listening(address);
    WSAEVENT first = nullptr;
    const SOCKET a = connecting(address, &first);
    const SOCKET b = connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_EQ(events_of(listener, event), FD_ACCEPT);
    int error = 0;
    (void)san.accept(listener, &error,
                     [](LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*, DWORD_PTR) {
                         return CF_REJECT;
                     });
    EXPECT_EQ(error, WSAECONNREFUSED);
    EXPECT_EQ(connect_result(a, first), WSAECONNREFUSED);
    EXPECT_TRUE(upcalls.wait_for(event));
    EXPECT_EQ(events_of(listener, event), FD_ACCEPT);
    EXPECT_EQ(san.close(b), 0);
}

TEST_F(EventTest, AcceptIsIndicatedAgainAfterAnEmptyAccept) {
    const SOCKET listener = listening(address);
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    int error = 0;
    (void)san.accept(listener, &error);
    EXPECT_EQ(error, WSAEWOULDBLOCK);
    (void)connecting(address);
    EXPECT_TRUE(upcalls.wait_for(event));
}

TEST_F(EventTest, ASuccessfulAcceptResetsTheEvent) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_FALSE(upcalls.signaled(event));
}

TEST_F(EventTest, AnAcceptedSocketInheritsNoEvents) {  // project decision
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    const SOCKET accepted = san.accept(listener);
    ASSERT_NE(accepted, INVALID_SOCKET);
    EXPECT_EQ(events_of(accepted), 0);
    EXPECT_EQ(san.close(listener), 0);
    upcalls.retire_event(event);
}

TEST_F(EventTest, SelectingAgainReplacesTheEvent) {
    const SOCKET listener = listening(address);
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    const WSAEVENT other = upcalls.create_event();
    EXPECT_EQ(san.event_select(listener, other, FD_ACCEPT), 0);
    upcalls.retire_event(event);
    (void)connecting(address);
    EXPECT_TRUE(upcalls.wait_for(other));
}

TEST_F(EventTest, SelectingAgainReplacesTheMask) {
    const SOCKET listener = listening(address);
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    EXPECT_EQ(san.event_select(listener, event, FD_CONNECT), 0);
    (void)connecting(address);
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(event));
    EXPECT_EQ(events_of(listener), 0);
}

TEST_F(EventTest, SelectingAgainIndicatesAgainWhatIsStillTrue) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_EQ(events_of(listener, event), FD_ACCEPT);
    const WSAEVENT other = upcalls.create_event();
    EXPECT_EQ(san.event_select(listener, other, FD_ACCEPT), 0);
    EXPECT_TRUE(upcalls.wait_for(other));
    EXPECT_EQ(events_of(listener, other), FD_ACCEPT);
}

TEST_F(EventTest, SelectingAgainClearsTheRecord) {  // project decision
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_EQ(san.event_select(listener, nullptr, 0), 0);
    upcalls.retire_event(event);
    EXPECT_EQ(events_of(listener), 0);
}

TEST_F(EventTest, AnUnreportedConnectIsIndicatedToALaterSelection) {
    WSAEVENT first = nullptr;
    const SOCKET s = connecting(address, &first);
    ASSERT_TRUE(upcalls.wait_for(first));
    EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    upcalls.retire_event(first);
    EXPECT_EQ(connect_result(s, event), WSAECONNRESET);
}

TEST_F(EventTest, DeselectedEventsAreNotSignalled) {
    const SOCKET listener = listening(address);
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    EXPECT_EQ(san.event_select(listener, nullptr, 0), 0);
    upcalls.retire_event(event);
    WSAEVENT connect_event = nullptr;
    const SOCKET s = connecting(address, &connect_event);
    EXPECT_TRUE(eventually([&] { return san.accept(listener) != INVALID_SOCKET; }));
    EXPECT_EQ(connect_result(s, connect_event), 0);
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(event));
}

TEST_F(EventTest, OneEventMayServeTwoSockets) {
    const sockaddr_in other = fresh_address();
    const SOCKET a = listening(address);
    const SOCKET b = listening(other);
    EXPECT_EQ(san.event_select(a, event, FD_ACCEPT), 0);
    EXPECT_EQ(san.event_select(b, event, FD_ACCEPT), 0);
    (void)connecting(other);
    EXPECT_TRUE(upcalls.wait_for(event));
    EXPECT_EQ(events_of(a), 0);
    EXPECT_EQ(events_of(b), FD_ACCEPT);
}

TEST_F(EventTest, NoEventIsSignalledAfterCloseHasReturned) {
    for (int i = 0; i < 100; ++i) {
        const sockaddr_in to = fresh_address();
        const SOCKET listener = listening(to);
        const WSAEVENT accept_event = upcalls.create_event();
        EXPECT_EQ(san.event_select(listener, accept_event, FD_ACCEPT), 0);
        const SOCKET s = connecting(to);
        EXPECT_EQ(san.close(listener), 0);
        upcalls.retire_event(accept_event);
        EXPECT_EQ(san.close(s), 0);
    }
    let_time_pass();
}

TEST_F(EventTest, NoEventIsSignalledAfterItWasReplaced) {
    const SOCKET listener = listening(address, 1000);
    WSAEVENT current = upcalls.create_event();
    EXPECT_EQ(san.event_select(listener, current, FD_ACCEPT), 0);
    for (int i = 0; i < 100; ++i) {
        (void)connecting(address);
        const WSAEVENT next = upcalls.create_event();
        EXPECT_EQ(san.event_select(listener, next, FD_ACCEPT), 0);
        upcalls.retire_event(current);
        current = next;
        (void)san.accept(listener);
    }
    let_time_pass();
}

// ---- from within the signal ---------------------------------------------------------------------------

TEST_F(EventTest, TheConnectionMayBeAcceptedFromWithinTheSignal) {
    const SOCKET listener = listening(address);
    std::atomic<SOCKET> accepted{INVALID_SOCKET};
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == event) {
            WSANETWORKEVENTS events{};
            EXPECT_EQ(san.enum_events(listener, event, &events), 0);
            if (const SOCKET s = san.accept(listener); s != INVALID_SOCKET) {
                accepted = s;
            }
        }
    });
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    WSAEVENT connect_event = nullptr;
    const SOCKET s = connecting(address, &connect_event);
    EXPECT_EQ(connect_result(s, connect_event), 0);
    EXPECT_TRUE(eventually([&] { return accepted != INVALID_SOCKET; }));
}

TEST_F(EventTest, TheSocketMayBeClosedFromWithinTheSignal) {
    std::atomic<int> closed{-1};
    const SOCKET s = bound();
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == event) {
            closed = san.close(s);
        }
    });
    EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    EXPECT_EQ(san.connect(s, address), WSAEWOULDBLOCK);
    EXPECT_TRUE(eventually([&] { return closed != -1; }));
    EXPECT_EQ(closed, 0);
}

// The request is queued already, so the signal comes from inside WSPEventSelect, in this thread.
TEST_F(EventTest, TheSocketMayBeClosedFromWithinASignalInTheSameThread) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    const WSAEVENT other = upcalls.create_event();
    int closed = -1;
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == other) {
            closed = san.close(listener);
        }
    });
    EXPECT_EQ(san.event_select(listener, other, FD_ACCEPT), 0);
    EXPECT_EQ(closed, 0);
}

TEST_F(EventTest, TheEventMayBeReplacedFromWithinASignalInTheSameThread) {
    const SOCKET listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    const WSAEVENT other = upcalls.create_event();
    int selected = -1;
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT which) {
        if (which == other) {
            selected = san.event_select(listener, nullptr, 0);
        }
    });
    EXPECT_EQ(san.event_select(listener, other, FD_ACCEPT), 0);
    EXPECT_EQ(selected, 0);
}

// ---- beside a signal in another thread ------------------------------------------------------------------

// A thread is in the middle of signalling a listener's event while a completion upcall ends the registration.
class SignalBesideTest : public EventTest {
protected:
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
};

TEST_F(SignalBesideTest, ACloseInAnUpcallWaitsForIt) {
    expect_waits([&](SOCKET listener) { return san.close(listener); });
}

TEST_F(SignalBesideTest, ASelectionInAnUpcallWaitsForIt) {
    expect_waits([&](SOCKET listener) { return san.event_select(listener, nullptr, 0); });
}

// ---- threads that would wait for each other's signals ---------------------------------------------------------

class SignalCircleTest : public EventTest {
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

}  // namespace
}  // namespace sanpoll::test
