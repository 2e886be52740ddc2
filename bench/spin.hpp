// How a loop waits by spinning: for whom it makes room, and when it gives up.
#pragma once

#include <sched.h>

#include <cstdint>

#include "bench/clock.hpp"
#include "bench/connection.hpp"

namespace sanpoll::bench {

struct SpinRule {
    Clock clock;
    // More spinning threads than CPUs: each turn gives the CPU away, or the one that is waited for could not run.
    bool yield = false;
};

// One wait. turn() goes into the loop's body; it reads the clock only now and then, so that a short wait pays nothing.
class Spin {
public:
    Spin(const SpinRule& rule, const char* awaited) noexcept : rule_(rule), awaited_(awaited) {}

    // Throws ConnectionFault when the wait has lasted kPatience.
    void turn() {
        if (rule_.yield) sched_yield();
        if ((++turns_ & kTurnsPerLook) == 0) look_at_clock();
    }

private:
    static constexpr std::uint64_t kTurnsPerLook = 0xFFF;

    void look_at_clock();

    const SpinRule& rule_;
    const char* awaited_;
    std::uint64_t turns_ = 0;
    std::uint64_t start_ = 0;
};

}  // namespace sanpoll::bench
