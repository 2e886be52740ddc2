// Two dense rings, one each way, that share their lines: for two threads that answer each other.
//
// The cells of the one are the first halves of all lines, those of the other the second halves. Who has just read a
// question has its line, and writes the answer into the same one: the hand-off moves that line once. Where each
// direction has lines of its own, the answer's line has to be taken back first from the thread that waits for it by looking
// at it; on Intel's processors that is a second transfer, and a round trip takes twice as long.
//
// The price: elements of 32 bytes at most, half as many to a line, and two streams at the same time disturb each other.
// For those, take two DenseRings.
#pragma once

#include "rings/dense_ring.hpp"

namespace sanpoll::rings {

/// One end of a pair: writes one way, reads the other. Exactly one thread at a time; see DenseProducer, DenseConsumer.
template <DenseElement T>
struct DenseEnd {
    DenseProducer<T, DenseLayout::kHalfLines> producer;
    DenseConsumer<T, DenseLayout::kHalfLines> consumer;
};

/// A pair inside one process: owns its memory and holds both ends, each in lines of its own.
template <DenseElement T>
class DensePair {
    using Cells = DenseCells<T, DenseLayout::kHalfLines>;

public:
    /// `capacity`, of each direction, is rounded up to a power of two, two lines at least. Allocates; throws
    /// std::bad_alloc.
    explicit DensePair(std::uint32_t capacity)
        : capacity_(std::bit_ceil(capacity < 2 * Cells::kPerLine ? 2 * Cells::kPerLine : capacity)),
          lines_(new Line[capacity_ / Cells::kPerLine]()),
          rest_{Rest(capacity_), Rest(capacity_)} {
        for (const std::uint32_t way : {0U, 1U}) {
            const Cells cells{&lines_[0].words[way * Cells::kLineWords / 2],
                              rest_[way].escaped.get(), &words_[way].announced,
                              &words_[way].consumed, capacity_};
            ends_[way].end.producer =
                DenseProducer<T, DenseLayout::kHalfLines>(cells, rest_[way].written.get());
            ends_[1 - way].end.consumer =
                DenseConsumer<T, DenseLayout::kHalfLines>(cells, rest_[way].found.get());
        }
    }

    DensePair(const DensePair&) = delete;
    DensePair& operator=(const DensePair&) = delete;

    /// 0 or 1: what the one writes the other reads.
    [[nodiscard]] DenseEnd<T>& end(std::uint32_t which) noexcept { return ends_[which].end; }

private:
    struct alignas(kCacheLine) Line {
        std::uint64_t words[Cells::kLineWords];
    };
    struct Rest {
        explicit Rest(std::uint32_t capacity)
            : escaped(new std::uint64_t[capacity]()),
              written(new std::uint64_t[capacity]()),
              found(new std::uint64_t[capacity]()) {}
        std::unique_ptr<std::uint64_t[]> escaped;
        std::unique_ptr<std::uint64_t[]> written;
        std::unique_ptr<std::uint64_t[]> found;
    };
    struct Words {
        alignas(kSlotStride) AnnouncedWord announced{};
        alignas(kSlotStride) ConsumedWord consumed{};
    };
    struct alignas(kSlotStride) End {
        DenseEnd<T> end;
    };

    std::uint32_t capacity_;
    std::unique_ptr<Line[]> lines_;
    Rest rest_[2];
    Words words_[2];
    End ends_[2];
};

}  // namespace sanpoll::rings
