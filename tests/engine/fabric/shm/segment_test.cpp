#include "engine/fabric/shm/segment.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

namespace sanpoll::engine::shm {
namespace {

constexpr SegmentShape kShape{256, 256U << 10};

class Memfd {
public:
    Memfd(std::size_t bytes, int seals) : fd_(::memfd_create("test", MFD_ALLOW_SEALING)) {
        EXPECT_GE(fd_, 0);
        EXPECT_EQ(::ftruncate(fd_, static_cast<off_t>(bytes)), 0);
        if (seals != 0) {
            EXPECT_EQ(::fcntl(fd_, F_ADD_SEALS, seals), 0);
        }
    }
    ~Memfd() { ::close(fd_); }
    Memfd(const Memfd&) = delete;
    Memfd& operator=(const Memfd&) = delete;
    [[nodiscard]] int fd() const { return fd_; }

private:
    int fd_;
};

std::string refusal(int fd, const SegmentShape& shape) {
    std::string error;
    const auto segment = Segment::open(fd, shape, error);
    EXPECT_EQ(segment, nullptr);
    EXPECT_FALSE(error.empty());
    return error;
}

TEST(SegmentShape, IsSaneWithinItsLimits) {
    EXPECT_TRUE(kShape.sane());
    EXPECT_TRUE((SegmentShape{1U << 20, 1U << 30}.sane()));
    EXPECT_FALSE((SegmentShape{}.sane()));
    EXPECT_FALSE((SegmentShape{128, 256U << 10}.sane()));
    EXPECT_FALSE((SegmentShape{300, 256U << 10}.sane()));
    EXPECT_FALSE((SegmentShape{1U << 21, 256U << 10}.sane()));
    EXPECT_FALSE((SegmentShape{256, 128U << 10}.sane()));
    EXPECT_FALSE((SegmentShape{256, 300U << 10}.sane()));
    EXPECT_FALSE((SegmentShape{256, 1U << 31}.sane()));
}

TEST(Segment, TwoMappingsShareEveryPart) {
    std::string error;
    const auto ours = Segment::create(kShape, error);
    ASSERT_NE(ours, nullptr) << error;
    const auto theirs = Segment::open(ours->fd(), kShape, error);
    ASSERT_NE(theirs, nullptr) << error;
    for (int index = 0; index < 2; ++index) {
        const Direction a = ours->direction(index);
        const Direction b = theirs->direction(index);
        ASSERT_NE(a.slots, b.slots);
        const auto mark = static_cast<std::uint32_t>(1000 * (index + 1));
        a.slots_consumed->value.store(mark + 1);
        a.staging_consumed->value.store(mark + 2);
        a.armed->store(mark + 3);
        a.writer_waits->store(mark + 4);
        a.slots[kShape.ring_slots - 1].sequence.store(mark + 5);
        std::memset(a.staging, index + 1, kShape.staging_bytes);
        EXPECT_EQ(b.slots_consumed->value.load(), mark + 1);
        EXPECT_EQ(b.staging_consumed->value.load(), mark + 2);
        EXPECT_EQ(b.armed->load(), mark + 3);
        EXPECT_EQ(b.writer_waits->load(), mark + 4);
        EXPECT_EQ(b.slots[kShape.ring_slots - 1].sequence.load(), mark + 5);
        EXPECT_EQ(b.staging[kShape.staging_bytes - 1], static_cast<std::byte>(index + 1));
    }
    EXPECT_EQ(theirs->direction(0).staging[kShape.staging_bytes - 1], std::byte{1})
        << "the directions must not overlap";
}

TEST(Segment, KnowsItsOtherEnd) {
    std::string error;
    const auto ours = Segment::create(kShape, error);
    const auto theirs = Segment::open(ours->fd(), kShape, error);
    const auto again = Segment::open(ours->fd(), kShape, error);
    const auto other = Segment::create(kShape, error);
    ASSERT_NE(again, nullptr) << error;
    ASSERT_NE(other, nullptr) << error;
    EXPECT_TRUE(ours->is_other_end_of(*theirs));
    EXPECT_TRUE(theirs->is_other_end_of(*ours));
    EXPECT_FALSE(theirs->is_other_end_of(*again)) << "neither was made here";
    EXPECT_FALSE(ours->is_other_end_of(*other));
    EXPECT_FALSE(other->is_other_end_of(*theirs));
    ours->close_fd();
    EXPECT_TRUE(ours->is_other_end_of(*theirs)) << "the file is there while it is mapped";
}

TEST(Segment, StartsAsZeros) {
    std::string error;
    const auto segment = Segment::create(kShape, error);
    ASSERT_NE(segment, nullptr) << error;
    for (int index = 0; index < 2; ++index) {
        const Direction direction = segment->direction(index);
        EXPECT_EQ(direction.slots_consumed->value.load(), 0U);
        EXPECT_EQ(direction.armed->load(), 0U);
        for (std::uint32_t i = 0; i < kShape.ring_slots; ++i) {
            ASSERT_EQ(direction.slots[i].sequence.load(), 0U);
        }
    }
}

TEST(Segment, CannotBeCutShortOrUnsealed) {
    std::string error;
    const auto segment = Segment::create(kShape, error);
    ASSERT_NE(segment, nullptr) << error;
    EXPECT_NE(::ftruncate(segment->fd(), 0), 0);
    EXPECT_NE(::ftruncate(segment->fd(), 1 << 30), 0);
    EXPECT_NE(::fcntl(segment->fd(), F_ADD_SEALS, F_SEAL_WRITE), 0);
}

TEST(Segment, AnUnsealedFileIsRefused) {
    const Memfd file(kShape.bytes(), 0);
    EXPECT_NE(refusal(file.fd(), kShape).find("take away"), std::string::npos);
}

TEST(Segment, AFileSealedAgainstGrowthOnlyIsRefused) {
    const Memfd file(kShape.bytes(), F_SEAL_GROW);
    EXPECT_NE(refusal(file.fd(), kShape).find("take away"), std::string::npos);
}

TEST(Segment, AFileOfAnotherSizeIsRefused) {
    for (const std::size_t bytes :
         {std::size_t{0}, std::size_t{4096}, kShape.bytes() - 1, kShape.bytes() + 1}) {
        const Memfd file(bytes, F_SEAL_SHRINK);
        EXPECT_NE(refusal(file.fd(), kShape).find("size"), std::string::npos);
    }
}

TEST(Segment, AnInsaneShapeIsRefusedWhateverTheSize) {
    const SegmentShape shape{300, 256U << 10};
    const Memfd file(shape.bytes(), F_SEAL_SHRINK);
    refusal(file.fd(), shape);
}

TEST(Segment, ANonTmpfsFileIsRefused) {
    // A file on disk has no seals; /proc is neither tmpfs nor of the size. Look for a place on disk.
    char path[] = "./segment-test-XXXXXX";
    const int fd = ::mkstemp(path);
    if (fd < 0) {
        GTEST_SKIP() << "the working folder cannot be written";
    }
    ::unlink(path);
    ASSERT_EQ(::ftruncate(fd, static_cast<off_t>(kShape.bytes())), 0);
    const std::string error = refusal(fd, kShape);
    EXPECT_TRUE(error.find("kind") != std::string::npos ||
                error.find("take away") != std::string::npos)
        << error;
    ::close(fd);
}

TEST(Segment, HugePagesAreRefused) {
    const int fd = ::memfd_create("huge", MFD_ALLOW_SEALING | MFD_HUGETLB);
    const SegmentShape shape{1U << 14, 1U << 20};
    if (fd < 0 || ::ftruncate(fd, 4 << 20) != 0) {
        GTEST_SKIP() << "no huge memfd here";
    }
    // Its size is a multiple of huge pages, ours never is: refused in any case.
    refusal(fd, shape);
    ::close(fd);
}

TEST(Segment, NoDescriptorIsRefused) {
    refusal(-1, kShape);
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    refusal(ends[0], kShape);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(Segment, AReadOnlyDescriptorIsRefused) {
    std::string error;
    const auto segment = Segment::create(kShape, error);
    ASSERT_NE(segment, nullptr) << error;
    const int fd =
        ::open(("/proc/self/fd/" + std::to_string(segment->fd())).c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    refusal(fd, kShape);
    ::close(fd);
}

TEST(Segment, IsNotInheritedByFork) {
    std::string error;
    const auto segment = Segment::create(kShape, error);
    ASSERT_NE(segment, nullptr) << error;
    const auto address = reinterpret_cast<std::uintptr_t>(segment->direction(0).slots);
    const pid_t child = ::fork();
    if (child == 0) {
        unsigned char resident = 0;
        const std::uintptr_t page = address & ~std::uintptr_t{4095};
        // ENOMEM: nothing is mapped there.
        const bool mapped = ::mincore(reinterpret_cast<void*>(page), 4096, &resident) == 0;
        ::_exit(mapped ? 1 : 0);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "the child has the segment";
}

TEST(Segment, LeavesNoMappingBehind) {
    const auto mapped = [] {
        std::ifstream file("/proc/self/maps");
        std::string line;
        int count = 0;
        while (std::getline(file, line)) {
            count += line.find("sanpoll-link") != std::string::npos ? 1 : 0;
        }
        return count;
    };
    const int before = mapped();
    {
        std::string error;
        const auto segment = Segment::create(kShape, error);
        ASSERT_NE(segment, nullptr);
        EXPECT_GT(mapped(), before);
    }
    EXPECT_EQ(mapped(), before);
}

}  // namespace
}  // namespace sanpoll::engine::shm
