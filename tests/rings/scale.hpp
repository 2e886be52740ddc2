// How much a stress test does: sanitizers slow everything down about tenfold.
#pragma once

#include <cstdint>

namespace sanpoll::tests {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

/// `count`, or a tenth of it under a sanitizer.
[[nodiscard]] constexpr std::uint64_t scaled(std::uint64_t count) noexcept {
    return kSanitized ? count / 10 : count;
}

}  // namespace sanpoll::tests
