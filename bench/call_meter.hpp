// Counts or times what lies between two calls of a meter, on the calling thread only.
//
// Counting: under `valgrind --tool=callgrind --collect-atstart=no`, which counts the instructions that a thread executes
// while its collection is switched on; take() makes callgrind write what it has counted so far to a file of its own,
// under a name. What the switching itself takes is the same every time and is measured as a call that does nothing.
// Timing: without it, ticks of the benchmarks' clock; the median of the windows counts.
//
// Contract: one thread. No allocation between begin() and end(). Outside of callgrind counting() is false.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/clock.hpp"

#if __has_include(<valgrind/callgrind.h>)
#define SANPOLL_CALLGRIND 1
#include <valgrind/callgrind.h>
#else
#define SANPOLL_CALLGRIND 0
#endif

namespace sanpoll::bench {

class CallMeter {
public:
    static constexpr bool kCanCount = SANPOLL_CALLGRIND != 0;

    explicit CallMeter(const Clock& clock) : clock_(clock) {
#if SANPOLL_CALLGRIND
        counting_ = RUNNING_ON_VALGRIND != 0;
#endif
        times_.reserve(1U << 16);
    }

    [[nodiscard]] bool counting() const noexcept { return counting_; }

    void begin() noexcept {
#if SANPOLL_CALLGRIND
        if (counting_) {
            CALLGRIND_TOGGLE_COLLECT;
            return;
        }
#endif
        start_ = clock_.ticks();
    }

    /// `calls`: how many lay in between.
    void end(std::uint32_t calls = 1) noexcept {
#if SANPOLL_CALLGRIND
        if (counting_) {
            CALLGRIND_TOGGLE_COLLECT;
            ++windows_;
            calls_ += calls;
            return;
        }
#endif
        const std::uint64_t stop = clock_.ticks();
        ++windows_;
        calls_ += calls;
        if (times_.size() < times_.capacity()) {
            times_.push_back(static_cast<double>(clock_.elapsed_ns(start_, stop)) / calls);
        }
    }

    struct Taken {
        std::uint64_t windows = 0;
        std::uint64_t calls = 0;
        double ns = 0.0;  // a call, median of the windows; 0 while counting
    };

    /// Ends a section: what it was, and has callgrind write its count under `name`. Starts the next.
    [[nodiscard]] Taken take(const std::string& name) {
        Taken taken{windows_, calls_, 0.0};
        if (!times_.empty()) {
            const auto middle = times_.begin() + static_cast<std::ptrdiff_t>(times_.size() / 2);
            std::nth_element(times_.begin(), middle, times_.end());
            taken.ns = *middle;
        }
#if SANPOLL_CALLGRIND
        if (counting_) CALLGRIND_DUMP_STATS_AT(name.c_str());
#endif
        discard();
        return taken;
    }

    /// Forgets what was measured, for warming up.
    void discard() {
#if SANPOLL_CALLGRIND
        if (counting_) CALLGRIND_ZERO_STATS;
#endif
        windows_ = calls_ = 0;
        times_.clear();
    }

private:
    const Clock& clock_;
    bool counting_ = false;
    std::uint64_t start_ = 0;
    std::uint64_t windows_ = 0;
    std::uint64_t calls_ = 0;
    std::vector<double> times_;
};

}  // namespace sanpoll::bench
