#include "engine/notice_queue.hpp"

#include <memory>
#include <new>

namespace sanpoll::engine {

NoticeQueue::NoticeQueue() : room_(kChunkNotices) {
    auto first = std::make_unique<Chunk>();
    idle_ = new Chunk;
    first_ = last_ = first.release();
}

NoticeQueue::~NoticeQueue() {
    free_all(first_);
    free_all(idle_);
    free_all(spare_.load(std::memory_order_acquire));
}

void NoticeQueue::free_all(Chunk* chunk) noexcept {
    while (chunk != nullptr) {
        Chunk* const next = chunk->next;
        delete chunk;
        chunk = next;
    }
}

// Why there is always a place. Of the notices that wait at some time, let L be the one whose promise was made last, that is,
// whose addition to reserved_ is the latest. All of them are among the promises up to L's, and have not ended. L's poster
// found that those, less what had ended, are no more than the room: what it knew to have ended was promised before L's,
// since it looked at ended_ before its addition, and more can only have ended since. What others have taken back
// makes the sum too large at worst. And the core knows the chunks that L's poster counted on, as it has L's request from it.
bool NoticeQueue::reserve(std::uint32_t places) noexcept {
    // Pairs with the release in end(): whose end is seen here has its addition before ours.
    const std::uint64_t ended = ended_.load(std::memory_order_acquire);
    const std::uint64_t reserved = reserved_.fetch_add(places, std::memory_order_relaxed) + places;
    // Pairs with the release in add_chunk(): the chunks are there, also for the core that our request is handed to.
    while (reserved - ended > room_.load(std::memory_order_acquire)) {
        Chunk* const chunk = new (std::nothrow) Chunk;
        if (chunk == nullptr) {
            give_back(places);
            return false;
        }
        add_chunk(chunk);
    }
    return true;
}

void NoticeQueue::add_chunk(Chunk* chunk) noexcept {
    chunk->next = spare_.load(std::memory_order_relaxed);
    // Release pairs with the acquire in push().
    while (!spare_.compare_exchange_weak(chunk->next, chunk, std::memory_order_release,
                                         std::memory_order_relaxed)) {
    }
    // Release pairs with the acquire in reserve().
    room_.fetch_add(kChunkNotices, std::memory_order_release);
}

void NoticeQueue::push(const Notice& notice) noexcept {
    if (tail_ == kChunkNotices) {
        if (idle_ == nullptr) {
            idle_ = spare_.exchange(nullptr, std::memory_order_acquire);
        }
        Chunk* const next = idle_;
        idle_ = next->next;
        next->next = nullptr;
        last_->next = next;
        last_ = next;
        tail_ = 0;
    }
    last_->notices[tail_++] = notice;
    ++waiting_;
}

void NoticeQueue::pop() noexcept {
    --waiting_;
    ++head_;
    if (waiting_ == 0) {
        head_ = tail_ = 0;  // all in one chunk: who empties the first goes on to the next at once
    } else if (head_ == kChunkNotices) {
        Chunk* const used = first_;
        first_ = used->next;
        head_ = 0;
        used->next = idle_;
        idle_ = used;
    }
}

}  // namespace sanpoll::engine
