#include "switch/completion_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace sanpoll_switch::detail {
namespace {

OVERLAPPED_ENTRY entry(ULONG_PTR producer, ULONG_PTR number) {
    return {producer, nullptr, number, 0};
}

TEST(CompletionQueue, IsEmptyAtFirst) {
    CompletionQueue queue;
    OVERLAPPED_ENTRY out;
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(queue.pop(&out, 1), 0u);
}

TEST(CompletionQueue, KeepsOrderThroughRingAndOverflow) {
    CompletionQueue queue;
    ULONG_PTR next_in = 0;
    ULONG_PTR next_out = 0;
    // Backlogs below, at and far above the ring's size, drained in batches of several sizes.
    for (const std::size_t backlog :
         {std::size_t{1}, CompletionQueue::kCells - 1, CompletionQueue::kCells,
          CompletionQueue::kCells + 1, CompletionQueue::kCells * 10}) {
        for (const std::size_t batch : {std::size_t{1}, std::size_t{7}, std::size_t{1000}}) {
            for (std::size_t i = 0; i < backlog; ++i)
                ASSERT_TRUE(queue.push(entry(0, next_in++)));
            EXPECT_FALSE(queue.empty());
            std::vector<OVERLAPPED_ENTRY> out(batch);
            while (next_out < next_in) {
                const std::size_t taken = queue.pop(out.data(), batch);
                ASSERT_GT(taken, 0u);
                for (std::size_t i = 0; i < taken; ++i)
                    ASSERT_EQ(out[i].Internal, next_out++);
            }
            EXPECT_TRUE(queue.empty());
        }
    }
}

TEST(CompletionQueue, KeepsOrderWhileAnOverflowDrains) {
    CompletionQueue queue;
    ULONG_PTR next_in = 0;
    ULONG_PTR next_out = 0;
    while (next_in < CompletionQueue::kCells + 50)
        ASSERT_TRUE(queue.push(entry(0, next_in++)));
    // Two out, one in: what comes in meets first a full ring, then an overflow, then an empty
    // queue.
    OVERLAPPED_ENTRY out;
    while (queue.pop(&out, 1) == 1) {
        ASSERT_EQ(out.Internal, next_out++);
        if (next_out % 2 != 0) continue;
        ASSERT_TRUE(queue.push(entry(0, next_in++)));
    }
    EXPECT_EQ(next_out, next_in);
}

TEST(CompletionQueue, ClearDropsEverything) {
    CompletionQueue queue;
    for (std::size_t i = 0; i < CompletionQueue::kCells * 2; ++i)
        ASSERT_TRUE(queue.push(entry(0, i)));
    queue.clear();
    EXPECT_TRUE(queue.empty());
    ASSERT_TRUE(queue.push(entry(0, 7)));
    OVERLAPPED_ENTRY out;
    ASSERT_EQ(queue.pop(&out, 1), 1u);
    EXPECT_EQ(out.Internal, 7u);
}

// More threads than cores: nothing lost, nothing doubled, each producer's entries in order at each
// consumer.
TEST(CompletionQueue, ManyProducersAndConsumers) {
    constexpr std::size_t kProducers = 3;
    constexpr std::size_t kConsumers = 3;
    constexpr ULONG_PTR kEach = 20000;
    CompletionQueue queue;
    std::atomic<std::size_t> total{0};
    std::vector<std::vector<std::atomic<unsigned char>>> seen(kProducers);
    for (auto& numbers : seen)
        numbers = std::vector<std::atomic<unsigned char>>(kEach);

    std::vector<std::thread> threads;
    threads.reserve(4);
    for (std::size_t producer = 0; producer < kProducers; ++producer) {
        threads.emplace_back([&, producer] {
            for (ULONG_PTR i = 0; i < kEach; ++i)
                EXPECT_TRUE(queue.push(entry(producer, i)));
        });
    }
    for (std::size_t consumer = 0; consumer < kConsumers; ++consumer) {
        threads.emplace_back([&, consumer] {
            std::vector<OVERLAPPED_ENTRY> out(consumer * 10 + 1);
            std::vector<ULONG_PTR> next(kProducers, 0);
            while (total.load() < kProducers * kEach) {
                const std::size_t taken = queue.pop(out.data(), out.size());
                if (taken == 0) std::this_thread::yield();
                for (std::size_t i = 0; i < taken; ++i) {
                    const OVERLAPPED_ENTRY& got = out[i];
                    EXPECT_GE(got.Internal, next[got.lpCompletionKey]);
                    next[got.lpCompletionKey] = got.Internal + 1;
                    EXPECT_EQ(seen[got.lpCompletionKey][got.Internal].fetch_add(1), 0);
                }
                total.fetch_add(taken);
            }
        });
    }
    for (std::thread& thread : threads)
        thread.join();
    EXPECT_EQ(total.load(), kProducers * kEach);
    EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace sanpoll_switch::detail
