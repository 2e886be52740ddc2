#include "engine/fabric/copy.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <vector>

namespace sanpoll::engine {
namespace {

constexpr std::size_t kGuard = 160;  // longer than the longest step of a kernel
constexpr unsigned char kUntouched = 0xEE;

template <typename Copy>
void check(Copy copy, std::size_t longest) {
    for (std::size_t to_offset = 0; to_offset < 33; to_offset += to_offset < 9 ? 1 : 8) {
        for (std::size_t from_offset = 0; from_offset < 33;
             from_offset += from_offset < 9 ? 1 : 8) {
            for (std::size_t length = 0; length <= longest; ++length) {
                // The source ends where its memory ends, so that reading beyond it is seen by ASan.
                std::vector<unsigned char> from(1 + from_offset + length);
                for (std::size_t i = 0; i < from.size(); ++i) {
                    from[i] = static_cast<unsigned char>(i * 7 + length + 1);
                }
                std::array<unsigned char, 2 * kGuard + 33 + 300> to;
                to.fill(kUntouched);
                unsigned char* start = to.data() + kGuard + to_offset;
                const unsigned char* source = from.data() + 1 + from_offset;
                copy(start, source, length);
                ASSERT_EQ(std::memcmp(start, source, length), 0)
                    << length << " bytes from " << from_offset << " to " << to_offset;
                for (const unsigned char* p = to.data(); p != start; ++p) {
                    ASSERT_EQ(*p, kUntouched) << length << " bytes: wrote before the beginning";
                }
                for (const unsigned char* p = start + length; p != to.data() + to.size(); ++p) {
                    ASSERT_EQ(*p, kUntouched) << length << " bytes: wrote beyond the end";
                }
            }
        }
    }
}

TEST(CopyShort, CopiesExactlyEveryLengthAtEveryOffset) {
    check([](void* to, const void* from, std::size_t length) { copy_short(to, from, length); }, 64);
}

TEST(CopySlot, CopiesExactlyEveryLengthAtEveryOffset) {
    check([](void* to, const void* from, std::size_t length) { copy_slot(to, from, length); }, 128);
}

TEST(CopyLong, CopiesExactlyEveryLengthAtEveryOffset) {
    check([](void* to, const void* from, std::size_t length) { copy_long(to, from, length); }, 300);
}

TEST(CopyFetching, CopiesExactlyEveryLengthAtEveryOffset) {
    check([](void* to, const void* from, std::size_t length) { copy_fetching(to, from, length); },
          300);
}

TEST(CopyBackwards, CopiesExactlyEveryLengthAtEveryOffset) {
    check([](void* to, const void* from, std::size_t length) { copy_backwards(to, from, length); },
          300);
}

using LongCopy = void (*)(void*, const void*, std::size_t) noexcept;
class LargeBlocks : public testing::TestWithParam<LongCopy> {};

TEST_P(LargeBlocks, AreCopied) {
    // Around the length at which the kernel may change, too.
    for (const std::size_t length :
         {1023U, 1024U, 1151U, 1152U, 1153U, 1280U, 2000U, 4096U, 8191U, 8192U, 8193U, 16384U,
          32767U, 32768U, 32769U, 65536U, 65537U, (1U << 20) + 77U}) {
        std::vector<unsigned char> from(length);
        for (std::size_t i = 0; i < length; ++i) {
            from[i] = static_cast<unsigned char>(i * 31 >> 3);
        }
        std::vector<unsigned char> to(length + 2, kUntouched);
        GetParam()(to.data() + 1, from.data(), length);
        EXPECT_EQ(std::memcmp(to.data() + 1, from.data(), length), 0);
        EXPECT_EQ(to.front(), kUntouched);
        EXPECT_EQ(to.back(), kUntouched);
    }
}

INSTANTIATE_TEST_SUITE_P(Copies, LargeBlocks,
                         testing::Values(&copy_long, &copy_fetching, &copy_backwards));

}  // namespace
}  // namespace sanpoll::engine
