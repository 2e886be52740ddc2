// Waiting in tests: generous, since the machine may be busy, and never for ever.
#pragma once

#include <chrono>
#include <thread>

namespace sanpoll::tests {

/// Waits until `condition()` holds; false after a minute. The caller asserts on it.
template <typename Condition>
[[nodiscard]] bool eventually(Condition condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (int tries = 0; !condition(); ++tries) {
        if (std::chrono::steady_clock::now() > deadline) {
            return condition();
        }
        if (tries < 100) {
            std::this_thread::yield();
        } else {
            std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
    }
    return true;
}

}  // namespace sanpoll::tests
