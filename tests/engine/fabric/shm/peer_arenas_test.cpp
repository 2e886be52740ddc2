#include "engine/fabric/shm/peer_arenas.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>

#include "tests/engine/fabric/shm/shared_arena.hpp"

namespace sanpoll::engine::shm {
namespace {

constexpr std::uint64_t kSize = memory::kArenaAlignment;
constexpr unsigned kGoodSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

class ArenaMappingTest : public testing::Test {
protected:
    static int file(std::uint64_t size, unsigned seals, unsigned flags = 0) {
        const int fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
        EXPECT_GE(fd, 0);
        EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(size)), 0);
        EXPECT_TRUE(seals == 0 || ::fcntl(fd, F_ADD_SEALS, seals) == 0);
        return fd;
    }
    // Opens and closes it.
    static std::string answer(int fd, const ArenaOffer& offer) {
        ArenaMapping mapping;
        const std::string why = mapping.open(fd, offer);
        EXPECT_EQ(why.empty(), mapping.base() != nullptr);
        ::close(fd);
        return why;
    }
};

TEST_F(ArenaMappingTest, MapsASealedMemoryFile) {
    EXPECT_EQ(answer(file(kSize, kGoodSeals), {1, kSize, 0}), "");
    EXPECT_EQ(answer(file(3 * kSize, F_SEAL_SHRINK), {64, kSize, kSize}), "");
}

TEST_F(ArenaMappingTest, ShowsWhatItsOwnerWrites) {
    const memory::Arena& arena = tests::shareable_arena();
    ArenaMapping mapping;
    ASSERT_EQ(mapping.open(arena.fd, {arena.id, arena.size, arena.fd_offset}), "");
    auto* const own = reinterpret_cast<std::byte*>(arena.base);
    for (const std::uint64_t at : {std::uint64_t{0}, arena.size - 1}) {
        own[at] = std::byte{0x5A};
        EXPECT_EQ(mapping.base()[at], std::byte{0x5A});
    }
}

TEST_F(ArenaMappingTest, RefusesWhatItsOwnerCouldTakeAway) {
    EXPECT_NE(answer(file(kSize, 0), {1, kSize, 0}), "");
    EXPECT_NE(answer(file(kSize, F_SEAL_GROW | F_SEAL_SEAL), {1, kSize, 0}), "");
    char name[] = "/tmp/sanpoll-arena-XXXXXX";
    const int plain = ::mkstemp(name);
    ASSERT_GE(plain, 0);
    ::unlink(name);
    ASSERT_EQ(::ftruncate(plain, kSize), 0);
    EXPECT_NE(answer(plain, {1, kSize, 0}), "");
}

TEST_F(ArenaMappingTest, RefusesSizesThatTheFileHasNot) {
    for (const ArenaOffer& offer :
         {ArenaOffer{1, 0, 0}, ArenaOffer{1, 2 * kSize, 0}, ArenaOffer{1, kSize, 4096},
          ArenaOffer{1, kSize, kSize}, ArenaOffer{1, kSize - 4096, 0}, ArenaOffer{1, 1, 0},
          ArenaOffer{1, ~std::uint64_t{0}, 0}, ArenaOffer{1, kSize, ~std::uint64_t{0}},
          ArenaOffer{1, kSize, 0 - kSize}, ArenaOffer{1, 1ULL << 41, 0},
          ArenaOffer{1, (1ULL << 40) + kSize, 0}}) {
        EXPECT_NE(answer(file(kSize, kGoodSeals), offer), "") << offer.size << " " << offer.offset;
    }
    EXPECT_NE(answer(file(2 * kSize, kGoodSeals), {1, kSize, 100}), "") << "not at a page";
}

TEST_F(ArenaMappingTest, RefusesWhatIsNoFile) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    EXPECT_NE(answer(ends[0], {1, kSize, 0}), "");
    EXPECT_NE(answer(ends[1], {1, kSize, 0}), "");
    EXPECT_NE(answer(::open("/dev/zero", O_RDWR | O_CLOEXEC), {1, kSize, 0}), "");
}

TEST_F(ArenaMappingTest, RefusesHugepagesThatCouldBeTakenAway) {
    const int fd = ::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    if (fd < 0) {
        GTEST_SKIP() << "this kernel has no hugepage files";
    }
    ASSERT_EQ(::ftruncate(fd, kSize), 0);
    ASSERT_EQ(::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
    const std::string why = answer(::fcntl(fd, F_DUPFD_CLOEXEC, 0), {1, kSize, 0});
    EXPECT_NE(why.find("hugepages"), std::string::npos) << why;
    // With the seal it depends on whether the host has any; never is it their kind that is refused.
    ASSERT_EQ(::fcntl(fd, F_ADD_SEALS, 0x0010 /* F_SEAL_FUTURE_WRITE */), 0);
    const std::string other = answer(fd, {1, kSize, 0});
    EXPECT_EQ(other.find("hugepages"), std::string::npos) << other;
}

TEST_F(ArenaMappingTest, AForkedChildHasItNot) {
    const memory::Arena& arena = tests::shareable_arena();
    ArenaMapping mapping;
    ASSERT_EQ(mapping.open(arena.fd, {arena.id, arena.size, arena.fd_offset}), "");
    EXPECT_EQ(::mprotect(const_cast<std::byte*>(mapping.base()), arena.size, PROT_READ), 0);
    std::ifstream maps("/proc/self/smaps");
    bool inside = false;
    bool dont_copy = false;
    char begin[32];
    std::snprintf(begin, sizeof(begin), "%llx-",
                  static_cast<unsigned long long>(reinterpret_cast<std::uint64_t>(mapping.base())));
    for (std::string line; std::getline(maps, line);) {
        if (line.find('-') != std::string::npos && line.find(':') > line.find('-')) {
            inside = line.compare(0, std::string(begin).size(), begin) == 0;
        }
        dont_copy = dont_copy || (inside && line.compare(0, 8, "VmFlags:") == 0 &&
                                  line.find(" dc") != std::string::npos);
    }
    EXPECT_TRUE(dont_copy);
}

TEST(PeerArenas, FindsOnlyWhatLiesInAMappedArena) {
    const memory::Arena& arena = tests::shareable_arena();
    PeerArenas arenas;
    EXPECT_TRUE(arenas.empty());
    for (const std::uint32_t id : {0U, 1U, 64U, 65U, ~0U}) {
        EXPECT_EQ(arenas.find(id, 0, 0), nullptr) << id;
        EXPECT_EQ(arenas.find(id, 0, 1), nullptr) << id;
    }
    ArenaMapping mapping;
    ASSERT_EQ(mapping.open(arena.fd, {7, kSize, 0}), "");
    const std::byte* base = mapping.base();
    arenas.add(7, std::move(mapping));
    EXPECT_FALSE(arenas.empty());
    EXPECT_TRUE(arenas.has(7));
    EXPECT_FALSE(arenas.has(8));
    EXPECT_EQ(arenas.find(7, 0, kSize), base);
    EXPECT_EQ(arenas.find(7, kSize - 1, 1), base + kSize - 1);
    EXPECT_EQ(arenas.find(7, kSize, 0), base + kSize);
    EXPECT_EQ(arenas.find(7, 0, kSize + 1), nullptr);
    EXPECT_EQ(arenas.find(7, kSize, 1), nullptr);
    EXPECT_EQ(arenas.find(7, kSize + 1, 0), nullptr);
    EXPECT_EQ(arenas.find(7, ~std::uint64_t{0}, 2), nullptr);
    EXPECT_EQ(arenas.find(7, 1, ~std::uint64_t{0}), nullptr);
    EXPECT_EQ(arenas.find(6, 0, 1), nullptr);
}

TEST(PeerArenas, IsWrittenToOnlyWhereThatWasAskedForAndIsAllowed) {
    const memory::Arena& arena = tests::shareable_arena();
    const ArenaOffer offer{1, kSize, arena.fd_offset};
    PeerArenas arenas;
    ArenaMapping read;
    ASSERT_EQ(read.open(arena.fd, offer), "");
    EXPECT_FALSE(read.writable());
    arenas.add(1, std::move(read));
    EXPECT_FALSE(arenas.writable());
    EXPECT_EQ(arenas.find_to_write(1, 0, 1), nullptr);
    ArenaMapping write;
    ASSERT_EQ(write.open(arena.fd, offer, true), "");
    EXPECT_TRUE(write.writable());
    arenas.add(2, std::move(write));
    EXPECT_TRUE(arenas.writable());
    std::byte* there = arenas.find_to_write(2, 5, 10);
    ASSERT_EQ(there, arenas.find(2, 5, 10));
    *there = std::byte{0x77};
    EXPECT_EQ(reinterpret_cast<const std::byte*>(arena.base)[5], std::byte{0x77});
    EXPECT_EQ(arenas.find_to_write(2, kSize, 1), nullptr);
    EXPECT_EQ(arenas.find_to_write(1, 0, 1), nullptr);
    EXPECT_EQ(arenas.find_to_write(3, 0, 1), nullptr);
}

TEST_F(ArenaMappingTest, ASealAgainstWritersIsNoRefusalButForReading) {
    for (const int seal : {F_SEAL_WRITE, 0x0010 /* F_SEAL_FUTURE_WRITE */}) {
        const int fd = file(kSize, kGoodSeals | seal);
        ArenaMapping mapping;
        EXPECT_EQ(mapping.open(fd, {1, kSize, 0}, true), "");
        EXPECT_FALSE(mapping.writable());
        EXPECT_NE(mapping.base(), nullptr);
        ::close(fd);
    }
}

TEST(LentArenas, KnowsWhereThePeerFindsWhat) {
    const memory::Arena& one = tests::shareable_arena(0);
    const memory::Arena& other = tests::shareable_arena(1);
    LentArenas lent;
    EXPECT_TRUE(lent.empty());
    EXPECT_EQ(lent.place_of(one.base, 1).arena, 0U);
    lent.add(other.id);
    EXPECT_FALSE(lent.empty());
    EXPECT_EQ(lent.place_of(one.base, 1).arena, 0U);
    EXPECT_EQ(lent.place_of(other.base + 4096, other.size - 4096).arena, other.id);
    EXPECT_EQ(lent.place_of(other.base + 4096, 10).offset, 4096U);
    EXPECT_EQ(lent.place_of(other.base + 4096, other.size).arena, 0U);
    EXPECT_EQ(lent.place_of(4096, 10).arena, 0U);
}

TEST(Sharing, IsSaidInWords) {
    for (const Sharing sharing : {Sharing::kOffHere, Sharing::kOffThere, Sharing::kOtherUser,
                                  Sharing::kNoneYet, Sharing::kShared, Sharing::kStores}) {
        EXPECT_FALSE(to_words(sharing).empty());
        EXPECT_LT(to_words(sharing).size(), 96U) << "SANPOLL_FABRIC::arenas";
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
