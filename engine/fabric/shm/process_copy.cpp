#include "engine/fabric/shm/process_copy.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sanpoll::engine::shm {

namespace {

ssize_t read_process(pid_t pid, const iovec* local, std::size_t local_count, const iovec* remote,
                     std::size_t remote_count) noexcept {
    const ssize_t copied = ::process_vm_readv(pid, local, local_count, remote, remote_count, 0);
    return copied < 0 ? -errno : copied;
}

}  // namespace

int probe_process(pid_t pid, std::uint64_t address, const std::uint64_t (&expected)[2]) noexcept {
    if (pid <= 0 || address == 0) {
        return ESRCH;
    }
    std::uint64_t found[2] = {};
    const iovec local{found, sizeof(found)};
    const iovec remote{reinterpret_cast<void*>(address), sizeof(found)};
    const ssize_t copied = read_process(pid, &local, 1, &remote, 1);
    if (copied < 0) {
        return static_cast<int>(-copied);
    }
    // A process id of another name space may name somebody else here.
    return copied == sizeof(found) && std::memcmp(found, expected, sizeof(found)) == 0 ? 0 : ESRCH;
}

ssize_t copy_from_process(const ProcessCopy& process, const iovec* local, std::size_t local_count,
                          const iovec* remote, std::size_t remote_count) noexcept {
    if (process.probe_address == 0) {
        return read_process(process.pid, local, local_count, remote, remote_count);
    }
    if (local_count > kMaxSges || remote_count > kMaxSges) {
        return -EINVAL;
    }
    // The probe first: a copy that stops in the middle has brought it.
    std::uint64_t found[2] = {};
    constexpr auto kProbe = static_cast<ssize_t>(sizeof(found));
    iovec to[1 + kMaxSges] = {{found, sizeof(found)}};
    iovec from[1 + kMaxSges] = {{reinterpret_cast<void*>(process.probe_address), sizeof(found)}};
    std::copy_n(local, local_count, to + 1);
    std::copy_n(remote, remote_count, from + 1);
    const ssize_t copied = read_process(process.pid, to, 1 + local_count, from, 1 + remote_count);
    if (copied < kProbe) {
        return copied < 0 && copied != -EFAULT ? copied : -ESRCH;
    }
    if (std::memcmp(found, process.probe, sizeof(found)) != 0) {
        return -ESRCH;
    }
    return copied == kProbe ? -EFAULT : copied - kProbe;
}

}  // namespace sanpoll::engine::shm
