// Address ranges in order: found without a lock, entered and taken out in steps that hardly depend on how
// many there are.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "rings/slot.hpp"

namespace sanpoll::engine {

/// A set of ranges [base, end), each with a number of its owner's. Ranges may overlap and repeat; a pair of
/// base and number is there once.
///
/// The ranges lie in chunks of up to 64, sorted by base; a directory has the first base of each chunk and how far
/// its ranges reach. So a look is two binary searches in compact memory, and a change moves some 32 ranges, and
/// once in as many changes a part of the directory.
///
/// Writers (insert, erase, clear, size, for_each) come one at a time; they never touch what readers need to
/// find their way except between two steps of `version_`, in which they neither allocate nor wait. Readers (find,
/// overlapping) are any threads, at any time: they look again if a writer has been at work meanwhile. Memory that
/// they may be reading is never given back before the index is destroyed, but used again.
class RegionIndex {
public:
    RegionIndex() = default;
    RegionIndex(const RegionIndex&) = delete;
    RegionIndex& operator=(const RegionIndex&) = delete;

    // ---- writers

    /// False when out of memory; nothing has changed then. base < end.
    [[nodiscard]] bool insert(std::uint64_t base, std::uint64_t end, std::uint32_t value) noexcept;
    /// Whether it was there. Allocates nothing.
    bool erase(std::uint64_t base, std::uint32_t value) noexcept;
    void clear() noexcept;
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    /// Calls `visit(value)` for each, in order.
    template <typename Visit>
    void for_each(Visit visit) const;

    // ---- readers

    /// Calls `fits(value)` for ranges that contain [address, end), those that begin last first, until it answers
    /// with something else than 0; that is the result, else 0. `fits` may see a number that is out of date.
    template <typename Fits>
    [[nodiscard]] std::uint32_t find(std::uint64_t address, std::uint64_t end,
                                     Fits fits) const noexcept;

    /// Calls `visit(value)` for all ranges that share a byte with [low, high), for some of them more than once if
    /// a writer is at work. Whatever was there before the call and is still there after it is visited.
    template <typename Visit>
    void overlapping(std::uint64_t low, std::uint64_t high, Visit visit) const noexcept;

private:
    static constexpr std::uint32_t kChunk = 64;
    static constexpr std::uint32_t kFirst = 8;  // capacity that the first chunk begins with

    struct Item {
        std::atomic<std::uint64_t> base{0};
        std::atomic<std::uint64_t> end{0};
        std::atomic<std::uint32_t> value{0};
    };
    struct Slot {
        std::atomic<std::uint64_t> first{0};     // base of the chunk's first range
        std::atomic<std::uint64_t> reach{0};     // the furthest end in the chunk
        std::atomic<std::uint64_t> furthest{0};  // and in this chunk and all before it
        std::atomic<std::uint32_t> count{0};     // never 0
        std::atomic<Item*> items{nullptr};
    };
    struct Copied {
        std::uint64_t base;
        std::uint64_t end;
        std::uint32_t value;
    };
    // Where something is, or belongs.
    struct Place {
        std::uint32_t slot;
        std::uint32_t item;
    };

    // Calls look(slots, count) until no writer has been at work meanwhile. Acquires pair with the releases of the
    // writers: whoever meets one of their stores meets their odd version in the last look.
    template <typename Look>
    auto undisturbed(Look look) const noexcept {
        for (;;) {
            const std::uint32_t version = version_.load(std::memory_order_acquire);
            if ((version & 1U) != 0) {
                rings::cpu_pause();  // a fraction of a microsecond
                continue;
            }
            // The count before the array, as the array goes first when both grow.
            const std::uint32_t count = slot_count_.load(std::memory_order_acquire);
            const auto result = look(slots_.load(std::memory_order_acquire), count);
            if (version_.load(std::memory_order_acquire) == version) {
                return result;
            }
        }
    }
    // Of `count` elements sorted by `member`, how many are at most `value`.
    template <typename Element>
    [[nodiscard]] static std::uint32_t not_above(const Element* elements, std::uint32_t count,
                                                 std::atomic<std::uint64_t> Element::*member,
                                                 std::uint64_t value) noexcept {
        // The number of steps follows from the count alone, and each is a choice of two numbers that are there: where
        // the value belongs is what a processor guesses wrong half the time.
        const Element* low = elements;
        while (count > 1) {
            const std::uint32_t half = count / 2;
            const Element* const above = low + half;
            low = (above[-1].*member).load(std::memory_order_acquire) <= value ? above : low;
            count -= half;
        }
        const bool last = count != 0 && (low->*member).load(std::memory_order_acquire) <= value;
        return static_cast<std::uint32_t>(low - elements) + (last ? 1U : 0U);
    }

    [[nodiscard]] Place place_of(std::uint64_t base, std::uint32_t value) const noexcept;
    [[nodiscard]] Item* new_chunk(std::uint32_t capacity) noexcept;
    [[nodiscard]] bool room_for_slot() noexcept;
    [[nodiscard]] bool grow_first() noexcept;
    [[nodiscard]] bool split(std::uint32_t slot, std::uint32_t at) noexcept;
    void join_neighbour(std::uint32_t slot) noexcept;
    void remove_slot(std::uint32_t slot) noexcept;
    void measure(std::uint32_t slot) noexcept;
    void carry_furthest(std::uint32_t from) noexcept;
    void begin_change() noexcept;
    void end_change() noexcept;

    // Readers.
    std::atomic<std::uint32_t> version_{0};  // odd while a writer changes what follows
    std::atomic<std::uint32_t> slot_count_{0};
    std::atomic<Slot*> slots_{nullptr};

    // Writers.
    std::uint32_t slot_capacity_ = 0;
    std::uint32_t first_capacity_ = 0;  // of the first chunk; kChunk before there is a second
    Item* only_ = nullptr;              // the last chunk that there was, for the next first range
    std::size_t size_ = 0;
    std::vector<std::unique_ptr<Slot[]>> slot_storage_;  // old ones stay for late readers
    std::vector<std::unique_ptr<Item[]>> item_storage_;
    std::vector<Item*> free_chunks_;  // of kChunk items; has room for all of them
};

template <typename Visit>
void RegionIndex::for_each(Visit visit) const {
    const Slot* slots = slots_.load(std::memory_order_relaxed);
    for (std::uint32_t s = 0; s < slot_count_.load(std::memory_order_relaxed); ++s) {
        const Item* items = slots[s].items.load(std::memory_order_relaxed);
        for (std::uint32_t i = 0; i < slots[s].count.load(std::memory_order_relaxed); ++i) {
            visit(items[i].value.load(std::memory_order_relaxed));
        }
    }
}

template <typename Fits>
std::uint32_t RegionIndex::find(std::uint64_t address, std::uint64_t end,
                                Fits fits) const noexcept {
    return undisturbed([&](const Slot* slots, std::uint32_t count) -> std::uint32_t {
        std::uint32_t slot = not_above(slots, count, &Slot::first, address);
        for (bool whole = false; slot-- > 0; whole = true) {
            if (slots[slot].furthest.load(std::memory_order_acquire) < end) {
                return 0;
            }
            if (slots[slot].reach.load(std::memory_order_acquire) < end) {
                continue;
            }
            // The count before the array, as above.
            const std::uint32_t filled = slots[slot].count.load(std::memory_order_acquire);
            const Item* items = slots[slot].items.load(std::memory_order_acquire);
            std::uint32_t item = whole ? filled : not_above(items, filled, &Item::base, address);
            while (item-- > 0) {
                if (items[item].end.load(std::memory_order_acquire) >= end) {
                    if (const std::uint32_t result =
                            fits(items[item].value.load(std::memory_order_acquire));
                        result != 0) {
                        return result;
                    }
                }
            }
        }
        return 0;
    });
}

template <typename Visit>
void RegionIndex::overlapping(std::uint64_t low, std::uint64_t high, Visit visit) const noexcept {
    if (low >= high) {
        return;
    }
    (void)undisturbed([&](const Slot* slots, std::uint32_t count) -> int {
        std::uint32_t slot = not_above(slots, count, &Slot::first, high - 1);
        for (bool whole = false; slot-- > 0; whole = true) {
            if (slots[slot].furthest.load(std::memory_order_acquire) <= low) {
                break;
            }
            const std::uint32_t filled = slots[slot].count.load(std::memory_order_acquire);
            const Item* items = slots[slot].items.load(std::memory_order_acquire);
            std::uint32_t item = whole ? filled : not_above(items, filled, &Item::base, high - 1);
            while (item-- > 0) {
                if (items[item].end.load(std::memory_order_acquire) > low) {
                    visit(items[item].value.load(std::memory_order_acquire));
                }
            }
        }
        return 0;
    });
}

}  // namespace sanpoll::engine
