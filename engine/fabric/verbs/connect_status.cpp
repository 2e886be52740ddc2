#include "engine/fabric/verbs/connect_status.hpp"

#include <cerrno>

namespace sanpoll::engine::verbs {
namespace {

// The reason in a REJ message for a port without a listener (InfiniBand specification, volume 1, section
// 12.6.7.2). RDMA CM passes it on as the event's status; on iWARP that is a negative errno value instead.
constexpr int kInvalidServiceId = 8;

}  // namespace

std::string_view to_string(ConnectStep step) noexcept {
    switch (step) {
        case ConnectStep::kAddress:
            return "resolving the address";
        case ConnectStep::kRoute:
            return "resolving the route";
        case ConnectStep::kConnect:
            return "connecting";
        case ConnectStep::kAcceptance:
            break;
    }
    return "accepting";
}

Status connect_status_of_error(ConnectStep step, int error) noexcept {
    switch (error) {
        case ECONNREFUSED:
            // iWARP: TCP's own answer from the port.
            return step == ConnectStep::kConnect ? Status::kNoListener : Status::kTimedOut;
        case EHOSTUNREACH:
            // While the address is resolved this is our own routing table, which TCP/IP uses too. Later it
            // may be the other host's opinion, or a lost path.
            return step == ConnectStep::kAddress ? Status::kUnreachable : Status::kTimedOut;
        case ENETUNREACH:
            // It says nothing of the host, and a network may come back: a switch asks TCP/IP.
            return step == ConnectStep::kAddress ? Status::kNoNetwork : Status::kTimedOut;
        case ENOMEM:
        case ENOBUFS:
            return Status::kNoMemory;
        case EMFILE:
        case ENFILE:
            return Status::kNoDescriptors;
        case EADDRNOTAVAIL:
            return step == ConnectStep::kAddress ? Status::kAddressNotAvailable : Status::kTimedOut;
        default:
            return Status::kTimedOut;
    }
}

Status connect_status(ConnectStep step, rdma_cm_event_type event, int event_status) noexcept {
    switch (event) {
        case RDMA_CM_EVENT_ADDR_ERROR:
        case RDMA_CM_EVENT_ROUTE_ERROR:
        case RDMA_CM_EVENT_UNREACHABLE:
        case RDMA_CM_EVENT_CONNECT_ERROR:
            return connect_status_of_error(step, event_status < 0 ? -event_status : event_status);
        case RDMA_CM_EVENT_REJECTED:
            // Any other reason is the other host's trouble, or that of a listener of another kind, who does
            // not know our private data.
            return event_status == kInvalidServiceId || event_status == -ECONNREFUSED
                       ? Status::kNoListener
                       : Status::kTimedOut;
        case RDMA_CM_EVENT_DEVICE_REMOVAL:
        case RDMA_CM_EVENT_ADDR_CHANGE:
        case RDMA_CM_EVENT_DISCONNECTED:
        default:
            return Status::kTimedOut;
    }
}

Status status_of(RejectReason reason) noexcept {
    switch (reason) {
        case RejectReason::kNoListener:
            return Status::kNoListener;
        case RejectReason::kRefused:
            return Status::kRefused;
        case RejectReason::kMoved:
        case RejectReason::kNoMemory:
        case RejectReason::kMore:
        case RejectReason::kComeAgain:
        case RejectReason::kVersion:
            break;
    }
    // In doubt: TCP/IP may do better.
    return Status::kTimedOut;
}

RejectReason reject_reason_of(Status status) noexcept {
    switch (status) {
        case Status::kNoListener:
            return RejectReason::kNoListener;
        case Status::kMoved:
            return RejectReason::kMoved;
        case Status::kNoMemory:
        case Status::kNoDescriptors:
            return RejectReason::kNoMemory;
        default:
            return RejectReason::kRefused;
    }
}

}  // namespace sanpoll::engine::verbs
