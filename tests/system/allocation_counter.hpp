// Counts every heap call of every thread of the program: it defines malloc and its family, which the
// dynamic loader then takes for all libraries, also for those that are loaded later.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace sanpoll::system_test {

/// Calls that allocate, reallocate or free, by the thread with this id; 0 if it has made none.
[[nodiscard]] std::uint64_t heap_calls_of(pid_t thread) noexcept;
/// The same of the calling thread.
[[nodiscard]] std::uint64_t heap_calls() noexcept;

}  // namespace sanpoll::system_test
