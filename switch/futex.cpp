#include "switch/futex.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <sanpoll/switch.hpp>

namespace sanpoll_switch {
namespace detail {
namespace {

// Counters only: nothing is ordered by them.
std::atomic<std::uint64_t> sleep_count{0};
std::atomic<std::uint64_t> wake_count{0};

// About 10 us with a pause of 50 ns: longer than a hand-off between cores, shorter than a sleep is
// worth.
std::atomic<unsigned> spin_count{200};

}  // namespace

Deadline deadline_after(std::uint32_t milliseconds) {
    if (milliseconds == WSA_INFINITE) return std::nullopt;
    return Clock::now() + std::chrono::milliseconds(milliseconds);
}

bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                const Deadline& deadline) {
    timespec until{};
    if (deadline) {
        const auto since_epoch = deadline->time_since_epoch();
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since_epoch);
        until.tv_sec = seconds.count();
        until.tv_nsec = std::chrono::nanoseconds(since_epoch - seconds).count();
    }
    sleep_count.fetch_add(1, std::memory_order_relaxed);
    // The BITSET form takes an absolute time of CLOCK_MONOTONIC, which is steady_clock's, so that
    // an early return does not lengthen the wait.
    const long result =
        ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                  deadline ? &until : nullptr, nullptr, FUTEX_BITSET_MATCH_ANY);
    return !(result == -1 && errno == ETIMEDOUT);
}

void futex_wake_one(std::atomic<std::uint32_t>& word) {
    wake_count.fetch_add(1, std::memory_order_relaxed);
    ::syscall(SYS_futex, &word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
}

unsigned wait_spins() { return spin_count.load(std::memory_order_relaxed); }

}  // namespace detail

void set_wait_spins(unsigned spins) { detail::spin_count.store(spins, std::memory_order_relaxed); }

KernelCalls kernel_calls() {
    return {detail::sleep_count.load(std::memory_order_relaxed),
            detail::wake_count.load(std::memory_order_relaxed)};
}

}  // namespace sanpoll_switch
