// How long a test waits for what must happen. No test passes or fails by how fast something is.
#pragma once

#include <chrono>
#include <thread>

namespace sanpoll::test {

inline constexpr std::chrono::seconds kPatience{60};

/// Waits until `done()`; false when patience ends.
template <typename Done>
[[nodiscard]] bool eventually(Done done) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!done()) {
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
        std::this_thread::yield();
    }
    return true;
}

/// Gives something that must not happen the time to happen. Too short a pause may hide a fault, but
/// cannot make a sound provider fail.
inline void let_time_pass() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

}  // namespace sanpoll::test
