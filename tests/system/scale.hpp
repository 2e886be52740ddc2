// How much a test does and how long it waits. No test passes or fails by how fast something is, except
// where a bound is what it is about.
#pragma once

#include <chrono>
#include <cstdint>

namespace sanpoll::system_test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

inline constexpr bool kSanitized = kAddressSanitizer || kThreadSanitizer;

/// `count`, or `sanitized` of it when a sanitizer slows everything down.
[[nodiscard]] constexpr std::uint64_t scaled(std::uint64_t count,
                                             std::uint64_t sanitized) noexcept {
    return kSanitized ? sanitized : count;
}

/// For what must happen.
inline constexpr std::chrono::seconds kPatience{kSanitized ? 120 : 60};

}  // namespace sanpoll::system_test
