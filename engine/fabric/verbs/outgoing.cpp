#include "engine/fabric/verbs/outgoing.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "engine/fabric/verbs/verbs_fabric.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {
namespace {

constexpr std::uint64_t kResolveMs = 2000;   // for the address and for the route, each
constexpr std::uint64_t kMovedAgainMs = 10;  // the listener is between two processes
constexpr std::uint32_t kMostMoves = 8;      // of a listener, in the time of one connect

sockaddr_in to_sockaddr(std::uint32_t ip, std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(ip);
    address.sin_port = htons(port);
    return address;
}

}  // namespace

Outgoing::Outgoing(VerbsFabric& fabric, const Address& local, const Address& remote,
                   ConnectData data, const EndpointOwner& owner, Fabric::OnResult on_result)
    : fabric_(fabric),
      local_(local),
      remote_(remote),
      data_(std::move(data)),
      owner_(owner),
      on_result_(std::move(on_result)),
      attempt_(fabric.new_attempt()) {}

void Outgoing::cancel() {
    // Pairs with the acquires in begin(), answered() and finish(): a hint that comes before take_back does.
    cancelled_.store(true, std::memory_order_release);
    // Waits: after this nothing may touch the owner any more, which may be reused at once.
    const auto take_back = [self = shared_from_this()] { self->finish(Status::kAborted); };
    if (fabric_.control().is_this_thread()) {
        take_back();
    } else {
        fabric_.control().call(take_back);
    }
}

void Outgoing::begin() {
    try {
        begin_now();
    } catch (const std::bad_alloc&) {
        finish(Status::kNoMemory);
    }
}

void Outgoing::begin_now() {
    if (finished_) {
        return;
    }
    if (cancelled_.load(std::memory_order_acquire)) {
        finished_ = true;
        return;
    }
    fabric_.keep(shared_from_this());
    started_ns_ = fabric_.now_ns();
    iwarp_ = fabric_.devices().iwarp_towards(local_.ip, remote_.ip);
    timer_ = fabric_.control().add_timer(fabric_.config().connect_timeout_ms,
                                         [self = shared_from_this()] {
                                             self->timer_ = 0;
                                             self->fail(Status::kTimedOut, "no answer in time");
                                         });
    start();
}

int Outgoing::step_limit_ms(std::uint64_t limit) const noexcept {
    const std::uint64_t spent = (fabric_.now_ns() - started_ns_) / 1000000;
    const std::uint64_t all = fabric_.config().connect_timeout_ms;
    return static_cast<int>(std::clamp<std::uint64_t>(all > spent ? all - spent : 1, 1, limit));
}

// ---- the steps --------------------------------------------------------------------------------------

void Outgoing::start() {
    step_ = ConnectStep::kAddress;
    session_ = fabric_.new_session();
    if (!session_->begin(weak_from_this())) {
        fail(connect_status_of_error(step_, errno), std::strerror(errno));
        return;
    }
    // The port of the socket may belong to a listener, too: RDMA CM takes one of its own, and the acceptor
    // learns ours from the private data.
    sockaddr_in from = to_sockaddr(local_.ip, 0);
    sockaddr_in to = to_sockaddr(remote_.ip, cm_port(iwarp_, remote_.port));
    if (fabric_.api().cm.resolve_addr(
            session_->id(), local_.ip != 0 ? reinterpret_cast<sockaddr*>(&from) : nullptr,
            reinterpret_cast<sockaddr*>(&to), step_limit_ms(kResolveMs)) != 0) {
        fail(connect_status_of_error(step_, errno), std::strerror(errno));
    }
}

void Outgoing::address_resolved() {
    std::string why;
    const std::shared_ptr<DeviceEntry> device = fabric_.devices().of(session_->id()->verbs, why);
    if (device == nullptr) {
        fail(Status::kTimedOut, why);
        return;
    }
    if (device->iwarp() != iwarp_) {
        // The way there is known now, and with it the port.
        iwarp_ = device->iwarp();
        again(0);
        return;
    }
    resolve_route();
}

void Outgoing::resolve_route() {
    step_ = ConnectStep::kRoute;
    if (fabric_.api().cm.resolve_route(session_->id(), step_limit_ms(kResolveMs)) != 0) {
        fail(connect_status_of_error(step_, errno), std::strerror(errno));
    }
}

void Outgoing::ask() {
    step_ = ConnectStep::kConnect;
    if (const Status status = session_->install(owner_); status != Status::kOk) {
        const bool in_doubt = status == Status::kTransportFailed || status == Status::kWithdrawn;
        fail(in_doubt ? Status::kTimedOut : status, "no queue pair could be made");
        return;
    }
    PrivateData message;
    const std::size_t left = data_.size() - gone_ahead_;
    message.kind =
        left > room_for_data(PrivateKind::kRequest) ? PrivateKind::kPart : PrivateKind::kRequest;
    message.port = local_.port;
    message.attempt = attempt_;
    message.terms = PeerTerms{};  // our own: what the data plane makes for every connection
    message.before = static_cast<std::uint16_t>(gone_ahead_);
    part_ = std::min(left, room_for_data(message.kind));
    const auto first = data_.begin() + static_cast<std::ptrdiff_t>(gone_ahead_);
    message.data.assign(first, first + static_cast<std::ptrdiff_t>(part_));
    session_->connect(encode(message),
                      [self = shared_from_this()](int error) { self->asked(error); });
}

void Outgoing::asked(int error) {
    if (!finished_ && error != 0) {
        fail(connect_status_of_error(step_, error), std::strerror(error));
    }
}

void Outgoing::on_event(const CmEvent& event) {
    if (finished_) {
        return;
    }
    try {
        take(event);
    } catch (const std::bad_alloc&) {
        finish(Status::kNoMemory);
    }
}

void Outgoing::take(const CmEvent& event) {
    switch (event.type) {
        case RDMA_CM_EVENT_ADDR_RESOLVED:
            address_resolved();
            break;
        case RDMA_CM_EVENT_ROUTE_RESOLVED:
            ask();
            break;
        case RDMA_CM_EVENT_ESTABLISHED:
            answered(event);
            break;
        case RDMA_CM_EVENT_REJECTED:
            rejected(event);
            break;
        case RDMA_CM_EVENT_TIMEWAIT_EXIT:
            break;
        default:
            fail(connect_status(step_, event.type, event.status),
                 formatted("{}, {}", fabric_.api().cm.event_str(event.type), event.status));
            break;
    }
}

void Outgoing::answered(const CmEvent& event) {
    PrivateData message;
    if (!decode(event.private_data(), message) || message.kind != PrivateKind::kAcceptance ||
        message.version != kProtocolVersion || message.before != callee_data_.size()) {
        fail(Status::kTimedOut, "whoever accepts there is no sanpoll of this version");
        return;
    }
    callee_data_.insert(callee_data_.end(), message.data.begin(), message.data.end());
    // What follows needs no memory.
    if (cancelled_.load(std::memory_order_acquire) || !session_->establish(message.terms)) {
        finish(Status::kAborted);
        return;
    }
    session_.reset();  // it goes on without us
    finish(Status::kOk, std::move(callee_data_));
}

void Outgoing::rejected(const CmEvent& event) {
    PrivateData message;
    if (!decode(event.private_data(), message) || message.kind != PrivateKind::kRejection) {
        fail(connect_status(step_, event.type, event.status), "rejected");
        return;
    }
    if (message.version != kProtocolVersion || message.reason == RejectReason::kVersion) {
        log(LogLevel::kWarn,
            "{} speaks another version ({}) of sanpoll's protocol than this process ({}); install "
            "the "
            "same version on both hosts",
            to_string(remote_), message.version, kProtocolVersion);
        fail(Status::kTimedOut, "another version");
        return;
    }
    switch (message.reason) {
        case RejectReason::kMore:
            if (part_ != 0) {
                gone_ahead_ += part_;
                again(0);
                return;
            }
            break;
        case RejectReason::kComeAgain:
            if (callee_data_.empty() && message.before == 0 && !message.data.empty()) {
                callee_data_ = std::move(message.data);
                gone_ahead_ = data_.size();  // the acceptor has it all
                again(0);
                return;
            }
            break;
        case RejectReason::kMoved:
            if (++moves_ <= kMostMoves) {
                gone_ahead_ = 0;  // the next process has none of it
                again(kMovedAgainMs);
                return;
            }
            break;
        default:
            fail(status_of(message.reason), "rejected");
            return;
    }
    fail(Status::kTimedOut, "the rejection makes no sense");
}

void Outgoing::again(std::uint64_t delay_ms) {
    drop_session();
    if (delay_ms == 0) {
        start();
        return;
    }
    pause_ = fabric_.control().add_timer(delay_ms, [self = shared_from_this()] {
        self->pause_ = 0;
        try {
            self->start();
        } catch (const std::bad_alloc&) {
            self->finish(Status::kNoMemory);
        }
    });
}

// ---- the end ----------------------------------------------------------------------------------------

void Outgoing::drop_session() {
    if (const std::shared_ptr<Session> session = std::exchange(session_, nullptr)) {
        session->dispose();
    }
}

void Outgoing::fail(Status status, std::string_view why) {
    if (!finished_) {
        log(LogLevel::kDebug, "connect to {} failed while {}: {}", to_string(remote_),
            to_string(step_), why);
        finish(status);
    }
}

void Outgoing::finish(Status status, ConnectData callee_data) {
    if (finished_) {
        return;
    }
    finished_ = true;
    const std::shared_ptr<Outgoing> self = shared_from_this();
    for (std::uint64_t* timer : {&timer_, &pause_}) {
        if (*timer != 0) {
            fabric_.control().cancel_timer(*timer);
            *timer = 0;
        }
    }
    drop_session();
    fabric_.forget(self);
    if (!cancelled_.load(std::memory_order_acquire)) {
        on_result_({status, std::move(callee_data), Why::kOnlyFabric});
    }
    on_result_ = nullptr;
}

}  // namespace sanpoll::engine::verbs
