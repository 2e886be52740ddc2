// Sleeping and waking: the only place of this folder that enters the kernel on behalf of events and
// ports.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace sanpoll_switch::detail {

using Clock = std::chrono::steady_clock;
// No value: for ever.
using Deadline = std::optional<Clock::time_point>;

// WSA_INFINITE or milliseconds from now.
Deadline deadline_after(std::uint32_t milliseconds);

// Sleeps while *word == expected, until a wake or the deadline. May return early. False: the
// deadline has passed.
bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected, const Deadline& deadline);
void futex_wake_one(std::atomic<std::uint32_t>& word);

// Process-wide, see set_wait_spins().
unsigned wait_spins();

inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// A mutex for the slow paths: spins first, because what it guards takes some ten nanoseconds, so
// that a waiter enters the kernel only if the holder has lost its core. BasicLockable.
class SlowPathMutex {
public:
    void lock() {
        for (unsigned spin = 0; spin < kSpins; ++spin) {
            std::uint32_t expected = kFree;
            // Acquire: partner is the release exchange in unlock().
            if (word_.compare_exchange_weak(expected, kHeld, std::memory_order_acquire,
                                            std::memory_order_relaxed))
                return;
            cpu_relax();
        }
        // Acquire as above. Taking it as "contended" is pessimistic: at worst one wake too many.
        while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
            futex_wait(word_, kContended, std::nullopt);
        }
    }

    void unlock() {
        // Release: partners are the acquire operations in lock().
        if (word_.exchange(kFree, std::memory_order_release) == kContended) futex_wake_one(word_);
    }

private:
    static constexpr std::uint32_t kFree = 0;
    static constexpr std::uint32_t kHeld = 1;
    static constexpr std::uint32_t kContended = 2;
    static constexpr unsigned kSpins = 1000;

    std::atomic<std::uint32_t> word_{kFree};
};

// What one waiting thread sleeps on, whatever the number of objects it waits for. Lives on that
// thread's stack: a waker reaches it only through a list that it is linked in, under that list's
// lock, and its thread unlinks it before it goes.
class WaitBlock {
public:
    // Owner: before looking at the condition. A wake after this call makes the next sleep() return
    // at once.
    void arm() { word_.store(kArmed, std::memory_order_relaxed); }

    // Owner: sleeps until wake() or the deadline. False: the deadline has passed.
    bool sleep(const Deadline& deadline) {
        std::uint32_t expected = kArmed;
        // Acquire: if it fails, its partner is the exchange in wake(), which came first.
        if (!word_.compare_exchange_strong(expected, kSleeping, std::memory_order_acquire,
                                           std::memory_order_acquire)) {
            return true;
        }
        // Acquire: partner is the exchange in wake().
        while (word_.load(std::memory_order_acquire) == kSleeping) {
            if (!futex_wait(word_, kSleeping, deadline))
                return word_.load(std::memory_order_acquire) != kSleeping;
        }
        return true;
    }

    // Any thread. No system call unless the owner sleeps.
    void wake() {
        // Release: partners are the acquire operations in sleep().
        if (word_.exchange(kWoken, std::memory_order_acq_rel) == kSleeping) futex_wake_one(word_);
    }

private:
    static constexpr std::uint32_t kArmed = 0;
    static constexpr std::uint32_t kSleeping = 1;
    static constexpr std::uint32_t kWoken = 2;

    std::atomic<std::uint32_t> word_{kArmed};
};

}  // namespace sanpoll_switch::detail
