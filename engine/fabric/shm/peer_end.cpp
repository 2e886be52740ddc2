// How the acquaintance with another engine ends, and what ends with it.
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <new>
#include <thread>
#include <utility>

#include "engine/clock.hpp"
#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/fork_guard.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint64_t kCopiesEndNs = 200'000'000;  // as a close, see ShmPort::lingers

}  // namespace

// The peer, as far as can be told: not if it is us who shut the socket.
bool Peer::has_closed() const noexcept {
    pollfd look{fd_, POLLRDHUP, 0};
    return !out_of_memory_ && ::poll(&look, 1, 0) > 0 &&
           (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void Peer::end(std::string_view why) {
    if (state_ == State::kGone) {
        return;
    }
    state_ = State::kGone;
    if (out_of_memory_) {
        why = "there is no memory for what is to be said";
    }
    if (!why.empty()) {
        log(LogLevel::kWarn,
            "ends the link of polling core {} to process {} (its core {}), and with it the "
            "connections there: {}",
            fabric_.index_of(port_), copy_.pid != 0 ? copy_.pid : peer_process(fd_), their_port_,
            why);
    }
    // If the process that listened is gone, a connect by other means would be reset as well. If it is
    // there and we cannot agree with it, other means may do better.
    lost_by_ = out_of_memory_ ? Status::kNoMemory
               : why.empty()  ? Status::kNoListener
                              : Status::kTimedOut;
    const std::shared_ptr<Peer> self = shared_from_this();
    fabric_.control().forget(fd_);
    for (const auto& [id, one] : incoming) {
        if (const auto request = one.lock()) {
            request->withdraw();
        }
    }
    incoming.clear();
    lost_ = std::exchange(outgoing, {});
    for (const auto& [id, one] : lost_) {
        on_core(port_,
                [&connection = *one->connection, this]() noexcept { port_.abandon(connection); });
        one->connection = nullptr;
    }
    outbox_.reset();
    inbox_.reset();
    // A peer that has closed its end is dead, or has stopped touching memory before.
    if (link_ && !has_closed()) {
        on_core(port_, [&]() noexcept { port_.break_link(*link_, Status::kReset); });
        copies_until_ns_ = Clock::steady().now_ns() + kCopiesEndNs;
    }
    await_copies();
}

// We end the link and the peer lives: it may be copying a part of an RDMA operation out of or into what was exposed, or of
// a message into a receive.
// Until that has ended the memory is in use, as the owner hears if it deregisters; a stopped or lying peer keeps it so
// for a bounded time only. Nobody else waits: neither the core, nor who needs the turn of the control thread.
void Peer::await_copies() {
    finish_end_in_time();
    if (!over_) {
        try {
            fabric_.control().add_timer(1, [self = shared_from_this()] { self->await_copies(); });
        } catch (const std::bad_alloc&) {
            while (!over_) {
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
                finish_end_in_time();
            }
        }
    }
}

void Peer::finish_end_in_time() {
    if (state_ != State::kGone || over_) {
        return;
    }
    bool copying = Clock::steady().now_ns() < copies_until_ns_ && !has_closed();
    if (copying && !link_->shown.copying_any()) {
        on_core(port_, [&]() noexcept { copying = link_->job.keeps_copying(); });
    }
    if (!copying) {
        finish_end();
    }
}

void Peer::finish_end() {
    over_ = true;
    const std::shared_ptr<Peer> self = shared_from_this();
    if (link_) {
        on_core(port_, [&]() noexcept { port_.remove_link(*link_, Status::kReset); });
        link_.reset();
    }
    // Only now: the peer takes the end of file for a sign that nobody here touches its memory any more.
    forget_in_child(fd_);
    ::close(fd_);
    fd_ = -1;
    fabric_.departures().peer_ended(*this);
    fabric_.suspensions().peer_ended(*this);
    fabric_.forget(self);
    for (const auto& [id, one] : std::exchange(lost_, {})) {
        fabric_.finish(one, {lost_by_, {}});
    }
    for (const auto& one : std::exchange(waiting_, {})) {
        fabric_.finish(one, {lost_by_, {}});
    }
}

}  // namespace sanpoll::engine::shm
