#include "engine/fabric/verbs/session.hpp"

#include <cerrno>
#include <new>
#include <utility>

#include "engine/fabric/verbs/verbs_fabric.hpp"

namespace sanpoll::engine::verbs {
namespace {

// How long a message may go without an acknowledgement, times the tries: 4.096 us << 18 is a second, and all
// seven tries are some eight. A cable may be out for a few seconds; RDMA CM's own choice would take up to a
// minute to notice that the other host is gone. Not seven times more: rxe takes that for "for ever".
constexpr std::uint8_t kAckTimeout = 18;
constexpr std::uint8_t kRetries = 6;
// Credits keep a receiver from being not ready. Should it happen all the same, a finite number of tries
// brings it to light; 7 would be for ever.
constexpr std::uint8_t kReceiverNotReadyRetries = 6;

}  // namespace

Session::~Session() = default;

bool Session::begin(std::weak_ptr<Opening> opening) {
    id_ = fabric_.channel().create([self = weak_from_this()](const CmEvent& event) {
        if (const std::shared_ptr<Session> session = self.lock()) {
            session->on_event(event);
        }
    });
    opening_ = std::move(opening);
    return id_ != nullptr;
}

void Session::begin_with(rdma_cm_id* id, std::weak_ptr<Opening> opening) {
    id_ = id;
    opening_ = std::move(opening);
    fabric_.channel().handle(id, [self = weak_from_this()](const CmEvent& event) {
        if (const std::shared_ptr<Session> session = self.lock()) {
            session->on_event(event);
        }
    });
}

void Session::on_event(const CmEvent& event) {
    if (state_ == State::kOver) {
        return;
    }
    if (event.type == RDMA_CM_EVENT_DEVICE_REMOVAL && device_ != nullptr) {
        // Ends all sessions of the device, this one too.
        fabric_.devices().lose(*device_, "it was removed");
        return;
    }
    if (state_ != State::kEstablished) {
        if (const std::shared_ptr<Opening> opening = opening_.lock()) {
            opening->on_event(event);
        }
        return;
    }
    switch (event.type) {
        case RDMA_CM_EVENT_DISCONNECTED:
            fabric_.devices().take_news(*device_);  // it may know better
            end(Status::kReset);
            break;
        case RDMA_CM_EVENT_CONNECT_ERROR:
            end(Status::kTransportFailed);
            break;
        default:
            // The end of the wait for late packets, an address that has moved: nothing to do. Nor is there of
            // UNREACHABLE: here it says that the kernel has forgotten the peer's link-layer address, as it does
            // whenever a cable is out for a moment. Whether the peer answers in time is the device's to say.
            break;
    }
}

// ---- opening ----------------------------------------------------------------------------------------

Status Session::install(const EndpointOwner& owner) {
    std::string why;
    device_ = fabric_.devices().of(id_->verbs, why);
    if (device_ == nullptr) {
        fabric_.complain(why);
        return Status::kTransportFailed;
    }
    ++device_->sessions;
    port_ = &fabric_.next_port();
    if (const Status status = fabric_.devices().attach(*device_, *port_); status != Status::kOk) {
        return status;
    }
    // RDMA CM may not know the option yet; then its own choice holds.
    std::uint8_t timeout = kAckTimeout;
    (void)fabric_.api().cm.set_option(id_, RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &timeout,
                                      sizeof(timeout));
    Status status = Status::kOk;
    connection_ = port_->make_connection(*device_->device, id_, owner, status);
    if (connection_ == nullptr) {
        return status == Status::kFull ? Status::kNoMemory : status;
    }
    try {
        fabric_.know(connection_, shared_from_this());
    } catch (const std::bad_alloc&) {
        port_->drop_connection(std::exchange(connection_, nullptr));
        return Status::kNoMemory;
    }
    on_core(*port_, [&]() noexcept { port_->install(*connection_); });
    state_ = State::kInstalled;
    return Status::kOk;
}

rdma_conn_param Session::parameters(const PrivateBytes& bytes) const noexcept {
    rdma_conn_param param{};
    param.private_data = bytes.bytes.data();
    param.private_data_len = bytes.length;
    param.responder_resources = RDMA_MAX_RESP_RES;  // what the device has, or the other end wants
    param.initiator_depth = RDMA_MAX_INIT_DEPTH;
    param.flow_control = 1;
    param.retry_count = kRetries;
    param.rnr_retry_count = kReceiverNotReadyRetries;
    return param;
}

void Session::connect(const PrivateBytes& bytes, std::function<void(int)> done) {
    call(
        fabric_.connects(),
        [this, bytes](rdma_cm_id* id) {
            rdma_conn_param param = parameters(bytes);
            return fabric_.api().cm.connect(id, &param);
        },
        std::move(done));
}

void Session::accept(const PrivateBytes& bytes, std::function<void(int)> done) {
    call(
        fabric_.accepts(),
        [this, bytes](rdma_cm_id* id) {
            rdma_conn_param param = parameters(bytes);
            return fabric_.api().cm.accept(id, &param);
        },
        std::move(done));
}

// `blocking` runs on another thread if it may wait in the kernel; what it captures has to outlive it, which
// the session does, because it holds itself.
void Session::call(BlockingCalls& threads, std::function<int(rdma_cm_id*)> blocking,
                   std::function<void(int)> done) {
    if (!device_->iwarp()) {
        const int error = blocking(id_) == 0 ? 0 : errno;
        done(error);
        return;
    }
    calling_ = true;
    const bool started = threads.run(
        [self = shared_from_this(), id = id_, blocking = std::move(blocking), done]() mutable {
            const int error = blocking(id) == 0 ? 0 : errno;
            ControlThread& control = self->fabric_.control();
            // The last reference goes along: a session ends on the control thread.
            control.post_apart([self = std::move(self), done = std::move(done), error] {
                self->calling_ = false;
                if (self->stop_due_) {
                    self->stop();
                    self->fabric_.take_ended();
                } else if (self->state_ != State::kOver) {
                    done(error);
                }
            });
        });
    if (!started) {
        calling_ = false;
        done(EAGAIN);
    }
}

void Session::reject(const PrivateData& message) {
    const PrivateBytes bytes = encode(message);
    (void)fabric_.api().cm.reject(id_, bytes.bytes.data(), bytes.length);
    dispose();
}

bool Session::establish(const PeerTerms& peer) {
    state_ = State::kEstablished;
    opening_.reset();
    bool open = false;
    on_core(*port_, [&]() noexcept { open = port_->establish(*connection_, peer); });
    if (open && stop_due_) {
        stop();  // it has broken meanwhile
        fabric_.take_ended();
    }
    return open;
}

void Session::device_lost() {
    if (state_ == State::kEstablished) {
        ended_ = true;  // the port has seen to it
    } else {
        call_off();
    }
}

void Session::call_off() {
    if (state_ == State::kEstablished) {
        return;
    }
    if (const std::shared_ptr<Opening> opening = opening_.lock()) {
        CmEvent event;
        event.type = RDMA_CM_EVENT_DEVICE_REMOVAL;
        opening->on_event(event);
    }
}

// ---- the end ----------------------------------------------------------------------------------------

void Session::end(Status reason) {
    if (state_ == State::kEstablished && !std::exchange(ended_, true)) {
        on_core(*port_, [&]() noexcept { port_->fail(*connection_, reason); });
        fabric_.take_ended();
    }
}

void Session::refused() {
    refused_ = true;
    end(Status::kTransportFailed);
}

void Session::wished(Wish wish) {
    if (wish == Wish::kAsk) {
        fabric_.devices().take_news(*device_);
        const Status reason = refused_ ? Status::kTransportFailed : Status::kReset;
        on_core(*port_, [&]() noexcept { port_->answer(*connection_, reason); });
        return;
    }
    if (wish == Wish::kDrop) {
        release();
        return;
    }
    ended_ = true;
    // RDMA CM has the say until the connection is up: it knows why it is not.
    if (calling_ || state_ == State::kInstalled) {
        stop_due_ = true;
    } else {
        stop();
    }
}

// The other end learns of it, the queue pair ends; the core then ends what waited for that.
void Session::stop() {
    if (!std::exchange(stopped_, true)) {
        (void)fabric_.api().cm.disconnect(id_);
        port_->stop(*connection_);
    }
}

void Session::dispose() {
    if (state_ == State::kOver) {
        return;
    }
    state_ = State::kOver;
    opening_.reset();
    if (connection_ != nullptr) {
        on_core(*port_, [&]() noexcept { port_->abandon(*connection_); });
        if (stop_due_ && !calling_) {
            stop();
        }
        fabric_.take_ended();
    } else if (!calling_) {
        release();
    }
}

void Session::release() {
    const std::shared_ptr<Session> self = shared_from_this();
    state_ = State::kOver;
    if (connection_ != nullptr) {
        fabric_.unknow(connection_);
        port_->drop_connection(connection_);
        connection_ = nullptr;
    }
    if (id_ != nullptr) {
        fabric_.channel().destroy(id_);
        id_ = nullptr;
    }
    fabric_.forget(self);
    if (device_ != nullptr) {
        fabric_.devices().release(std::exchange(device_, nullptr));
    }
}

void Session::probe() {
    // Whoever has just spoken is there. Its core is not entered, since that takes the token from those who poll.
    if (state_ == State::kEstablished && !ended_ && connection_->fell_silent()) {
        on_core(*port_, [&]() noexcept { port_->probe(*connection_); });
    }
}

}  // namespace sanpoll::engine::verbs
