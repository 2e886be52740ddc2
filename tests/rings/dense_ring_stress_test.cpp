// Two threads at full speed: order and content, over dense rings. ThreadSanitizer watches the edges.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <span>
#include <thread>
#include <vector>

#include "rings/dense_ring.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::rings {
namespace {

using tests::scaled;

struct Wide {
    std::uint64_t words[8] = {};
};

// On one CPU a spinning thread would keep the other one waiting for its time slice.
template <typename Done>
void wait_for(Done&& done) {
    for (int looks = 0; !done(); ++looks) {
        if (looks % 64 == 63) std::this_thread::yield();
    }
}

TEST(DenseRingStress, WordsOneByOne) {
    const std::uint64_t count = scaled(2'000'000);
    DenseRing<std::uint64_t> ring(256);
    std::thread writer([&] {
        for (std::uint64_t i = 0; i < count; ++i)
            wait_for([&] { return ring.producer().try_push(i % 7 == 0 ? 0 : i); });
    });
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        std::uint64_t value = 0;
        wait_for([&] { return ring.consumer().try_pop(value); });
        wrong += value != (i % 7 == 0 ? 0 : i);
    }
    writer.join();
    EXPECT_EQ(wrong, 0U);
}

TEST(DenseRingStress, LinesOneByOne) {
    const std::uint64_t count = scaled(1'000'000);
    DenseRing<Wide> ring(64);
    std::thread writer([&] {
        Wide value;
        for (std::uint64_t i = 0; i < count; ++i) {
            for (std::uint64_t& word : value.words)
                word = i;
            wait_for([&] { return ring.producer().try_push(value); });
        }
    });
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        Wide value;
        wait_for([&] { return ring.consumer().try_pop(value); });
        for (const std::uint64_t word : value.words)
            wrong += word != i;
    }
    writer.join();
    EXPECT_EQ(wrong, 0U);
}

template <typename T, typename Number>
void batches(std::uint32_t capacity, std::uint64_t count, Number&& number) {
    DenseRing<T> ring(capacity);
    std::thread writer([&] {
        std::vector<T> values(37);
        for (std::uint64_t i = 0; i < count;) {
            const std::size_t want = 1 + i % values.size();
            for (std::size_t k = 0; k < want; ++k)
                number(values[k]) = i + k;
            std::span<const T> left(values.data(), want);
            wait_for([&] {
                left = left.subspan(ring.producer().push_batch(left));
                return left.empty();
            });
            i += want;
        }
    });
    std::uint64_t next = 0;
    std::uint64_t wrong = 0;
    std::vector<T> values(29);
    while (next < count) {
        std::size_t got = 0;
        wait_for([&] { return (got = ring.consumer().pop_batch(values)) != 0; });
        for (std::size_t k = 0; k < got; ++k)
            wrong += number(values[k]) != next++;
    }
    writer.join();
    EXPECT_EQ(wrong, 0U);
}

TEST(DenseRingStress, WordsInBatches) {
    batches<std::uint64_t>(512, scaled(3'000'000),
                           [](std::uint64_t& value) -> std::uint64_t& { return value; });
}

TEST(DenseRingStress, LinesInBatches) {
    batches<Wide>(64, scaled(1'000'000),
                  [](Wide& value) -> std::uint64_t& { return value.words[0]; });
}

}  // namespace
}  // namespace sanpoll::rings
