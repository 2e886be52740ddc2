#include "engine/memory/heap.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace sanpoll::engine::memory {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

Arenas& arenas() { return Arenas::of_process(); }

std::uint64_t used() {
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < arenas().count(); ++i) {
        sum += used_bytes(i);
    }
    return sum;
}

const Arena* arena_of(const void* block, std::size_t size) {
    return arenas().find(reinterpret_cast<std::uint64_t>(block), size);
}

// Arenas stay: each test may make as many more as it says, and finds room in earlier ones.
class HeapTest : public testing::Test {
protected:
    HeapTest() { allow(4); }
    ~HeapTest() override { EXPECT_EQ(used(), 0U) << "every test gives everything back"; }

    static void allow(std::uint64_t further) {
        arenas().set_rules(
            {32 * kMiB, arenas().bytes() + further * 32 * kMiB, Hugepages::kOff, -1});
    }
    static void* get(std::size_t size, std::size_t alignment = 0, bool shareable = true) {
        Reason reason = Reason::kNotOurs;
        void* const block = allocate(size, alignment, shareable, reason);
        EXPECT_NE(block, nullptr) << to_words(reason);
        EXPECT_EQ(reason, Reason::kNone);
        return block;
    }
    static Reason refused(std::size_t size, std::size_t alignment = 0, bool shareable = true) {
        Reason reason = Reason::kNone;
        EXPECT_EQ(allocate(size, alignment, shareable, reason), nullptr);
        return reason;
    }
    static void put(void* block) { EXPECT_EQ(release(block), Reason::kNone); }
    // Everything there is, in blocks of `size`.
    static std::vector<void*> exhaust(std::size_t size, bool shareable = true) {
        std::vector<void*> blocks;
        Reason reason = Reason::kNone;
        while (void* const block = allocate(size, 0, shareable, reason)) {
            blocks.push_back(block);
        }
        EXPECT_EQ(reason, Reason::kLimit) << to_words(reason);
        return blocks;
    }
    static void in_thread(const std::function<void()>& body) { std::thread(body).join(); }
};

TEST_F(HeapTest, GivesAlignedWritableMemoryInAnArenaOfTheKind) {
    std::vector<void*> blocks;
    for (const bool shareable : {true, false}) {
        for (std::size_t size = 1; size <= 20 * kMiB; size = size * 3 + 1) {
            for (const std::size_t alignment :
                 {0U, 1U, 8U, 64U, 128U, 256U, 4096U, 65536U, 4U << 20}) {
                void* const block = get(size, alignment, shareable);
                const Arena* const arena = arena_of(block, size);
                ASSERT_NE(arena, nullptr) << size << " at " << alignment;
                EXPECT_EQ(arena->shareable, shareable);
                const std::size_t wanted = alignment == 0 ? kDefaultAlignment : alignment;
                EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % wanted, 0U)
                    << size << " at " << alignment;
                std::memset(block, 0x5a, size);
                put(block);
            }
        }
    }
}

TEST_F(HeapTest, AnyAlignmentOfAnySizeInUseAtOnce) {
    struct Block {
        unsigned char* at;
        std::size_t size;
        unsigned char pattern;
    };
    std::vector<Block> blocks;
    unsigned char pattern = 0;
    for (std::size_t size = 1; size <= 10000; size += size / 7 + 1) {
        for (std::size_t alignment = 1; alignment <= 8192; alignment *= 4) {
            auto* const at = static_cast<unsigned char*>(get(size, alignment));
            EXPECT_EQ(reinterpret_cast<std::uintptr_t>(at) % alignment, 0U);
            std::memset(at, ++pattern, size);
            blocks.push_back({at, size, pattern});
        }
    }
    for (const Block& block : blocks) {
        EXPECT_TRUE(std::all_of(block.at, block.at + block.size,
                                [&](unsigned char byte) { return byte == block.pattern; }));
        put(block.at);
    }
}

TEST_F(HeapTest, SmallPowersOfTwoAreAligned) {
    // mimalloc itself is wrong about these once the first page of a size class is full.
    std::vector<void*> blocks;
    for (std::size_t size = 128; size <= 2048; size *= 2) {
        for (std::size_t alignment = 128; alignment <= 2048; alignment *= 2) {
            for (int i = 0; i < 1000; ++i) {
                blocks.push_back(get(size, alignment));
                ASSERT_EQ(reinterpret_cast<std::uintptr_t>(blocks.back()) % alignment, 0U)
                    << size << " at " << alignment;
                blocks.push_back(get(size, 64));
            }
        }
    }
    for (void* const block : blocks) {
        put(block);
    }
}

TEST_F(HeapTest, WrongArgumentsAreRefused) {
    EXPECT_EQ(refused(0), Reason::kBadArgument);
    EXPECT_EQ(refused(10, 3), Reason::kBadArgument);
    EXPECT_EQ(refused(10, 65), Reason::kBadArgument);
    EXPECT_EQ(refused(10, 2 * kMaxAlignment), Reason::kBadArgument);
}

TEST_F(HeapTest, SizesBeyondTheLimitAreRefusedAndChangeNothing) {
    const std::uint32_t before = arenas().count();
    EXPECT_EQ(refused(10000 * kMiB), Reason::kLimit);
    EXPECT_EQ(refused(~std::size_t{0}), Reason::kLimit);
    EXPECT_EQ(refused(~std::size_t{0} - 100, kMaxAlignment), Reason::kLimit);
    EXPECT_EQ(arenas().count(), before);
}

TEST_F(HeapTest, ExhaustionIsNullWithAReasonAndEndsWhenMemoryIsFreed) {
    for (const std::size_t size : {100 * std::size_t{1024}, 3 * kMiB, 17 * kMiB}) {
        allow(1);
        std::vector<void*> blocks = exhaust(size);
        ASSERT_FALSE(blocks.empty());
        for (void* const block : blocks) {
            EXPECT_NE(arena_of(block, size), nullptr);
        }
        put(blocks.back());
        blocks.back() = get(size);
        for (void* const block : blocks) {
            put(block);
        }
        put(get(size));
    }
}

TEST_F(HeapTest, GrowsByAnotherArenaWhenOneIsFull) {
    allow(0);
    std::vector<void*> blocks = exhaust(kMiB);
    const std::uint32_t before = arenas().count();
    allow(1);
    blocks.push_back(get(kMiB));
    EXPECT_EQ(arenas().count(), before + 1);
    for (void* const block : blocks) {
        put(block);
    }
}

TEST_F(HeapTest, ABlockLargerThanAnArenaGetsALargerOne) {
    allow(4);
    void* const block = get(70 * kMiB);
    EXPECT_NE(arena_of(block, 70 * kMiB), nullptr);
    std::memset(block, 1, 70 * kMiB);
    put(block);
    put(get(70 * kMiB));
}

TEST_F(HeapTest, PrivateMemoryNeverLiesInAShareableArena) {
    // Also not by way of what an ended thread has left.
    std::vector<void*> left;
    in_thread([&] {
        for (int i = 0; i < 100; ++i) {
            left.push_back(get(5000, 0, i % 2 == 0));
        }
    });
    std::vector<void*> blocks;
    for (int i = 0; i < 2000; ++i) {
        for (const bool shareable : {true, false}) {
            blocks.push_back(get(5000, 0, shareable));
            ASSERT_EQ(arena_of(blocks.back(), 5000)->shareable, shareable);
        }
    }
    for (void* const block : left) {
        put(block);
    }
    for (void* const block : blocks) {
        put(block);
    }
}

TEST_F(HeapTest, AnyThreadMayFree) {
    for (const std::size_t size : {std::size_t{64}, std::size_t{5000}, 2 * kMiB, 17 * kMiB}) {
        void* const block = get(size);
        in_thread([&] { put(block); });
        EXPECT_EQ(used(), 0U) << size;
    }
}

TEST_F(HeapTest, NothingIsTakenBackThatIsNotOurs) {
    put(nullptr);
    int on_stack = 0;
    EXPECT_EQ(release(&on_stack), Reason::kNotOurs);
    void* const foreign = std::malloc(100);
    EXPECT_EQ(release(foreign), Reason::kNotOurs);
    std::free(foreign);
    Reason reason = Reason::kNone;
    EXPECT_EQ(resize(&on_stack, 10, 0, reason), nullptr);
    EXPECT_EQ(reason, Reason::kNotOurs);
    EXPECT_EQ(resize(nullptr, 10, 0, reason), nullptr);
    EXPECT_EQ(reason, Reason::kNotOurs);
}

TEST_F(HeapTest, ResizeKeepsContentsAndKind) {
    for (const bool shareable : {true, false}) {
        auto* block = static_cast<unsigned char*>(get(100, 0, shareable));
        for (int i = 0; i < 100; ++i) {
            block[i] = static_cast<unsigned char>(i);
        }
        for (const std::size_t size : {101UL, 5000UL, 4999UL, 3UL << 20, 20UL << 20, 100UL}) {
            Reason reason = Reason::kNotOurs;
            block = static_cast<unsigned char*>(resize(block, size, 0, reason));
            ASSERT_NE(block, nullptr) << to_words(reason);
            EXPECT_EQ(reason, Reason::kNone);
            ASSERT_NE(arena_of(block, size), nullptr);
            EXPECT_EQ(arena_of(block, size)->shareable, shareable);
            for (int i = 0; i < 100; ++i) {
                ASSERT_EQ(block[i], i);
            }
        }
        put(block);
    }
}

TEST_F(HeapTest, ResizeMovesForAnAlignmentAndNotForALittleLess) {
    Reason reason = Reason::kNone;
    void* const block = get(1000);
    EXPECT_EQ(resize(block, 900, 0, reason), block);
    void* const other = resize(block, 900, 65536, reason);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(other) % 65536, 0U);
    put(other);
}

TEST_F(HeapTest, ARefusedResizeLeavesTheBlock) {
    auto* const block = static_cast<char*>(get(100));
    std::strcpy(block, "kept");
    Reason reason = Reason::kNone;
    EXPECT_EQ(resize(block, 10000 * kMiB, 0, reason), nullptr);
    EXPECT_EQ(reason, Reason::kLimit);
    EXPECT_EQ(resize(block, 0, 0, reason), nullptr);
    EXPECT_EQ(reason, Reason::kBadArgument);
    EXPECT_EQ(resize(block, 90, 3, reason), nullptr);
    EXPECT_EQ(reason, Reason::kBadArgument);
    EXPECT_STREQ(block, "kept");
    put(block);
}

TEST_F(HeapTest, ResizeByAnotherThread) {
    auto* block = static_cast<char*>(get(100));
    std::strcpy(block, "kept");
    in_thread([&] {
        Reason reason = Reason::kNone;
        block = static_cast<char*>(resize(block, 100000, 0, reason));
        EXPECT_NE(block, nullptr);
    });
    EXPECT_STREQ(block, "kept");
    put(block);
}

TEST_F(HeapTest, CountsWhatIsUsed) {
    const std::uint64_t before = used();
    void* const block = get(1000);
    const std::uint32_t index = arena_of(block, 1000)->id - 1;
    EXPECT_GE(used_bytes(index), 1000U);
    EXPECT_LE(used() - before, 2000U);
    put(block);
    EXPECT_EQ(used(), before);
}

TEST_F(HeapTest, WhatAnEndedThreadHadIsUsedAgain) {
    allow(1);
    in_thread([] { put(get(1)); });  // an arena, if there was none
    allow(0);
    // Each of them takes 32 MiB blocks; without reuse a few would take all.
    for (int i = 0; i < 200; ++i) {
        in_thread([&] {
            std::vector<void*> blocks;
            blocks.reserve(10);
            for (int k = 0; k < 10; ++k) {
                blocks.push_back(get(kMiB / 2));
            }
            for (void* const block : blocks) {
                put(block);
            }
        });
    }
}

TEST_F(HeapTest, WhatAnEndedThreadLeftInUseIsUsedAgainOnceFreed) {
    allow(2);
    std::vector<void*> all = exhaust(kMiB);
    const std::size_t most = all.size();
    for (void* const block : all) {
        put(block);
    }
    for (int i = 0; i < 50; ++i) {
        std::vector<void*> left;
        in_thread([&] { left = exhaust(kMiB); });
        EXPECT_GE(left.size() + 31, most) << "the main thread may hold one 32 MiB block";
        for (void* const block : left) {
            put(block);
        }
    }
    all = exhaust(kMiB);
    EXPECT_GE(all.size() + 2, most) << "all of it can be had again";
    for (void* const block : all) {
        put(block);
    }
}

TEST_F(HeapTest, AlsoTheFirstThreadGivesBackWhatItHad) {
    // In a run of this test alone, it is the first to take memory in this process. Each thread's control block
    // comes to lie where that of the one before was.
    allow(1);
    for (int i = 0; i < 20; ++i) {
        void* left = nullptr;
        in_thread([&] {
            left = get(kMiB);
            put(get(10 * kMiB));
        });
        put(left);
    }
    allow(0);
    const std::uint64_t blocks = [] {
        std::uint64_t count = 0;
        in_thread([&] {
            for (const bool shareable : {true, false}) {
                const std::vector<void*> all = exhaust(30 * kMiB, shareable);
                count += all.size();
                std::for_each(all.begin(), all.end(), put);
            }
        });
        return count;
    }();
    // Earlier tests may have left this thread an empty block of any arena.
    EXPECT_GE(blocks + (arenas().count() > 1 ? arenas().count() : 0),
              arenas().bytes() / (32 * kMiB));
}

TEST_F(HeapTest, ManyThreadsAtOnceAreAsManyAsThereAreBlocks) {
    allow(8);
    std::atomic<int> ready{0};
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    threads.reserve(8);
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&] {
            void* const block = get(100);
            ++ready;
            while (!go) {
                std::this_thread::yield();
            }
            put(block);
        });
    }
    while (ready < 8) {
        std::this_thread::yield();
    }
    go = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
}

// Destroyed after the thread's heaps if it is constructed before them.
struct Last {
    std::function<void()> body;
    ~Last() {
        if (body) {
            body();
        }
    }
};
thread_local Last last;

TEST_F(HeapTest, AThreadThatEndsGetsNoMoreButMayFree) {
    Reason reason = Reason::kNone;
    in_thread([&] {
        last.body = [] {};
        void* const block = get(100);
        void* const large = get(17 * kMiB);
        last.body = [&reason, block, large] {
            EXPECT_EQ(allocate(100, 0, true, reason), nullptr);
            put(block);
            put(large);
        };
    });
    EXPECT_EQ(reason, Reason::kThreadEnds);
}

TEST_F(HeapTest, AThreadsLastKeyDestructorMayFree) {
    static pthread_key_t key;
    ASSERT_EQ(::pthread_key_create(&key, [](void* block) { put(block); }), 0);
    for (int i = 0; i < 10; ++i) {
        in_thread([&] { (void)::pthread_setspecific(key, get(100)); });
    }
    (void)::pthread_key_delete(key);
}

TEST_F(HeapTest, TheProgramsMallocStaysItsOwn) {
    put(get(100));
    const auto owner = [](const char* symbol) -> std::string {
        Dl_info about{};
        void* const function = ::dlsym(RTLD_DEFAULT, symbol);
        return function != nullptr && ::dladdr(function, &about) != 0 ? about.dli_fname : "nobody";
    };
    for (const char* const symbol : {"malloc", "free", "realloc", "posix_memalign"}) {
        EXPECT_EQ(owner(symbol).find("mimalloc"), std::string::npos)
            << symbol << ": " << owner(symbol);
    }
    EXPECT_EQ(::dlsym(RTLD_DEFAULT, "mi_malloc"), nullptr);
    void* const block = std::malloc(100);
    EXPECT_EQ(arena_of(block, 100), nullptr);
    std::free(block);
}

TEST_F(HeapTest, AForkedChildGetsCleanErrors) {
    void* const block = get(100);
    const pid_t child = ::fork();
    if (child == 0) {
        Reason reason = Reason::kNone;
        int wrong = 0;
        wrong += allocate(100, 0, true, reason) != nullptr || reason != Reason::kForked ? 1 : 0;
        wrong += release(block) != Reason::kForked ? 2 : 0;
        wrong += resize(block, 1000, 0, reason) != nullptr || reason != Reason::kForked ? 4 : 0;
        std::thread([&] {
            wrong += allocate(100, 0, true, reason) != nullptr || reason != Reason::kForked ? 8 : 0;
        }).join();
        ::_exit(wrong);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    put(block);
}

TEST_F(HeapTest, EveryReasonHasWords) {
    for (std::uint32_t i = 0; i <= 10; ++i) {
        EXPECT_STRNE(to_words(static_cast<Reason>(i)), "unknown") << i;
    }
    EXPECT_STREQ(to_words(static_cast<Reason>(11)), "unknown");
}

}  // namespace
}  // namespace sanpoll::engine::memory
