// The classic single-producer single-consumer ring with a head and a tail index, each end keeping a copy of the
// other's: the yardstick for rings/spsc_ring.hpp, not used by the product. A hand-off moves the index's
// line and then the data's line.
//
// Contract: one producer thread, one consumer thread; nothing blocks or allocates after construction.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace sanpoll::bench {

template <typename T>
class IndexRing {
public:
    explicit IndexRing(std::uint32_t capacity)
        : mask_(std::bit_ceil(capacity) - 1), cells_(new T[std::size_t{mask_} + 1]()) {}

    [[nodiscard]] bool try_push(const T& value) noexcept {
        const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
        if (tail - seen_head_ > mask_) {
            seen_head_ =
                head_.load(std::memory_order_acquire);  // pairs with the release in try_pop
            if (tail - seen_head_ > mask_) return false;
        }
        cells_[tail & mask_] = value;
        tail_.store(tail + 1, std::memory_order_release);  // pairs with the acquire in try_pop
        return true;
    }

    [[nodiscard]] bool try_pop(T& value) noexcept {
        const std::uint64_t head = head_.load(std::memory_order_relaxed);
        if (head == seen_tail_) {
            seen_tail_ =
                tail_.load(std::memory_order_acquire);  // pairs with the release in try_push
            if (head == seen_tail_) return false;
        }
        value = cells_[head & mask_];
        head_.store(head + 1, std::memory_order_release);  // pairs with the acquire in try_push
        return true;
    }

private:
    // Each index with its owner's copy of the other one; two lines apart because of prefetching in pairs.
    static constexpr std::size_t kApart = 128;
    const std::uint64_t mask_;
    const std::unique_ptr<T[]> cells_;
    alignas(kApart) std::atomic<std::uint64_t> tail_{0};
    std::uint64_t seen_head_ = 0;
    alignas(kApart) std::atomic<std::uint64_t> head_{0};
    std::uint64_t seen_tail_ = 0;
};

}  // namespace sanpoll::bench
