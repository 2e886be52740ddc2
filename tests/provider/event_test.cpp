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

TEST_F(EventTest, AnAcceptResetsTheEventThatIsRegisteredThen) {
    const SOCKET listener = listening(address);
    const SOCKET client = connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    const WSAEVENT next = upcalls.create_event();
    upcalls.on_create_handle([&](SOCKET proposed) {
        EXPECT_EQ(san.event_select(listener, next, FD_ACCEPT), 0);
        return proposed;
    });
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    upcalls.on_create_handle(nullptr);
    int resets = 0;
    for (const Upcall& call : upcalls.upcalls(UpcallKind::kResetEvent)) {
        EXPECT_NE(call.event, event) << "it may be another socket's by now";
        resets += call.event == next ? 1 : 0;
    }
    EXPECT_EQ(resets, 1) << "it is this one whose request has been taken";
    EXPECT_FALSE(upcalls.signaled(next));
    EXPECT_TRUE(upcalls.signaled(event));
    EXPECT_EQ(san.close(client), 0);
}

// As the registration, the reset ends with the socket.
TEST_F(EventTest, AnEnumerationThatFailsBesideACloseHasResetNothing) {
    for (int i = 0; i < 3000; ++i) {
        const SOCKET s = socket();
        std::atomic<bool> begun{false};
        std::thread closing([&] {
            begun.store(true);
            EXPECT_EQ(san.close(s), 0);
        });
        (void)eventually([&] { return begun.load(); });
        const std::size_t resets = upcalls.count(UpcallKind::kResetEvent);
        WSANETWORKEVENTS events{};
        const int error = san.enum_events(s, event, &events);
        EXPECT_EQ(upcalls.count(UpcallKind::kResetEvent), resets + (error == 0 ? 1 : 0)) << error;
        closing.join();
    }
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

}  // namespace
}  // namespace sanpoll::test
