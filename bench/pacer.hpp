// When the messages of a paced load are meant to be sent: evenly, and whatever became of the ones before. What is
// timed from the intended time, not from the actual one, has no coordinated omission: a message that has to wait
// because an earlier one was slow counts the waiting.
#pragma once

#include <cmath>
#include <cstdint>

#include "bench/clock.hpp"

namespace sanpoll::bench {

class Pacer {
public:
    // From `start` ticks on, `per_second` > 0 messages a second; 0: all of them at once.
    Pacer(const Clock& clock, std::uint64_t start, double per_second) noexcept
        : start_(start), ticks_each_(per_second > 0 ? 1e9 / per_second / clock.ns_per_tick() : 0) {}

    // Intended time of message `i`, in ticks. Computed from the start each time, so that nothing adds up.
    std::uint64_t due(std::uint64_t i) const noexcept {
        return start_ +
               static_cast<std::uint64_t>(std::llround(static_cast<double>(i) * ticks_each_));
    }

private:
    std::uint64_t start_;
    double ticks_each_;
};

}  // namespace sanpoll::bench
