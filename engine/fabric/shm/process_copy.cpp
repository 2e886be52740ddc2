#include "engine/fabric/shm/process_copy.hpp"

#include <cerrno>
#include <cstring>

namespace sanpoll::engine::shm {

int probe_process(pid_t pid, std::uint64_t address, const std::uint64_t (&expected)[2]) noexcept {
    if (pid <= 0 || address == 0) {
        return ESRCH;
    }
    std::uint64_t found[2] = {};
    const iovec local{found, sizeof(found)};
    const iovec remote{reinterpret_cast<void*>(address), sizeof(found)};
    const ssize_t copied = copy_from_process(pid, &local, 1, &remote, 1);
    if (copied < 0) {
        return static_cast<int>(-copied);
    }
    // A process id of another name space may name somebody else here.
    return copied == sizeof(found) && std::memcmp(found, expected, sizeof(found)) == 0 ? 0 : ESRCH;
}

ssize_t copy_from_process(pid_t pid, const iovec* local, std::size_t local_count,
                          const iovec* remote, std::size_t remote_count) noexcept {
    const ssize_t copied = ::process_vm_readv(pid, local, local_count, remote, remote_count, 0);
    return copied < 0 ? -errno : copied;
}

}  // namespace sanpoll::engine::shm
