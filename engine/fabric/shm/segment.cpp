#include "engine/fabric/shm/segment.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bit>
#include <cerrno>

#include "engine/limit_error.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr std::size_t kHeader = (sizeof(rings::TurnLine) + 4095) & ~std::size_t{4095};
constexpr std::size_t kWords = 6 * rings::kCacheLine + sizeof(CopyJob);
static_assert(kWords % rings::kSlotStride == 0);
constexpr std::size_t kExposures = kExposureSlots * sizeof(ExposureSlot);
constexpr std::size_t kMailbox = (sizeof(MailboxMemory) + 4095) & ~std::size_t{4095};
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::byte* map(int fd, std::size_t bytes) noexcept {
    void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        return nullptr;
    }
    // A forked child must not be a second reader or writer of our ring ends.
    (void)::madvise(base, bytes, MADV_DONTFORK);
    return static_cast<std::byte*>(base);
}

}  // namespace

bool SegmentShape::sane() const noexcept {
    return std::has_single_bit(ring_slots) && ring_slots >= 256 && ring_slots <= (1U << 20) &&
           std::has_single_bit(staging_bytes) && staging_bytes >= (256U << 10) &&
           staging_bytes <= (1U << 30);
}

std::size_t SegmentShape::bytes() const noexcept {
    const std::size_t slots = static_cast<std::size_t>(ring_slots) * sizeof(rings::Slot);
    return kHeader + 2 * (kMailbox + kWords + slots + staging_bytes + kExposures);
}

Segment::Segment(int fd, std::byte* base, const SegmentShape& shape, const struct stat& about,
                 bool created) noexcept
    : fd_(fd),
      base_(base),
      shape_(shape),
      file_(about.st_ino),
      device_(about.st_dev),
      created_(created) {}

Segment::~Segment() {
    (void)::munmap(base_, shape_.bytes());
    close_fd();
}

void Segment::close_fd() noexcept {
    if (fd_ >= 0) {
        ::close(fd_);
        fd_ = -1;
    }
}

std::unique_ptr<Segment> Segment::create(const SegmentShape& shape, std::string& error) {
    const int fd = ::memfd_create("sanpoll-link", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct stat about {};
    if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(shape.bytes())) != 0 ||
        ::fcntl(fd, F_ADD_SEALS, kSeals) != 0 || ::fstat(fd, &about) != 0) {
        error = memory_error("a link's shared memory", shape.bytes(), errno);
        if (fd >= 0) {
            ::close(fd);
        }
        return nullptr;
    }
    std::byte* base = map(fd, shape.bytes());
    if (base == nullptr) {
        error = memory_error("the mapping of a link", shape.bytes(), errno);
        ::close(fd);
        return nullptr;
    }
    return std::unique_ptr<Segment>(new Segment(fd, base, shape, about, true));
}

std::unique_ptr<Segment> Segment::open(int fd, const SegmentShape& shape, std::string& error) {
    // Without the seal the peer could cut the file short later and we would die of SIGBUS; also between a look at
    // the size and one at the seal.
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
        error = "the peer offers shared memory that it could take away again";
        return nullptr;
    }
    struct stat about {};
    if (!shape.sane() || ::fstat(fd, &about) != 0 ||
        static_cast<std::size_t>(about.st_size) != shape.bytes()) {
        error = "the peer offers shared memory of another size than it says";
        return nullptr;
    }
    // Huge pages of a peer may turn out not to exist when they are touched: SIGBUS again.
    struct statfs file_system {};
    if (::fstatfs(fd, &file_system) != 0 || file_system.f_type != TMPFS_MAGIC) {
        error = "the peer offers shared memory of a kind that is not accepted";
        return nullptr;
    }
    std::byte* base = map(fd, shape.bytes());
    if (base == nullptr) {
        error = memory_error("the mapping of a peer's link", shape.bytes(), errno);
        return nullptr;
    }
    return std::unique_ptr<Segment>(new Segment(-1, base, shape, about, false));
}

Direction Segment::direction(int index) const noexcept {
    const std::size_t slots = static_cast<std::size_t>(shape_.ring_slots) * sizeof(rings::Slot);
    std::byte* start = base_ + kHeader + 2 * kMailbox +
                       static_cast<std::size_t>(index) * (kWords + slots + shape_.staging_bytes);
    Direction direction{};
    direction.slots_consumed = reinterpret_cast<rings::ConsumedWord*>(start);
    direction.staging_consumed = reinterpret_cast<rings::ConsumedWord*>(start + rings::kCacheLine);
    direction.armed = reinterpret_cast<std::atomic<std::uint32_t>*>(start + 2 * rings::kCacheLine);
    direction.revocations = direction.armed + 1;
    direction.writer_waits =
        reinterpret_cast<std::atomic<std::uint32_t>*>(start + 3 * rings::kCacheLine);
    direction.records_taken =
        reinterpret_cast<std::atomic<std::uint32_t>*>(start + 4 * rings::kCacheLine);
    direction.job = reinterpret_cast<CopyJob*>(start + 6 * rings::kCacheLine);
    direction.slots = reinterpret_cast<rings::Slot*>(start + kWords);
    direction.staging = start + kWords + slots;
    direction.exposures = reinterpret_cast<ExposureSlot*>(
        base_ + shape_.bytes() - static_cast<std::size_t>(2 - index) * kExposures);
    return direction;
}

rings::TurnLine& Segment::turn_line() const noexcept {
    return *reinterpret_cast<rings::TurnLine*>(base_);
}

MailboxMemory& Segment::mailbox(int index) const noexcept {
    return *reinterpret_cast<MailboxMemory*>(base_ + kHeader +
                                             static_cast<std::size_t>(index) * kMailbox);
}

}  // namespace sanpoll::engine::shm
