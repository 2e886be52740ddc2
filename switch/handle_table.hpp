// Handles that are an index plus a generation, for events, switch handles and completion ports.
//
// A handle is never dereferenced: it names a slot in a table whose memory is never given back, and
// the slot says whether the handle's generation is the one that lives there now. So a closed, stale
// or invented handle is noticed, whatever other threads do at the same time.
//
//   bits 63..32  generation, odd while the object lives: bumped by opening and by closing
//   bits 31..8   index of the slot
//   bits  7..2   kind of the object, so that an event's handle is no socket
//   bits  1..0   0, because bit 0 of an event's handle is a control bit in WSAOVERLAPPED::hEvent
//
// Who uses an object pins it; closing ends the handle at once, and the slot is recycled when the
// last pin goes.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <utility>

#include "switch/futex.hpp"

namespace sanpoll_switch::detail {

enum class HandleKind : std::uintptr_t { kEvent = 1, kSocket = 2, kPort = 3 };

// T: default-constructible; `void recycle() noexcept` returns it to its first state (one thread, no
// pins left). Memory grows by kChunkSlots objects at a time, up to kMaxChunks times.
template <class T, HandleKind kKind, std::size_t kChunkSlots>
class HandleTable {
    struct Slot {
        // generation << 32 | pins
        alignas(64) std::atomic<std::uint64_t> state{0};
        std::uint32_t index = 0;
        Slot* next_free = nullptr;
        T value;
    };

public:
    // Keeps a slot from being recycled. Movable; empty after a move or when the handle was bad.
    class Pin {
    public:
        Pin() = default;
        Pin(Pin&& other) noexcept
            : table_(other.table_),
              slot_(std::exchange(other.slot_, nullptr)),
              generation_(other.generation_) {}
        Pin& operator=(Pin&& other) noexcept {
            if (this != &other) {
                release();
                table_ = other.table_;
                slot_ = std::exchange(other.slot_, nullptr);
                generation_ = other.generation_;
            }
            return *this;
        }
        ~Pin() { release(); }

        explicit operator bool() const { return slot_ != nullptr; }
        T* operator->() const { return &slot_->value; }
        T& operator*() const { return slot_->value; }

        // Whether the handle has been closed since. Acquire: partner is the exchange in close().
        bool closed() const {
            return generation_of(slot_->state.load(std::memory_order_acquire)) != generation_;
        }

        void release() {
            if (table_ == nullptr || slot_ == nullptr) return;
            table_->unpin(*std::exchange(slot_, nullptr));
        }

    private:
        friend HandleTable;
        Pin(HandleTable& table, Slot& slot, std::uint32_t generation)
            : table_(&table), slot_(&slot), generation_(generation) {}

        HandleTable* table_ = nullptr;
        Slot* slot_ = nullptr;
        std::uint32_t generation_ = 0;
    };

    static constexpr std::size_t kMaxChunks = 4096;
    static_assert(kMaxChunks * kChunkSlots <= (std::size_t{1} << 24), "the index has 24 bits");

    // New object, prepared by `prepare(T&)` before the handle works. 0: no memory, or the table is
    // full. Takes a lock.
    template <class Prepare>
    std::uintptr_t open(Prepare&& prepare) {
        Slot* slot = take_free_slot();
        if (slot == nullptr) return 0;
        prepare(slot->value);
        const std::uint32_t generation =
            generation_of(slot->state.load(std::memory_order_relaxed)) + 1;
        // Release: partner is the acquire exchange in pin().
        slot->state.store(std::uint64_t{generation} << 32, std::memory_order_release);
        return encode(slot->index, generation);
    }

    // Empty if the handle is not that of a living object. No lock, no system call.
    Pin pin(std::uintptr_t handle) {
        Slot* slot = find(handle);
        if (slot == nullptr) return {};
        const std::uint32_t generation = generation_of(handle);
        std::uint64_t state = slot->state.load(std::memory_order_relaxed);
        do {
            if (generation_of(state) != generation) return {};
            // Acquire: partner is the release store in open().
        } while (!slot->state.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                                    std::memory_order_relaxed));
        return Pin(*this, *slot, generation);
    }

    // Ends the handle, runs `on_close(T&)` while the slot is still pinned, and lets the last pin
    // recycle it. False: not the handle of a living object. Of several threads that close one
    // handle, one succeeds.
    template <class OnClose>
    bool close(std::uintptr_t handle, OnClose&& on_close) {
        Slot* slot = find(handle);
        if (slot == nullptr) return false;
        const std::uint32_t generation = generation_of(handle);
        std::uint64_t state = slot->state.load(std::memory_order_relaxed);
        std::uint64_t closed = 0;
        do {
            if (generation_of(state) != generation) return false;
            closed = (std::uint64_t{generation + 1} << 32) | (pins_of(state) + 1);
            // Acquire: partner is the store in open(). Release: partner is the load in
            // Pin::closed().
        } while (!slot->state.compare_exchange_weak(state, closed, std::memory_order_acq_rel,
                                                    std::memory_order_relaxed));
        on_close(slot->value);
        unpin(*slot);
        return true;
    }

    bool close(std::uintptr_t handle) {
        return close(handle, [](T&) {});
    }

private:
    struct Chunk {
        std::array<Slot, kChunkSlots> slots;
    };

    static std::uint32_t generation_of(std::uint64_t state) {
        return static_cast<std::uint32_t>(state >> 32);
    }
    static std::uint32_t pins_of(std::uint64_t state) { return static_cast<std::uint32_t>(state); }
    static bool alive(std::uint32_t generation) { return (generation & 1) != 0; }

    static std::uintptr_t encode(std::uint32_t index, std::uint32_t generation) {
        return (std::uintptr_t{generation} << 32) | (std::uintptr_t{index} << 8) |
               (static_cast<std::uintptr_t>(kKind) << 2);
    }

    // The slot that the handle names, whoever lives there now.
    Slot* find(std::uintptr_t handle) {
        if ((handle & 0xFF) != (static_cast<std::uintptr_t>(kKind) << 2) ||
            !alive(generation_of(handle)))
            return nullptr;
        const std::size_t index = (handle >> 8) & 0xFFFFFF;
        if (index / kChunkSlots >= kMaxChunks) return nullptr;
        // Acquire: partner is the release store in take_free_slot().
        Chunk* chunk = chunks_[index / kChunkSlots].load(std::memory_order_acquire);
        return chunk == nullptr ? nullptr : &chunk->slots[index % kChunkSlots];
    }

    void unpin(Slot& slot) {
        // Release: all uses under this pin come before recycle(). Acquire: partners are the other
        // pins' releases.
        const std::uint64_t before = slot.state.fetch_sub(1, std::memory_order_acq_rel);
        if (pins_of(before) != 1 || alive(generation_of(before))) return;
        slot.value.recycle();
        const std::lock_guard lock(mutex_);
        slot.next_free = free_;
        free_ = &slot;
    }

    Slot* take_free_slot() {
        const std::lock_guard lock(mutex_);
        if (free_ == nullptr) {
            if (chunk_count_ == kMaxChunks) return nullptr;
            auto* chunk = new (std::nothrow) Chunk;
            if (chunk == nullptr) return nullptr;
            // Backwards, so that the lowest index is taken first.
            for (std::size_t i = kChunkSlots; i-- > 0;) {
                chunk->slots[i].index = static_cast<std::uint32_t>(chunk_count_ * kChunkSlots + i);
                chunk->slots[i].next_free = free_;
                free_ = &chunk->slots[i];
            }
            // Release: partner is the acquire load in find().
            chunks_[chunk_count_++].store(chunk, std::memory_order_release);
        }
        return std::exchange(free_, free_->next_free);
    }

    std::array<std::atomic<Chunk*>, kMaxChunks> chunks_{};
    SlowPathMutex mutex_;  // guards the three below
    std::size_t chunk_count_ = 0;
    Slot* free_ = nullptr;
};

}  // namespace sanpoll_switch::detail
