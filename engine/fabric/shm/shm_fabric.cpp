#include "engine/fabric/shm/shm_fabric.hpp"

#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "engine/fork_guard.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine {

std::string to_string(const Address& address) {
    return formatted("{}.{}.{}.{}:{}", address.ip >> 24, (address.ip >> 16) & 255,
                     (address.ip >> 8) & 255, address.ip & 255, address.port);
}

}  // namespace sanpoll::engine

namespace sanpoll::engine::shm {

namespace {
constexpr std::uint64_t kKnockAgainMs = 1;  // the listener's queue of processes was full
}  // namespace

// ---- Incoming and Outgoing --------------------------------------------------------------------------

Incoming::Incoming(ShmFabric& fabric, std::weak_ptr<Peer> peer, const ControlMessage& message)
    : fabric_(fabric),
      peer_(std::move(peer)),
      remote_{message.from_ip, message.from_port},
      local_{message.to_ip, message.to_port},
      data_(message.data, message.data + message.data_length),
      connector_id_(message.connector_id) {}

Status Incoming::accept(const EndpointOwner& owner, const ConnectData& callee_data) {
    if (answered_.exchange(true)) {
        return Status::kNotOpen;
    }
    // Perhaps by the end of the fabric, which is not there any more then.
    if (withdrawn()) {
        return Status::kWithdrawn;
    }
    Status status = Status::kNoMemory;
    fabric_.control().call([&] { status = accept_here(owner, callee_data); });
    return status;
}

Status Incoming::accept_here(const EndpointOwner& owner, const ConnectData& callee_data) {
    const std::shared_ptr<Peer> peer = peer_.lock();
    if (withdrawn() || !peer || peer->state() != Peer::State::kReady) {
        return Status::kWithdrawn;
    }
    peer->incoming.erase(connector_id_);
    ShmPort& port = peer->port();
    ControlMessage answer;
    answer.kind = MessageKind::kAnswer;
    answer.connector_id = connector_id_;
    Connection* connection = port.make_connection(owner);
    if (connection == nullptr) {
        answer.status = 1;
        peer->mail_or_send(answer);
        return Status::kNoMemory;
    }
    bool open = false;
    // Installed before the answer leaves: the connector's first message may follow it at once.
    on_core(port, [&]() noexcept {
        port.install(*connection, *peer->link());
        open = port.establish(*connection, connector_id_);
        if (!open) {
            port.abandon(*connection);
        }
    });
    answer.status = open ? 0 : 1;
    answer.acceptor_id = open ? connection->id : 0U;
    answer.data_length = static_cast<std::uint32_t>(callee_data.size());
    std::copy(callee_data.begin(), callee_data.end(), answer.data);
    peer->mail_or_send(answer);
    return open ? Status::kOk : Status::kNotOpen;
}

void Incoming::reject(Status reason) {
    if (answered_.exchange(true) || withdrawn()) {
        return;
    }
    const auto tell = [self = shared_from_this(), reason] {
        if (const std::shared_ptr<Peer> peer = self->peer_.lock();
            peer && !self->withdrawn() && peer->state() == Peer::State::kReady) {
            peer->incoming.erase(self->connector_id_);
            ControlMessage answer;
            answer.kind = MessageKind::kAnswer;
            answer.connector_id = self->connector_id_;
            answer.status = reason == Status::kNoListener ? 2 : reason == Status::kMoved ? 3 : 1;
            peer->mail_or_send(answer);
        }
    };
    if (fabric_.control().is_this_thread()) {
        tell();
    } else {
        try {
            fabric_.control().post(tell);
        } catch (const std::bad_alloc&) {
            fabric_.control().call(tell);  // needs none
        }
    }
}

void Outgoing::cancel() {
    cancelled.store(true, std::memory_order_release);
    // Waits: after this nothing may touch the owner any more, which may be reused at once.
    const auto take_back = [self = shared_from_this()] { self->fabric.withdraw(self); };
    if (fabric.control().is_this_thread()) {
        take_back();
    } else {
        fabric.control().call(take_back);
    }
}

// ---- connecting -------------------------------------------------------------------------------------

std::shared_ptr<OutgoingConnection> ShmFabric::connect(const Address& local, const Address& remote,
                                                       ConnectData caller_data,
                                                       const EndpointOwner& owner,
                                                       OnResult on_result) {
    // The peer must see an address, and on one host it is this one.
    const Address from{local.ip == INADDR_ANY ? remote.ip : local.ip, local.port};
    auto outgoing = std::make_shared<Outgoing>(*this, from, remote, std::move(caller_data), owner,
                                               std::move(on_result));
    control_.post([this, outgoing] { begin(outgoing); });
    return outgoing;
}

void ShmFabric::begin(const std::shared_ptr<Outgoing>& outgoing) {
    if (outgoing->cancelled.load(std::memory_order_acquire)) {
        outgoing->finished = true;
        return;
    }
    try {
        outgoing->timer = control_.add_timer(config_.connect_timeout_ms, [this, outgoing] {
            outgoing->timer = 0;
            withdraw(outgoing);
            finish(outgoing, {Status::kTimedOut, {}});
        });
    } catch (const std::bad_alloc&) {
        finish(outgoing, {Status::kNoMemory, {}});
        return;
    }
    if (const auto route = routes_.find(outgoing->remote); route != routes_.end()) {
        if (const std::shared_ptr<Peer> peer = route->second.lock();
            peer && peer->state() == Peer::State::kReady) {
            outgoing->by_known_route = true;
            peer->request(outgoing);
            return;
        }
        routes_.erase(route);
    }
    dial(outgoing);
}

void ShmFabric::retry_afresh(const std::shared_ptr<Outgoing>& outgoing) {
    routes_.erase(outgoing->remote);
    outgoing->by_known_route = false;
    dial(outgoing);
}

void ShmFabric::dial(const std::shared_ptr<Outgoing>& outgoing) {
    if (outgoing->finished) {
        return;
    }
    try {
        dial_now(outgoing);
    } catch (const std::bad_alloc&) {
        finish(outgoing, {Status::kNoMemory, {}});
    }
}

void ShmFabric::dial_now(const std::shared_ptr<Outgoing>& outgoing) {
    int fd = connect_rendezvous(outgoing->remote);
    if (fd == -ECONNREFUSED) {
        fd = connect_rendezvous({0, outgoing->remote.port});
    }
    if (fd == -EAGAIN) {
        control_.add_timer(kKnockAgainMs, [this, outgoing] { dial(outgoing); });
        return;
    }
    if (fd < 0) {
        // Only "nobody listens" is certain; with anything else the switch may try TCP.
        const Status status = fd == -ECONNREFUSED   ? Status::kNoListener
                              : no_descriptors(-fd) ? Status::kNoMemory
                                                    : Status::kTimedOut;
        if (status == Status::kNoMemory) {
            log(LogLevel::kWarn, "{}",
                descriptor_error("a connect to " + to_string(outgoing->remote), -fd));
        }
        finish(outgoing, {status, {}});
        return;
    }
    std::uint32_t uid = 0;
    if (!same_user(fd, uid)) {
        log(LogLevel::kWarn,
            "{} is listened to by a process of user id {}, which is not ours; not connected",
            to_string(outgoing->remote), uid);
        ::close(fd);
        finish(outgoing, {Status::kNotAllowed, {}});
        return;
    }
    if (const std::shared_ptr<Peer> peer = meet(Descriptor(fd), Introduction::kOurs, any_port())) {
        peer->request(outgoing);
    } else {
        finish(outgoing, {Status::kNoMemory, {}});
    }
}

std::shared_ptr<Peer> ShmFabric::twin_of(const Peer& peer, const std::uint64_t id[2]) const {
    for (const std::shared_ptr<Peer>& other : peers_) {
        const bool linked =
            other->state() == Peer::State::kReady || other->state() == Peer::State::kLinking;
        if (other.get() != &peer && other->initiator() && linked &&
            &other->port() == &peer.port() && other->is_engine(id)) {
            return other;
        }
    }
    return nullptr;
}

void ShmFabric::remember_route(const Address& to, const std::shared_ptr<Peer>& peer) noexcept {
    try {
        routes_[to] = peer;
    } catch (const std::bad_alloc&) {
        routes_.erase(to);  // it is found anew, then
    }
}

void ShmFabric::forget(const std::shared_ptr<Peer>& peer) {
    peers_.erase(peer);
    unasked_.erase(peer);
}

void ShmFabric::finish(const std::shared_ptr<Outgoing>& outgoing, ConnectResult result) {
    if (outgoing->finished) {
        return;
    }
    outgoing->finished = true;
    if (outgoing->timer != 0) {
        control_.cancel_timer(outgoing->timer);
        outgoing->timer = 0;
    }
    if (!outgoing->cancelled.load(std::memory_order_acquire)) {
        outgoing->on_result(std::move(result));
    }
    outgoing->on_result = nullptr;
}

// Takes back a request that is on its way; the rest of the attempt notices `finished`.
void ShmFabric::withdraw(const std::shared_ptr<Outgoing>& outgoing) {
    if (outgoing->connection != nullptr) {
        if (const std::shared_ptr<Peer> peer = outgoing->peer.lock();
            peer && peer->outgoing.erase(outgoing->connection->id) != 0) {
            ControlMessage message;
            message.kind = MessageKind::kWithdraw;
            message.connector_id = outgoing->connection->id;
            if (outgoing->by_mail) {
                peer->mail_or_send(message);  // the socket does not come before an earlier letter
            } else {
                peer->send(message);
            }
            on_core(peer->port(), [&]() noexcept { peer->port().abandon(*outgoing->connection); });
        }
        outgoing->connection = nullptr;
    }
    if (outgoing->cancelled.load(std::memory_order_acquire)) {
        finish(outgoing, {Status::kAborted, {}});
    }
}

// ---- life -------------------------------------------------------------------------------------------

ShmFabric::ShmFabric(const Config& config, ControlThread& control)
    : config_(config), control_(control) {
    trouble_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    trouble_error_ = errno;
    // Unguessable only so that two engines never share one; it guards nothing. Peers also read it out of
    // our memory, to see whether they can.
    if (::getrandom(engine_id_, sizeof(engine_id_), 0) != sizeof(engine_id_)) {
        engine_id_[0] = static_cast<std::uint64_t>(::getpid());
        engine_id_[1] = Clock::steady().now_ns();
    }
}

ShmFabric::~ShmFabric() {
    if (trouble_fd_ >= 0) {
        ::close(trouble_fd_);
    }
}

std::string ShmFabric::start() {
    bool watched = false;
    int error = trouble_error_;
    if (trouble_fd_ >= 0) {
        control_.call([&] {
            watched =
                control_.watch(trouble_fd_, EPOLLIN, [this](std::uint32_t) { look_for_trouble(); });
            error = errno;
        });
    }
    offer_arenas_from_now_on();
    return watched ? std::string() : descriptor_error("the shared-memory fabric", error);
}

void ShmFabric::stop() {
    stop_offering_arenas();
    control_.call([this] {
        control_.forget(trouble_fd_);
        departures_.fail_all();
        exports_.give_up_all();
        for (auto& [address, listener] : listeners_) {
            control_.forget(listener.fd);
            forget_in_child(listener.fd);
            ::close(listener.fd);
        }
        listeners_.clear();
    });
    for (bool over = false; !over;) {
        control_.call([&] {
            const std::set<std::shared_ptr<Peer>> peers = peers_;
            for (const std::shared_ptr<Peer>& peer : peers) {
                peer->end({});
                peer->finish_end_in_time();
            }
            over = peers_.empty();
        });
        if (!over) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a living peer copies
        }
    }
}

void ShmFabric::look_for_trouble() {
    std::uint64_t count = 0;
    (void)!::read(trouble_fd_, &count, sizeof(count));
    // One by one, for an end changes the set.
    const auto lies = [](const std::shared_ptr<Peer>& peer) {
        // Pairs with the release in ShmPort::fail_link.
        return peer->state() != Peer::State::kGone && peer->link() != nullptr &&
               peer->link()->failed.load(std::memory_order_acquire);
    };
    for (;;) {
        const auto found = std::find_if(peers_.begin(), peers_.end(), lies);
        if (found == peers_.end()) {
            return;
        }
        // Held, for its end takes it out of the set.
        std::shared_ptr<Peer>(*found)->end((*found)->link()->failure);
    }
}

std::vector<std::uint32_t> ShmFabric::addresses() const {
    std::vector<std::uint32_t> list;
    ifaddrs* first = nullptr;
    if (::getifaddrs(&first) == 0) {
        for (const ifaddrs* item = first; item != nullptr; item = item->ifa_next) {
            if (item->ifa_addr != nullptr && item->ifa_addr->sa_family == AF_INET) {
                sockaddr_in address{};
                std::memcpy(&address, item->ifa_addr, sizeof(address));
                list.push_back(ntohl(address.sin_addr.s_addr));
            }
        }
        ::freeifaddrs(first);
    }
    // A host without configured interfaces (an empty network namespace) still has itself.
    if (std::find(list.begin(), list.end(), INADDR_LOOPBACK) == list.end()) {
        list.push_back(INADDR_LOOPBACK);
    }
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    return list;
}

bool ShmFabric::serves(std::uint32_t ip) const {
    if (ip >> 24 == 127) {
        return true;
    }
    const std::vector<std::uint32_t> list = addresses();
    return std::binary_search(list.begin(), list.end(), ip);
}

void ShmFabric::abandon_in_child() noexcept { close_all_in_child(); }

}  // namespace sanpoll::engine::shm
