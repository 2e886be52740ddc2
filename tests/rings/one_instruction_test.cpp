#include "rings/one_instruction.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <thread>

namespace sanpoll::rings {
namespace {

constexpr std::uint64_t kValues[] = {
    0,          1,           0x7FFFFFFF,         0x80000000,
    0xFFFFFFFF, 0x100000000, 0x123456789ABCDEF0, std::numeric_limits<std::uint64_t>::max()};

// Those that fit into an instruction, and those that need a register; none is cut, nor extended by its sign.
TEST(OneInstructionTest, ComparesWholeWords) {
    for (const std::uint64_t there : kValues) {
        for (const std::uint64_t asked : kValues) {
            std::atomic<std::uint64_t> word{there};
            std::uint64_t plain = there;
            EXPECT_EQ(is_now(word, asked), there == asked) << there << ' ' << asked;
            EXPECT_EQ(is_now(plain, asked), there == asked) << there << ' ' << asked;
            EXPECT_EQ(is_once(&plain, asked), there == asked) << there << ' ' << asked;
            const auto half = static_cast<std::uint32_t>(there);
            const auto asked_half = static_cast<std::uint32_t>(asked);
            std::atomic<std::uint32_t> small{half};
            EXPECT_EQ(is_now(small, asked_half), half == asked_half) << there << ' ' << asked;
            EXPECT_EQ(is(half, asked_half), half == asked_half) << there << ' ' << asked;
        }
    }
    std::atomic<std::uint64_t> word{0xFFFFFFFF};
    EXPECT_FALSE(is_now(word, std::numeric_limits<std::uint64_t>::max())) << "known beforehand";
    EXPECT_TRUE(is_now(word, 0xFFFFFFFF));
}

TEST(OneInstructionTest, LooksAtFourBytes) {
    std::uint32_t words[3] = {0xFF, 0, 0xFF};
    EXPECT_TRUE(is_zero(&words[1]));
    EXPECT_FALSE(is_zero(&words[0]));
    for (std::uint32_t bit = 0; bit < 32; ++bit) {
        words[1] = 1U << bit;
        EXPECT_FALSE(is_zero(&words[1])) << bit;
    }
    // Four flags that are looked at together.
    struct alignas(4) Flags {
        bool flags[4];
    } four{};
    EXPECT_TRUE(is_zero(&four));
    for (bool& flag : four.flags) {
        flag = true;
        EXPECT_FALSE(is_zero(&four));
        flag = false;
        EXPECT_TRUE(is_zero(&four)) << "what was written just before is seen";
    }
}

TEST(OneInstructionTest, AddsAlone) {
    std::atomic<std::uint64_t> word{0xFFFFFFFF};
    add_alone(word, 1);
    EXPECT_EQ(word.load(), 0x100000000U);
    add_alone(word, -1);
    EXPECT_EQ(word.load(), 0xFFFFFFFFU);
}

// What was written before the word is seen by who has seen the word.
TEST(OneInstructionTest, OrdersWhatComesBeforeAndAfter) {
    std::atomic<std::uint64_t> word{0};
    std::uint64_t told = 0;  // plain: a race would be seen
    std::thread writer([&] {
        told = 42;
        add_alone(word, 1);
    });
    while (!is_now(word, 1)) {
        std::this_thread::yield();
    }
    EXPECT_EQ(told, 42U);
    writer.join();
}

}  // namespace
}  // namespace sanpoll::rings
