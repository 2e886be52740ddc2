#include "engine/memory/mapping_watch.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/fork_guard.hpp"
#include "tests/engine/memory/mapped_pages.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::memory {
namespace {

using tests::MappedPages;

// Keeps the last changes, without memory from the heap.
struct Ears final : MappingWatch::Listener {
    void mapping_changed(std::uint64_t low, std::uint64_t high) noexcept override {
        const std::uint32_t i = count.load(std::memory_order_relaxed);
        if (i < 64) {
            lows[i] = low;
            highs[i] = high;
        }
        count.store(i + 1, std::memory_order_release);
    }
    std::uint64_t lows[64] = {};
    std::uint64_t highs[64] = {};
    std::atomic<std::uint32_t> count{0};
};

class MappingWatchTest : public testing::Test {
protected:
    void SetUp() override {
        std::string error;
        watch = MappingWatch::start(ears, error);
        if (watch == nullptr) {
            GTEST_SKIP() << error;
        }
    }
    /// What was told since the last call covers the pages [first, first + count), and nothing but them.
    void expect_told(std::size_t first, std::size_t count) {
        watch->settle();
        const std::uint32_t heard = ears.count.load(std::memory_order_acquire);
        std::vector<bool> told(64);
        for (std::uint32_t i = seen_; i < heard && i < 64; ++i) {
            for (std::size_t page = 0; page < 32; ++page) {
                if (ears.lows[i] < pages.address(page + 1) && pages.address(page) < ears.highs[i]) {
                    told[page] = true;
                }
            }
        }
        seen_ = heard;
        for (std::size_t page = 0; page < 32; ++page) {
            EXPECT_EQ(told[page], page >= first && page < first + count) << page;
        }
    }
    void expect_nothing() { expect_told(0, 0); }
    [[nodiscard]] bool watch_pages(std::size_t first, std::size_t count) {
        return watch->watch(pages.address(first), count * MappedPages::size());
    }

    MappedPages pages{32};
    Ears ears;
    std::unique_ptr<MappingWatch> watch;

private:
    std::uint32_t seen_ = 0;
};

TEST_F(MappingWatchTest, TellsOfEveryWayInWhichAMappingChanges) {
    ASSERT_TRUE(watch_pages(0, 32));
    pages.unmap(2, 3);
    expect_told(2, 3);
    pages.discard(6, 2);
    expect_told(6, 2);
    pages.discard(8, 1, MADV_FREE);
    expect_told(8, 1);
    pages.place(10, 4);  // over what is there
    expect_told(10, 4);
    pages.move(16, 2, 2);
    expect_told(16, 2);
}

TEST_F(MappingWatchTest, WhatIsNotWatchedIsNotTold) {
    ASSERT_TRUE(watch_pages(4, 2));
    pages.unmap(7, 1);
    pages.discard(2, 1);
    expect_nothing();
    pages.unmap(5, 1);
    expect_told(5, 1);
    pages.place(5, 1);  // new pages are not watched
    pages.unmap(5, 1);
    expect_nothing();
    ASSERT_TRUE(watch_pages(4, 1)) << "again";
    watch->unwatch(pages.address(4), 1);
    pages.unmap(4, 1);
    expect_nothing();
}

TEST_F(MappingWatchTest, ByteRangesAreWatchedPageByPage) {
    ASSERT_TRUE(watch->watch(pages.address(3) + 4000, 200));
    pages.unmap(2, 1);
    pages.unmap(5, 1);
    expect_nothing();
    pages.unmap(3, 2);
    expect_told(3, 2);
}

TEST_F(MappingWatchTest, WhatCannotBeWatchedIsRefused) {
    EXPECT_FALSE(watch->watch(4096, 4096)) << "nothing is there";
    char name[] = "/tmp/mapping_watch_XXXXXX";
    const int fd = ::mkstemp(name);
    ASSERT_GE(fd, 0);
    ::unlink(name);
    ASSERT_EQ(::ftruncate(fd, 4096), 0);
    void* file = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ASSERT_NE(file, MAP_FAILED);
    *static_cast<char*>(file) = 1;
    const auto address = reinterpret_cast<std::uint64_t>(file);
    // A file in memory (/tmp may be one) can be watched, but can change behind our back.
    EXPECT_TRUE(!watch->watch(address, 4096) || watch->shared(address, 4096));
    ::munmap(file, 4096);
    ::close(fd);
}

TEST_F(MappingWatchTest, SharedPagesAreToldFromPrivateOnes) {
    *pages.at(1) = 1;
    EXPECT_FALSE(watch->shared(pages.address(0), 4 * MappedPages::size()));
    void* shared = ::mmap(pages.at(3), 4096, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    ASSERT_EQ(shared, pages.at(3));
    *pages.at(3) = 1;
    EXPECT_TRUE(watch->shared(pages.address(0), 4 * MappedPages::size()));
    EXPECT_FALSE(watch->shared(pages.address(0), 3 * MappedPages::size()));
}

TEST_F(MappingWatchTest, ADiscardIsRememberedForAWhile) {
    ASSERT_TRUE(watch_pages(0, 32));
    EXPECT_FALSE(watch->discarded_lately(pages.address(0), 1 << 20));
    pages.unmap(20, 1);
    watch->settle();
    EXPECT_FALSE(watch->discarded_lately(pages.address(20), 1)) << "that is over at once";
    pages.discard(4, 1);
    watch->settle();
    // Unless this machine has stood still for a tenth of a second.
    const bool remembered = watch->discarded_lately(pages.address(4), 1);
    EXPECT_FALSE(watch->discarded_lately(pages.address(5), 1));
    EXPECT_FALSE(watch->discarded_lately(pages.address(3), 4096));
    while (watch->discarded_lately(pages.address(4), 1)) {
    }
    (void)remembered;
}

// The page faults are the kernel's, as ever: also those of memory that was never touched, and in system calls.
TEST_F(MappingWatchTest, WatchedMemoryIsUsedAsBefore) {
    ASSERT_TRUE(watch_pages(0, 32));
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    ASSERT_EQ(::write(ends[1], "abc", 3), 3);
    ASSERT_EQ(::read(ends[0], pages.at(9), 3), 3);
    EXPECT_EQ(*pages.at(9), 'a');
    EXPECT_EQ(*pages.at(10), 0);
    *pages.at(11) = 'x';
    EXPECT_EQ(*pages.at(11), 'x');
    ::close(ends[0]);
    ::close(ends[1]);
    expect_nothing();
}

// Between the moment in which others may have the addresses and the one in which the change is told.
TEST_F(MappingWatchTest, AChangeThatIsNotToldYetIsUnderWay) {
    struct SlowEars final : MappingWatch::Listener {
        void mapping_changed(std::uint64_t, std::uint64_t) noexcept override {
            heard.fetch_add(1);
            while (!go_on.load()) {
                std::this_thread::yield();
            }
        }
        std::atomic<int> heard{0};
        std::atomic<bool> go_on{false};
    } slow;
    std::string error;
    const auto other = MappingWatch::start(slow, error);
    ASSERT_NE(other, nullptr) << error;
    EXPECT_FALSE(other->changing());
    ASSERT_TRUE(other->watch(pages.address(0), 8 * MappedPages::size()));
    EXPECT_FALSE(other->changing());
    std::thread first([&] { pages.unmap(0, 1); });
    while (slow.heard.load() == 0) {
        std::this_thread::yield();
    }
    // The watch's thread is held up, so the second change is not read.
    std::thread second([&] { pages.unmap(4, 1); });
    while (!other->changing()) {
        std::this_thread::yield();
    }
    slow.go_on.store(true);
    first.join();
    second.join();
    while (slow.heard.load() < 2) {
        std::this_thread::yield();
    }
    EXPECT_FALSE(other->changing());
}

TEST_F(MappingWatchTest, AChildIsNotWatchedAndDisturbsNobody) {
    ASSERT_TRUE(watch_pages(0, 32));
    const pid_t child = ::fork();
    if (child == 0) {
        close_all_in_child();
        pages.unmap(3, 1);
        ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    expect_nothing();
    pages.unmap(3, 1);
    expect_told(3, 1);
}

// Threads that allocate and free all the time, under a watch that hears of all of it; and its end among them.
TEST_F(MappingWatchTest, NobodyWaitsForEverWhoUnmaps) {
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> rounds{0};
    std::vector<std::thread> threads;
    std::atomic<MappingWatch*> current{watch.get()};
    std::atomic<int> callers{0};  // of watch()
    for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
            while (!stop.load()) {
                void* large = std::malloc(1 << 20);
                void* map = ::mmap(nullptr, 65536, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                callers.fetch_add(1);
                if (MappingWatch* now = current.load(); now != nullptr) {
                    (void)now->watch(reinterpret_cast<std::uint64_t>(large), 1 << 20);
                    (void)now->watch(reinterpret_cast<std::uint64_t>(map), 65536);
                }
                callers.fetch_sub(1);
                std::free(large);
                ::munmap(map, 65536);
                rounds.fetch_add(1);
            }
        });
    }
    const std::uint64_t wanted = tests::scaled(2000);
    while (rounds.load() < wanted) {
        std::this_thread::yield();
    }
    current.store(nullptr);
    while (callers.load() != 0) {  // whoever comes later sees that there is none
        std::this_thread::yield();
    }
    watch.reset();
    const std::uint64_t after = rounds.load();
    while (rounds.load() < after + 100) {
        std::this_thread::yield();
    }
    stop.store(true);
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_GT(ears.count.load(), 0U);
}

}  // namespace
}  // namespace sanpoll::engine::memory
