// What a sanitizer needs of the process that it watches.
#pragma once

namespace sanpoll::tests {

/// UndefinedBehaviorSanitizer, which the `asan` preset turns on as well, finds out by way of a pipe whether an object's
/// table of functions can be read. Without descriptors it calls every one invalid.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitizerNeedsDescriptors = true;
#else
inline constexpr bool kSanitizerNeedsDescriptors = false;
#endif

}  // namespace sanpoll::tests
