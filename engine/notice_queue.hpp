// Room for what a core has to tell the notifier, promised before it is needed.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/work_request.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine {

/// What a core hands to the notifier.
struct Notice {
    Completion completion;
    bool closed;  // nothing of the endpoint will come any more; else a completion
};

/// The notices that find the notifier's ring full, in order. The core that has one can neither lose it nor wait: the
/// notifier may need the core's token for what it is at. So there is a place for each before there is anything to tell: who
/// posts a notified operation reserves it, and is told where there is no memory; the core takes what was reserved, and
/// never allocates.
///
/// The places are in chunks, which stay until the end: as many as were ever promised at the same time.
class NoticeQueue {
public:
    /// One for the operation, and one for the closing of its endpoint.
    static constexpr std::uint32_t kPlacesOfOne = 2;
    static constexpr std::uint32_t kChunkNotices = 128;

    /// Allocates the first places; throws std::bad_alloc.
    NoticeQueue();
    ~NoticeQueue();
    NoticeQueue(const NoticeQueue&) = delete;
    NoticeQueue& operator=(const NoticeQueue&) = delete;

    // ---- any thread, lock-free
    /// Promises so many places; allocates beyond what was ever promised. False: there is no memory, and nothing is promised.
    [[nodiscard]] bool reserve(std::uint32_t places) noexcept;
    /// Takes back a promise that the core has not been told of.
    void give_back(std::uint32_t places) noexcept {
        // Relaxed: until it is seen the places count as promised.
        reserved_.fetch_sub(places, std::memory_order_relaxed);
    }

    // ---- token holder
    /// So many promised places are not needed any more: the notices are in the notifier's ring, or need not be made.
    void end(std::uint32_t places) noexcept {
        // Release: pairs with the acquire in reserve().
        ended_.store(ended_.load(std::memory_order_relaxed) + places, std::memory_order_release);
    }
    [[nodiscard]] bool empty() const noexcept { return waiting_ == 0; }
    /// Into a promised place, which end() gives back when the notice has left.
    void push(const Notice& notice) noexcept;
    /// Only if there is one.
    [[nodiscard]] const Notice& front() const noexcept { return first_->notices[head_]; }
    void pop() noexcept;

private:
    struct Chunk {
        Notice notices[kChunkNotices];
        Chunk* next = nullptr;
    };
    static void free_all(Chunk* chunk) noexcept;
    void add_chunk(Chunk* chunk) noexcept;

    // Written by who posts.
    alignas(rings::kCacheLine) std::atomic<std::uint64_t> reserved_{0};  // ever
    // One chunk less than there are: the first one may be used up in part, while the last one is begun.
    std::atomic<std::uint64_t> room_;
    std::atomic<Chunk*> spare_{nullptr};  // the latest first; taken all at once

    // Under the token.
    alignas(rings::kCacheLine) std::atomic<std::uint64_t> ended_{
        0};  // of reserved_; read by who posts
    std::uint64_t waiting_ = 0;
    Chunk* first_;  // those with notices, and at least one
    Chunk* last_;
    std::uint32_t head_ = 0;  // in the first
    std::uint32_t tail_ = 0;  // in the last
    Chunk* idle_;
};

}  // namespace sanpoll::engine
