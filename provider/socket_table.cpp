#include "provider/socket_table.hpp"

#include <bit>
#include <new>

namespace sanpoll::provider {

void SocketTable::prepare() {
    const std::lock_guard lock(mutex_);
    if (none_ == nullptr) {
        none_ = new Socket[2];  // never freed: stale descriptors may be tried at any time
        none_[0].gate.pretend_direct(kOddOne);
        records_[kNowhere].store(&none_[1], std::memory_order_relaxed);
    }
}

void SocketTable::serve() {
    const std::lock_guard lock(mutex_);
    serving_ = true;
    reach_all();
}

void SocketTable::stop_serving() {
    const std::lock_guard lock(mutex_);
    serving_ = false;
    reach_.store(kNowhere, std::memory_order_release);
}

// Records that stand for none come to the places that nothing else is at.
void SocketTable::reach_all() noexcept {
    const std::uint32_t places = std::bit_ceil(made_ + 1);
    for (; filled_ < places; ++filled_) {
        if (filled_ == 0 || filled_ > made_) {
            records_[filled_].store(&none_[0], std::memory_order_release);  // as in allocate()
        }
    }
    // As long as there is no record: with a mask of nothing, whatever is asked for would be cut to place 0.
    reach_.store(made_ == 0 ? kNowhere : places - 1, std::memory_order_release);
}

bool SocketTable::has_room() {
    const std::lock_guard lock(mutex_);
    return free_head_ < free_.size() || made_ < kMaxSockets;
}

Socket* SocketTable::allocate(SOCKET& descriptor) {
    const std::lock_guard lock(mutex_);
    if (free_head_ == free_.size()) {
        if (made_ == kMaxSockets) {
            return nullptr;
        }
        free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(free_head_));
        free_head_ = 0;
        // What throws does so before anything is changed. Twice as many as there are records, for free().
        free_.reserve(2 * (std::size_t{made_} + kChunk));
        auto* chunk = new (std::nothrow) Socket[kChunk];
        if (chunk == nullptr) {
            return nullptr;
        }
        for (std::uint32_t i = 0; i < kChunk; ++i) {
            chunk[i].index = made_ + i;
            free_.push_back(made_ + i);
            // Pairs with the acquire in look().
            records_[made_ + i + 1].store(&chunk[i], std::memory_order_release);
        }
        made_ += kChunk;
        if (serving_) {
            reach_all();
        }
    }
    const std::uint32_t index = free_[free_head_++];
    if (free_head_ >= 1024 && free_head_ * 2 >= free_.size()) {
        free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(free_head_));
        free_head_ = 0;
    }
    Socket& socket = *records_[index + 1].load(std::memory_order_relaxed);
    {
        const std::lock_guard socket_lock(socket.mutex);
        socket.state = State::kCreated;
        socket.local = {};
        socket.options = {};
        socket.catalog_entry = 0;
        socket.event = nullptr;
        socket.event_mask = 0;
        socket.recorded = 0;
        socket.accept_armed = true;
        socket.connect_unreported = false;
        socket.connect_error = 0;
        socket.backlog = 0;
        socket.undecided = 0;
        socket.callee_data = nullptr;
        socket.in_the_making = true;
        socket.swapping = false;
        socket.endpoint.store(nullptr, std::memory_order_relaxed);
        socket.registrar.store(nullptr, std::memory_order_relaxed);
        socket.saturation.sends.store(false, std::memory_order_relaxed);
        socket.saturation.receives.store(false, std::memory_order_relaxed);
        socket.gone.store(0, std::memory_order_relaxed);
        socket.finish_on_notifier.store(false, std::memory_order_relaxed);
    }
    descriptor = socket.descriptor(socket.gate.revive());
    return &socket;
}

void SocketTable::free(Socket& socket) {
    {
        const std::lock_guard socket_lock(socket.mutex);
        socket.state = State::kFree;
    }
    const std::lock_guard lock(mutex_);
    if (free_.size() == free_.capacity()) {
        // At least half of them have been taken: there are not as many records. So this needs no memory.
        free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(free_head_));
        free_head_ = 0;
    }
    free_.push_back(socket.index);
}

std::vector<SOCKET> SocketTable::live() {
    std::vector<SOCKET> result;
    const std::lock_guard lock(mutex_);
    for (std::uint32_t index = 0; index < made_; ++index) {
        const Socket& socket = *records_[index + 1].load(std::memory_order_relaxed);
        if (const std::uint32_t generation = socket.gate.generation(); (generation & 1U) != 0) {
            result.push_back(socket.descriptor(generation));
        }
    }
    return result;
}

}  // namespace sanpoll::provider
