#include "engine/fabric/shm/peer_arenas.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/limit_error.hpp"
#include "engine/log.hpp"

// Linux 5.1; older C libraries do not name it.
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

// Linux 5.14.
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint64_t kLargest = 1ULL
                                   << 40;  // bytes: what 64 arenas of fit into the address space

// All of this process's mappings of peers' arenas: what peers offer must not use up the address space. Orders nothing.
constexpr std::uint64_t kMostMapped = 8ULL << 40;
std::atomic<std::uint64_t> mapped_bytes{0};

}  // namespace

std::string_view to_words(Sharing sharing) noexcept {
    switch (sharing) {
        case Sharing::kOffHere:
            return "not shared: this process has SANPOLL_SHARE_ARENAS=off";
        case Sharing::kOffThere:
            return "not shared: the peer has SANPOLL_SHARE_ARENAS=off";
        case Sharing::kOtherUser:
            return "not shared: the peer does not run under this user id";
        case Sharing::kNoneYet:
            return "none yet: neither process has a shareable arena";
        case Sharing::kShared:
            return "shared: long messages and RDMA out of them are one copy";
        case Sharing::kStores:
            return "shared: RDMA into them is a store of this side, what is long one copy, by "
                   "either or both";
    }
    return {};
}

ArenaMapping::~ArenaMapping() {
    if (base_ != nullptr) {
        (void)::munmap(base_, size_);
        mapped_bytes.fetch_sub(size_, std::memory_order_relaxed);
    }
}

void ArenaMapping::swap(ArenaMapping& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(writable_, other.writable_);
}

std::string ArenaMapping::open(int fd, const ArenaOffer& offer, bool write) {
    if (offer.size == 0 || offer.size > kLargest || offer.size % memory::kArenaAlignment != 0 ||
        offer.offset > kLargest) {
        return formatted("no arena has {} bytes at {} of its file", offer.size, offer.offset);
    }
    // Before the size, which the seal keeps.
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return "its file could be cut short (it is not sealed)";
    }
    struct stat about {};
    if (::fstat(fd, &about) != 0 || about.st_size < 0 ||
        static_cast<std::uint64_t>(about.st_size) < offer.offset + offer.size) {
        return "its file is smaller than the arena";
    }
    struct statfs file_system {};
    const bool known = ::fstatfs(fd, &file_system) == 0;
    const bool huge = known && file_system.f_type == HUGETLBFS_MAGIC;
    if (!known || (!huge && file_system.f_type != TMPFS_MAGIC)) {
        return "its file is no memory file";
    }
    if (huge && (seals & F_SEAL_FUTURE_WRITE) == 0) {
        return "its hugepages could be taken away (no F_SEAL_FUTURE_WRITE)";
    }
    if (huge && static_cast<std::uint64_t>(file_system.f_bsize) > memory::kArenaAlignment) {
        return "its pages are larger than the steps that arenas are made in";
    }
    if (mapped_bytes.fetch_add(offer.size, std::memory_order_relaxed) + offer.size > kMostMapped) {
        mapped_bytes.fetch_sub(offer.size, std::memory_order_relaxed);
        return formatted("peers have had {} TiB of arenas mapped", kMostMapped >> 40);
    }
    // Not on hugepages whatever the seals: writing takes pages that are not there, and that may be a SIGBUS.
    writable_ = write && !huge && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) == 0;
    const auto map = [&] {
        return ::mmap(nullptr, offer.size, writable_ ? PROT_READ | PROT_WRITE : PROT_READ,
                      MAP_SHARED, fd, static_cast<off_t>(offer.offset));
    };
    void* base = map();
    if (base == MAP_FAILED && std::exchange(writable_, false)) {
        base = map();  // a seal that came meanwhile, or a descriptor for reading only
    }
    // A page that its file does not have yet would be taken when it is first read, and if there is none left that
    // is a SIGBUS; an honest owner has touched all of them.
    if (base != MAP_FAILED && huge && ::madvise(base, offer.size, MADV_POPULATE_READ) != 0) {
        const int error = errno;
        (void)::munmap(base, offer.size);
        mapped_bytes.fetch_sub(offer.size, std::memory_order_relaxed);
        return formatted("its hugepages cannot all be had ({})", std::strerror(error));
    }
    if (base == MAP_FAILED) {
        mapped_bytes.fetch_sub(offer.size, std::memory_order_relaxed);
        return memory_error("its mapping", offer.size, errno);
    }
    (void)::madvise(base, offer.size, MADV_DONTFORK);
    base_ = static_cast<std::byte*>(base);
    size_ = offer.size;
    return {};
}

}  // namespace sanpoll::engine::shm
