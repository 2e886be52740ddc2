#include "engine/fabric/shm/peer_arenas.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/limit_error.hpp"
#include "engine/log.hpp"

// Linux 5.1; older C libraries do not name it.
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint64_t kLargest = 1ULL
                                   << 40;  // bytes: what 64 arenas of fit into the address space

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
    }
    return {};
}

ArenaMapping::~ArenaMapping() {
    if (base_ != nullptr) {
        (void)::munmap(base_, size_);
    }
}

void ArenaMapping::swap(ArenaMapping& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
}

std::string ArenaMapping::open(int fd, const ArenaOffer& offer) {
    if (offer.size == 0 || offer.size > kLargest || offer.size % memory::kArenaAlignment != 0 ||
        offer.offset > kLargest) {
        return formatted("no arena has {} bytes at {} of its file", offer.size, offer.offset);
    }
    struct stat about {};
    if (::fstat(fd, &about) != 0 || about.st_size < 0 ||
        static_cast<std::uint64_t>(about.st_size) < offer.offset + offer.size) {
        return "its file is smaller than the arena";
    }
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        return "its file could be cut short (it is not sealed)";
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
    void* const base =
        ::mmap(nullptr, offer.size, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offer.offset));
    if (base == MAP_FAILED) {
        return memory_error("its mapping", offer.size, errno);
    }
    (void)::madvise(base, offer.size, MADV_DONTFORK);
    base_ = static_cast<std::byte*>(base);
    size_ = offer.size;
    return {};
}

}  // namespace sanpoll::engine::shm
