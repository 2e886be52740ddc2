#include "engine/memory/arena.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "engine/memory/hugepages.hpp"

namespace sanpoll::engine::memory {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

ArenaRules small_rules(std::uint64_t arena_mb = 32, std::uint64_t limit_mb = 4096) {
    return {arena_mb * kMiB, limit_mb * kMiB, Hugepages::kOff, -1};
}

class ArenaTest : public testing::Test {
protected:
    ArenaTest() { arenas.set_rules(small_rules()); }

    const Arena& made(bool shareable, std::uint64_t bytes = 0) {
        Refusal refusal;
        const Arena* const arena = arenas.make(shareable, bytes, refusal);
        EXPECT_NE(arena, nullptr) << refusal.text;
        return arena != nullptr ? *arena : nothing;
    }
    Refusal refused(bool shareable, std::uint64_t bytes = 0) {
        Refusal refusal;
        EXPECT_EQ(arenas.make(shareable, bytes, refusal), nullptr);
        return refusal;
    }

    Arenas arenas;
    Arena nothing;
};

TEST_F(ArenaTest, NoneIsMadeBeforeSomebodyAsks) {
    EXPECT_EQ(arenas.count(), 0U);
    EXPECT_EQ(arenas.bytes(), 0U);
    EXPECT_EQ(arenas.find(0, 0), nullptr);
    EXPECT_EQ(arenas.find(4096, 1), nullptr);
    EXPECT_EQ(arenas.find(~std::uint64_t{0}, ~std::uint64_t{0}), nullptr);
}

TEST_F(ArenaTest, IsAlignedWritableAndFull) {
    for (const bool shareable : {true, false}) {
        const Arena& arena = made(shareable);
        EXPECT_EQ(arena.base % kArenaAlignment, 0U);
        EXPECT_EQ(arena.size, 32 * kMiB);
        EXPECT_EQ(arena.shareable, shareable);
        EXPECT_EQ(arena.pages, PageKind::kOrdinary);
        EXPECT_EQ(arena.numa_node, -1);
        EXPECT_EQ(arena.fd_offset, 0U);
        auto* const bytes = reinterpret_cast<unsigned char*>(arena.base);
        EXPECT_EQ(bytes[0], 0);
        bytes[0] = 1;
        bytes[arena.size - 1] = 2;
        EXPECT_EQ(bytes[arena.size - 1], 2);
    }
    EXPECT_EQ(arenas.count(), 2U);
    EXPECT_EQ(arenas.bytes(), 64 * kMiB);
    EXPECT_EQ(arenas.arena(0).id, 1U);
    EXPECT_EQ(arenas.arena(1).id, 2U);
}

TEST_F(ArenaTest, ItsPagesAreTouchedAsTheyAreUsed) {
    const Arena& arena = made(true);
    struct stat about {};
    ASSERT_EQ(::fstat(arena.fd, &about), 0);
    EXPECT_EQ(about.st_blocks, 0) << "an idle process must stay small";
    *reinterpret_cast<char*>(arena.base + 5 * kMiB) = 1;
    ASSERT_EQ(::fstat(arena.fd, &about), 0);
    EXPECT_GT(about.st_blocks, 0);
    EXPECT_LE(about.st_blocks * 512, static_cast<blkcnt_t>(4 * kMiB));
}

TEST_F(ArenaTest, WhatIsPopulatedIsThere) {
    const Arena& arena = made(true);
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const auto there = [&](std::uint64_t i) {
        unsigned char resident = 0;
        EXPECT_EQ(::mincore(reinterpret_cast<void*>(arena.base + i * page), page, &resident), 0);
        return (resident & 1U) != 0;
    };
    EXPECT_FALSE(there(100));
    if (!arenas.populate(arena.base + 100 * page + 10, page)) {
        GTEST_SKIP() << "needs Linux 5.14";
    }
    EXPECT_TRUE(there(100) && there(101)) << "the range reaches into the second";
    EXPECT_FALSE(arenas.populate(arena.base + arena.size - 10, 11)) << "it ends outside";
    EXPECT_FALSE(arenas.populate(arena.base, 0));
    EXPECT_FALSE(arenas.populate(0, page));
}

TEST_F(ArenaTest, TheFileOfAShareableOneIsItsMemoryAndSealed) {
    const Arena& arena = made(true);
    ASSERT_GE(arena.fd, 0);
    struct stat about {};
    ASSERT_EQ(::fstat(arena.fd, &about), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(about.st_size), arena.size);
    EXPECT_EQ(::fcntl(arena.fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    EXPECT_NE(::fcntl(arena.fd, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::ftruncate(arena.fd, 0), 0);
    void* const peer = ::mmap(nullptr, arena.size, PROT_READ | PROT_WRITE, MAP_SHARED, arena.fd, 0);
    ASSERT_NE(peer, MAP_FAILED);
    *reinterpret_cast<char*>(arena.base + 12345) = 'x';
    EXPECT_EQ(static_cast<char*>(peer)[12345], 'x');
    (void)::munmap(peer, arena.size);
}

TEST_F(ArenaTest, APrivateOneHasNoFile) { EXPECT_EQ(made(false).fd, -1); }

TEST_F(ArenaTest, FindsWhatLiesInItWhole) {
    const Arena& arena = made(true);
    EXPECT_EQ(arenas.find(arena.base, 1), &arena);
    EXPECT_EQ(arenas.find(arena.base, arena.size), &arena);
    EXPECT_EQ(arenas.find(arena.base + arena.size - 1, 1), &arena);
    EXPECT_EQ(arenas.find(arena.base + arena.size - 1, 0), &arena);
    EXPECT_EQ(arenas.find(arena.base + 7, arena.size - 7), &arena);
}

TEST_F(ArenaTest, DoesNotFindWhatSticksOut) {
    const Arena& arena = made(true);
    EXPECT_EQ(arenas.find(arena.base - 1, 1), nullptr);
    EXPECT_EQ(arenas.find(arena.base - 1, arena.size), nullptr);
    EXPECT_EQ(arenas.find(arena.base, arena.size + 1), nullptr);
    EXPECT_EQ(arenas.find(arena.base + arena.size, 1), nullptr);
    EXPECT_EQ(arenas.find(arena.base + arena.size, 0), nullptr);
    EXPECT_EQ(arenas.find(arena.base + arena.size - 1, 2), nullptr);
    EXPECT_EQ(arenas.find(arena.base + 1, ~std::uint64_t{0}), nullptr) << "the end wraps";
    EXPECT_EQ(arenas.find(~std::uint64_t{0}, 1), nullptr);
}

TEST_F(ArenaTest, FindsEachOfSixtyFour) {
    std::vector<const Arena*> all;
    for (std::uint32_t i = 0; i < kMaxArenas; ++i) {
        all.push_back(&made(i % 2 == 0));
        for (const Arena* const arena : all) {
            ASSERT_EQ(arenas.find(arena->base, arena->size), arena);
            ASSERT_EQ(arenas.find(arena->base + arena->size / 2, 1), arena);
            ASSERT_EQ(arenas.find(arena->base, arena->size + 1), nullptr)
                << "also where two of them touch";
        }
    }
    const Refusal refusal = refused(true);
    EXPECT_EQ(refusal.reason, Reason::kLimit);
    EXPECT_NE(refusal.text.find("SANPOLL_ARENA_MB"), std::string::npos) << refusal.text;
    EXPECT_EQ(arenas.count(), kMaxArenas);
}

TEST_F(ArenaTest, GrowsByWholeArenasUpToTheLimit) {
    arenas.set_rules(small_rules(32, 100));
    (void)made(true);
    (void)made(false);
    (void)made(true);
    const Refusal refusal = refused(false);
    EXPECT_EQ(refusal.reason, Reason::kLimit);
    for (const char* const word : {"SANPOLL_ARENA_LIMIT_MB", "100", "96", "32"}) {
        EXPECT_NE(refusal.text.find(word), std::string::npos) << refusal.text;
    }
    EXPECT_EQ(arenas.bytes(), 96 * kMiB);
    arenas.set_rules(small_rules(32, 128));
    (void)made(true);
}

TEST_F(ArenaTest, ALimitBelowWhatThereIsAllowsNoMore) {
    (void)made(true);
    (void)made(true);
    arenas.set_rules(small_rules(32, 32));
    EXPECT_EQ(refused(true).reason, Reason::kLimit);
}

TEST_F(ArenaTest, WhatDoesNotFitOneGetsALargerOne) {
    EXPECT_EQ(made(true, 32 * kMiB).size, 32 * kMiB);
    EXPECT_EQ(made(true, 32 * kMiB + 1).size, 64 * kMiB);
    EXPECT_EQ(refused(true, ~std::uint64_t{0}).reason, Reason::kLimit);
}

TEST_F(ArenaTest, AnArenaThatTheKernelDoesNotGiveIsRefusedAndLeavesNothing) {
    constexpr std::uint64_t kTooMuch = 1ULL << 30;  // MiB: more than there is address space
    arenas.set_rules({kTooMuch * kMiB, kTooMuch * kMiB, Hugepages::kOff, -1});
    const Refusal refusal = refused(true);
    EXPECT_EQ(refusal.reason, Reason::kNoMemory);
    EXPECT_NE(refusal.text.find("arena_mb"), std::string::npos) << refusal.text;
    EXPECT_EQ(arenas.count(), 0U);
    EXPECT_EQ(arenas.bytes(), 0U);
}

TEST_F(ArenaTest, HugepagesAreTakenWhereThereAreEnough) {
    arenas.set_rules({32 * kMiB, 4096 * kMiB, Hugepages::kAuto, -1});
    const bool enough = free_hugepages() >= 16;
    const Arena& arena = made(true);
    if (!enough) {
        EXPECT_EQ(arena.pages, PageKind::kOrdinary);
    }
    // Whatever it is, it can be used.
    for (std::uint64_t offset = 0; offset < arena.size; offset += kMiB) {
        *reinterpret_cast<volatile char*>(arena.base + offset) = 1;
    }
}

TEST_F(ArenaTest, RequiredHugepagesThatAreNotFreeAreARefusal) {
    arenas.set_rules({kMiB << 20, kMiB << 20, Hugepages::kRequired, -1});
    const Refusal refusal = refused(true);
    EXPECT_EQ(refusal.reason, Reason::kNoHugepages);
    EXPECT_NE(refusal.text.find("vm.nr_hugepages=524288"), std::string::npos) << refusal.text;
    EXPECT_EQ(arenas.count(), 0U);
}

TEST_F(ArenaTest, TellsListenersOfEachNewOne) {
    std::vector<std::uint32_t> seen;
    const std::uint64_t token = arenas.add_listener([&] { seen.push_back(arenas.count()); });
    (void)made(true);
    (void)made(false);
    arenas.remove_listener(token);
    (void)made(true);
    EXPECT_EQ(seen, (std::vector<std::uint32_t>{1, 2}));
}

TEST_F(ArenaTest, ReadersMeetOnlyWholeArenasWhileOthersAreMade) {
    std::atomic<bool> stop{false};
    std::vector<std::thread> readers;
    readers.reserve(2);
    for (int i = 0; i < 2; ++i) {
        readers.emplace_back([&] {
            while (!stop.load(std::memory_order_relaxed)) {
                const std::uint32_t count = arenas.count();
                for (std::uint32_t k = 0; k < count; ++k) {
                    const Arena& arena = arenas.arena(k);
                    if (arena.id != k + 1 || arenas.find(arena.base, arena.size) != &arena) {
                        ADD_FAILURE() << "arena " << k;
                        return;
                    }
                }
            }
        });
    }
    for (int i = 0; i < 40; ++i) {
        (void)made(i % 3 != 0);
    }
    stop = true;
    for (std::thread& reader : readers) {
        reader.join();
    }
}

TEST(ArenasOfTheProcess, AForkedChildHasACopyOfItsOwn) {
    Arenas& arenas = Arenas::of_process();
    arenas.set_rules(small_rules());
    Refusal refusal;
    for (const bool shareable : {true, false}) {
        const Arena* const arena = arenas.make(shareable, 0, refusal);
        ASSERT_NE(arena, nullptr) << refusal.text;
        auto* const word = reinterpret_cast<volatile char*>(arena->base);
        const int fd = arena->fd;
        *word = 'p';
        const pid_t child = ::fork();
        if (child == 0) {
            const bool kept = *word == 'p';
            *word = 'c';
            const bool closed = fd < 0 || ::fcntl(fd, F_GETFD) < 0;
            const bool refused = arenas.make(true, 0, refusal) == nullptr &&
                                 refusal.reason == Reason::kForked && Arenas::abandoned();
            ::_exit(kept && *word == 'c' && closed && refused ? 0 : 1);
        }
        int status = -1;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
        EXPECT_EQ(*word, 'p') << "a child wrote into its parent's heap";
        EXPECT_TRUE(fd < 0 || ::fcntl(fd, F_GETFD) >= 0);
    }
    arenas.set_rules(ArenaRules{});
}

}  // namespace
}  // namespace sanpoll::engine::memory
