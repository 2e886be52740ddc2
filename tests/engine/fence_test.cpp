#include "engine/fence.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <thread>

#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

TEST(Fence, HeavyFenceSaysWhetherTheKernelHasIt) {
    const bool registered = register_heavy_fence();
    EXPECT_EQ(heavy_fence(), registered);
    EXPECT_EQ(register_heavy_fence(), registered) << "registering twice is allowed";
}

// The promise of the header, as the classic store-buffer experiment: of a light writer and a heavy one,
// each of which stores its own word and then reads the other's, at least one sees the other.
TEST(Fence, EitherTheOneOrTheOtherSees) {
    if (!register_heavy_fence()) {
        GTEST_SKIP() << "no membarrier on this kernel";
    }
    const std::uint64_t rounds = tests::scaled(20000);
    alignas(64) std::atomic<int> light{0};
    alignas(64) std::atomic<int> heavy{0};
    int light_saw = 0;
    int heavy_saw = 0;
    std::uint64_t both_blind = 0;
    std::barrier start(2);
    std::barrier end(2, [&]() noexcept {
        both_blind += light_saw == 0 && heavy_saw == 0 ? 1 : 0;
        light.store(0);
        heavy.store(0);
    });
    std::thread poster([&] {
        for (std::uint64_t i = 0; i < rounds; ++i) {
            start.arrive_and_wait();
            light.store(1, std::memory_order_release);
            std::atomic_signal_fence(std::memory_order_seq_cst);
            light_saw = heavy.load(std::memory_order_relaxed);
            end.arrive_and_wait();
        }
    });
    for (std::uint64_t i = 0; i < rounds; ++i) {
        start.arrive_and_wait();
        heavy.store(1, std::memory_order_relaxed);
        (void)heavy_fence();
        heavy_saw = light.load(std::memory_order_acquire);
        end.arrive_and_wait();
    }
    poster.join();
    EXPECT_EQ(both_blind, 0U);
}

}  // namespace
}  // namespace sanpoll::engine
