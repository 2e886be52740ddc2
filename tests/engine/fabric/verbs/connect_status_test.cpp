#include "engine/fabric/verbs/connect_status.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace sanpoll::engine::verbs {
namespace {

constexpr ConnectStep kAllSteps[] = {ConnectStep::kAddress, ConnectStep::kRoute,
                                     ConnectStep::kConnect, ConnectStep::kAcceptance};

TEST(ConnectStatus, APortWithoutAListenerIsCertain) {
    EXPECT_EQ(connect_status(ConnectStep::kConnect, RDMA_CM_EVENT_REJECTED, 8),
              Status::kNoListener);
    EXPECT_EQ(connect_status(ConnectStep::kConnect, RDMA_CM_EVENT_REJECTED, -ECONNREFUSED),
              Status::kNoListener);
    EXPECT_EQ(connect_status_of_error(ConnectStep::kConnect, ECONNREFUSED), Status::kNoListener);
}

TEST(ConnectStatus, ARejectionOfAnotherKindLeavesItToTcp) {
    for (const int reason : {1, 3, 4, 5, 10, 24, 28, 29, 35, -ECONNRESET, -EPROTO, 0}) {
        EXPECT_EQ(connect_status(ConnectStep::kConnect, RDMA_CM_EVENT_REJECTED, reason),
                  Status::kTimedOut)
            << reason;
    }
}

TEST(ConnectStatus, OnlyOurOwnRoutesSayThatAnAddressIsUnreachable) {
    // Which of the two: after the first a switch does not ask TCP/IP, after the second it does.
    for (const auto& [error, status] : {std::pair(EHOSTUNREACH, Status::kUnreachable),
                                        std::pair(ENETUNREACH, Status::kNoNetwork)}) {
        EXPECT_EQ(connect_status(ConnectStep::kAddress, RDMA_CM_EVENT_ADDR_ERROR, -error), status);
        EXPECT_EQ(connect_status_of_error(ConnectStep::kAddress, error), status);
        EXPECT_EQ(connect_status(ConnectStep::kRoute, RDMA_CM_EVENT_ROUTE_ERROR, -error),
                  Status::kTimedOut);
        EXPECT_EQ(connect_status(ConnectStep::kConnect, RDMA_CM_EVENT_UNREACHABLE, -error),
                  Status::kTimedOut);
    }
}

TEST(ConnectStatus, NoAnswerIsATimeOutInEveryStep) {
    for (const ConnectStep step : kAllSteps) {
        for (const rdma_cm_event_type event :
             {RDMA_CM_EVENT_ADDR_ERROR, RDMA_CM_EVENT_ROUTE_ERROR, RDMA_CM_EVENT_UNREACHABLE,
              RDMA_CM_EVENT_CONNECT_ERROR}) {
            EXPECT_EQ(connect_status(step, event, -ETIMEDOUT), Status::kTimedOut);
            EXPECT_EQ(connect_status(step, event, ETIMEDOUT), Status::kTimedOut);
        }
        EXPECT_EQ(connect_status_of_error(step, ETIMEDOUT), Status::kTimedOut);
        EXPECT_EQ(connect_status_of_error(step, ENODEV), Status::kTimedOut);
        EXPECT_FALSE(to_string(step).empty());
    }
}

TEST(ConnectStatus, ADeviceThatGoesAwayLeavesItToTcp) {
    for (const ConnectStep step : kAllSteps) {
        EXPECT_EQ(connect_status(step, RDMA_CM_EVENT_DEVICE_REMOVAL, 0), Status::kTimedOut);
        EXPECT_EQ(connect_status(step, RDMA_CM_EVENT_DISCONNECTED, 0), Status::kTimedOut);
        EXPECT_EQ(connect_status(step, RDMA_CM_EVENT_ADDR_CHANGE, 0), Status::kTimedOut);
    }
}

TEST(ConnectStatus, WhatThisHostLacksIsSaid) {
    for (const ConnectStep step : kAllSteps) {
        EXPECT_EQ(connect_status_of_error(step, ENOMEM), Status::kNoMemory);
        EXPECT_EQ(connect_status_of_error(step, ENOBUFS), Status::kNoMemory);
        EXPECT_EQ(connect_status_of_error(step, EMFILE), Status::kNoDescriptors);
        EXPECT_EQ(connect_status_of_error(step, ENFILE), Status::kNoDescriptors);
    }
    EXPECT_EQ(connect_status_of_error(ConnectStep::kAddress, EADDRNOTAVAIL),
              Status::kAddressNotAvailable);
}

TEST(ConnectStatus, OurOwnRejectionsAreUnderstood) {
    EXPECT_EQ(status_of(RejectReason::kRefused), Status::kRefused);
    EXPECT_EQ(status_of(RejectReason::kNoListener), Status::kNoListener);
    for (const RejectReason reason :
         {RejectReason::kNoMemory, RejectReason::kVersion, RejectReason::kMoved,
          RejectReason::kMore, RejectReason::kComeAgain}) {
        EXPECT_EQ(status_of(reason), Status::kTimedOut) << "in doubt, or not for good";
    }
    EXPECT_EQ(reject_reason_of(Status::kRefused), RejectReason::kRefused);
    EXPECT_EQ(reject_reason_of(Status::kNoListener), RejectReason::kNoListener);
    EXPECT_EQ(reject_reason_of(Status::kMoved), RejectReason::kMoved);
    EXPECT_EQ(reject_reason_of(Status::kNoMemory), RejectReason::kNoMemory);
    EXPECT_EQ(reject_reason_of(Status::kNoDescriptors), RejectReason::kNoMemory);
}

}  // namespace
}  // namespace sanpoll::engine::verbs
