// What is written into staging, piece by piece, is what was given, and nothing beside it.
#include "engine/fabric/shm/staging_writer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

namespace sanpoll::engine::shm {
namespace {

constexpr std::byte kUntouched{0xA5};
constexpr std::size_t kMargin = 64;

// Writes `lengths` one after the other and compares.
void check(const std::vector<std::size_t>& lengths) {
    const std::size_t total = std::accumulate(lengths.begin(), lengths.end(), std::size_t{0});
    SCOPED_TRACE(total);
    std::vector<std::byte> from(total);
    for (std::size_t i = 0; i < total; ++i)
        from[i] = static_cast<std::byte>(i * 7 + i / 251);
    std::vector<std::byte> to(total + 2 * kMargin, kUntouched);
    StagingWriter writer(to.data() + kMargin, total);
    std::size_t at = 0;
    for (const std::size_t length : lengths) {
        writer.add(from.data() + at, length);
        at += length;
    }
    EXPECT_TRUE(std::equal(from.begin(), from.end(), to.begin() + kMargin));
    for (std::size_t i = 0; i < kMargin; ++i) {
        EXPECT_EQ(to[i], kUntouched) << i;
        EXPECT_EQ(to[kMargin + total + i], kUntouched) << i;
    }
}

TEST(StagingWriter, WritesOnePieceOfAnyLength) {
    for (const std::size_t length : {0U, 1U, 63U, 64U, 357U, 1023U, 1024U, 1025U, 4095U, 4096U,
                                     4097U, 5119U, 5120U, 16384U, 32768U, 65535U})
        check({length});
}

TEST(StagingWriter, WritesManyPiecesOfOddLengths) {
    check({1, 2, 3, 4, 5});
    check({1000, 3000, 96, 1, 0, 7777});
    check({4096, 4096, 4096});
    check({4095, 1, 1, 4095, 12345});
    check(std::vector<std::size_t>(100, 333));
}

}  // namespace
}  // namespace sanpoll::engine::shm
