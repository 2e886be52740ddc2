#include "engine/fabric/verbs/incoming.hpp"

#include <algorithm>
#include <functional>
#include <new>

#include "engine/fabric/verbs/verbs_fabric.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {
namespace {

void reject_session(Session& session, Status reason) {
    PrivateData message;
    message.kind = PrivateKind::kRejection;
    message.reason = reject_reason_of(reason);
    session.reject(message);
}

}  // namespace

Incoming::Incoming(VerbsFabric& fabric, const Address& remote, const Address& local,
                   const PrivateData& request, ConnectData caller_data)
    : fabric_(fabric),
      presence_(fabric.presence()),
      remote_(remote),
      local_(local),
      attempt_(request.attempt),
      peer_terms_(request.terms),
      caller_data_(std::move(caller_data)) {}

Incoming::~Incoming() {
    if (session_ == nullptr) {
        return;
    }
    // Held by other threads until the task is posted: the fabric waits with its end, and sees to the session itself
    // if it was first.
    std::unique_lock lock(presence_->mutex);
    if (!presence_->there) {
        return;
    }
    const auto tell = [session = std::move(session_)] {
        if (session->state() != Session::State::kOver) {
            reject_session(*session, Status::kRefused);
        }
    };
    if (fabric_.control().is_this_thread()) {
        lock.unlock();  // nobody else ends the fabric
        tell();
    } else {
        fabric_.control().post_apart(tell);
    }
}

// ---- the answer -------------------------------------------------------------------------------------

Status Incoming::accept(const EndpointOwner& owner, const ConnectData& callee_data) {
    // What asks for memory comes first, so that the request is unanswered if there is none.
    // Shared: it must outlive set_value(), which this thread does not wait for.
    const auto promise = std::make_shared<std::promise<Status>>();
    std::function<void()> begin = [self = shared_from_this(), owner, callee_data, promise] {
        self->begin_accept(owner, callee_data, promise);
    };
    if (answered_.exchange(true)) {
        return Status::kNotOpen;
    }
    if (withdrawn()) {
        return Status::kWithdrawn;  // by the end of the fabric, perhaps
    }
    try {
        fabric_.control().post_apart(std::move(begin));
    } catch (const std::bad_alloc&) {
        answered_.store(false);
        throw;
    }
    return promise->get_future().get();
}

void Incoming::begin_accept(const EndpointOwner& owner, const ConnectData& callee_data,
                            Promise promise) {
    if (withdrawn()) {
        promise->set_value(Status::kWithdrawn);
        return;
    }
    owner_ = owner;
    promise_ = std::move(promise);
    try {
        callee_data_ = callee_data;
        fabric_.keep(shared_from_this());
        timer_ = fabric_.control().add_timer(fabric_.config().connect_timeout_ms,
                                             [self = shared_from_this()] {
                                                 self->timer_ = 0;
                                                 self->finish(Status::kTimedOut);
                                             });
        say_or_accept();
    } catch (const std::bad_alloc&) {
        give_up_for_memory();
    }
}

// The originator learns that it is refused, unless it is connected already.
void Incoming::give_up_for_memory() {
    if (promise_ == nullptr) {
        return;
    }
    if (const std::shared_ptr<Session> session = std::exchange(session_, nullptr)) {
        reject_session(*session, Status::kNoMemory);
    }
    finish(Status::kNoMemory);
}

// The answer, or as much of the data as goes ahead of it.
void Incoming::say_or_accept() {
    const std::size_t room = room_for_data(PrivateKind::kAcceptance);
    if (callee_data_.size() > room) {
        PrivateData message;
        message.kind = PrivateKind::kRejection;
        message.reason = RejectReason::kComeAgain;
        gone_ahead_ = std::min(room_for_data(PrivateKind::kRejection), callee_data_.size());
        message.data.assign(callee_data_.begin(),
                            callee_data_.begin() + static_cast<std::ptrdiff_t>(gone_ahead_));
        fabric_.expect_again(remote_.ip, attempt_, weak_from_this());
        std::exchange(session_, nullptr)->reject(message);
        return;
    }
    accept_session();
}

void Incoming::come_again(std::shared_ptr<Session> session) {
    if (promise_ == nullptr) {
        reject_session(*session, Status::kRefused);
        return;
    }
    drop_session();
    session_ = std::move(session);
    session_->hand_to(weak_from_this());
    try {
        accept_session();
    } catch (const std::bad_alloc&) {
        give_up_for_memory();
    }
}

void Incoming::accept_session() {
    // The originator may have gone without our having heard of it. RDMA CM has taken the identifier's inside
    // away then, and whatever is tried with it fails for reasons that tell nothing.
    fabric_.channel().take_events();
    if (promise_ == nullptr) {
        return;  // it has
    }
    if (const Status status = session_->install(owner_); status != Status::kOk) {
        fabric_.channel().take_events();
        if (promise_ != nullptr) {
            reject_session(*std::exchange(session_, nullptr), status);
            finish(status == Status::kTransportFailed ? Status::kWithdrawn : status);
        }
        return;
    }
    PrivateData message;
    message.kind = PrivateKind::kAcceptance;
    message.terms = PeerTerms{};  // our own: what the data plane makes for every connection
    message.before = static_cast<std::uint16_t>(gone_ahead_);
    message.data.assign(callee_data_.begin() + static_cast<std::ptrdiff_t>(gone_ahead_),
                        callee_data_.end());
    session_->accept(encode(message), [self = shared_from_this()](int error) {
        if (error != 0) {
            self->finish(Status::kWithdrawn);
        }
    });
}

void Incoming::reject(Status reason) {
    if (answered_.exchange(true) || withdrawn()) {
        return;
    }
    const auto tell = [self = shared_from_this(), reason] {
        if (const std::shared_ptr<Session> session = std::exchange(self->session_, nullptr)) {
            reject_session(*session, reason);
        }
    };
    if (fabric_.control().is_this_thread()) {
        tell();
    } else {
        try {
            fabric_.control().post_apart(tell);
        } catch (const std::bad_alloc&) {
            fabric_.control().call(tell);  // needs none
        }
    }
}

// ---- what the originator does -----------------------------------------------------------------------

void Incoming::on_event(const CmEvent& event) {
    switch (event.type) {
        case RDMA_CM_EVENT_ESTABLISHED:
            confirmed(false);
            break;
        case RDMA_CM_EVENT_DISCONNECTED:
            // Its confirmation got lost, or was overtaken: it has been connected, and has sent perhaps.
            if (promise_ != nullptr && session_ != nullptr &&
                session_->state() == Session::State::kInstalled) {
                confirmed(true);
            } else {
                withdraw();
            }
            break;
        case RDMA_CM_EVENT_REJECTED:
        case RDMA_CM_EVENT_UNREACHABLE:
        case RDMA_CM_EVENT_CONNECT_ERROR:
        case RDMA_CM_EVENT_DEVICE_REMOVAL:
            withdraw();
            break;
        default:
            break;
    }
}

void Incoming::confirmed(bool ended_already) {
    if (promise_ == nullptr || session_ == nullptr) {
        return;
    }
    PeerTerms terms = peer_terms_;
    terms.speaks_first = session_->device()->iwarp();
    const bool open = session_->establish(terms);
    if (open) {
        const std::shared_ptr<Session> session = std::exchange(session_, nullptr);
        if (ended_already) {
            session->end(Status::kReset);
        }
    }
    finish(open ? Status::kOk : Status::kNotOpen);
}

void Incoming::withdraw() {
    // Pairs with the acquire in withdrawn().
    withdrawn_.store(true, std::memory_order_release);
    if (promise_ != nullptr) {
        finish(Status::kWithdrawn);
    } else {
        drop_session();
    }
}

// ---- the end ----------------------------------------------------------------------------------------

void Incoming::drop_session() {
    if (const std::shared_ptr<Session> session = std::exchange(session_, nullptr)) {
        session->dispose();
    }
}

void Incoming::finish(Status status) {
    if (promise_ == nullptr) {
        return;
    }
    const std::shared_ptr<Incoming> self = shared_from_this();
    const Promise promise = std::exchange(promise_, nullptr);
    if (timer_ != 0) {
        fabric_.control().cancel_timer(timer_);
        timer_ = 0;
    }
    drop_session();  // not one that is established: that has been let go
    fabric_.forget(self);
    promise->set_value(status);
}

}  // namespace sanpoll::engine::verbs
