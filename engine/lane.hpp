// The way from one posting thread to one polling core.
#pragma once

#include <atomic>
#include <cstring>

#include "engine/fabric/copy.hpp"
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

    /// Posting thread, after has_room(): asks for the lines of the next slot, which the core holds since it has read them, or
    /// looked at them. A locked instruction between this and push(), which waits for lines of its own, then waits for
    /// all of them at once.
    void claim() noexcept { claim(0); }

    /// Posting thread, after has_room().
    void push(const WorkRequest& request) noexcept {
        rings::SpscProducer& producer = ring_.producer();
        const std::uint32_t slots = lane_slots(request.sge_count);
        std::byte* const head = producer.payload();
        if ((request.flags & kCarried) != 0) {
            copy_short(head + kWorkRequestHead,
                       reinterpret_cast<const void*>(request.sge[0].address), request.length);
            // The second line first, as the core looks at the first one all the while: see SpscProducer::write.
            std::atomic_signal_fence(std::memory_order_release);
        }
        std::memcpy(head, &request, kWorkRequestHead);
        for (std::uint32_t i = 1; i < slots; ++i) {
            std::memcpy(producer.payload(i), &request.more[(i - 1) * kSgesPerSlot],
                        kSgesPerSlot * sizeof(Sge));
        }
        producer.publish_record(slots);
        if (producer.knows_room(kClaimAhead + 1)) {
            claim(kClaimAhead);  // of posts that follow each other at once, the next but one
        }
    }

    /// Core: copies the request at the head without taking it. False when the lane is empty. Of one that is kCarried the
    /// bytes stay in the lane, until pop().
    [[nodiscard]] bool front(WorkRequest& request) noexcept {
        rings::SpscConsumer& consumer = ring_.consumer();
        const std::byte* head = consumer.front_with_second_line();
        if (head == nullptr) {
            return false;
        }
        std::memcpy(static_cast<void*>(&request), head, kWorkRequestHead);
        if ((request.flags & kCarried) != 0) {
            request.more[0].address = reinterpret_cast<std::uint64_t>(head + kWorkRequestHead);
        }
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

    /// Core: how many it is going to take at once, for it to say.
    [[nodiscard]] std::uint32_t batch() const noexcept { return batch_; }
    void set_batch(std::uint32_t batch) noexcept { batch_ = batch; }

    /// Core: tells the poster about the room it has.
    void publish_progress() noexcept { ring_.consumer().publish_progress(); }

    /// Posting thread's end: nothing will be pushed any more. Pairs with the acquire in retired().
    void retire() noexcept { retired_.store(true, std::memory_order_release); }
    [[nodiscard]] bool retired() const noexcept { return retired_.load(std::memory_order_acquire); }

    Lane* next = nullptr;  // in the list of lanes that the core has not seen yet

private:
    static constexpr std::uint32_t kClaimAhead = 2;  // slots

    void claim(std::uint32_t index) noexcept {
        const std::byte* const head = ring_.producer().payload(index);
        __builtin_prefetch(head, 1, 3);
        __builtin_prefetch(head + rings::kLinePayload, 1, 3);
    }

    rings::SpscRing ring_;
    // The core looks at the former in each turn that finds nothing, and writes the latter. What the poster writes with each
    // request must not lie beside them: a message took 520 to 590 ns with three words of its own there, 300 to 390 with them apart.
    std::atomic<bool> retired_{false};
    std::uint32_t batch_ = 1;
};

static_assert(kSgesPerSlot * sizeof(Sge) <= rings::kLinePayload);
static_assert(kWorkRequestHead == rings::kLinePayload &&
              kWorkRequestHead + kCarriedMost <= rings::kSlotPayload);
static_assert(kMoreSges % kSgesPerSlot == 0, "copies of whole slots stay inside `more`");

}  // namespace sanpoll::engine
