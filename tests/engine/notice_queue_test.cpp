#include "engine/notice_queue.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/engine/denied_memory.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using tests::DeniedMemory;
using tests::scaled;

Notice numbered(std::uint64_t number) {
    Notice notice{};
    notice.completion.context = number;
    return notice;
}

TEST(NoticeQueue, KeepsTheOrder) {
    NoticeQueue queue;
    std::mt19937 random(7);
    std::uint64_t pushed = 0;
    std::uint64_t popped = 0;
    const auto pop = [&] {
        ASSERT_EQ(queue.front().completion.context, popped);
        queue.pop();
        queue.end(1);
        ++popped;
    };
    for (int round = 0; round < 200; ++round) {
        for (std::uint32_t more = random() % 700; more != 0; --more) {
            ASSERT_TRUE(queue.reserve(1));
            queue.push(numbered(pushed++));
        }
        for (std::uint32_t less = random() % 700; less != 0 && !queue.empty(); --less) {
            pop();
        }
        EXPECT_EQ(queue.empty(), pushed == popped);
    }
    while (!queue.empty()) {
        pop();
    }
    EXPECT_EQ(popped, pushed);
}

TEST(NoticeQueue, WhatWasPromisedNeedsNoMemoryWhereverTheFirstOneLies) {
    for (std::uint32_t behind = 0; behind <= NoticeQueue::kChunkNotices; ++behind) {
        NoticeQueue queue;
        constexpr std::uint32_t kPlaces = 3 * NoticeQueue::kChunkNotices;
        ASSERT_TRUE(queue.reserve(kPlaces));
        const DeniedMemory denial(0, true);
        ASSERT_FALSE(queue.reserve(1));
        std::uint64_t pushed = 0;
        std::uint64_t popped = 0;
        while (pushed < kPlaces) {
            queue.push(numbered(pushed++));
        }
        for (std::uint32_t i = 0; i < behind; ++i) {
            ASSERT_EQ(queue.front().completion.context, popped++);
            queue.pop();
            queue.end(1);
        }
        ASSERT_TRUE(queue.reserve(behind)) << "the places of those that have left";
        ASSERT_FALSE(queue.reserve(1));
        for (std::uint32_t i = 0; i < behind; ++i) {
            queue.push(numbered(pushed++));
        }
        while (!queue.empty()) {
            ASSERT_EQ(queue.front().completion.context, popped++);
            queue.pop();
        }
        EXPECT_EQ(popped, pushed);
    }
}

TEST(NoticeQueue, APromiseTakenBackIsAnothersPlace) {
    NoticeQueue queue;
    const DeniedMemory denial(0, true);
    for (int i = 0; i < 10000; ++i) {
        ASSERT_TRUE(queue.reserve(NoticeQueue::kChunkNotices));
        ASSERT_FALSE(queue.reserve(1));
        queue.give_back(NoticeQueue::kChunkNotices);
    }
}

// Places are promised, and taken back, by many threads at the same time; each promise that is kept reaches the one that pushes.
TEST(NoticeQueue, ThereIsAPlaceForWhateverWasPromisedToWhom) {
    NoticeQueue queue;
    constexpr int kThreads = 4;
    const std::uint64_t each = scaled(20000);
    std::mutex mutex;
    std::deque<std::uint64_t> handed;
    std::atomic<int> running{kThreads};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&, t] {
            for (std::uint64_t i = 0; i < each; ++i) {
                EXPECT_TRUE(queue.reserve(2));
                if (i % 3 == 0) {
                    queue.give_back(2);
                    continue;
                }
                const std::lock_guard lock(mutex);
                handed.push_back(static_cast<std::uint64_t>(t));
                handed.push_back(static_cast<std::uint64_t>(t));
            }
            running.fetch_sub(1);
        });
    }
    std::mt19937 random(11);
    std::deque<std::uint64_t> waiting;
    std::uint64_t told = 0;
    const auto tell = [&](std::uint32_t most) {
        for (; most != 0 && !queue.empty(); --most) {
            EXPECT_EQ(queue.front().completion.context, waiting.front());
            waiting.pop_front();
            queue.pop();
            queue.end(1);
            ++told;
        }
    };
    for (bool last = false; !last;) {
        last = running.load() == 0;
        {
            const std::lock_guard lock(mutex);
            for (; !handed.empty(); handed.pop_front()) {
                queue.push(numbered(handed.front()));
                waiting.push_back(handed.front());
            }
        }
        tell(random() % 200);
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    while (!queue.empty()) {
        tell(1000);
    }
    EXPECT_EQ(told, kThreads * 2 * (each - (each + 2) / 3));
}

}  // namespace
}  // namespace sanpoll::engine
