// The memory of a dense ring: elements and nothing else in its lines, and how a cell says that it is full all the same.
//
// A cell says so by a *change* of its first word. The consumer remembers what it last found in each cell, in memory of its
// own; the producer sees to it that what it writes there is something else:
//   - words are stored xored with a key that alternates from lap to lap, so that equal elements differ;
//   - where the new word would equal the old one all the same, or look like a mark, the producer puts the
//     word into a second array, `escaped`, and this lap's mark into the cell. The marks alternate as well and are never in
//     a cell otherwise, so a mark is a change too.
// Whether a word needs the second array is like guessing 63 random bits, unless somebody means it; then it costs a second
// line, and nothing else.
//
// Zero-filled memory is a valid empty ring: no word is stored as zero in the first lap but by a mark.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "rings/slot.hpp"

namespace sanpoll::rings {

/// What a dense ring carries: whole words, and a whole number of elements to a line.
template <typename T>
concept DenseElement = std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0 &&
                       kCacheLine % sizeof(T) == 0;

namespace dense {

inline constexpr std::uint64_t kKeys[2] = {0x9E3779B97F4A7C15, 0x5851F42D4C957F2D};
inline constexpr std::uint64_t kMarks[2] = {0xD6E8FEB86659FD92, 0xD6E8FEB86659FD93};

/// Either mark: they differ in the last bit only.
[[nodiscard]] constexpr bool is_mark(std::uint64_t stored) noexcept {
    return (stored | 1) == kMarks[1];
}
static_assert(is_mark(kMarks[0]) && is_mark(kMarks[1]) && kMarks[0] != kMarks[1]);

}  // namespace dense

/// How far the producer has got, told now and then: alone in its line.
struct alignas(kCacheLine) AnnouncedWord {
    std::atomic<std::uint32_t> value;
};

/// Where a ring of `capacity` cells lies (a power of two, and at least one line of them).
template <DenseElement T>
struct DenseCells {
    static constexpr std::uint32_t kLineWords = kCacheLine / sizeof(std::uint64_t);
    static constexpr std::uint32_t kWords = sizeof(T) / sizeof(std::uint64_t);
    static constexpr std::uint32_t kPerLine = kLineWords / kWords;
    static constexpr std::uint32_t kAnnounceLines = 16;

    std::uint64_t* words = nullptr;    // capacity / kPerLine lines
    std::uint64_t* escaped = nullptr;  // one for each cell
    AnnouncedWord* announced = nullptr;
    ConsumedWord* consumed = nullptr;
    std::uint32_t capacity = 0;

    [[nodiscard]] std::uint32_t index(std::uint32_t position) const noexcept {
        return position & (capacity - 1);
    }
    [[nodiscard]] std::uint64_t* cell(std::uint32_t position) const noexcept {
        const std::uint32_t line = index(position) / kPerLine;
        return words + std::size_t{line} * kLineWords + position % kPerLine * kWords;
    }
    /// How many elements apart announcements are: sixteen lines full, or an eighth of a small ring.
    [[nodiscard]] static constexpr std::uint32_t announce_every(std::uint32_t capacity) noexcept {
        const std::uint32_t part = capacity >= 16 ? capacity / 8 : 2;
        return part < kAnnounceLines * kPerLine ? part : kAnnounceLines * kPerLine;
    }
    /// 0 or 1: which key and which mark.
    [[nodiscard]] std::uint32_t lap(std::uint32_t position) const noexcept {
        return (position & capacity) != 0 ? 1 : 0;
    }
};

}  // namespace sanpoll::rings
