#include "bench/clock.hpp"

#include <time.h>

#include <algorithm>
#include <cmath>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sanpoll::bench {
namespace {

#if defined(__x86_64__)

// "Invariant TSC": the counter runs at one rate whatever the core's frequency or sleep state.
bool counter_is_invariant() noexcept {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000007U, &a, &b, &c, &d) != 0 && (d & (1U << 8)) != 0;
}

struct Instant {
    std::uint64_t ns;
    std::uint64_t tsc;
};

// A pair of readings that belong together: of several tries the one with the least between its two counter reads,
// so that an interrupt between them does not count.
Instant read_both() noexcept {
    Instant best{};
    std::uint64_t narrowest = ~0ULL;
    for (int i = 0; i < 16; ++i) {
        const std::uint64_t before = __rdtsc();
        const std::uint64_t ns = Clock::monotonic_ns();
        const std::uint64_t after = __rdtsc();
        if (after - before < narrowest) {
            narrowest = after - before;
            best = {ns, before + (after - before) / 2};
        }
    }
    return best;
}

double measure_ns_per_tick(std::uint64_t window_ns) noexcept {
    const Instant start = read_both();
    while (Clock::monotonic_ns() - start.ns < window_ns)
        cpu_pause();
    const Instant stop = read_both();
    if (stop.tsc <= start.tsc) return 0.0;
    return static_cast<double>(stop.ns - start.ns) / static_cast<double>(stop.tsc - start.tsc);
}

// What one reading takes when they follow each other; the least of several tries, so that an interrupt does
// not count.
double measure_read_ns(double ns_per_tick) noexcept {
    constexpr int kReadings = 1000;
    double least = 1e9;
    for (int attempt = 0; attempt < 20; ++attempt) {
        const std::uint64_t start = __rdtsc();
        std::uint64_t last = start;
        for (int i = 0; i < kReadings; ++i)
            last = __rdtsc();
        least = std::min(least, static_cast<double>(last - start) * ns_per_tick / kReadings);
    }
    return least;
}

#endif

}  // namespace

std::uint64_t Clock::monotonic_ns() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

Clock Clock::calibrate() {
    Clock clock;
#if defined(__x86_64__)
    if (!counter_is_invariant()) return clock;
    // Three tries: on a busy host one window may be cut by the scheduler in the middle of a reading.
    for (int attempt = 0; attempt < 3; ++attempt) {
        const double first = measure_ns_per_tick(8'000'000);
        const double second = measure_ns_per_tick(8'000'000);
        if (first <= 0.0 || second <= 0.0 || std::abs(first / second - 1.0) > 1e-3) continue;
        clock.tsc_ = true;
        clock.ns_per_tick_ = (first + second) / 2;
        clock.read_ns_ = measure_read_ns(clock.ns_per_tick_);
        return clock;
    }
#endif
    return clock;
}

}  // namespace sanpoll::bench
