// Hugepages of 2 MiB: how many are free, and how many an arena takes.
#pragma once

#include <cstdint>

namespace sanpoll::engine::memory {

inline constexpr std::uint64_t kHugepageBytes = 2U << 20;

/// Free and not promised to anybody, on the whole host; 0 if the host does not say. Control plane. It may have
/// changed by the time that it is read.
///
/// `folder` is where the kernel counts them; tests have another.
[[nodiscard]] std::uint64_t free_hugepages(
    const char* folder = "/sys/kernel/mm/hugepages/hugepages-2048kB");

}  // namespace sanpoll::engine::memory
