// Single-producer single-consumer ring of slots that are one cache line, or two where that does not do.
//
// Layout
//   slots:    capacity (a power of two) pairs of cache lines, of which the second is touched for long
//             payloads only, in an order that prefetchers do not follow: see slot.hpp
//   consumed: one line, written by the consumer, read by the producer when the ring looks full
//
// Neither end shares an index with the other on the fast path. The producer keeps its position and a
// cached copy of the consumer's progress in private memory; the consumer keeps its position in
// private memory and publishes it every `capacity / 8` slots. So a stream of slots costs one line
// transfer a slot, and the progress word about eight transfers a lap.
//
// Both ends are plain views on memory which they do not own and in which there are only offsets and
// sequence numbers, no pointers: the same code serves a ring inside a process and one in a segment that
// two processes map at different addresses. The one value that an end reads from the other side's
// hand is the progress word; it is checked against what is possible, so a lying peer can make an end
// report `corrupt`, but never index outside the ring.
//
// Records of several slots: the payloads of the following slots are written first, the head slot's
// sequence word last, with release; a consumer that sees the head sees all of them. The following
// slots carry sequence words too, since the next lap may use them as heads.
#pragma once

#include <bit>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "rings/one_instruction.hpp"
#include "rings/slot.hpp"

namespace sanpoll::rings {

/// The writing end. Exactly one thread at a time may use it; moving it to another thread needs a
/// happens-before edge of the caller's own. No function blocks, allocates or calls the system.
class SpscProducer {
public:
    SpscProducer() = default;

    /// `slots` and `consumed` must stay mapped while the end is in use. `capacity` is a power of two.
    /// The memory must be fresh (zero-filled) or quiescent at `position`.
    SpscProducer(Slot* slots, std::uint32_t capacity, ConsumedWord* consumed,
                 std::uint32_t position = 0) noexcept
        : slots_(slots),
          consumed_(consumed),
          mask_(capacity - 1),
          position_(position),
          limit_(position + capacity) {
        assert(std::has_single_bit(capacity));
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return mask_ + 1; }

    /// True when `count` slots can be written. Looks at the consumer's progress only if the cached
    /// copy does not suffice. Also false when the other side wrote an impossible progress; `corrupt()`
    /// tells the two apart.
    [[nodiscard]] bool has_room(std::uint32_t count) noexcept {
        if (limit_ - position_ >= count) [[likely]] {
            return true;
        }
        return refresh(count);
    }

    /// The same, but false also if it takes a look at the consumer's progress to tell.
    [[nodiscard]] bool knows_room(std::uint32_t count) const noexcept {
        return limit_ - position_ >= count;
    }

    /// How many slots are free at least, by the cached progress after a look at the real one.
    [[nodiscard]] std::uint32_t room() noexcept {
        (void)refresh(0);
        return limit_ - position_;
    }

    /// The payload of the `index`-th slot that is not yet published. Only after has_room(index + 1).
    [[nodiscard]] std::byte* payload(std::uint32_t index = 0) noexcept {
        return slots_[slot_index(position_ + index, mask_)].payload;
    }

    /// payload(), for who has just asked for the position.
    [[nodiscard]] std::byte* payload_at(std::uint32_t position) noexcept {
        return slots_[slot_index(position, mask_)].payload;
    }

    /// Publishes the next `count` slots as one record: the head becomes visible last.
    void publish_record(std::uint32_t count) noexcept {
        for (std::uint32_t i = count; i-- > 1;) {
            // Ordered before the head's store by that one's release.
            slots_[slot_index(position_ + i, mask_)].sequence.store(position_ + i + 1,
                                                                    std::memory_order_relaxed);
        }
        // Pairs with the acquire in SpscConsumer::front.
        slots_[slot_index(position_, mask_)].sequence.store(position_ + 1,
                                                            std::memory_order_release);
        position_ += count;
    }

    /// Publishes one slot.
    void publish() noexcept {
        // Pairs with the acquire in SpscConsumer::front.
        slots_[slot_index(position_, mask_)].sequence.store(position_ + 1,
                                                            std::memory_order_release);
        ++position_;
    }

    /// The same for who has kept what payload() gave: the slot is not looked for again.
    void publish(std::byte* payload) noexcept { publish(payload, position_); }
    /// The same for who has kept the position as well.
    void publish(std::byte* payload, std::uint32_t position) noexcept {
        auto* slot = reinterpret_cast<Slot*>(payload - offsetof(Slot, payload));
        const std::uint32_t next = position + 1;
        position_ = next;
        // Pairs with the acquire in SpscConsumer::front.
        slot->sequence.store(next, std::memory_order_release);
    }

    /// Copies one value of at most 124 bytes (60 in one line) and publishes it. False when the ring is full.
    template <typename T>
    [[nodiscard]] bool try_push(const T& value) noexcept {
        static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kSlotPayload);
        if (!has_room(1)) {
            return false;
        }
        write(value);
        publish();
        return true;
    }

    /// Pushes as many of `values` as fit, in order, and tells how many. One look at the consumer's
    /// progress for the whole batch.
    template <typename T>
    [[nodiscard]] std::size_t push_batch(std::span<const T> values) noexcept {
        static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kSlotPayload);
        std::uint32_t count =
            static_cast<std::uint32_t>(values.size() < capacity() ? values.size() : capacity());
        if (!has_room(count)) {
            const std::uint32_t free = limit_ - position_;
            count = free < count ? free : count;
        }
        for (std::uint32_t i = 0; i < count; ++i) {
            claim<T>(i);
        }
        for (std::uint32_t i = 0; i < count; ++i) {
            write(values[i]);
            publish();
        }
        return count;
    }

    [[nodiscard]] std::uint32_t position() const noexcept { return position_; }

    /// The other side claimed a progress that cannot be. Sticky; nothing can be written any more.
    [[nodiscard]] bool corrupt() const noexcept { return corrupt_; }

private:
    // Asks for the lines of a slot that is about to be written. Some processors wait for the lines that they
    // write one after the other unless they were asked before.
    template <typename T>
    void claim(std::uint32_t index) const noexcept {
        const Slot& slot = slots_[slot_index(position_ + index, mask_)];
        __builtin_prefetch(&slot, 1, 3);
        if constexpr (sizeof(T) > kLinePayload) {
            __builtin_prefetch(slot.payload + kLinePayload, 1, 3);
        }
    }

    // What lies in the second line goes first: the reader looks at the first one all the while, and would take
    // it away between its payload and its sequence word if the second line had to be waited for there.
    template <typename T>
    void write(const T& value) noexcept {
        std::byte* to = payload();
        if constexpr (sizeof(T) > kLinePayload) {
            std::memcpy(to + kLinePayload,
                        reinterpret_cast<const std::byte*>(&value) + kLinePayload,
                        sizeof(T) - kLinePayload);
            // The compiler must keep that order too; the processor does (x86) or loses only time.
            std::atomic_signal_fence(std::memory_order_release);
            std::memcpy(to, &value, kLinePayload);
        } else {
            std::memcpy(to, &value, sizeof(T));
        }
    }

    bool refresh(std::uint32_t count) noexcept {
        if (corrupt_) {
            return false;
        }
        // Pairs with the release in SpscConsumer::publish_progress: the consumer's reads of a slot
        // happen before our next write to it.
        const std::uint32_t consumed = consumed_->value.load(std::memory_order_acquire);
        // In order: what it had consumed before <= consumed <= what we have written. Distances are
        // taken modulo 2^32, so the test holds across the wrap.
        const std::uint32_t previous = limit_ - capacity();
        if (consumed - previous > position_ - previous) {
            corrupt_ = true;
            limit_ = position_;
            return false;
        }
        limit_ = consumed + capacity();
        return limit_ - position_ >= count;
    }

    Slot* slots_ = nullptr;
    ConsumedWord* consumed_ = nullptr;
    std::uint32_t mask_ = 0;
    std::uint32_t position_ = 0;  // next slot to write
    std::uint32_t limit_ = 0;     // first position that may not be written yet
    bool corrupt_ = false;
};

/// The reading end. Exactly one thread at a time; see SpscProducer.
class SpscConsumer {
public:
    SpscConsumer() = default;

    SpscConsumer(Slot* slots, std::uint32_t capacity, ConsumedWord* consumed,
                 std::uint32_t position = 0) noexcept
        : slots_(slots),
          consumed_(consumed),
          mask_(capacity - 1),
          position_(position),
          publish_every_(capacity >= 8 ? capacity / 8 : 1),
          publish_at_(position + publish_every_) {
        assert(std::has_single_bit(capacity));
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return mask_ + 1; }

    /// The head slot's payload, or nullptr when there is none. The payload stays valid and unchanged by
    /// an honest producer until release() passes it.
    [[nodiscard]] const std::byte* front() const noexcept {
        const Slot& slot = slots_[slot_index(position_, mask_)];
        // Pairs with the release in SpscProducer::publish and publish_record.
        if (slot.sequence.load(std::memory_order_acquire) != position_ + 1) {
            return nullptr;
        }
        return slot.payload;
    }

    /// The same, and asks for the head's second line at once, in case it is needed.
    [[nodiscard]] const std::byte* front_with_second_line() const noexcept {
        const std::uint32_t position = position_;
        const Slot& slot = slots_[slot_index(position, mask_)];
        // Before the look: if the first line has changed, both are fetched together. What the second holds
        // was written before the sequence word was.
        prefetch_for_read(slot.payload + kLinePayload);
        // Pairs with the release in SpscProducer::publish and publish_record.
        if (!is_now(slot.sequence, position + 1)) {
            return nullptr;
        }
        return slot.payload;
    }

    /// The payload of the `index`-th slot of the record at the head (index 0 is the head itself). Any
    /// index is memory-safe; only those of the record mean something.
    [[nodiscard]] const std::byte* payload(std::uint32_t index) const noexcept {
        return slots_[slot_index(position_ + index, mask_)].payload;
    }

    /// Gives `count` slots back. The producer learns of it at the next publication of our progress,
    /// which happens every capacity / 8 slots.
    void release(std::uint32_t count) noexcept {
        ask_ahead(count);
        position_ += count;
        if (is_due(position_)) {
            publish_progress();
        }
    }

    /// release(1), without its loop. Whether the producer was told.
    bool release_one() noexcept {
        const std::uint32_t position = position_ + 1;
        position_ = position;
        prefetch_for_read(&slots_[slot_index(position + kAhead - 1, mask_)]);
        if (is_due(position)) [[unlikely]] {
            publish_progress();
            return true;
        }
        return false;
    }

    /// Tells the producer about all released slots now.
    void publish_progress() noexcept {
        publish_at_ = position_ + publish_every_;
        // Pairs with the acquire in SpscProducer::refresh.
        consumed_->value.store(position_, std::memory_order_release);
    }

    template <typename T>
    [[nodiscard]] bool try_pop(T& value) noexcept {
        static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kSlotPayload);
        const std::byte* head = sizeof(T) > kLinePayload ? front_with_second_line() : front();
        if (head == nullptr) {
            return false;
        }
        std::memcpy(static_cast<void*>(&value), head, sizeof(T));
        ask_ahead_for<T>();
        ++position_;
        if (is_due(position_)) {
            publish_progress();
        }
        return true;
    }

    /// Pops up to values.size() one-slot records and tells how many.
    template <typename T>
    [[nodiscard]] std::size_t pop_batch(std::span<T> values) noexcept {
        static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kSlotPayload);
        std::size_t count = 0;
        while (count < values.size()) {
            const std::byte* head = front();
            if (head == nullptr) {
                break;
            }
            std::memcpy(static_cast<void*>(&values[count]), head, sizeof(T));
            ask_ahead_for<T>();
            ++position_;
            ++count;
        }
        if (is_due(position_)) {
            publish_progress();
        }
        return count;
    }

    [[nodiscard]] std::uint32_t position() const noexcept { return position_; }

private:
    static constexpr std::uint32_t kAhead = 8;

    [[nodiscard]] bool is_due(std::uint32_t position) const noexcept {
        return static_cast<std::int32_t>(position - publish_at_) >= 0;
    }

    // In a stream each slot's line comes from the writer's core, and waiting for one after the other would
    // make its way the measure of all: several have to be on their way at once. For a slot that is not
    // written yet this fetches what the next look at it would have fetched.
    void ask_ahead(std::uint32_t count) const noexcept {
        for (std::uint32_t i = 0; i < count && i < kAhead; ++i) {
            prefetch_for_read(&slots_[slot_index(position_ + kAhead + i, mask_)]);
        }
    }

    // The same for one slot that holds a T.
    template <typename T>
    void ask_ahead_for() const noexcept {
        const Slot& slot = slots_[slot_index(position_ + kAhead, mask_)];
        prefetch_for_read(&slot);
        if constexpr (sizeof(T) > kLinePayload) {
            prefetch_for_read(slot.payload + kLinePayload);
        }
    }

    Slot* slots_ = nullptr;
    ConsumedWord* consumed_ = nullptr;
    std::uint32_t mask_ = 0;
    std::uint32_t position_ = 0;  // next slot to read
    std::uint32_t publish_every_ = 1;
    std::uint32_t publish_at_ = 1;  // the position that the producer is told of next
};

/// A ring inside one process: owns its memory and holds both ends, each in lines of its own so that
/// the two threads never write to the same line.
class SpscRing {
public:
    /// `capacity` is rounded up to a power of two, 2 at least. Allocates; throws std::bad_alloc.
    explicit SpscRing(std::uint32_t capacity)
        : capacity_(std::bit_ceil(capacity < 2 ? 2U : capacity)),
          slots_(new Slot[capacity_]()),
          producer_(slots_.get(), capacity_, &consumed_),
          consumer_(slots_.get(), capacity_, &consumed_) {}

    SpscRing(const SpscRing&) = delete;
    SpscRing& operator=(const SpscRing&) = delete;

    [[nodiscard]] SpscProducer& producer() noexcept { return producer_; }
    [[nodiscard]] SpscConsumer& consumer() noexcept { return consumer_; }

private:
    std::uint32_t capacity_;
    std::unique_ptr<Slot[]> slots_;
    ConsumedWord consumed_{};
    alignas(kCacheLine) SpscProducer producer_;
    alignas(kCacheLine) SpscConsumer consumer_;
};

}  // namespace sanpoll::rings
