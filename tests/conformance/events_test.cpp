// WSPEventSelect and WSPEnumNetworkEvents: section 11.
#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

class EventsTest : public CalledTest {};

// [R11.1 F.WSPEventSelect.WSAEINVAL C23]
TEST_F(EventsTest, OtherBitsAreInvalid) {  // project decision
    const SOCKET s = socket();
    const WSAEVENT event = upcalls.create_event();
    for (const LONG mask :
         {FD_READ, FD_WRITE, FD_OOB, FD_CLOSE, FD_QOS, FD_GROUP_QOS, FD_ROUTING_INTERFACE_CHANGE,
          FD_ADDRESS_LIST_CHANGE, FD_ACCEPT | FD_READ, FD_CONNECT | FD_CLOSE, FD_ALL_EVENTS, -1}) {
        EXPECT_EQ(san.event_select(s, event, mask), WSAEINVAL) << mask;
    }
    for (const LONG mask : {FD_ACCEPT, FD_CONNECT, FD_ACCEPT | FD_CONNECT}) {
        EXPECT_EQ(san.event_select(s, event, mask), 0) << mask;
    }
}

// [F.WSPEventSelect.WSAEINVAL]
TEST_F(EventsTest, AMaskWithoutAnEventIsInvalid) {  // project decision
    EXPECT_EQ(san.event_select(socket(), nullptr, FD_ACCEPT), WSAEINVAL);
}

// [F.WSPEventSelect.1]
TEST_F(EventsTest, MaskZeroCancelsAndIgnoresTheEvent) {
    const SOCKET s = socket();
    EXPECT_EQ(san.event_select(s, nullptr, 0), 0);
    EXPECT_EQ(san.event_select(s, reinterpret_cast<WSAEVENT>(0x123), 0), 0);
    be_called();
    EXPECT_EQ(san.event_select(listener, nullptr, 0), 0);
    upcalls.retire_event(accept_event);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    (void)connecting(address);
    ASSERT_TRUE(eventually([&] { return san.accept(listener) != INVALID_SOCKET; }));
}

// [F.WSPEventSelect.2 F.WSPEventSelect.4]
TEST_F(EventsTest, ANewRegistrationReplacesTheFormerOne) {
    address = fresh_address();
    listener = listening(address);
    const WSAEVENT old = upcalls.create_event();
    ASSERT_EQ(san.event_select(listener, old, FD_ACCEPT), 0);
    const WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    upcalls.retire_event(old);  // a violation if it is signalled from here on
    (void)connecting(address);
    EXPECT_TRUE(upcalls.wait_for(event));
    // And with another mask nothing of the former one remains.
    ASSERT_EQ(san.event_select(listener, event, FD_CONNECT), 0);
    EXPECT_EQ(events_of(listener), 0);
}

// [F.WSPEventSelect.3 B3]
TEST_F(EventsTest, ReselectingClearsTheRecordAndDerivesItAnew) {  // project decision
    be_called();
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    ASSERT_EQ(san.event_select(listener, accept_event, FD_ACCEPT), 0);
    EXPECT_EQ(events_of(listener), 0) << "the request was taken, the record is out of date";
    // A connect's result that nobody has read is true still.
    const SOCKET s = bound();
    ASSERT_EQ(san.connect(s, fresh_address()), WSAEWOULDBLOCK);
    WSAEVENT event = upcalls.create_event();
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    ASSERT_TRUE(upcalls.wait_for(event));
    event = upcalls.create_event();
    ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
    EXPECT_TRUE(upcalls.signaled(event));
    EXPECT_EQ(connect_result(s, event), WSAECONNRESET);
}

// [F.WSPEventSelect.4]
TEST_F(EventsTest, NothingIsSignalledAfterTheSocketIsClosed) {
    for (int i = 0; i < 50; ++i) {
        address = fresh_address();
        listener = listening(address);
        accept_event = upcalls.create_event();
        ASSERT_EQ(san.event_select(listener, accept_event, FD_ACCEPT), 0);
        client = connecting(address, &connect_event);
        EXPECT_EQ(san.close(listener), 0);
        upcalls.retire_event(accept_event);  // a violation if it is signalled from here on
        EXPECT_EQ(san.close(client), 0);
        upcalls.retire_event(connect_event);
    }
}

// [F.WSPEventSelect.5]
TEST_F(EventsTest, OneEventMayServeSeveralSockets) {
    const WSAEVENT event = upcalls.create_event();
    const SOCKET one = bound();
    const SOCKET two = bound();
    for (const SOCKET s : {one, two}) {
        ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
        ASSERT_EQ(san.connect(s, fresh_address()), WSAEWOULDBLOCK);
        ASSERT_TRUE(upcalls.wait_for(event));
        EXPECT_EQ(connect_result(s, event), WSAECONNRESET);
    }
    EXPECT_EQ(events_of(one), 0);
}

// [R5.9 F.WSPEventSelect.6 B4 R20.5]
TEST_F(EventsTest, OneIndicationMayStandForSeveralRequests) {
    be_called();
    WSAEVENT second_event = nullptr;
    const SOCKET second = connecting(address, &second_event);
    // A switch that calls WSPAccept once for each indication gets both.
    for (int taken = 0; taken < 2; ++taken) {
        ASSERT_TRUE(upcalls.wait_for(accept_event));
        EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
        EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    }
    EXPECT_EQ(connect_result(client, connect_event), 0);
    EXPECT_EQ(connect_result(second, second_event), 0);
}

// [R5.5 R11.3 B4]
TEST_F(EventsTest, ASuccessfulAcceptResetsTheEventUnlessRequestsWait) {  // project decision
    be_called();
    ASSERT_TRUE(upcalls.signaled(accept_event));
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_FALSE(upcalls.signaled(accept_event));
    // With a second request in the queue it is set again, and by upcall.
    be_called();
    WSAEVENT event = nullptr;
    (void)connecting(address, &event);
    (void)connecting(address, &event);
    Condition condition(CF_DEFER);
    EXPECT_EQ(accept_error(condition), WSATRY_AGAIN);
    EXPECT_NE(san.accept(listener), INVALID_SOCKET);
    EXPECT_TRUE(upcalls.wait_for(accept_event)) << "two more are on their way";
    EXPECT_GT(upcalls.count(UpcallKind::kResetEvent), 0U);
}

// [R5.9 F.WSPEventSelect.6]
TEST_F(EventsTest, EveryAcceptThatIsNotDeferredReenablesFdAccept) {
    be_called();
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
    Condition condition(CF_REJECT);
    EXPECT_EQ(accept_error(condition), WSAECONNREFUSED);
    (void)connecting(address);
    ASSERT_TRUE(upcalls.wait_for(accept_event)) << "after a refusal";
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
    Condition accepting;
    EXPECT_EQ(accept_error(accepting), 0);
    EXPECT_EQ(accept_error(accepting), WSAEWOULDBLOCK);
    (void)connecting(address);
    ASSERT_TRUE(upcalls.wait_for(accept_event)) << "after an empty queue";
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
}

// [F.WSPEventSelect.6]
TEST_F(EventsTest, WithoutAnAcceptFdAcceptDoesNotComeAgain) {
    be_called();
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
    for (int i = 0; i < 3; ++i) {
        (void)connecting(address);
    }
    let_time_pass();
    EXPECT_EQ(events_of(listener),
              0);  // a provider that records each arrival may differ: project decision
}

// [R11.4]
TEST_F(EventsTest, FdAcceptIsRecordedBeforeTheEventIsSet) {
    address = fresh_address();
    listener = listening(address);
    accept_event = upcalls.create_event();
    std::atomic<LONG> seen{-1};
    const ActionScope acting = upcalls.on_set_event([&](WSAEVENT event) {
        if (event == accept_event) {
            seen = events_of(listener);
        }
    });
    ASSERT_EQ(san.event_select(listener, accept_event, FD_ACCEPT), 0);
    (void)connecting(address);
    EXPECT_TRUE(eventually([&] { return seen != -1; }));
    EXPECT_EQ(seen, FD_ACCEPT);
}

// [R11.4]
TEST_F(EventsTest, NoEventIsLostBetweenEnumerationsAndArrivals) {
    constexpr int kCount = 200;
    address = fresh_address();
    listener = listening(address, kCount);
    accept_event = upcalls.create_event();
    ASSERT_EQ(san.event_select(listener, accept_event, FD_ACCEPT), 0);
    std::thread connector([&] {
        for (int i = 0; i < kCount; ++i) {
            (void)connecting(address);
        }
    });
    int taken = 0;
    while (taken < kCount) {
        if (!upcalls.wait_for(accept_event)) {
            ADD_FAILURE() << "an event was lost after " << taken;
            break;
        }
        (void)events_of(listener, accept_event);
        while (san.accept(listener) != INVALID_SOCKET) {
            ++taken;
        }
    }
    connector.join();
}

// ---- WSPEnumNetworkEvents -----------------------------------------------------------------------------------

// [F.WSPEnumNetworkEvents.1 R4.2]
TEST_F(EventsTest, EnumerationMovesTheRecordAndResetsTheEvent) {
    be_called();
    EXPECT_EQ(events_of(listener, accept_event), FD_ACCEPT);
    EXPECT_FALSE(upcalls.signaled(accept_event));
    EXPECT_EQ(events_of(listener, accept_event), 0);
}

// [F.WSPEnumNetworkEvents.1]
TEST_F(EventsTest, WithoutAnEventNoneIsReset) {
    be_called();
    EXPECT_EQ(events_of(listener), FD_ACCEPT);
    EXPECT_TRUE(upcalls.signaled(accept_event));
}

// [C22]
TEST_F(EventsTest, TheEventThatIsGivenIsReset) {  // project decision
    be_called();
    const WSAEVENT other = upcalls.create_event();
    const SOCKET s = bound();
    ASSERT_EQ(san.event_select(s, other, FD_CONNECT), 0);
    ASSERT_EQ(san.connect(s, fresh_address()), WSAEWOULDBLOCK);
    ASSERT_TRUE(upcalls.wait_for(other));
    EXPECT_EQ(events_of(listener, other), FD_ACCEPT);
    EXPECT_TRUE(upcalls.signaled(accept_event));
    EXPECT_FALSE(upcalls.signaled(other));
}

// [F.WSPEnumNetworkEvents.2 F.WSPEnumNetworkEvents.WSAEINVAL]
TEST_F(EventsTest, AFailingEnumerationChangesNothing) {  // NULL is WSAEINVAL: project decision
    be_called();
    EXPECT_EQ(san.enum_events(listener, accept_event, nullptr), WSAEINVAL);
    EXPECT_TRUE(upcalls.signaled(accept_event));
    EXPECT_EQ(events_of(listener), FD_ACCEPT);
}

// [F.WSPEnumNetworkEvents.3]
TEST_F(EventsTest, OnlyCodesOfReportedBitsAreWritten) {
    be_called();
    WSANETWORKEVENTS events{};
    for (INT& code : events.iErrorCode) {
        code = 4711;
    }
    ASSERT_EQ(san.enum_events(listener, accept_event, &events), 0);
    for (int bit = 0; bit < FD_MAX_EVENTS; ++bit) {
        EXPECT_EQ(events.iErrorCode[bit], bit == FD_ACCEPT_BIT ? 0 : 4711) << bit;
    }
}

// [F.WSPEnumNetworkEvents.4]
TEST_F(EventsTest, NothingHappenedIsAnEmptyRecord) {
    EXPECT_EQ(events_of(socket()), 0);
    EXPECT_EQ(events_of(listening(fresh_address())), 0);
}

}  // namespace
}  // namespace sanpoll::conformance
