// The way from one posting thread to one polling core.
#pragma once

#include <atomic>
#include <cstring>

#include "engine/work_request.hpp"
#include "rings/spsc_ring.hpp"

namespace sanpoll::engine {

/// A ring of work requests, made at the thread's first post that needs it and retired when the thread
/// ends. There is no ring back: a completion is written straight into the caller's memory, so the way
/// back needs none.
class Lane {
public:
    explicit Lane(std::uint32_t slots) : ring_(slots) {}

    /// Posting thread: room for a request with `sge_count` pieces?
    [[nodiscard]] bool has_room(std::uint32_t sge_count) noexcept {
        return ring_.producer().has_room(lane_slots(sge_count));
    }

    /// Posting thread, after has_room().
    void push(const WorkRequest& request) noexcept {
        rings::SpscProducer& producer = ring_.producer();
        const std::uint32_t slots = lane_slots(request.sge_count);
        std::memcpy(producer.payload(), &request, kWorkRequestHead);
        for (std::uint32_t i = 1; i < slots; ++i) {
            std::memcpy(producer.payload(i), &request.more[(i - 1) * kSgesPerSlot],
                        kSgesPerSlot * sizeof(Sge));
        }
        producer.publish_record(slots);
    }

    /// Core: copies the request at the head without taking it. False when the lane is empty.
    [[nodiscard]] bool front(WorkRequest& request) noexcept {
        rings::SpscConsumer& consumer = ring_.consumer();
        const std::byte* head = consumer.front();
        if (head == nullptr) {
            return false;
        }
        std::memcpy(static_cast<void*>(&request), head, kWorkRequestHead);
        const std::uint32_t slots = lane_slots(request.sge_count);
        for (std::uint32_t i = 1; i < slots; ++i) {
            std::memcpy(&request.more[(i - 1) * kSgesPerSlot], consumer.payload(i),
                        kSgesPerSlot * sizeof(Sge));
        }
        return true;
    }

    /// Core: takes the request that front() gave.
    void pop(const WorkRequest& request) noexcept {
        ring_.consumer().release(lane_slots(request.sge_count));
    }

    /// Core: tells the poster about the room it has.
    void publish_progress() noexcept { ring_.consumer().publish_progress(); }

    /// Posting thread's end: nothing will be pushed any more. Pairs with the acquire in retired().
    void retire() noexcept { retired_.store(true, std::memory_order_release); }
    [[nodiscard]] bool retired() const noexcept { return retired_.load(std::memory_order_acquire); }

    Lane* next = nullptr;  // in the list of lanes that the core has not seen yet

private:
    rings::SpscRing ring_;
    std::atomic<bool> retired_{false};
};

static_assert(kSgesPerSlot * sizeof(Sge) <= rings::kLinePayload);
static_assert(kMoreSges % kSgesPerSlot == 0, "copies of whole slots stay inside `more`");

}  // namespace sanpoll::engine
