// Time as the engine sees it: injected, so that tests can stop it or push it on.
#pragma once

#include <chrono>
#include <cstdint>

namespace sanpoll::engine {

/// Monotonic nanoseconds from an arbitrary start. Any thread.
class Clock {
public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual std::uint64_t now_ns() noexcept = 0;

    /// The host's steady clock.
    static Clock& steady() noexcept;
};

class SteadyClock final : public Clock {
public:
    [[nodiscard]] std::uint64_t now_ns() noexcept override {
        return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                              std::chrono::steady_clock::now().time_since_epoch())
                                              .count());
    }
};

inline Clock& Clock::steady() noexcept {
    static SteadyClock clock;
    return clock;
}

}  // namespace sanpoll::engine
