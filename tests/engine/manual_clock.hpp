// A clock that stands still until it is pushed on.
#pragma once

#include <atomic>

#include "engine/clock.hpp"

namespace sanpoll::tests {

class ManualClock final : public engine::Clock {
public:
    [[nodiscard]] std::uint64_t now_ns() noexcept override { return now_.load(); }
    void advance_ms(std::uint64_t milliseconds) { now_.fetch_add(milliseconds * 1000000); }

private:
    std::atomic<std::uint64_t> now_{1000000000};
};

}  // namespace sanpoll::tests
