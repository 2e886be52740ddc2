#include "engine/memory/thread_heaps.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "engine/memory/heap.hpp"

namespace sanpoll::engine::memory {
namespace {

void take_and_give() {
    Reason reason = Reason::kNone;
    void* const block = allocate(100, 0, true, reason);
    EXPECT_NE(block, nullptr) << to_words(reason);
    EXPECT_EQ(release(block), Reason::kNone);
}

void wait_until(const std::atomic<bool>& flag) {
    while (!flag) {
        std::this_thread::yield();
    }
}

TEST(ThreadHeaps, AreMadeForAThreadThatTakesOrFreesAndForNoOther) {
    Reason reason = Reason::kNone;
    std::thread([] { EXPECT_EQ(ThreadHeaps::mine(), nullptr); }).join();
    void* const block = allocate(100, 0, true, reason);
    ASSERT_NE(block, nullptr) << to_words(reason);
    EXPECT_NE(ThreadHeaps::mine(), nullptr);
    std::thread([block] {
        EXPECT_EQ(release(block), Reason::kNone);
        ASSERT_NE(ThreadHeaps::mine(), nullptr);
        EXPECT_EQ(ThreadHeaps::mine()->mimalloc, nullptr) << "it has no heap to delete";
    }).join();
}

TEST(ThreadHeaps, AThreadEndsAfterThoseThatAreFreeing) {
    take_and_give();
    std::atomic<bool> ended{false};
    std::thread ending;
    {
        const Freeing freeing(ThreadHeaps::mine());
        ending = std::thread([&ended] {
            std::thread(take_and_give).join();
            ended = true;
        });
        wait_until(detail::end_is_on);
        EXPECT_FALSE(ended);
    }
    ending.join();
    EXPECT_TRUE(ended);
    EXPECT_FALSE(detail::end_is_on);
}

TEST(ThreadHeaps, WhoComesToFreeWhileAThreadEndsWaits) {
    take_and_give();
    std::atomic<bool> freed{false};
    std::thread ending;
    std::thread late;
    {
        const Freeing freeing(ThreadHeaps::mine());
        ending = std::thread(take_and_give);
        wait_until(detail::end_is_on);
        late = std::thread([&freed] {
            // A thread without a record, as in its last destructors, takes the lock.
            const Freeing waits(nullptr);
            freed = true;
        });
        for (int i = 0; i < 100; ++i) {
            std::this_thread::yield();
            EXPECT_FALSE(freed);
        }
    }
    late.join();
    ending.join();
    EXPECT_TRUE(freed);
}

TEST(ThreadHeaps, ManyMayFreeAtOnce) {
    take_and_give();
    const Freeing one(ThreadHeaps::mine());
    std::thread([] {
        ASSERT_NE(ThreadHeaps::make(), nullptr);
        const Freeing other(ThreadHeaps::mine());
    }).join();
}

}  // namespace
}  // namespace sanpoll::engine::memory
