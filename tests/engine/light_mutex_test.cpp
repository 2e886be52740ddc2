#include "engine/light_mutex.hpp"

#include <gtest/gtest.h>

#include <mutex>
#include <thread>
#include <vector>

#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

// Plain memory: ThreadSanitizer sees to it that the mutex orders it.
void count_together(std::uint64_t rounds) {
    LightMutex mutex;
    std::uint64_t count = 0;
    std::uint64_t inside = 0;
    std::uint64_t met = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&] {
            for (std::uint64_t i = 0; i < rounds; ++i) {
                const std::lock_guard lock(mutex);
                met += inside++ != 0 ? 1 : 0;
                ++count;
                if (i % 64 == 0) {
                    std::this_thread::yield();  // others come to wait
                }
                --inside;
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(count, 4 * rounds);
    EXPECT_EQ(met, 0U);
}

// In the first test of the program, which may or may not be this one, the process is not registered.
TEST(LightMutex, KeepsThreadsApart) { count_together(tests::scaled(20000)); }

TEST(LightMutex, KeepsThreadsApartWithTheHeavyFence) {
    if (!register_heavy_fence()) {
        GTEST_SKIP() << "the kernel has no membarrier";
    }
    count_together(tests::scaled(20000));
}

// To and fro, each time with the other one asleep or about to be: a wake that is lost hangs here.
TEST(LightMutex, WhoWaitsIsWoken) {
    (void)register_heavy_fence();
    LightMutex mutex;
    std::atomic<std::uint64_t> turns{0};
    const std::uint64_t rounds = tests::scaled(3000);
    const auto play = [&] {
        for (std::uint64_t i = 0; i < rounds; ++i) {
            mutex.lock();
            turns.fetch_add(1, std::memory_order_relaxed);
            std::this_thread::yield();
            mutex.unlock();
        }
    };
    std::thread one(play);
    std::thread other(play);
    one.join();
    other.join();
    EXPECT_EQ(turns.load(), 2 * rounds);
}

}  // namespace
}  // namespace sanpoll::engine
