#include "engine/memory/arena_mapping.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/log.hpp"

namespace sanpoll::engine::memory {

namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

void* at(std::uint64_t address) noexcept { return reinterpret_cast<void*>(address); }

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

// A sealed memory file; -1 and errno if there is none.
int memory_file(std::uint64_t size) noexcept {
    const int fd = ::memfd_create("sanpoll-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 &&
        (::ftruncate(fd, static_cast<off_t>(size)) != 0 || ::fcntl(fd, F_ADD_SEALS, kSeals) != 0)) {
        const int error = errno;
        ::close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

}  // namespace

bool map_arena(Arena& arena, Refusal& refusal) {
    arena.base = reserve(arena.size);
    if (arena.base == 0) {
        refusal = {Reason::kNoMemory,
                   formatted("no address space for an arena of {} MiB ({}); raise ulimit -v and "
                             "vm.max_map_count, or lower arena_mb",
                             arena.size >> 20, std::strerror(errno))};
        return false;
    }
    arena.fd = -1;
    if (arena.shareable) {
        arena.fd = memory_file(arena.size);
        if (arena.fd < 0) {
            refusal = {Reason::kNoDescriptor,
                       formatted("no memory file for a shareable arena ({}); raise ulimit -n, or "
                                 "ask for private memory",
                                 std::strerror(errno))};
            unmap_arena(arena);
            return false;
        }
    }
    const int flags = arena.shareable ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (::mmap(at(arena.base), arena.size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, arena.fd,
               0) == MAP_FAILED) {
        refusal = {Reason::kNoMemory,
                   formatted("the kernel does not map an arena of {} MiB ({}); lower arena_mb",
                             arena.size >> 20, std::strerror(errno))};
        unmap_arena(arena);
        return false;
    }
    return true;
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
    (void)::mmap(at(arena.base), arena.size, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, arena.fd, 0);
    ::close(arena.fd);
}

}  // namespace sanpoll::engine::memory
