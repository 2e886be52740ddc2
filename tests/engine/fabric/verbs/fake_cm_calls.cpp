// The functions of RDMA CM, as the fake one does them.
#include <arpa/inet.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "tests/engine/fabric/verbs/fake_cm_parts.hpp"

namespace sanpoll::tests {
namespace {

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

// The functions of the table. Each takes the lock; what they share is in FakeCm.
struct FakeCm::Calls {
    static rdma_event_channel* create_event_channel() {
        const std::lock_guard lock(current_cm->mutex_);
        if (current_cm->channel_error_ != 0) {
            errno = current_cm->channel_error_;
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
        const std::lock_guard lock(current_cm->mutex_);
        auto* made = new Id;
        made->id.channel = channel;
        made->id.context = context;
        made->id.ps = ps;
        current_cm->ids_.insert(made);
        *id = &made->id;
        return 0;
    }

    static int destroy_id(rdma_cm_id* raw) {
        const std::lock_guard lock(current_cm->mutex_);
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
                    current_cm->hang_up(unseen);
                    current_cm->ids_.erase(&unseen);
                    delete &unseen;
                    event->event.id = nullptr;
                }
            }
        }
        current_cm->hang_up(id);
        current_cm->ids_.erase(&id);
        std::erase_if(channel_of(raw->channel).events, [&](const auto& event) {
            return event->event.id == raw || event->event.listen_id == raw;
        });
        delete &id;
        return 0;
    }

    static int bind_addr(rdma_cm_id* raw, sockaddr* address) {
        const std::lock_guard lock(current_cm->mutex_);
        Id& id = id_of(raw);
        const sockaddr_in in = in_of(address);
        const std::uint32_t ip = ntohl(in.sin_addr.s_addr);
        const std::uint16_t port = ntohs(in.sin_port);
        if (ip != 0) {
            const auto found = current_cm->addresses_.find(ip);
            if (found == current_cm->addresses_.end()) {
                return fail(ENODEV);
            }
            raw->verbs = found->second;
        }
        if (port != 0) {
            for (const Id* other : current_cm->ids_) {
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
        const std::lock_guard lock(current_cm->mutex_);
        id_of(raw).state = Id::State::kListening;
        return 0;
    }

    static int resolve_addr(rdma_cm_id* raw, sockaddr* from, sockaddr* to, int) {
        const std::lock_guard lock(current_cm->mutex_);
        Id& id = id_of(raw);
        const sockaddr_in in = in_of(to);
        const Fate fate = current_cm->fates_[ntohl(in.sin_addr.s_addr)];
        std::uint32_t source = 0;
        if (from != nullptr) {
            source = ntohl(in_of(from).sin_addr.s_addr);
            if (!current_cm->addresses_.contains(source)) {
                return fail(EADDRNOTAVAIL);
            }
        } else if (!current_cm->addresses_.empty()) {
            source = current_cm->addresses_.begin()->first;
        } else {
            return fail(ENODEV);
        }
        if (fate.silent_address) {
            return 0;
        }
        if (fate.address_error != 0) {
            current_cm->queue(id, RDMA_CM_EVENT_ADDR_ERROR, -fate.address_error);
            return 0;
        }
        raw->verbs = current_cm->addresses_[source];
        sockaddr_in own{};
        own.sin_family = AF_INET;
        own.sin_addr.s_addr = htonl(source);
        own.sin_port = htons(current_cm->next_port_++);
        std::memcpy(&raw->route.addr.src_addr, &own, sizeof(own));
        std::memcpy(&raw->route.addr.dst_addr, &in, sizeof(in));
        current_cm->queue(id, RDMA_CM_EVENT_ADDR_RESOLVED, 0);
        return 0;
    }

    static int resolve_route(rdma_cm_id* raw, int) {
        const std::lock_guard lock(current_cm->mutex_);
        Id& id = id_of(raw);
        const Fate fate =
            current_cm->fates_[ntohl(in_of(&raw->route.addr.dst_addr).sin_addr.s_addr)];
        if (!fate.silent_route) {
            current_cm->queue(
                id,
                fate.route_error != 0 ? RDMA_CM_EVENT_ROUTE_ERROR : RDMA_CM_EVENT_ROUTE_RESOLVED,
                -fate.route_error);
        }
        return 0;
    }

    static int create_qp(rdma_cm_id* raw, ibv_pd* pd, ibv_qp_init_attr* attributes) {
        if (current_cm->make_queue_pair(*raw, pd, *attributes) != 0) {
            return -1;
        }
        const std::lock_guard lock(current_cm->mutex_);
        current_cm->queue_pairs_.insert(raw->qp);
        return 0;
    }

    static void destroy_qp(rdma_cm_id* raw) {
        {
            const std::lock_guard lock(current_cm->mutex_);
            current_cm->queue_pairs_.erase(raw->qp);
        }
        current_cm->destroy_queue_pair(*raw);
    }

    static int connect(rdma_cm_id* raw, rdma_conn_param* param) {
        std::unique_lock lock(current_cm->mutex_);
        current_cm->wait_while_held(lock);
        Id& id = id_of(raw);
        const sockaddr_in to = in_of(&raw->route.addr.dst_addr);
        const std::uint32_t ip = ntohl(to.sin_addr.s_addr);
        const Fate fate = current_cm->fates_[ip];
        if (raw->qp == nullptr || param->private_data_len > kRequestBytes) {
            return fail(EINVAL);
        }
        if (fate.connect_error != 0) {
            return fail(fate.connect_error);
        }
        ++current_cm->requests_;
        current_cm->longest_request_ =
            std::max<std::size_t>(current_cm->longest_request_, param->private_data_len);
        if (fate.silent_connect) {
            return 0;
        }
        if (fate.unreachable != 0) {
            current_cm->queue(id, RDMA_CM_EVENT_UNREACHABLE, -fate.unreachable);
            return 0;
        }
        Id* listener = current_cm->listener_at(ip, ntohs(to.sin_port));
        if (listener == nullptr || fate.reject_status != 0) {
            current_cm->queue(id, RDMA_CM_EVENT_REJECTED,
                              fate.reject_status != 0 ? fate.reject_status : kInvalidServiceId,
                              nullptr, 0, kRejectionBytes);
            return 0;
        }
        auto* request = new Id;
        request->id.channel = listener->id.channel;
        request->id.verbs = current_cm->addresses_[ip];
        request->state = Id::State::kAsked;
        std::memcpy(&request->id.route.addr.src_addr, &to, sizeof(to));
        std::memcpy(&request->id.route.addr.dst_addr, &raw->route.addr.src_addr, sizeof(to));
        request->peer = &id;
        id.peer = request;
        id.state = Id::State::kAsking;
        current_cm->ids_.insert(request);
        current_cm->queue(*request, RDMA_CM_EVENT_CONNECT_REQUEST, 0, param->private_data,
                          param->private_data_len, kRequestBytes, listener);
        return 0;
    }

    static int accept(rdma_cm_id* raw, rdma_conn_param* param) {
        std::unique_lock lock(current_cm->mutex_);
        current_cm->wait_while_held(lock);
        Id& id = id_of(raw);
        if (param->private_data_len > kAcceptanceBytes || raw->qp == nullptr) {
            return fail(EINVAL);
        }
        if (id.peer == nullptr || id.state != Id::State::kAsked) {
            return fail(ECONNRESET);
        }
        Id& peer = *id.peer;
        current_cm->join_queue_pairs(*raw, peer.id);
        id.state = peer.state = Id::State::kConnected;
        current_cm->queue(peer, RDMA_CM_EVENT_ESTABLISHED, 0, param->private_data,
                          param->private_data_len, kAcceptanceBytes);
        if (!current_cm->lose_confirmations_) {
            current_cm->queue(id, RDMA_CM_EVENT_ESTABLISHED, 0);
        }
        return 0;
    }

    static int reject(rdma_cm_id* raw, const void* data, std::uint8_t length) {
        const std::lock_guard lock(current_cm->mutex_);
        Id& id = id_of(raw);
        if (length > kRejectionBytes || id.state != Id::State::kAsked) {
            return fail(EINVAL);
        }
        if (Id* peer = std::exchange(id.peer, nullptr)) {
            peer->peer = nullptr;
            peer->state = Id::State::kOver;
            current_cm->queue(*peer, RDMA_CM_EVENT_REJECTED, kConsumerReject, data, length,
                              kRejectionBytes);
        }
        id.state = Id::State::kOver;
        return 0;
    }

    static int disconnect(rdma_cm_id* raw) {
        const std::lock_guard lock(current_cm->mutex_);
        Id& id = id_of(raw);
        if (id.state != Id::State::kConnected) {
            return fail(EINVAL);
        }
        id.state = Id::State::kOver;
        current_cm->queue(id, RDMA_CM_EVENT_DISCONNECTED, 0);
        if (Id* peer = std::exchange(id.peer, nullptr)) {
            peer->peer = nullptr;
            if (peer->state == Id::State::kConnected) {
                peer->state = Id::State::kOver;
                current_cm->queue(*peer, RDMA_CM_EVENT_DISCONNECTED, 0);
            }
        }
        return 0;
    }

    static int get_cm_event(rdma_event_channel* raw, rdma_cm_event** event) {
        const std::lock_guard lock(current_cm->mutex_);
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

}  // namespace sanpoll::tests
