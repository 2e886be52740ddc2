#include "engine/fabric/verbs/cm_channel.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "engine/fork_guard.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {
namespace {

// So many events, then other tasks of the control thread have their turn.
constexpr int kEventsAtOnce = 64;

std::string why_no_channel(int error) {
    switch (error) {
        case ENODEV:
            return "there is no RDMA device (see ibv_devices); load its driver, or make a soft "
                   "one: rdma "
                   "link add rxe0 type rxe netdev eth0";
        case EPERM:
        case ENOENT:
            return "the kernel's RDMA connection manager is missing; load it: modprobe rdma_ucm";
        case EACCES:
            return "no permission to open /dev/infiniband/rdma_cm; give this user read and write "
                   "access "
                   "(a udev rule, or the group that owns it)";
        case EMFILE:
        case ENFILE:
            return descriptor_error("RDMA's event channel", error);
        default:
            return fmt::format("RDMA's event channel cannot be opened: {}", std::strerror(error));
    }
}

}  // namespace

CmChannel::~CmChannel() {
    if (channel_ != nullptr) {
        api_.cm.destroy_event_channel(channel_);
    }
}

std::string CmChannel::open() {
    errno = 0;
    channel_ = api_.cm.create_event_channel();
    if (channel_ == nullptr) {
        return why_no_channel(errno);
    }
    const int flags = ::fcntl(channel_->fd, F_GETFL);
    if (flags < 0 || ::fcntl(channel_->fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        ::fcntl(channel_->fd, F_SETFD, FD_CLOEXEC) != 0 ||
        !control_.watch(channel_->fd, EPOLLIN, [this](std::uint32_t) { take_events(); })) {
        std::string why = why_no_channel(errno);
        api_.cm.destroy_event_channel(channel_);
        channel_ = nullptr;
        return why;
    }
    close_in_child(channel_->fd);
    return {};
}

void CmChannel::close() {
    if (channel_ != nullptr) {
        control_.forget(channel_->fd);
        forget_in_child(channel_->fd);
        api_.cm.destroy_event_channel(channel_);
        channel_ = nullptr;
    }
}

rdma_cm_id* CmChannel::create(Handler handler) {
    rdma_cm_id* id = nullptr;
    if (channel_ == nullptr) {
        errno = ENODEV;
        return nullptr;
    }
    if (api_.cm.create_id(channel_, &id, nullptr, RDMA_PS_TCP) != 0) {
        return nullptr;
    }
    try {
        handle(id, std::move(handler));
    } catch (const std::bad_alloc&) {
        (void)api_.cm.destroy_id(id);
        errno = ENOMEM;
        return nullptr;
    }
    return id;
}

void CmChannel::handle(rdma_cm_id* id, Handler handler) {
    handlers_[id] = std::make_shared<Handler>(std::move(handler));
}

void CmChannel::destroy(rdma_cm_id* id) {
    handlers_.erase(id);
    if (api_.cm.destroy_id(id) != 0) {
        log(LogLevel::kWarn, "an RDMA identifier cannot be given back: {}", std::strerror(errno));
    }
}

void CmChannel::take_events() {
    for (int i = 0; i < kEventsAtOnce && channel_ != nullptr; ++i) {
        rdma_cm_event* raw = nullptr;
        if (api_.cm.get_cm_event(channel_, &raw) != 0) {
            return;  // none is left, or what remains is tried when the descriptor is readable again
        }
        CmEvent event;
        event.type = raw->event;
        event.status = raw->status;
        event.id = raw->id;
        event.responder_resources = raw->param.conn.responder_resources;
        event.initiator_depth = raw->param.conn.initiator_depth;
        if (raw->param.conn.private_data != nullptr) {
            event.length = raw->param.conn.private_data_len;
            std::memcpy(event.bytes.data(), raw->param.conn.private_data,
                        std::min<std::size_t>(event.length, event.bytes.size()));
        }
        rdma_cm_id* listener = raw->listen_id;
        // Before the handler: rdma_destroy_id waits for the acknowledgement.
        (void)api_.cm.ack_cm_event(raw);
        dispatch(event, listener);
    }
}

void CmChannel::dispatch(const CmEvent& event, rdma_cm_id* listener) {
    const bool request = event.type == RDMA_CM_EVENT_CONNECT_REQUEST;
    const auto found = handlers_.find(request ? listener : event.id);
    if (found == handlers_.end()) {
        if (request) {
            (void)api_.cm.destroy_id(event.id);  // nobody listens any more
        }
        return;
    }
    // The handler may destroy its identifier; a copy keeps it alive while it runs.
    const std::shared_ptr<Handler> handler = found->second;
    (*handler)(event);
}

}  // namespace sanpoll::engine::verbs
