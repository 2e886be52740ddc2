#include "engine/fabric/verbs/verbs_fabric.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "tests/engine/fabric/verbs/verbs_fabric_fixture.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::dial;
using tests::eventually;
using tests::Fate;
using tests::Socket;
using tests::VerbsBacklog;
using tests::VerbsHost;

TEST_F(VerbsFabricTest, ServesWhatIsBoundToADevice) {
    start();
    EXPECT_EQ(here_->fabric.name(), "verbs");
    EXPECT_EQ(here_->fabric.addresses(), std::vector{kHere});
    EXPECT_TRUE(here_->fabric.serves(kHere));
    EXPECT_FALSE(here_->fabric.serves(kThere));
    EXPECT_TRUE(here_->fabric.reaches(kThere));
    EXPECT_FALSE(here_->fabric.reaches(0x0A000102)) << "another subnet";
    EXPECT_FALSE(here_->fabric.reaches(0x7F000001));
}

TEST_F(VerbsFabricTest, CarriesCallerAndCalleeData) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    ASSERT_EQ(backlog.status, Status::kOk);
    Socket from;
    Socket to;
    const auto outcome = dial(*here_, {kHere, 1234}, {kThere, kPort}, from, numbered(20));
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->caller_data(), numbered(20));
    EXPECT_EQ(request->local(), (Address{kThere, kPort}));
    EXPECT_EQ(request->remote(), (Address{kHere, 1234}));
    EXPECT_FALSE(request->withdrawn());
    EXPECT_FALSE(outcome->ready()) << "before it is accepted";
    EXPECT_EQ(request->accept(to.owner(), numbered(30, 100)), Status::kOk);
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kNotOpen) << "answered already";
    const auto result = outcome->result();
    EXPECT_EQ(result.status, Status::kOk);
    EXPECT_EQ(result.callee_data, numbered(30, 100));
    EXPECT_EQ(from.gate.view().state, PostGate::State::kOpen);
    EXPECT_EQ(to.gate.view().state, PostGate::State::kOpen);
    close_all({&from, &to});
    expect_only(1);
}

TEST_F(VerbsFabricTest, CarriesTheLongestData) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    for (const std::size_t length : {28U, 29U, 69U, 177U, 255U, 256U}) {
        Socket from;
        Socket to;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from, numbered(length));
        const auto request = backlog.next();
        ASSERT_NE(request, nullptr);
        EXPECT_EQ(request->caller_data(), numbered(length));
        EXPECT_EQ(request->accept(to.owner(), numbered(length, 50)), Status::kOk);
        const auto result = outcome->result();
        EXPECT_EQ(result.status, Status::kOk);
        EXPECT_EQ(result.callee_data, numbered(length, 50));
        close_all({&from, &to});
    }
    EXPECT_LE(cm_.longest_request(), kMaxRequestBytes);
    expect_only(1);
}

TEST_F(VerbsFabricTest, TheWildcardHearsEveryAddress) {
    start();
    VerbsBacklog backlog(*there_, {0, kPort});
    ASSERT_EQ(backlog.status, Status::kOk);
    Socket from;
    Socket to;
    const auto outcome = dial(*here_, {0, 1}, {kThere, kPort}, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->local(), (Address{kThere, kPort})) << "as dialled";
    EXPECT_EQ(request->remote(), (Address{kHere, 1})) << "where it came from";
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kOk);
    EXPECT_EQ(outcome->result().status, Status::kOk);
    close_all({&from, &to});
}

TEST_F(VerbsFabricTest, NobodyListensIsSaidSo) {
    start();
    Socket from;
    EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status,
              Status::kNoListener);
    EXPECT_EQ(from.gate.view().state, PostGate::State::kShut);
    expect_only(0);
}

TEST_F(VerbsFabricTest, AListenerThatStoppedIsGone) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    backlog.stop();
    Socket from;
    EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status,
              Status::kNoListener);
}

TEST_F(VerbsFabricTest, SeveralMayListenAtOneAddress) {
    start();
    VerbsBacklog first(*there_, {kThere, kPort});
    VerbsBacklog second(*there_, {kThere, kPort});
    EXPECT_EQ(second.status, Status::kOk);
    first.stop();
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(second, from, to));
    close_all({&from, &to});
}

TEST_F(VerbsFabricTest, ATakenAddressIsInUse) {
    start();
    VerbsHost neighbour(api_, {kThere});  // another process of that host
    VerbsBacklog there(*there_, {kThere, kPort});
    EXPECT_EQ(there.status, Status::kOk);
    VerbsBacklog taken(neighbour, {kThere, kPort});
    EXPECT_EQ(taken.status, Status::kAddressInUse);
    VerbsBacklog wildcard(neighbour, {0, kPort});
    EXPECT_EQ(wildcard.status, Status::kAddressInUse) << "all or none";
    VerbsBacklog foreign(*here_, {kNowhere, kPort + 1});
    EXPECT_EQ(foreign.status, Status::kAddressNotAvailable);
}

TEST_F(VerbsFabricTest, ARejectionIsARefusal) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    for (const Status reason : {Status::kRefused, Status::kNoListener}) {
        Socket from;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
        const auto request = backlog.next();
        ASSERT_NE(request, nullptr);
        request->reject(reason);
        EXPECT_EQ(outcome->result().status, reason);
        Socket to;
        EXPECT_EQ(request->accept(to.owner(), {}), Status::kNotOpen) << "answered already";
    }
    expect_only(1);
}

TEST_F(VerbsFabricTest, AFullBacklogIsARefusal) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    backlog.full.store(true);
    Socket from;
    EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status, Status::kRefused);
    expect_only(1);
}

TEST_F(VerbsFabricTest, ARequestThatNobodyAnsweredIsRefused) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
    ASSERT_NE(backlog.next(), nullptr);  // and dropped
    EXPECT_EQ(outcome->result().status, Status::kRefused);
    expect_only(1);
}

TEST_F(VerbsFabricTest, AMovedListenerIsAskedAgain) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    Socket to;
    const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from, numbered(100));
    auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    request->reject(Status::kMoved);
    request = backlog.next();
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->caller_data(), numbered(100));
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kOk);
    EXPECT_EQ(outcome->result().status, Status::kOk);
    close_all({&from, &to});
}

TEST_F(VerbsFabricTest, EachStepThatFailsSaysWhy) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    struct Case {
        Fate fate;
        Status status;
    };
    std::vector<Case> cases(10);
    cases[0] = {{.address_error = ETIMEDOUT}, Status::kTimedOut};
    cases[1] = {{.address_error = EHOSTUNREACH}, Status::kUnreachable};
    cases[2] = {{.route_error = ETIMEDOUT}, Status::kTimedOut};
    cases[3] = {{.route_error = EHOSTUNREACH}, Status::kTimedOut};
    cases[4] = {{.connect_error = ECONNREFUSED}, Status::kNoListener};
    cases[5] = {{.connect_error = ENOMEM}, Status::kNoMemory};
    cases[6] = {{.unreachable = ETIMEDOUT}, Status::kTimedOut};
    cases[7] = {{.reject_status = 28}, Status::kTimedOut};
    cases[8] = {{.reject_status = 8}, Status::kNoListener};
    cases[9] = {{.address_error = ENETUNREACH}, Status::kNoNetwork};
    for (const Case& one : cases) {
        cm_.set_fate(kThere, one.fate);
        Socket from;
        EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status, one.status)
            << &one - cases.data();
        EXPECT_EQ(from.gate.view().state, PostGate::State::kShut);
    }
    cm_.set_fate(kThere, {});
    Socket from;
    EXPECT_EQ(dial(*here_, {kNowhere, 1}, {kThere, kPort}, from)->result().status,
              Status::kAddressNotAvailable);
    expect_only(1);
}

TEST_F(VerbsFabricTest, WithoutAQueuePairThereIsNoConnection) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    const std::pair<int, Status> cases[] = {
        {ENOMEM, Status::kNoMemory},
        {EINVAL, Status::kWithdrawn},  // RDMA CM's word for an originator that has gone
    };
    for (const auto& [error, status] : cases) {
        there_device_->device().refuse_queue_pairs(error);
        Socket from;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
        const auto request = backlog.next();
        ASSERT_NE(request, nullptr);
        Socket to;
        EXPECT_EQ(request->accept(to.owner(), {}), status);
        EXPECT_EQ(to.gate.view().state, PostGate::State::kShut);
        EXPECT_NE(outcome->result().status, Status::kOk);
    }
    there_device_->device().refuse_queue_pairs(0);
    here_device_->device().refuse_queue_pairs(ENOMEM);
    Socket from;
    EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status, Status::kNoMemory);
    expect_only(1);
}

TEST_F(VerbsFabricTest, SilenceInAnyStepTimesOut) {
    Config config;
    config.connect_timeout_ms = 20;
    start(config);
    VerbsBacklog backlog(*there_, {kThere, kPort});
    for (const Fate& fate :
         {Fate{.silent_address = true}, Fate{.silent_route = true}, Fate{.silent_connect = true}}) {
        cm_.set_fate(kThere, fate);
        Socket from;
        EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status,
                  Status::kTimedOut);
    }
    cm_.set_fate(kThere, {});
    std::shared_ptr<IncomingConnection> request;
    // On a slow machine the time may be over before the request has come so far.
    ASSERT_TRUE(eventually([&] {
        Socket from;
        EXPECT_EQ(dial(*here_, {kHere, 1}, {kThere, kPort}, from)->result().status,
                  Status::kTimedOut)
            << "nobody accepts";
        request = backlog.look();
        return request != nullptr || HasFailure();
    }));
    ASSERT_NE(request, nullptr);
    EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
    Socket to;
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kWithdrawn);
    expect_only(1);
}

TEST_F(VerbsFabricTest, ACancelledConnectIsNotReported) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    Socket from;
    const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    outcome->outgoing->cancel();
    outcome->outgoing->cancel();
    EXPECT_FALSE(outcome->ready());
    EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
    Socket to;
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kWithdrawn);
    EXPECT_FALSE(outcome->ready());
    expect_only(1);
}

TEST_F(VerbsFabricTest, CancelledAtOnce) {
    start();
    VerbsBacklog backlog(*there_, {kThere, kPort});
    for (int i = 0; i < 50; ++i) {
        Socket from;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
        outcome->outgoing->cancel();
        // Either it never was, or it was withdrawn, or it had ended before.
        EXPECT_TRUE(!outcome->ready());
    }
    backlog.full.store(true);
    expect_only(1);
}

}  // namespace
}  // namespace sanpoll::engine::verbs
