#include "engine/memory/arena_mapping.hpp"

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/limit_error.hpp"
#include "engine/log.hpp"
#include "engine/memory/hugepages.hpp"

namespace sanpoll::engine::memory {

namespace {

void* at(std::uint64_t address) noexcept { return reinterpret_cast<void*>(address); }

bool huge(const Arena& arena) noexcept { return arena.pages == PageKind::kHuge; }

// Address space without memory, aligned; 0 if there is none.
std::uint64_t reserve(std::uint64_t size) noexcept {
    const std::uint64_t wide = size + kArenaAlignment;
    void* const got =
        ::mmap(nullptr, wide, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) {
        return 0;
    }
    const auto begin = reinterpret_cast<std::uint64_t>(got);
    const std::uint64_t base = (begin + kArenaAlignment - 1) & ~(kArenaAlignment - 1);
    if (base != begin) {
        (void)::munmap(got, base - begin);
    }
    if (const std::uint64_t end = begin + wide; end != base + size) {
        (void)::munmap(at(base + size), end - (base + size));
    }
    return base;
}

// Each of the following does one step and tells whether it went well, with errno if not.

bool make_file(Arena& arena) noexcept {
    const unsigned pages = huge(arena) ? MFD_HUGETLB | MFD_HUGE_2MB : 0;
    arena.fd = ::memfd_create("sanpoll-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING | pages);
    return arena.fd >= 0 && ::ftruncate(arena.fd, static_cast<off_t>(arena.size)) == 0;
}

bool map(const Arena& arena) noexcept {
    int flags = MAP_FIXED | (arena.shareable ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
    if (!huge(arena)) {
        flags |= MAP_NORESERVE;
    } else if (!arena.shareable) {
        flags |= MAP_HUGETLB | MAP_HUGE_2MB;
    }
    return ::mmap(at(arena.base), arena.size, PROT_READ | PROT_WRITE, flags, arena.fd, 0) !=
           MAP_FAILED;
}

// A preference: pages come from elsewhere when the node has none. Without NUMA in the kernel, or without the
// right, there is none.
void prefer_node(Arena& arena) noexcept {
    if (arena.numa_node < 0 || arena.numa_node >= 64) {
        arena.numa_node = -1;
        return;
    }
    const std::uint64_t mask = std::uint64_t{1} << arena.numa_node;
    if (::syscall(SYS_mbind, arena.base, arena.size, MPOL_PREFERRED, &mask, 8 * sizeof(mask) + 1,
                  0) != 0) {
        arena.numa_node = -1;
    }
}

// Hugepages that are promised and then are not there (another limit of the cgroup, say) would be a SIGBUS when
// they are used. Asked for in this way it is an error. Since Linux 5.14.
bool touch(const Arena& arena) noexcept {
    return !huge(arena) || ::madvise(at(arena.base), arena.size, MADV_POPULATE_WRITE) == 0;
}

// Peers could take hugepages out of the file again, and we would die of touching the hole: sealed against
// future writers, it has no holes. What is mapped already stays writable; peers read. The same seal makes of "peers
// only read" more than their courtesy. Where the kernel has no such seal nobody is shown an ordinary arena that would
// need it (settle_sharing), so it may go without.
bool seal(const Arena& arena) noexcept {
    constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (!arena.shareable) {
        return true;
    }
    if ((huge(arena) || !arena.peers_may_write) &&
        ::fcntl(arena.fd, F_ADD_SEALS, kSeals | F_SEAL_FUTURE_WRITE) == 0) {
        return true;
    }
    const bool needless = !huge(arena) && (arena.peers_may_write || errno == EINVAL);
    return needless && ::fcntl(arena.fd, F_ADD_SEALS, kSeals) == 0;
}

Refusal refusal_of(const Arena& arena, Reason reason, const char* step, int error) {
    const std::uint64_t mib = arena.size >> 20;
    if (huge(arena)) {
        return {
            Reason::kNoHugepages,
            formatted("{} hugepages of 2 MiB for an arena of {} MiB: {} ({}); reserve more (sysctl "
                      "vm.nr_hugepages), see the hugetlb limit of the cgroup, lower arena_mb "
                      "(SANPOLL_ARENA_MB), or set SANPOLL_HUGEPAGES=off",
                      arena.size / kHugepageBytes, mib, step, std::strerror(error))};
    }
    if (reason == Reason::kNoDescriptor) {
        return {reason,
                formatted("{}: {}. Or ask for private memory", step,
                          memory_error("the file of a shareable arena", arena.size, error))};
    }
    return {reason, formatted("{}: {}. Or lower arena_mb (SANPOLL_ARENA_MB)", step,
                              memory_error("an arena", arena.size, error))};
}

}  // namespace

bool map_arena(Arena& arena, Refusal& refusal) {
    arena.fd = -1;
    const auto failed = [&](Reason reason, const char* step) {
        refusal = refusal_of(arena, reason, step, errno);
        if (arena.base != 0) {
            unmap_arena(arena);
        }
        return false;
    };
    arena.base = reserve(arena.size);
    if (arena.base == 0) {
        return failed(Reason::kNoMemory, "no address space");
    }
    if (arena.shareable && !make_file(arena)) {
        return failed(Reason::kNoDescriptor, "the kernel makes no file");
    }
    if (!map(arena)) {
        return failed(Reason::kNoMemory, "the kernel does not map them");
    }
    prefer_node(arena);
    if (!touch(arena)) {
        return failed(Reason::kNoMemory, "mapped, but they cannot be touched");
    }
    if (!seal(arena)) {
        return failed(Reason::kNoDescriptor, "the file cannot be sealed");
    }
    return true;
}

bool writers_can_be_kept_out() noexcept {
    const int fd = ::memfd_create("sanpoll-seal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return true;  // what is lacking is something else, and making an arena says what
    }
    const bool can = ::fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0 || errno != EINVAL;
    ::close(fd);
    return can;
}

void unmap_arena(const Arena& arena) noexcept {
    (void)::munmap(at(arena.base), arena.size);
    if (arena.fd >= 0) {
        ::close(arena.fd);
    }
}

void detach_arena(const Arena& arena) noexcept {
    if (arena.fd < 0) {
        return;  // private memory, of which fork has made a copy
    }
    // Copies of hugepages would need further ones, which nobody has reserved: the child may only read.
    const int access = huge(arena) ? PROT_READ : PROT_READ | PROT_WRITE;
    (void)::mmap(at(arena.base), arena.size, access, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED,
                 arena.fd, 0);
    ::close(arena.fd);
}

}  // namespace sanpoll::engine::memory
