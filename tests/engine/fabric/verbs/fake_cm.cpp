#include "tests/engine/fabric/verbs/fake_cm.hpp"

#include <arpa/inet.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

namespace sanpoll::tests {
namespace {

FakeCm* current = nullptr;

// What RDMA CM delivers on InfiniBand: always as much, zeroes behind what was sent.
constexpr std::size_t kRequestBytes = 56;
constexpr std::size_t kAcceptanceBytes = 196;
constexpr std::size_t kRejectionBytes = 148;
constexpr int kInvalidServiceId = 8;
constexpr int kConsumerReject = 28;

sockaddr_in in_of(const sockaddr* address) {
    sockaddr_in in{};
    std::memcpy(&in, address, sizeof(in));
    return in;
}

int fail(int error) {
    errno = error;
    return -1;
}

}  // namespace

struct FakeCm::Event {
    rdma_cm_event event{};
    std::array<std::byte, 256> data{};
};

struct FakeCm::Channel {
    rdma_event_channel channel{};
    std::deque<std::unique_ptr<Event>> events;
};

struct FakeCm::Id {
    enum class State { kIdle, kListening, kAsking, kAsked, kConnected, kOver };

    rdma_cm_id id{};
    State state = State::kIdle;
    Id* peer = nullptr;
    std::uint32_t ip = 0;
    std::uint16_t port = 0;
    bool removed = false;
};

namespace {

FakeCm::Id& id_of(rdma_cm_id* id) { return *reinterpret_cast<FakeCm::Id*>(id); }
FakeCm::Channel& channel_of(rdma_event_channel* channel) {
    return *reinterpret_cast<FakeCm::Channel*>(channel);
}

}  // namespace

// The functions of the table. Each takes the lock; what they share is in FakeCm.
struct FakeCm::Calls {
    static rdma_event_channel* create_event_channel() {
        const std::lock_guard lock(current->mutex_);
        if (current->channel_error_ != 0) {
            errno = current->channel_error_;
            return nullptr;
        }
        auto* channel = new Channel;
        channel->channel.fd = ::eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
        return &channel->channel;
    }

    static void destroy_event_channel(rdma_event_channel* raw) {
        ::close(raw->fd);
        delete &channel_of(raw);
    }

    static int create_id(rdma_event_channel* channel, rdma_cm_id** id, void* context,
                         rdma_port_space ps) {
        const std::lock_guard lock(current->mutex_);
        auto* made = new Id;
        made->id.channel = channel;
        made->id.context = context;
        made->id.ps = ps;
        current->ids_.insert(made);
        *id = &made->id;
        return 0;
    }

    static int destroy_id(rdma_cm_id* raw) {
        const std::lock_guard lock(current->mutex_);
        Id& id = id_of(raw);
        if (id.id.qp != nullptr) {
            return fail(EBUSY);
        }
        if (id.state == Id::State::kListening) {
            // Requests that nobody has seen end with their listener.
            auto& events = channel_of(raw->channel).events;
            for (const auto& event : events) {
                if (event->event.listen_id == raw && event->event.id != nullptr) {
                    Id& unseen = id_of(event->event.id);
                    current->hang_up(unseen);
                    current->ids_.erase(&unseen);
                    delete &unseen;
                    event->event.id = nullptr;
                }
            }
        }
        current->hang_up(id);
        current->ids_.erase(&id);
        std::erase_if(channel_of(raw->channel).events, [&](const auto& event) {
            return event->event.id == raw || event->event.listen_id == raw;
        });
        delete &id;
        return 0;
    }

    static int bind_addr(rdma_cm_id* raw, sockaddr* address) {
        const std::lock_guard lock(current->mutex_);
        Id& id = id_of(raw);
        const sockaddr_in in = in_of(address);
        const std::uint32_t ip = ntohl(in.sin_addr.s_addr);
        const std::uint16_t port = ntohs(in.sin_port);
        if (ip != 0) {
            const auto found = current->addresses_.find(ip);
            if (found == current->addresses_.end()) {
                return fail(ENODEV);
            }
            raw->verbs = found->second;
        }
        if (port != 0) {
            for (const Id* other : current->ids_) {
                if (other->port == port && (other->ip == ip || other->ip == 0 || ip == 0)) {
                    raw->verbs = nullptr;
                    return fail(EADDRINUSE);
                }
            }
        }
        id.ip = ip;
        id.port = port;
        std::memcpy(&raw->route.addr.src_addr, &in, sizeof(in));
        return 0;
    }

    static int listen(rdma_cm_id* raw, int) {
        const std::lock_guard lock(current->mutex_);
        id_of(raw).state = Id::State::kListening;
        return 0;
    }

    static int resolve_addr(rdma_cm_id* raw, sockaddr* from, sockaddr* to, int) {
        const std::lock_guard lock(current->mutex_);
        Id& id = id_of(raw);
        const sockaddr_in in = in_of(to);
        const Fate fate = current->fates_[ntohl(in.sin_addr.s_addr)];
        std::uint32_t source = 0;
        if (from != nullptr) {
            source = ntohl(in_of(from).sin_addr.s_addr);
            if (!current->addresses_.contains(source)) {
                return fail(EADDRNOTAVAIL);
            }
        } else if (!current->addresses_.empty()) {
            source = current->addresses_.begin()->first;
        } else {
            return fail(ENODEV);
        }
        if (fate.silent_address) {
            return 0;
        }
        if (fate.address_error != 0) {
            current->queue(id, RDMA_CM_EVENT_ADDR_ERROR, -fate.address_error);
            return 0;
        }
        raw->verbs = current->addresses_[source];
        sockaddr_in own{};
        own.sin_family = AF_INET;
        own.sin_addr.s_addr = htonl(source);
        own.sin_port = htons(current->next_port_++);
        std::memcpy(&raw->route.addr.src_addr, &own, sizeof(own));
        std::memcpy(&raw->route.addr.dst_addr, &in, sizeof(in));
        current->queue(id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
        return 0;
    }

    static int resolve_route(rdma_cm_id* raw, int) {
        const std::lock_guard lock(current->mutex_);
        Id& id = id_of(raw);
        const Fate fate = current->fates_[ntohl(in_of(&raw->route.addr.dst_addr).sin_addr.s_addr)];
        if (!fate.silent_route) {
            current->queue(
                id,
                fate.route_error != 0 ? RDMA_CM_EVENT_ROUTE_ERROR : RDMA_CM_EVENT_ROUTE_RESOLVED,
                -fate.route_error);
        }
        return 0;
    }

    static int create_qp(rdma_cm_id* raw, ibv_pd* pd, ibv_qp_init_attr* attributes) {
        if (current->make_queue_pair(*raw, pd, *attributes) != 0) {
            return -1;
        }
        const std::lock_guard lock(current->mutex_);
        current->queue_pairs_.insert(raw->qp);
        return 0;
    }

    static void destroy_qp(rdma_cm_id* raw) {
        {
            const std::lock_guard lock(current->mutex_);
            current->queue_pairs_.erase(raw->qp);
        }
        current->destroy_queue_pair(*raw);
    }

    static int connect(rdma_cm_id* raw, rdma_conn_param* param) {
        std::unique_lock lock(current->mutex_);
        current->wait_while_held(lock);
        Id& id = id_of(raw);
        const sockaddr_in to = in_of(&raw->route.addr.dst_addr);
        const std::uint32_t ip = ntohl(to.sin_addr.s_addr);
        const Fate fate = current->fates_[ip];
        if (raw->qp == nullptr || param->private_data_len > kRequestBytes) {
            return fail(EINVAL);
        }
        if (fate.connect_error != 0) {
            return fail(fate.connect_error);
        }
        ++current->requests_;
        current->longest_request_ =
            std::max<std::size_t>(current->longest_request_, param->private_data_len);
        if (fate.silent_connect) {
            return 0;
        }
        if (fate.unreachable != 0) {
            current->queue(id, RDMA_CM_EVENT_UNREACHABLE, -fate.unreachable);
            return 0;
        }
        Id* listener = current->listener_at(ip, ntohs(to.sin_port));
        if (listener == nullptr || fate.reject_status != 0) {
            current->queue(id, RDMA_CM_EVENT_REJECTED,
                           fate.reject_status != 0 ? fate.reject_status : kInvalidServiceId,
                           nullptr, 0, kRejectionBytes);
            return 0;
        }
        auto* request = new Id;
        request->id.channel = listener->id.channel;
        request->id.verbs = current->addresses_[ip];
        request->state = Id::State::kAsked;
        std::memcpy(&request->id.route.addr.src_addr, &to, sizeof(to));
        std::memcpy(&request->id.route.addr.dst_addr, &raw->route.addr.src_addr, sizeof(to));
        request->peer = &id;
        id.peer = request;
        id.state = Id::State::kAsking;
        current->ids_.insert(request);
        current->queue(*request, RDMA_CM_EVENT_CONNECT_REQUEST, 0, param->private_data,
                       param->private_data_len, kRequestBytes, listener);
        return 0;
    }

    static int accept(rdma_cm_id* raw, rdma_conn_param* param) {
        std::unique_lock lock(current->mutex_);
        current->wait_while_held(lock);
        Id& id = id_of(raw);
        if (param->private_data_len > kAcceptanceBytes || raw->qp == nullptr) {
            return fail(EINVAL);
        }
        if (id.peer == nullptr || id.state != Id::State::kAsked) {
            return fail(ECONNRESET);
        }
        Id& peer = *id.peer;
        current->join_queue_pairs(*raw, peer.id);
        id.state = peer.state = Id::State::kConnected;
        current->queue(peer, RDMA_CM_EVENT_ESTABLISHED, 0, param->private_data,
                       param->private_data_len, kAcceptanceBytes);
        if (!current->lose_confirmations_) {
            current->queue(id, RDMA_CM_EVENT_ESTABLISHED, 0);
        }
        return 0;
    }

    static int reject(rdma_cm_id* raw, const void* data, std::uint8_t length) {
        const std::lock_guard lock(current->mutex_);
        Id& id = id_of(raw);
        if (length > kRejectionBytes || id.state != Id::State::kAsked) {
            return fail(EINVAL);
        }
        if (Id* peer = std::exchange(id.peer, nullptr)) {
            peer->peer = nullptr;
            peer->state = Id::State::kOver;
            current->queue(*peer, RDMA_CM_EVENT_REJECTED, kConsumerReject, data, length,
                           kRejectionBytes);
        }
        id.state = Id::State::kOver;
        return 0;
    }

    static int disconnect(rdma_cm_id* raw) {
        const std::lock_guard lock(current->mutex_);
        Id& id = id_of(raw);
        if (id.state != Id::State::kConnected) {
            return fail(EINVAL);
        }
        id.state = Id::State::kOver;
        current->queue(id, RDMA_CM_EVENT_DISCONNECTED, 0);
        if (Id* peer = std::exchange(id.peer, nullptr)) {
            peer->peer = nullptr;
            if (peer->state == Id::State::kConnected) {
                peer->state = Id::State::kOver;
                current->queue(*peer, RDMA_CM_EVENT_DISCONNECTED, 0);
            }
        }
        return 0;
    }

    static int get_cm_event(rdma_event_channel* raw, rdma_cm_event** event) {
        const std::lock_guard lock(current->mutex_);
        Channel& channel = channel_of(raw);
        std::uint64_t one = 0;
        (void)!::read(raw->fd, &one, sizeof(one));
        if (channel.events.empty()) {
            return fail(EAGAIN);
        }
        *event = &channel.events.front().release()->event;
        channel.events.pop_front();
        return 0;
    }

    static int ack_cm_event(rdma_cm_event* event) {
        delete reinterpret_cast<Event*>(event);
        return 0;
    }

    static const char* event_str(rdma_cm_event_type) { return "an event"; }
    static int set_option(rdma_cm_id*, int, int, void*, std::size_t) { return fail(ENOSYS); }
    static int notify(rdma_cm_id*, ibv_event_type) { return 0; }
};

FakeCm::FakeCm() { current = this; }

FakeCm::~FakeCm() { current = nullptr; }

void FakeCm::fill(engine::verbs::CmCalls& calls) {
    calls.create_event_channel = Calls::create_event_channel;
    calls.destroy_event_channel = Calls::destroy_event_channel;
    calls.create_id = Calls::create_id;
    calls.destroy_id = Calls::destroy_id;
    calls.bind_addr = Calls::bind_addr;
    calls.listen = Calls::listen;
    calls.resolve_addr = Calls::resolve_addr;
    calls.resolve_route = Calls::resolve_route;
    calls.create_qp = Calls::create_qp;
    calls.destroy_qp = Calls::destroy_qp;
    calls.connect = Calls::connect;
    calls.accept = Calls::accept;
    calls.reject = Calls::reject;
    calls.disconnect = Calls::disconnect;
    calls.get_cm_event = Calls::get_cm_event;
    calls.ack_cm_event = Calls::ack_cm_event;
    calls.event_str = Calls::event_str;
    calls.set_option = Calls::set_option;
    calls.notify = Calls::notify;
}

// ---- under the lock ---------------------------------------------------------------------------------

FakeCm::Id* FakeCm::listener_at(std::uint32_t ip, std::uint16_t port) {
    if (!addresses_.contains(ip)) {
        return nullptr;
    }
    for (Id* id : ids_) {
        if (id->state == Id::State::kListening && !id->removed && id->port == port &&
            (id->ip == ip || id->ip == 0)) {
            return id;
        }
    }
    return nullptr;
}

void FakeCm::queue(Id& id, rdma_cm_event_type type, int status, const void* data,
                   std::size_t length, std::size_t padded, Id* listener) {
    auto event = std::make_unique<Event>();
    event->event.id = &id.id;
    event->event.listen_id = listener != nullptr ? &listener->id : nullptr;
    event->event.event = type;
    event->event.status = status;
    if (length != 0) {
        std::memcpy(event->data.data(), data, length);
    }
    if (padded != 0) {
        event->event.param.conn.private_data = event->data.data();
        event->event.param.conn.private_data_len = static_cast<std::uint8_t>(padded);
    }
    channel_of(id.id.channel).events.push_back(std::move(event));
    const std::uint64_t one = 1;
    (void)!::write(id.id.channel->fd, &one, sizeof(one));
}

// The other end learns that this identifier is gone.
void FakeCm::hang_up(Id& id) {
    if (Id* peer = std::exchange(id.peer, nullptr)) {
        peer->peer = nullptr;
        const bool connected = peer->state == Id::State::kConnected;
        peer->state = Id::State::kOver;
        queue(*peer, connected ? RDMA_CM_EVENT_DISCONNECTED : RDMA_CM_EVENT_REJECTED,
              connected ? 0 : kConsumerReject, nullptr, 0, connected ? 0 : kRejectionBytes);
    }
    id.state = Id::State::kOver;
}

void FakeCm::wait_while_held(std::unique_lock<std::mutex>& lock) {
    ++waiting_;
    released_.wait(lock, [this] { return !held_; });
    --waiting_;
}

// ---- for tests --------------------------------------------------------------------------------------

void FakeCm::add_address(std::uint32_t ip, ibv_context* device) {
    const std::lock_guard lock(mutex_);
    addresses_[ip] = device;
}

void FakeCm::remove_device(ibv_context* device) {
    const std::lock_guard lock(mutex_);
    std::erase_if(addresses_, [device](const auto& item) { return item.second == device; });
    for (Id* id : ids_) {
        if (id->id.verbs == device && !id->removed) {
            id->removed = true;
            queue(*id, RDMA_CM_EVENT_DEVICE_REMOVAL, 0);
        }
    }
}

void FakeCm::set_fate(std::uint32_t ip, const Fate& fate) {
    const std::lock_guard lock(mutex_);
    fates_[ip] = fate;
}

void FakeCm::refuse_channel(int error) {
    const std::lock_guard lock(mutex_);
    channel_error_ = error;
}

void FakeCm::hold_calls(bool held) {
    const std::lock_guard lock(mutex_);
    held_ = held;
    released_.notify_all();
}

std::size_t FakeCm::held_calls() {
    const std::lock_guard lock(mutex_);
    return held_ ? waiting_ : 0;
}

void FakeCm::lose_confirmations(bool lost) {
    const std::lock_guard lock(mutex_);
    lose_confirmations_ = lost;
}

void FakeCm::disconnect_all() {
    const std::lock_guard lock(mutex_);
    for (Id* id : ids_) {
        if (id->state == Id::State::kConnected) {
            id->state = Id::State::kOver;
            id->peer = nullptr;
            queue(*id, RDMA_CM_EVENT_DISCONNECTED, 0);
        }
    }
}

void FakeCm::lose_neighbours() {
    const std::lock_guard lock(mutex_);
    for (Id* id : ids_) {
        if (id->state == Id::State::kConnected) {
            queue(*id, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
        }
    }
}

std::size_t FakeCm::identifiers() {
    const std::lock_guard lock(mutex_);
    return ids_.size();
}

std::size_t FakeCm::queue_pairs() {
    const std::lock_guard lock(mutex_);
    return queue_pairs_.size();
}

std::size_t FakeCm::requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
}

std::size_t FakeCm::longest_request() {
    const std::lock_guard lock(mutex_);
    return longest_request_;
}

}  // namespace sanpoll::tests
