#include "engine/fabric/shm/peer.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "engine/clock.hpp"
#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/fork_guard.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint32_t kMostMoves = 8;  // of a listener, in the time of one connect

// Who goes on writing must not keep everybody else waiting: the rest is read when epoll tells of it again.
constexpr std::uint32_t kMessagesAtOnce = 64;

// Messages that wait for a peer to read, besides one for each connect to it that is under way. What it asks
// is answered, so without a limit one that reads nothing would fill our memory.
constexpr std::size_t kMostUnsent = 4096;

// The system has no room for a message, though the peer has: nobody tells when that is over. Tried again, and not for ever:
// the peer waits for what it says, and if it is an introduction for 5 s.
constexpr std::uint64_t kSendAgainMs = 10;
constexpr std::uint64_t kRefusedNs = 4'000'000'000;

void close_fds(int* fds, int count) noexcept {
    for (int i = 0; i < count; ++i) {
        if (fds[i] >= 0) {
            ::close(std::exchange(fds[i], -1));
        }
    }
}

}  // namespace

Peer::Peer(ShmFabric& fabric, int fd, bool initiator, ShmPort& port)
    : fabric_(fabric), fd_(fd), initiator_(initiator), port_(port) {
    close_in_child(fd_);
}

Peer::~Peer() {
    close_fds(doorbell_, doorbell_[0] >= 0 ? 1 : 0);
    if (doorbell_[1] >= 0) {
        ::close(doorbell_[1]);
    }
    if (fd_ >= 0) {
        forget_in_child(fd_);
        ::close(fd_);
    }
}

bool Peer::begin() {
    // The handler holds no reference of its own: end() forgets it before the last one goes.
    if (!fabric_.control().watch(fd_, EPOLLIN | EPOLLRDHUP, [this](std::uint32_t epoll_events) {
            const std::shared_ptr<Peer> self = shared_from_this();
            ready(epoll_events);
        })) {
        return false;
    }
    if (initiator_) {
        send(hello());
    }
    return true;
}

void Peer::send(const ControlMessage& message) noexcept { send_with(message, {}); }

void Peer::send(const ControlMessage& message, Descriptor along) noexcept {
    const int fd = along.get();
    send_with(message, {fd}, std::move(along));
}

// Most messages go at once, and need no memory. One that cannot be kept until the peer reads ends the link, for what
// follows would not make sense to the peer.
void Peer::send_with(const ControlMessage& message, std::initializer_list<int> fds,
                     Descriptor owned) noexcept {
    if (state_ == State::kGone || deaf_) {
        return;
    }
    if (unsent_.empty()) {
        const int result = send_message(fd_, message, fds.begin(), static_cast<int>(fds.size()));
        if (result == 1 || result == -1) {
            return;  // it has gone, or the end of file follows
        }
    }
    try {
        if (unsent_.size() >= kMostUnsent + outgoing.size()) {
            // Not at once: our caller goes on with what the end takes away.
            deaf_ = true;
            fabric_.control().post(
                [self = shared_from_this()] { self->end("it does not read what it is told"); });
            return;
        }
        unsent_.push_back({message, fds, std::move(owned)});
    } catch (const std::bad_alloc&) {
        run_out_of_memory();
        return;
    }
    flush();
}

// Ends the link: what a message was to bring about is missing, and nobody could say which of both ends lacks what. Not at
// once, for our caller goes on with what the end takes away; and without memory: the socket rings, as at the peer's end.
// The peer learns of nothing yet: it would take that for the end of our copies.
void Peer::run_out_of_memory() noexcept {
    if (state_ != State::kGone) {
        out_of_memory_ = deaf_ = true;
        (void)::shutdown(fd_, SHUT_RD);
    }
}

void Peer::flush() {
    while (!unsent_.empty()) {
        const Unsent& first = unsent_.front();
        const int result =
            send_message(fd_, first.message, first.fds.data(), static_cast<int>(first.fds.size()));
        if (result == kRefusedNow) {
            flush_later(errno);
            return;
        }
        refused_since_ns_ = 0;
        if (result == 0) {
            fabric_.control().change(fd_, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
            return;
        }
        unsent_.pop_front();
        if (result < 0) {
            return;  // the end of file follows
        }
        if (unsent_.empty()) {
            fabric_.control().change(fd_, EPOLLIN | EPOLLRDHUP);
        }
    }
}

void Peer::flush_later(int error) noexcept {
    fabric_.control().change(fd_,
                             EPOLLIN | EPOLLRDHUP);  // it can be written to, and it is of no use
    if (refused_since_ns_ == 0) {
        refused_since_ns_ = Clock::steady().now_ns();
    }
    if (flush_is_due_) {
        return;
    }
    try {
        fabric_.control().add_timer(kSendAgainMs, [self = shared_from_this(), error] {
            self->flush_is_due_ = false;
            if (self->state_ == State::kGone || self->deaf_) {
                return;
            }
            self->flush();
            if (self->refused_since_ns_ != 0 &&
                Clock::steady().now_ns() - self->refused_since_ns_ >= kRefusedNs) {
                self->end(refusal_text(error));
            }
        });
        flush_is_due_ = true;
    } catch (const std::bad_alloc&) {
        run_out_of_memory();
    }
}

void Peer::ready(std::uint32_t epoll_events) {
    if (out_of_memory_) {
        end({});
        return;
    }
    if ((epoll_events & EPOLLOUT) != 0) {
        flush();
    }
    for (std::uint32_t left = kMessagesAtOnce;
         left != 0 && state_ != State::kGone && !out_of_memory_; --left) {
        ControlMessage message;
        int fds[2] = {-1, -1};
        int fd_count = 0;
        std::string why;
        const int result = receive_message(fd_, message, fds, fd_count, &why);
        // What was written into the mailbox before this was sent comes before it.
        take_mail();
        if (result == 0) {
            if ((epoll_events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) {
                end({});
            }
            return;
        }
        if (result < 0) {
            end(why);  // end of file, if there is none
            return;
        }
        if (state_ == State::kGone) {
            close_fds(fds, fd_count);
            return;
        }
        if (out_of_memory_) {
            // What has not been done is not built upon; the end of file follows.
            close_fds(fds, fd_count);
            continue;
        }
        try {
            take(message, fds, fd_count);
        } catch (const std::bad_alloc&) {
            close_fds(fds, fd_count);  // those that nobody has taken
            run_out_of_memory();
        }
    }
}

void Peer::take(const ControlMessage& message, int fds[2], int fd_count) {
    switch (message.kind) {
        case MessageKind::kHello:
            if (fd_count == 0 && state_ == State::kGreeting) {
                take_hello(message);
                return;
            }
            break;
        case MessageKind::kOffer:
            if (!initiator_ && state_ == State::kLinking && take_offer(message, fds, fd_count)) {
                return;
            }
            break;
        case MessageKind::kReady:
            if (initiator_ && state_ == State::kLinking && fd_count == 1 && is_doorbell(fds[0])) {
                take_ready(fds[0]);
                return;
            }
            break;
        case MessageKind::kSuspend:
        case MessageKind::kSuspended:
        case MessageKind::kStay:
        case MessageKind::kLeft:
        case MessageKind::kResume:
            if (state_ == State::kReady && take_swap(message, fds, fd_count)) {
                return;
            }
            break;
        case MessageKind::kMail:
            if (state_ == State::kReady && fd_count == 0) {
                fabric_.mail_came(*this);
                return;
            }
            break;
        case MessageKind::kArena:
            if (state_ == State::kReady && fd_count == 1 && take_arena(message, fds[0])) {
                return;
            }
            break;
        case MessageKind::kArenaAnswer:
            if (state_ == State::kReady && fd_count == 0 && take_arena_answer(message)) {
                return;
            }
            break;
        default:
            if (fd_count != 0 || state_ != State::kReady) {
                break;
            }
            switch (message.kind) {
                case MessageKind::kConnect:
                    take_connect(message);
                    return;
                case MessageKind::kAnswer:
                    take_answer(message);
                    return;
                case MessageKind::kWithdraw:
                    if (const auto found = incoming.find(message.connector_id);
                        found != incoming.end()) {
                        if (const auto request = found->second.lock()) {
                            request->withdraw();
                        }
                        incoming.erase(found);
                    }
                    return;
                case MessageKind::kAbandon:
                    on_core(port_,
                            [&]() noexcept { port_.peer_abandoned(message.acceptor_id, *link_); });
                    return;
                default:
                    break;
            }
    }
    close_fds(fds, fd_count);
    end(formatted("its message of kind {}, with {} descriptors, is out of order{}",
                  static_cast<std::uint32_t>(message.kind), fd_count,
                  state_ == State::kReady ? "" : ": the link is not made yet"));
}

// ---- connecting -------------------------------------------------------------------------------------

void Peer::request(const std::shared_ptr<Outgoing>& one) {
    if (one->finished) {
        return;
    }
    try {
        ask(one);
    } catch (const std::bad_alloc&) {
        fabric_.finish(one, {Status::kNoMemory, {}});
    }
}

void Peer::ask(const std::shared_ptr<Outgoing>& one) {
    one->peer = weak_from_this();
    if (state_ != State::kReady) {
        waiting_.push_back(one);
        return;
    }
    one->connection = port_.make_connection(one->owner);
    if (one->connection == nullptr) {
        fabric_.finish(one, {Status::kNoMemory, {}});
        return;
    }
    try {
        outgoing[one->connection->id] = one;
    } catch (const std::bad_alloc&) {
        port_.drop_connection(std::exchange(one->connection, nullptr));
        throw;
    }
    // Installed before the request leaves: the acceptor's first message may be faster than its answer.
    bool stocked = true;
    on_core(port_, [&]() noexcept {
        stocked = !one->resumption || port_.stock(*one->connection, one->resumption->state.frozen);
        port_.install(*one->connection, *link_);
    });
    if (!stocked) {
        outgoing.erase(one->connection->id);
        on_core(port_, [&]() noexcept { port_.abandon(*one->connection); });
        one->connection = nullptr;
        fabric_.finish(one, {Status::kNoMemory, {}});
        return;
    }
    if (one->resumption) {
        const ExportedState& state = one->resumption->state;
        ControlMessage message = message_of(MessageKind::kResume);
        message.connector_id = one->connection->id;
        std::memcpy(message.secret, state.secret, sizeof(message.secret));
        message.sent = state.frozen.counts.sent;
        message.arrived = state.frozen.counts.arrived;
        message.credit = state.frozen.granted();
        send(message);
        return;
    }
    ControlMessage message = message_of(MessageKind::kConnect);
    message.connector_id = one->connection->id;
    message.from_ip = one->local.ip;
    message.from_port = one->local.port;
    message.to_ip = one->remote.ip;
    message.to_port = one->remote.port;
    message.data_length = static_cast<std::uint32_t>(one->caller_data.size());
    std::copy(one->caller_data.begin(), one->caller_data.end(), message.data);
    one->by_mail = mail(message);
    if (!one->by_mail) {
        send(message);
    }
}

void Peer::take_connect(const ControlMessage& message) {
    ControlMessage answer = message_of(MessageKind::kAnswer);
    answer.connector_id = message.connector_id;
    const Fabric::OnRequest* listener = fabric_.listener_for({message.to_ip, message.to_port});
    if (listener == nullptr) {
        answer.status = 2;
        mail_or_send(answer);
        return;
    }
    std::shared_ptr<Incoming> request;
    bool taken = false;
    try {
        request = std::make_shared<Incoming>(fabric_, weak_from_this(), message);
        incoming[message.connector_id] = request;
        const Fabric::OnRequest call = *listener;  // it may stop listening while it is asked
        taken = call(request);
    } catch (const std::bad_alloc&) {
        taken = false;
    }
    if (taken) {
        return;
    }
    if (request) {
        request->reject(Status::kRefused);
    } else {
        answer.status = 1;
        mail_or_send(answer);
    }
}

void Peer::take_answer(const ControlMessage& message) {
    const auto found = outgoing.find(message.connector_id);
    if (found == outgoing.end()) {
        if (message.status == 0) {
            // We have changed our mind while the acceptance was on its way.
            ControlMessage abandon = message_of(MessageKind::kAbandon);
            abandon.acceptor_id = message.acceptor_id;
            mail_or_send(abandon);
        }
        return;
    }
    const std::shared_ptr<Outgoing> one = found->second;
    outgoing.erase(found);
    if (message.status != 0) {
        on_core(port_, [&]() noexcept { port_.abandon(*one->connection); });
        one->connection = nullptr;
        if (one->resumption) {
            fabric_.finish(one, {Status::kNoListener, {}});
            return;
        }
        // Its listener has gone to another process, which hears who dials from now on.
        const bool moved = message.status == 3 && ++one->moves <= kMostMoves;
        if (moved || (message.status == 2 && one->by_known_route)) {
            fabric_.retry_afresh(one);  // somebody else may listen there by now
            return;
        }
        fabric_.finish(one, {message.status == 2 ? Status::kNoListener : Status::kRefused, {}});
        return;
    }
    Fabric::ConnectResult result;
    try {
        result.callee_data.assign(message.data, message.data + message.data_length);
    } catch (const std::bad_alloc&) {
        result.status = Status::kNoMemory;
    }
    on_core(port_, [&]() noexcept {
        bool open = false;
        if (result.status == Status::kOk) {
            open = one->resumption
                       ? port_.establish_with(*one->connection, message.acceptor_id, message.credit)
                       : port_.establish(*one->connection, message.acceptor_id);
            result.status = open ? Status::kOk : Status::kAborted;
        }
        if (!open) {
            port_.abandon(*one->connection);
        }
    });
    one->connection = nullptr;
    if (result.status != Status::kOk) {
        ControlMessage abandon = message_of(MessageKind::kAbandon);
        abandon.acceptor_id = message.acceptor_id;
        mail_or_send(abandon);
    } else if (!one->resumption) {
        fabric_.remember_route(one->remote, shared_from_this());
    }
    fabric_.finish(one, std::move(result));
}

// ---- changes of process, see suspension.hpp ---------------------------------------------------------

bool Peer::take_swap(const ControlMessage& message, int fds[2], int fd_count) {
    if (message.kind == MessageKind::kSuspended) {
        if (fd_count > 1) {
            return false;
        }
        Descriptor lifeline(fd_count == 1 ? std::exchange(fds[0], -1) : -1);
        return fabric_.departures().take_suspended(*this, message, std::move(lifeline),
                                                   fd_count == kLostOne);
    }
    if (fd_count != 0) {
        return false;
    }
    switch (message.kind) {
        case MessageKind::kSuspend:
            fabric_.suspensions().take_suspend(*this, message);
            return true;
        case MessageKind::kStay:
            fabric_.suspensions().take_stay(*this, message);
            return true;
        case MessageKind::kLeft:
            fabric_.suspensions().take_left(*this, message);
            return true;
        default:
            fabric_.suspensions().take_resume(*this, message);
            return true;
    }
}

}  // namespace sanpoll::engine::shm
