// What to tell the user when the system refuses something: which limit it was, its value, and how to raise it. The
// limits are read at that moment.
//
// Threading: any thread but a polling core's. Blocks on files of /proc. May throw std::bad_alloc. The texts are for
// the log, which the caller writes.
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/host_limits.hpp"

namespace sanpoll::engine {

/// No descriptor for `what` ("a link's doorbell"). `error`: EMFILE (RLIMIT_NOFILE), ENFILE (fs.file-max), or any
/// other errno.
[[nodiscard]] std::string descriptor_error(std::string_view what, int error,
                                           const LimitSource& source = LimitSource::host());

/// Whether an errno says that there are no descriptors left.
[[nodiscard]] constexpr bool no_descriptors(int error) noexcept {
    return error == EMFILE || error == ENFILE;
}

/// No memory for `what`, `bytes` of it. ENOMEM has many causes: the number of mappings (vm.max_map_count), the
/// address space (RLIMIT_AS), the control group, promises that the kernel does not make (vm.overcommit_memory), or
/// a host that is full; those are looked at in this order. EAGAIN: memory that was to be locked (RLIMIT_MEMLOCK).
[[nodiscard]] std::string memory_error(std::string_view what, std::uint64_t bytes, int error,
                                       const LimitSource& source = LimitSource::host());

/// No thread for `what` (EAGAIN): RLIMIT_NPROC, the control group's tasks.
[[nodiscard]] std::string thread_error(std::string_view what, int error,
                                       const LimitSource& source = LimitSource::host());

/// How much memory may be locked, and how to raise that: "the process may lock 8 MiB in all (RLIMIT_MEMLOCK), ...".
/// Empty where there is no limit.
[[nodiscard]] std::string lock_limit_text(const LimitSource& source = LimitSource::host());

}  // namespace sanpoll::engine
