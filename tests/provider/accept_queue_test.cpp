// The queue of a listener: what counts against the backlog, who leaves it, and when it is told of.
#include <functional>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class AcceptQueueTest : public ProviderTest {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        address = fresh_address();
        other_address = fresh_address();
        event = upcalls.create_event();
    }
    /// Requests and withdrawals of one process arrive in the order in which they were made, at whichever
    /// listener: when this returns, all that were made before have arrived.
    void wait_until_all_have_arrived() {
        const SOCKET other = listening(other_address);
        const SOCKET last = connecting(other_address);
        ASSERT_TRUE(wait_for_request(other, upcalls.create_event()));
        EXPECT_EQ(san.close(last), 0);
        EXPECT_EQ(san.close(other), 0);
    }
    /// Takes the event and the record, so that the next indication is a new one.
    void take_indication() {
        WSANETWORKEVENTS events{};
        ASSERT_EQ(san.enum_events(listener, event, &events), 0);
        ASSERT_EQ(events.lNetworkEvents, FD_ACCEPT);
    }
    /// The error of an accept whose condition function does that.
    int accept(std::function<int()> answer) {
        int error = 0;
        accepted = san.accept(
            listener, &error,
            [](LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*, DWORD_PTR data) {
                return (*reinterpret_cast<std::function<int()>*>(data))();
            },
            reinterpret_cast<DWORD_PTR>(&answer));
        return error;
    }

    sockaddr_in address{};
    sockaddr_in other_address{};
    SOCKET listener = INVALID_SOCKET;
    SOCKET accepted = INVALID_SOCKET;
    WSAEVENT event = nullptr;
};

TEST_F(AcceptQueueTest, ARequestThatIsBeingDecidedCountsAgainstTheBacklog) {  // project decision
    listener = listening(address, 1);
    WSAEVENT first = nullptr;
    const SOCKET client = connecting(address, &first);
    ASSERT_TRUE(wait_for_request(listener, event));
    EXPECT_EQ(accept([&] {
                  EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
                  return CF_DEFER;
              }),
              WSATRY_AGAIN);
    EXPECT_EQ(try_connect(address), WSAECONNREFUSED);
    EXPECT_EQ(accept([] { return CF_ACCEPT; }), 0);
    EXPECT_EQ(connect_result(client, first), 0);
}

TEST_F(AcceptQueueTest, ThePlaceIsFreeWhenThePeerLearnsOfTheAnswer) {
    listener = listening(address, 1);
    for (int i = 0; i < 50; ++i) {
        const WSAEVENT accept_event = upcalls.create_event();
        WSAEVENT connect_event = nullptr;
        const SOCKET client = connecting(address, &connect_event);
        ASSERT_TRUE(wait_for_request(listener, accept_event)) << i;
        ASSERT_EQ(accept([&] { return i % 2 == 0 ? CF_ACCEPT : CF_REJECT; }),
                  i % 2 == 0 ? 0 : WSAECONNREFUSED);
        ASSERT_EQ(connect_result(client, connect_event), i % 2 == 0 ? 0 : WSAECONNREFUSED);
    }
}

TEST_F(AcceptQueueTest, ASmallerBacklogDuringADecisionCountsTheOneThatIsDecided) {
    listener = listening(address, 3);
    WSAEVENT events[3] = {};
    SOCKET clients[3] = {};
    for (int i = 0; i < 3; ++i) {
        clients[i] = connecting(address, &events[i]);
    }
    wait_until_all_have_arrived();
    EXPECT_EQ(accept([&] {
                  EXPECT_EQ(san.listen(listener, 2), 0);
                  return CF_DEFER;
              }),
              WSATRY_AGAIN);
    EXPECT_EQ(connect_result(clients[2], events[2]), WSAECONNREFUSED);
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(accept([] { return CF_ACCEPT; }), 0);
        EXPECT_EQ(connect_result(clients[i], events[i]), 0);
    }
}

TEST_F(AcceptQueueTest, AWithdrawnRequestDoesNotCostALivingOneItsPlace) {
    listener = listening(address, 2);
    const SOCKET first = connecting(address);
    WSAEVENT second_event = nullptr;
    const SOCKET second = connecting(address, &second_event);
    wait_until_all_have_arrived();
    EXPECT_EQ(san.close(first), 0);
    wait_until_all_have_arrived();
    EXPECT_EQ(san.listen(listener, 1), 0);
    EXPECT_EQ(accept([] { return CF_ACCEPT; }), 0);
    EXPECT_EQ(connect_result(second, second_event), 0);
}

TEST_F(AcceptQueueTest, AWithdrawnRequestIsNotIndicatedToALaterSelection) {
    listener = listening(address);
    const SOCKET client = connecting(address);
    wait_until_all_have_arrived();
    EXPECT_EQ(san.close(client), 0);
    wait_until_all_have_arrived();
    EXPECT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    EXPECT_FALSE(upcalls.signaled(event));  // it would be signalled before the call returns
}

TEST_F(AcceptQueueTest, AWithdrawnRequestIsNotIndicatedAfterAnAccept) {
    listener = listening(address);
    (void)connecting(address);
    const SOCKET second = connecting(address);
    wait_until_all_have_arrived();
    ASSERT_EQ(san.event_select(listener, event, FD_ACCEPT), 0);
    EXPECT_EQ(san.close(second), 0);
    wait_until_all_have_arrived();
    EXPECT_EQ(accept([] { return CF_ACCEPT; }), 0);
    EXPECT_FALSE(upcalls.signaled(event));
}

TEST_F(AcceptQueueTest, AWithdrawnRequestDoesNotStandInTheWayOfAnAccept) {
    listener = listening(address);
    const SOCKET first = connecting(address);
    WSAEVENT second_event = nullptr;
    const SOCKET second = connecting(address, &second_event);
    wait_until_all_have_arrived();
    EXPECT_EQ(san.close(first), 0);
    wait_until_all_have_arrived();
    int calls = 0;
    EXPECT_EQ(accept([&] {
                  ++calls;
                  return CF_ACCEPT;
              }),
              0);
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(connect_result(second, second_event), 0);
    EXPECT_EQ(accept([] { return CF_ACCEPT; }), WSAEWOULDBLOCK);
}

TEST_F(AcceptQueueTest, AFaultIndicatesTheQueuedRequestAgain) {
    listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    take_indication();
    sockaddr_in peer{};
    INT length = 15;
    int error = 0;
    EXPECT_EQ(san.accept(listener, &error, nullptr, 0, &peer, &length), INVALID_SOCKET);
    EXPECT_EQ(error, WSAEFAULT);
    EXPECT_TRUE(upcalls.signaled(event));
    take_indication();
}

TEST_F(AcceptQueueTest, ADeferralIndicatesNothingNotEvenRequestsBehindIt) {
    listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    take_indication();
    (void)connecting(address);
    wait_until_all_have_arrived();
    EXPECT_EQ(accept([] { return CF_DEFER; }), WSATRY_AGAIN);
    let_time_pass();
    EXPECT_FALSE(upcalls.signaled(event));
    EXPECT_EQ(accept([] { return CF_ACCEPT; }), 0);
    EXPECT_TRUE(upcalls.signaled(event));  // the one behind it
}

TEST_F(AcceptQueueTest, TheEventThatIsSelectedWhenTheAnswerIsKnownIsReset) {
    listener = listening(address);
    (void)connecting(address);
    ASSERT_TRUE(wait_for_request(listener, event));
    const WSAEVENT replacement = upcalls.create_event();
    EXPECT_EQ(accept([&] {
                  EXPECT_EQ(san.event_select(listener, replacement, FD_ACCEPT), 0);
                  (void)connecting(address);
                  EXPECT_TRUE(upcalls.wait_for(replacement));
                  EXPECT_EQ(accept([] { return CF_ACCEPT; }), 0);
                  return CF_ACCEPT;
              }),
              0);
    EXPECT_FALSE(upcalls.signaled(replacement));
    EXPECT_TRUE(upcalls.signaled(event));  // the old one is not the provider's any more
}

}  // namespace
}  // namespace sanpoll::test
