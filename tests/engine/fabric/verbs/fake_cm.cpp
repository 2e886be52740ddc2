#include "tests/engine/fabric/verbs/fake_cm.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/engine/fabric/verbs/fake_cm_parts.hpp"

namespace sanpoll::tests {

FakeCm::FakeCm() { current_cm = this; }

FakeCm::~FakeCm() { current_cm = nullptr; }

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
