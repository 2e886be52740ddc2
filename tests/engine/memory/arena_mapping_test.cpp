#include "engine/memory/arena_mapping.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "engine/memory/hugepages.hpp"
#include "tests/engine/sanitizers.hpp"

namespace sanpoll::engine::memory {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

Arena wish(PageKind pages, bool shareable, std::uint64_t size = 32 * kMiB) {
    Arena arena;
    arena.pages = pages;
    arena.shareable = shareable;
    arena.size = size;
    return arena;
}

int open_descriptors() {
    int count = 0;
    for (int fd = 0; fd < 1024; ++fd) {
        count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
    }
    return count;
}

TEST(ArenaMapping, HugepagesThatAreNotThereAreARefusalThatLeavesNothing) {
    const int before = open_descriptors();
    for (const bool shareable : {true, false}) {
        // More than are free, and less than all address space.
        Arena arena =
            wish(PageKind::kHuge, shareable, (free_hugepages() + 100000) * kHugepageBytes);
        arena.size = (arena.size + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
        Refusal refusal;
        EXPECT_FALSE(map_arena(arena, refusal));
        EXPECT_EQ(refusal.reason, Reason::kNoHugepages);
        for (const char* const word :
             {"vm.nr_hugepages", "SANPOLL_HUGEPAGES", "SANPOLL_ARENA_MB"}) {
            EXPECT_NE(refusal.text.find(word), std::string::npos) << refusal.text;
        }
    }
    EXPECT_EQ(open_descriptors(), before);
}

// `share_arenas = read`: nobody else can write to it, whatever a peer tries; we and our children can.
TEST(ArenaMapping, WhatPeersMayOnlyReadIsSealedAgainstThem) {
    for (const bool peers_may_write : {true, false}) {
        Arena arena = wish(PageKind::kOrdinary, true);
        arena.peers_may_write = peers_may_write;
        Refusal refusal;
        ASSERT_TRUE(map_arena(arena, refusal)) << refusal.text;
        void* const theirs = ::mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd, 0);
        EXPECT_EQ(theirs != MAP_FAILED, peers_may_write);
        if (theirs != MAP_FAILED) {
            ::munmap(theirs, kMiB);
        }
        auto* const ours = reinterpret_cast<char*>(arena.base);
        ours[0] = ours[arena.size - 1] = 5;  // pages that were not there
        ASSERT_EQ(::madvise(ours, kMiB, MADV_DONTNEED), 0);
        EXPECT_EQ(ours[0], 5);
        const pid_t child = ::fork();
        if (child == 0) {
            detach_arena(arena);
            ours[0] = ours[4096] = 6;
            ::_exit(ours[0] == 6 ? 0 : 1);
        }
        int status = -1;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        EXPECT_EQ(ours[0], 5);
        unmap_arena(arena);
    }
}

TEST(ArenaMapping, HugepagesAreAllThereAndCannotBeTakenAway) {
    for (const bool shareable : {true, false}) {
        if (free_hugepages() < 16) {
            GTEST_SKIP() << "no hugepages are free; sysctl vm.nr_hugepages=16";
        }
        const std::uint64_t before = free_hugepages();
        Arena arena = wish(PageKind::kHuge, shareable);
        Refusal refusal;
        ASSERT_TRUE(map_arena(arena, refusal)) << refusal.text;
        EXPECT_EQ(arena.base % kArenaAlignment, 0U);
        std::vector<unsigned char> residence(arena.size / 4096);
        ASSERT_EQ(::mincore(reinterpret_cast<void*>(arena.base), arena.size, residence.data()), 0);
        for (const unsigned char page : residence) {
            ASSERT_EQ(page & 1, 1);
        }
        EXPECT_LE(free_hugepages() + 16, before);
        *reinterpret_cast<char*>(arena.base + 4 * kMiB) = 'x';
        if (shareable) {
            EXPECT_EQ(::fcntl(arena.fd, F_GET_SEALS),
                      F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | F_SEAL_FUTURE_WRITE);
            EXPECT_NE(::fallocate(arena.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                  static_cast<off_t>(kHugepageBytes)),
                      0);
            EXPECT_EQ(::mmap(nullptr, arena.size, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd, 0),
                      MAP_FAILED)
                << "nobody else may write";
            void* const peer = ::mmap(nullptr, arena.size, PROT_READ, MAP_SHARED, arena.fd, 0);
            ASSERT_NE(peer, MAP_FAILED);
            EXPECT_EQ(static_cast<char*>(peer)[4 * kMiB], 'x');
            (void)::munmap(peer, arena.size);
        }
        unmap_arena(arena);
    }
}

TEST(ArenaMapping, AChildReadsHugepagesOfItsOwn) {
    if (free_hugepages() < 16) {
        GTEST_SKIP() << "no hugepages are free; sysctl vm.nr_hugepages=16";
    }
    Arena arena = wish(PageKind::kHuge, true);
    Refusal refusal;
    ASSERT_TRUE(map_arena(arena, refusal)) << refusal.text;
    auto* const word = reinterpret_cast<volatile char*>(arena.base);
    *word = 'p';
    const pid_t child = ::fork();
    if (child == 0) {
        detach_arena(arena);
        ::_exit(*word == 'p' ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    unmap_arena(arena);
}

// The limit holds for what is opened next, and is the child's alone.
TEST(ArenaMapping, WithoutDescriptorsThereIsPrivateMemoryOnly) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer needs descriptors itself";
    }
    const pid_t child = ::fork();
    if (child == 0) {
        const rlimit none{0, 0};
        (void)::setrlimit(RLIMIT_NOFILE, &none);
        Refusal refusal;
        Arena arena = wish(PageKind::kOrdinary, true);
        const bool refused = !map_arena(arena, refusal) &&
                             refusal.reason == Reason::kNoDescriptor &&
                             refusal.text.find("ulimit -n") != std::string::npos;
        arena = wish(PageKind::kOrdinary, false);
        ::_exit(refused && map_arena(arena, refusal) ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace sanpoll::engine::memory
