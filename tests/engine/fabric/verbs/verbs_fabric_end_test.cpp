// How connections of the verbs fabric end, and what a device that goes takes along.
#include <gtest/gtest.h>

#include <cerrno>

#include "engine/fabric/verbs/verbs_fabric.hpp"
#include "tests/engine/fabric/verbs/verbs_fabric_fixture.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::dial;
using tests::eventually;
using tests::Fate;
using tests::SharedDevice;
using tests::Socket;
using tests::VerbsBacklog;
using tests::VerbsHost;

TEST_F(VerbsFabricTest, AnOwnerThatHasClosedGetsNoConnection) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    Socket to;
    const EndpointOwner owner = to.owner();
    (void)to.gate.close(to.generation);
    EXPECT_EQ(request->accept(owner, {}), Status::kNotOpen);
    (void)outcome->result();
    if (from.gate.view().state != PostGate::State::kShut) {
        close_all({&from});
    }
    expect_only(1);
}

TEST_F(VerbsFabricTest, TheOtherEndsCloseEndsTheConnection) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
    close_all({&from});
    EXPECT_TRUE(eventually([&] { return to.gate.view().state != PostGate::State::kOpen; }));
    EXPECT_EQ(to.gate.view().state, PostGate::State::kReset);
    close_all({&to});
    expect_only(1);
}

TEST_F(VerbsFabricTest, WhatWasSentBeforeACloseArrives) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    for (int i = 0; i < 20; ++i) {
        Socket from;
        Socket to;
        ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
        tests::Operation* receives[3];
        for (tests::Operation*& receive : receives) {
            receive = &to.receive(100);
        }
        for (std::uint64_t number = 0; number < 2; ++number) {
            const tests::Operation& send = from.send_number(number, 60);
            EXPECT_TRUE(eventually([&] { return send.good(); }));
        }
        close_all({&from});
        for (tests::Operation* receive : receives) {
            EXPECT_TRUE(eventually([&] { return receive->ended(); }));
        }
        EXPECT_EQ(receives[0]->content(), tests::message_of(0, 60));
        EXPECT_EQ(receives[1]->content(), tests::message_of(1, 60));
        EXPECT_EQ(receives[2]->status, Status::kReset);
        close_all({&to});
    }
    expect_only(1);
}

TEST_F(VerbsFabricTest, BothEndsMayCloseAtOnce) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    for (int i = 0; i < 50; ++i) {
        Socket from;
        Socket to;
        ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
        close_all({&from, &to});
    }
    expect_only(1);
}

TEST_F(VerbsFabricTest, ALostConfirmationHoldsNobodyUp) {
    start();
    cm_.lose_confirmations(true);
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    Socket to;
    // The originator is connected, and closes: that is news enough of its having been there.
    const auto accepted =
        std::async(std::launch::async, [&] { return request->accept(to.owner(), {}); });
    ASSERT_EQ(outcome->result().status, Status::kOk);
    close_all({&from});
    EXPECT_TRUE(eventually(
        [&] { return accepted.wait_for(std::chrono::seconds(0)) == std::future_status::ready; }));
    if (to.gate.view().state != PostGate::State::kShut) {
        close_all({&to});
    }
    expect_only(1);
}

TEST_F(VerbsFabricTest, AnOriginatorThatNeverConfirmsTimesOut) {
    Config config;
    config.connect_timeout_ms = 20;
    start(config);
    cm_.lose_confirmations(true);
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Status accepted = Status::kWithdrawn;
    // On a slow machine the originator may have given up before it is accepted.
    ASSERT_TRUE(eventually([&] {
        Socket from;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
        std::shared_ptr<IncomingConnection> request;
        while (request == nullptr && !outcome->ready()) {
            request = backlog.look();
        }
        Socket to;
        if (request != nullptr) {
            accepted = request->accept(to.owner(), {});
            EXPECT_EQ(to.gate.view().state, PostGate::State::kShut);
        }
        if (outcome->result().status == Status::kOk) {  // it takes itself for connected, until now
            EXPECT_TRUE(
                eventually([&] { return from.gate.view().state == PostGate::State::kReset; }));
            close_all({&from});
        }
        return accepted != Status::kWithdrawn || HasFailure();
    }));
    EXPECT_EQ(accepted, Status::kTimedOut);
    expect_only(1);
}

TEST_F(VerbsFabricTest, ACableThatIsOutForAMomentEndsNoConnection) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
    tests::Operation& receive = to.receive(10);
    cm_.lose_neighbours();
    // RDMA CM's events have been taken when a later connection is there.
    Socket other_from;
    Socket other_to;
    ASSERT_NO_FATAL_FAILURE(join(backlog, other_from, other_to));
    (void)from.send_number(1, 10);
    EXPECT_TRUE(eventually([&] { return receive.ended(); }));
    EXPECT_TRUE(receive.good());
    close_all({&from, &to, &other_from, &other_to});
    expect_only(1);
}

TEST_F(VerbsFabricTest, ALostDeviceEndsItsConnectionsAndNoOthers) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    VerbsBacklog at_home(*here_, {kHere, kPort});
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
    Socket home_from;
    Socket home_to;
    const auto home = dial(*here_, {kHere, 1}, {kHere, kPort}, home_from);
    const auto request = at_home.next();
    ASSERT_NE(request, nullptr);
    ASSERT_EQ(request->accept(home_to.owner(), {}), Status::kOk);
    ASSERT_EQ(home->result().status, Status::kOk);

    cm_.remove_device(there_device_->context());
    EXPECT_TRUE(eventually([&] { return to.gate.view().state == PostGate::State::kFailed; }));
    EXPECT_TRUE(eventually([&] { return there_->fabric.addresses().empty(); }));
    EXPECT_FALSE(there_->fabric.serves(kThere));
    EXPECT_EQ(home_from.gate.view().state, PostGate::State::kOpen);
    EXPECT_EQ(home_to.gate.view().state, PostGate::State::kOpen);
    close_all({&from, &to, &home_from, &home_to});
}

TEST_F(VerbsFabricTest, AReturnedDeviceIsUsedAndListenedOnAgain) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
    cm_.remove_device(there_device_->context());
    EXPECT_TRUE(eventually([&] { return to.gate.view().state == PostGate::State::kFailed; }));
    close_all({&from, &to});
    SharedDevice returned;
    cm_.add_address(kThere, returned.context());
    EXPECT_TRUE(eventually([&] { return there_->fabric.serves(kThere); }));
    Socket again;
    Socket once_more;
    Status status = Status::kNoListener;
    std::shared_ptr<IncomingConnection> request;
    ASSERT_TRUE(eventually([&] {
        Socket probe;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, probe);
        if (!eventually([&] { return outcome->ready() || !backlog.empty(); })) {
            return false;
        }
        if (!backlog.empty()) {
            outcome->outgoing->cancel();
            return true;
        }
        status = outcome->result().status;
        EXPECT_EQ(status, Status::kNoListener);
        return false;
    }));
    (void)backlog.next();
    ASSERT_NO_FATAL_FAILURE(join(backlog, again, once_more));
    close_all({&again, &once_more});
    backlog.stop();
    there_.reset();  // before its device
}

TEST_F(VerbsFabricTest, RequestsOfALostDeviceAreWithdrawn) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    cm_.remove_device(there_device_->context());
    EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
    Socket to;
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kWithdrawn);
    (void)outcome->result();
}

TEST_F(VerbsFabricTest, AnIwarpDriverThatBlocksHoldsUpNobodyElse) {
    use(IBV_TRANSPORT_IWARP);
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    cm_.hold_calls(true);
    Socket first;
    Socket second;
    const auto one = dial(*here_, {kHere, 1}, {kThere, kPort}, first);
    const auto two = dial(*here_, {kHere, 2}, {kThere, kPort}, second);
    EXPECT_TRUE(eventually([&] { return cm_.held_calls() == 2; }));
    // The control thread is free, and a cancel does not wait for the driver.
    one->outgoing->cancel();
    EXPECT_EQ(cm_.held_calls(), 2U);
    EXPECT_TRUE(here_->fabric.serves(kHere));
    cm_.hold_calls(false);
    auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    if (request->withdrawn() || request->remote().port == 1) {
        request = backlog.next();
    }
    ASSERT_NE(request, nullptr);
    Socket to;
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kOk);
    EXPECT_EQ(two->result().status, Status::kOk);
    EXPECT_FALSE(one->ready());
    close_all({&second, &to});
    backlog.full.store(true);
    while (!backlog.empty()) {
        (void)backlog.next();
    }
    expect_only(1);
}

TEST_F(VerbsFabricTest, AnIwarpDeviceThatRefusesThePeerIsHeardBeforeTheStreamsEnd) {
    use(IBV_TRANSPORT_IWARP);
    static std::atomic<ibv_qp*> refusing;
    api_.verbs.get_async_event = [](ibv_context* context, ibv_async_event* event) {
        ibv_qp* qp = refusing.load();
        if (qp == nullptr || qp->context != context) {
            errno = EAGAIN;
            return -1;
        }
        refusing = nullptr;
        event->event_type = IBV_EVENT_QP_ACCESS_ERR;
        event->element.qp = qp;
        return 0;
    };
    api_.verbs.ack_async_event = [](ibv_async_event*) {};
    api_.verbs.event_type_str = [](ibv_event_type) { return "refused"; };
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
    refusing = static_cast<Connection*>(to.slot.load())->id->qp;
    cm_.disconnect_all();
    for (const Socket* socket : {&from, &to}) {
        EXPECT_TRUE(
            eventually([&] { return socket->gate.view().state != PostGate::State::kOpen; }));
    }
    EXPECT_EQ(to.gate.view().state, PostGate::State::kFailed);
    EXPECT_EQ(from.gate.view().state, PostGate::State::kReset);
    close_all({&from, &to});
    expect_only(1);
}

TEST_F(VerbsFabricTest, AConnectThatTheDriverRefusesIsAPortWithoutAListener) {
    use(IBV_TRANSPORT_IWARP);
    start();
    cm_.set_fate(kThere, {.connect_error = ECONNREFUSED});
    Socket from;
    EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status,
              Status::kNoListener);
    expect_only(0);
}

TEST_F(VerbsFabricTest, StopEndsWhatIsUnderWay) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    here_.reset();
    EXPECT_EQ(outcome->result().status, Status::kAborted);
    EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
}

// Whoever was asked about it answers late: there is nobody left to hear of it.
TEST_F(VerbsFabricTest, ARequestMayOutliveItsFabric) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket sockets[3];
    std::unique_ptr<tests::VerbsDial> outcomes[3];
    std::shared_ptr<IncomingConnection> requests[3];
    for (std::uint16_t i = 0; i < 3; ++i) {
        outcomes[i] = dial(*here_, {kHere, i}, {kThere, kPort}, sockets[i]);
        requests[i] = backlog.next();
        ASSERT_NE(requests[i], nullptr);
    }
    backlog.stop();
    there_.reset();
    for (const auto& request : requests) {
        ASSERT_TRUE(request->withdrawn());
    }
    Socket to;
    EXPECT_EQ(requests[0]->accept(to.owner(), {}), Status::kWithdrawn);
    EXPECT_EQ(to.gate.view().state, PostGate::State::kShut);
    requests[1]->reject(Status::kRefused);
    for (auto& request : requests) {
        request.reset();
    }
    for (const auto& outcome : outcomes) {
        EXPECT_NE(outcome->result().status, Status::kOk);
    }
}

TEST_F(VerbsFabricTest, SocketsDoNotChangeProcess) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(backlog, from, to));
    const auto sequence = from.gate.suspend(from.generation);
    ASSERT_TRUE(sequence.has_value());
    std::uint32_t token = 0;
    EXPECT_EQ(here_->fabric.export_connection(*from.slot.load(), *sequence, 1, {}, token),
              Status::kNotAllowed);
    EXPECT_EQ(from.gate.view().state, PostGate::State::kOpen) << "nothing has changed";
    std::unique_ptr<Import> import;
    EXPECT_EQ(here_->fabric.import_socket(7, import), Status::kUnknownToken);
    close_all({&from, &to});
}

TEST_F(VerbsFabricTest, WhatIsMissingIsSaidWithItsRemedy) {
    const std::pair<int, const char*> cases[] = {{ENODEV, "ibv_devices"},
                                                 {EPERM, "modprobe rdma_ucm"},
                                                 {ENOENT, "modprobe rdma_ucm"},
                                                 {EACCES, "permission"},
                                                 {EMFILE, "ulimit -n"}};
    for (const auto& [error, word] : cases) {
        cm_.refuse_channel(error);
        VerbsHost host(api_, {kHere});
        EXPECT_NE(host.error.find(word), std::string::npos) << host.error;
        EXPECT_TRUE(host.fabric.addresses().empty());
    }
}

}  // namespace
}  // namespace sanpoll::engine::verbs
