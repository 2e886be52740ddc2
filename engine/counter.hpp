// A statistic that one thread writes and any thread reads.
#pragma once

#include <atomic>
#include <cstdint>

namespace sanpoll::engine {

/// Load, add, store: no locked instruction, since there is one writer (the owner of the structure that
/// holds it). Readers get a value that was true a moment ago.
class Counter {
public:
    void add(std::uint64_t amount = 1) noexcept {
        value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
    }
    void raise_to(std::uint64_t candidate) noexcept {
        if (candidate > value_.load(std::memory_order_relaxed)) {
            value_.store(candidate, std::memory_order_relaxed);
        }
    }
    [[nodiscard]] std::uint64_t value() const noexcept {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> value_{0};
};

}  // namespace sanpoll::engine
