// What a process has in memory, as the kernel counts it. Reads files of /proc; blocks a little, allocates.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace sanpoll::bench {

// KiB. What the kernel does not tell is 0.
struct ProcessMemory {
    std::uint64_t peak = 0;          // VmHWM: the most that was ever resident
    std::uint64_t resident = 0;      // VmRSS, of which:
    std::uint64_t anonymous = 0;     //   heap, stacks, written data of libraries
    std::uint64_t file = 0;          //   code and constants, which other processes share
    std::uint64_t shared = 0;        //   memory files: links, arenas
    std::uint64_t proportional = 0;  // Pss: what is shared counts by the number of its users
};

// Any process of the same user.
[[nodiscard]] ProcessMemory memory_of(pid_t process);

// Bytes of the kernel's objects for sockets: TCP's and the generic parts of one (file, inode, directory entry).
// 0 where the kernel does not tell this user (/proc/slabinfo is root's).
[[nodiscard]] std::uint64_t kernel_socket_bytes();

}  // namespace sanpoll::bench
