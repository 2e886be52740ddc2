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
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
        // One instruction where compilers make three of an atomic's load and store. An aligned word is read and
        // written in one piece by it, so a reader sees it before or after. Of a counter that only its writer touches.
        asm("addq %1, %0" : "+m"(value_) : "er"(amount) : "cc");
#else
        const std::atomic_ref<std::uint64_t> value(value_);
        value.store(value.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
#endif
    }
    void raise_to(std::uint64_t candidate) noexcept {
        const std::atomic_ref<std::uint64_t> value(value_);
        if (candidate > value.load(std::memory_order_relaxed)) {
            value.store(candidate, std::memory_order_relaxed);
        }
    }
    [[nodiscard]] std::uint64_t value() const noexcept {
        // The cast: atomic_ref of what is const comes with C++26.
        return std::atomic_ref<std::uint64_t>(const_cast<std::uint64_t&>(value_))
            .load(std::memory_order_relaxed);
    }

private:
    alignas(std::atomic_ref<std::uint64_t>::required_alignment) std::uint64_t value_ = 0;
};

/// One that counts, beside what is added to it, what some others do: where two rise together, only one of them
/// need be written.
class CounterWith {
public:
    explicit CounterWith(const Counter& first) noexcept : with_{&first, nullptr} {}
    CounterWith(const Counter& first, const Counter& second) noexcept : with_{&first, &second} {}
    CounterWith(const CounterWith&) = delete;
    CounterWith& operator=(const CounterWith&) = delete;

    void add(std::uint64_t amount = 1) noexcept { own_.add(amount); }
    [[nodiscard]] std::uint64_t value() const noexcept {
        return own_.value() + with_[0]->value() + (with_[1] != nullptr ? with_[1]->value() : 0);
    }

private:
    Counter own_;
    const Counter* const with_[2];
};

}  // namespace sanpoll::engine
