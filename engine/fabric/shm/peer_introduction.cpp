// How two processes come to have a link: who they are, what they may do with each other's memory, the segment.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

void Peer::take_hello(const ControlMessage& message) {
    std::memcpy(engine_id_, message.engine_id, sizeof(engine_id_));
    their_port_ = message.port;
    state_ = State::kLinking;
    probe(message);
    const auto ours = static_cast<std::uint32_t>(fabric_.config().share_arenas);
    if (ours != 0) {
        std::uint32_t uid = 0;
        constexpr auto kOn = static_cast<std::uint32_t>(ShareArenas::kOn);
        may_write_ = ours == kOn && message.shares_arenas == kOn;
        sharing_ = message.shares_arenas == 0 || message.shares_arenas > kOn ? Sharing::kOffThere
                   : !same_user(fd_, uid)                                    ? Sharing::kOtherUser
                                                                             : Sharing::kNoneYet;
    }
    if (!initiator_) {
        send(hello());
        return;
    }
    copy_.theirs = message.may_copy == 1;
    // One link between two engines carries all their connections.
    if (const std::shared_ptr<Peer> twin =
            keeps_to_itself_ ? nullptr : fabric_.twin_of(*this, engine_id_)) {
        const std::vector<std::shared_ptr<Outgoing>> waiting = std::move(waiting_);
        waiting_.clear();
        for (const auto& one : waiting) {
            twin->request(one);
        }
        end({});
        return;
    }
    offer_link();
}

ControlMessage Peer::hello() const {
    ControlMessage hello = message_of(MessageKind::kHello);
    std::memcpy(hello.engine_id, fabric_.engine_id(), sizeof(hello.engine_id));
    hello.port = fabric_.index_of(port_);
    if (fabric_.config().copy != Copy::kStaged) {
        hello.probe_address = reinterpret_cast<std::uint64_t>(fabric_.engine_id());
    }
    hello.may_copy = copy_.ours ? 1 : 0;
    hello.shares_arenas = static_cast<std::uint32_t>(fabric_.config().share_arenas);
    return hello;
}

// Tries whether the other process' memory may be read, and says what comes of it.
void Peer::probe(const ControlMessage& message) {
    copy_.pid = peer_process(fd_);
    if (fabric_.config().copy == Copy::kStaged || message.probe_address == 0) {
        log(LogLevel::kInfo,
            "long messages and RDMA with process {} are staged: {} has SANPOLL_COPY=staged",
            copy_.pid, fabric_.config().copy == Copy::kStaged ? "this process" : "it");
        return;
    }
    const int error = probe_process(copy_.pid, message.probe_address, engine_id_);
    copy_.ours = error == 0;
    if (copy_.ours) {
        copy_.probe_address = message.probe_address;
        std::memcpy(copy_.probe, engine_id_, sizeof(copy_.probe));
        log(LogLevel::kInfo,
            "long messages and RDMA with process {} are copied out of its memory{}", copy_.pid,
            fabric_.config().copy == Copy::kDirect
                ? ""
                : ", or staged where that proves quicker (SANPOLL_COPY=direct or staged "
                  "settles it)");
    } else {
        log(LogLevel::kInfo,
            "long messages and RDMA with process {} are staged, because its memory cannot be read "
            "here "
            "({}); see "
            "kernel.yama.ptrace_scope, seccomp filters and pid name spaces",
            copy_.pid, std::strerror(error));
    }
}

void Peer::offer_link() {
    std::string error;
    const SegmentShape shape{fabric_.config().shm_ring_slots,
                             fabric_.config().shm_staging_kb * 1024};
    segment_ = Segment::create(shape, error);
    if (!segment_ || !make_doorbell(doorbell_)) {
        end(segment_ ? descriptor_error("a link's doorbell", errno) : error);
        return;
    }
    ControlMessage offer = message_of(MessageKind::kOffer);
    offer.ring_slots = shape.ring_slots;
    offer.staging_bytes = shape.staging_bytes;
    offer.may_copy = copy_.ours ? 1 : 0;
    send_with(offer, {segment_->fd(), doorbell_[1]});
}

bool Peer::take_offer(const ControlMessage& message, int fds[2], int fd_count) {
    if (fd_count != 2 || !is_doorbell(fds[1])) {
        return false;
    }
    copy_.theirs = message.may_copy == 1;
    std::string error;
    auto segment = Segment::open(fds[0], {message.ring_slots, message.staging_bytes}, error);
    if (!segment || !make_doorbell(doorbell_)) {
        if (segment) {
            error = descriptor_error("a link's doorbell", errno);
        }
        ::close(std::exchange(fds[0], -1));
        ::close(std::exchange(fds[1], -1));
        end(error);
        return true;
    }
    install_link(std::move(segment), fds[1]);
    fds[1] = -1;
    ::close(std::exchange(fds[0], -1));
    send_with(message_of(MessageKind::kReady), {doorbell_[1]});
    offer_arenas();
    return true;
}

void Peer::take_ready(int& fd) {
    segment_->close_fd();
    install_link(std::move(segment_), fd);
    fd = -1;
    offer_arenas();
    const std::vector<std::shared_ptr<Outgoing>> waiting = std::move(waiting_);
    waiting_.clear();
    for (const auto& one : waiting) {
        request(one);
    }
}

// The doorbells are the link's, unless this throws.
void Peer::install_link(std::unique_ptr<Segment> segment, int peer_doorbell) {
    MailboxMemory& to = segment->mailbox(initiator_ ? 0 : 1);
    MailboxMemory& from = segment->mailbox(initiator_ ? 1 : 0);
    link_ = std::make_unique<Link>(std::move(segment), initiator_, doorbell_[0], peer_doorbell);
    doorbell_[0] = -1;
    outbox_.emplace(to);
    inbox_.emplace(from);
    inbox_->arm();  // before the peer can know that we have the link
    link_->copy = copy_;
    link_->sharing = sharing_;
    if (is_engine(fabric_.engine_id()) && their_port_ == fabric_.index_of(port_)) {
        link_->patience.never();  // one core has both ends
    }
    on_core(port_, [&]() noexcept { port_.add_link(*link_); });
    if (sharing_ == Sharing::kNoneYet) {
        log(LogLevel::kInfo, "arenas are shared with process {}, as soon as there are any",
            copy_.pid);
    } else {
        log(LogLevel::kInfo, "arenas and process {}: {}", copy_.pid, to_words(sharing_));
    }
    state_ = State::kReady;
}

}  // namespace sanpoll::engine::shm
