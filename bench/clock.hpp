// The benchmarks' clock: the processor's time stamp counter where it can be trusted, clock_gettime otherwise.
//
// Why not clock_gettime always: it costs 20-60 ns in a virtual machine, a fifth of what is measured here.
//
// Contract
//   Clock::calibrate()  about 20 ms, once a process, before measuring; trusts the counter only if two calibrations
//                       against CLOCK_MONOTONIC_RAW agree within 0.1 %
//   ticks()             no system call; any thread; ticks of different CPUs compare only if the counter is invariant,
//                       which calibrate() has checked
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace sanpoll::bench {

class Clock {
public:
    // A clock that reads CLOCK_MONOTONIC_RAW; one tick is one nanosecond.
    Clock() = default;

    static Clock calibrate();

    std::uint64_t ticks() const noexcept {
#if defined(__x86_64__)
        if (tsc_) return __rdtsc();
#endif
        return monotonic_ns();
    }

    // Nanoseconds from one reading of ticks() to the next, less what a reading itself takes: 10 ns on the virtual
    // machines seen, a twentieth of a round trip that is compared with a hand-off timed over many.
    std::uint64_t elapsed_ns(std::uint64_t start, std::uint64_t stop) const noexcept {
        const auto ns = static_cast<double>(stop - start) * ns_per_tick_ - read_ns_;
        return ns > 0.0 ? static_cast<std::uint64_t>(std::llrint(ns)) : 0;
    }

    // What a reading takes, ns; 0 for a clock that is not calibrated.
    double read_ns() const noexcept { return read_ns_; }

    // Nanoseconds of a *difference* of ticks (up to some hours; not for absolute values).
    std::uint64_t to_ns(std::uint64_t ticks) const noexcept {
        return static_cast<std::uint64_t>(std::llrint(static_cast<double>(ticks) * ns_per_tick_));
    }

    std::uint64_t from_ms(std::uint64_t ms) const noexcept {
        return static_cast<std::uint64_t>(static_cast<double>(ms) * 1e6 / ns_per_tick_);
    }

    bool uses_tsc() const noexcept { return tsc_; }
    double ns_per_tick() const noexcept { return ns_per_tick_; }

    static std::uint64_t monotonic_ns() noexcept;

private:
    bool tsc_ = false;
    double ns_per_tick_ = 1.0;
    double read_ns_ = 0.0;
};

// One hint to the processor in a spinning loop: lets the sibling hardware thread run, and leaves the loop without
// a memory-order mis-speculation.
inline void cpu_pause() noexcept {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

}  // namespace sanpoll::bench
