// Copying out of the memory of the process at the other end of a link.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "engine/work_request.hpp"

namespace sanpoll::engine::shm {

/// Who of a link's two sides may read the other's memory. Found out once, when the link is set up: neither
/// side may have ruled it out (Config::copy), and the host must allow it (ptrace_scope, seccomp, name spaces of
/// process ids, dumpability). Without the right, RDMA and long messages go through the staging area of the link.
struct ProcessCopy {
    pid_t pid = 0;        // the other process as we see it
    bool ours = false;    // we may read its memory
    bool theirs = false;  // it may read ours
    // What is found there as long as it is that process, which is given up for dead later than its id may be another's and
    // its memory another program's; 0: not known.
    std::uint64_t probe_address = 0;
    std::uint64_t probe[2] = {};
};

/// Whether this process may read the memory of `pid`: finds the 16 bytes of `expected` at `address`
/// there. Returns 0 or the errno that says why not; ESRCH if something else is found.
[[nodiscard]] int probe_process(pid_t pid, std::uint64_t address,
                                const std::uint64_t (&expected)[2]) noexcept;

/// Copies from `remote`, ranges of the process' memory, into `local`; at most kMaxSges of either. One system call, which
/// reads the probe as well: it takes hold of the memory once, so whatever it brings is of the memory that the probe is in.
/// Unmapped memory on either side is an error and no signal. Returns the number of bytes, possibly fewer than asked for, or
/// -errno; -ESRCH if it is not that process any more, and `local` may then have been written to. Any thread.
[[nodiscard]] ssize_t copy_from_process(const ProcessCopy& process, const iovec* local,
                                        std::size_t local_count, const iovec* remote,
                                        std::size_t remote_count) noexcept;

}  // namespace sanpoll::engine::shm
