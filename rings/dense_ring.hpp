// Single-producer single-consumer ring of small elements, with nothing else in its lines: see dense_cells.hpp.
//
// When to take which: SpscRing carries anything up to 124 bytes and records of several slots, shows payloads in
// place, and spends a sequence word and a pair of lines on each; every look at it goes to the next slot. DenseRing carries
// one type of whole words by copy, eight elements of 8 bytes in a line or one of 64, and is made for streams, where it moves
// hardly more lines than the elements take. Two that answer each other are a Duplex.
//
// How the consumer looks
//   A look at a line that the producer is about to write takes the line away from it. A consumer that is as fast as
//   its producer does so with every element, and both wait for lines all the time. So there are two ways of looking:
//   - at the next cell: one line moves, and the element is there at once. The way of a consumer that waits;
//   - at `announced`, the producer's progress, which it tells every eighth of the ring or sixteen lines: many elements are there
//     for certain, and none of their lines is looked at too early. The way of a consumer in a stream.
//   After kTryAfter elements found in cells the consumer looks at `announced`; when that has
//   told nothing new for kPatience ticks of the time stamp counter (0.5 to 1 us), it looks at cells again. So the last
//   elements of a stream may be seen that much later; what is alone is not.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <array>
#include <bit>
#include <cassert>
#include <cstring>
#include <memory>
#include <span>

#include "rings/dense_cells.hpp"

namespace sanpoll::rings {

/// The writing end. Exactly one thread at a time; moving it to another one needs a happens-before edge of the caller's
/// own. No function blocks, allocates or calls the system.
template <DenseElement T>
class DenseProducer {
    using Cells = DenseCells<T>;

public:
    DenseProducer() = default;
    /// The memory must be zero-filled and stay mapped while the end is in use. `written`: `capacity` words of this
    /// end's own, zero. Counting begins at `position`, which both progress words hold.
    DenseProducer(const Cells& cells, std::uint64_t* written, std::uint32_t position = 0) noexcept
        : cells_(cells),
          written_(written),
          position_(position),
          limit_(position + cells.capacity),
          announced_(position),
          announce_every_(Cells::announce_every(cells.capacity)) {
        assert(std::has_single_bit(cells.capacity) && cells.capacity >= Cells::kPerLine);
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return cells_.capacity; }

    /// False when the ring is full, or corrupt().
    [[nodiscard]] bool try_push(const T& value) noexcept {
        if (limit_ == position_ && !refresh()) [[unlikely]] {
            return false;
        }
        write(value);
        announce_if_due();
        return true;
    }

    /// Pushes as many of `values` as fit, in order, and tells how many.
    [[nodiscard]] std::size_t push_batch(std::span<const T> values) noexcept {
        if (limit_ - position_ < values.size()) [[unlikely]] {
            (void)refresh();
        }
        const std::size_t room = limit_ - position_;
        const std::size_t count = values.size() < room ? values.size() : room;
        std::size_t done = 0;
        while (done < count) {
            if (position_ % Cells::kPerLine == 0 && count - done >= Cells::kPerLine &&
                write_line(&values[done])) [[likely]] {
                done += Cells::kPerLine;
            } else {
                write(values[done]);
                ++done;
            }
        }
        announce_if_due();
        return count;
    }

    [[nodiscard]] std::uint32_t position() const noexcept { return position_; }

    /// The other side claimed a progress that cannot be. Sticky; nothing can be written any more.
    [[nodiscard]] bool corrupt() const noexcept { return corrupt_; }

private:
    static constexpr std::uint32_t kClaimAhead = 16;  // lines

    // Asks for a line that is going to be written, at the first cell of each. A processor of Intel's waits
    // for the lines that it writes one after the other unless it was asked before. The consumer has no interest in
    // that line: it looks at nothing beyond the next cell but what is announced.
    void claim_ahead() const noexcept {
        if (position_ % Cells::kPerLine == 0) {
            __builtin_prefetch(cells_.cell(position_ + kClaimAhead * Cells::kPerLine), 1, 3);
        }
    }

    void write(const T& value) noexcept {
        claim_ahead();
        std::uint64_t* cell = cells_.cell(position_);
        const std::uint32_t lap = cells_.lap(position_);
        std::array<std::uint64_t, Cells::kWords> in;
        std::memcpy(in.data(), &value, sizeof(T));
        if constexpr (Cells::kWords > 1) {
            std::memcpy(cell + 1, in.data() + 1, sizeof(T) - sizeof(std::uint64_t));
        }
        std::uint64_t first = in[0] ^ dense::kKeys[lap];
        std::uint64_t& written = written_[cells_.index(position_)];
        if (first == written || dense::is_mark(first)) [[unlikely]] {
            __atomic_store_n(&cells_.escaped[cells_.index(position_)], in[0], __ATOMIC_RELAXED);
            first = dense::kMarks[lap];
        }
        written = first;
        // Pairs with the acquire in DenseConsumer::look.
        std::atomic_ref(*cell).store(first, std::memory_order_release);
        ++position_;
    }

    // A whole line of elements of one word, none of which has to be escaped; false and nothing done otherwise.
    bool write_line(const T* values) noexcept {
        if constexpr (Cells::kWords > 1) {
            return false;
        } else {
            claim_ahead();
            std::uint64_t* cell = cells_.cell(position_);
            const std::uint64_t key = dense::kKeys[cells_.lap(position_)];
            std::uint64_t* written = &written_[cells_.index(position_)];
            std::array<std::uint64_t, Cells::kPerLine> in;
            std::array<std::uint64_t, Cells::kPerLine> old;
            std::memcpy(in.data(), values, sizeof(in));
            std::memcpy(old.data(), written, sizeof(old));
            std::uint64_t escapes = 0;
            for (std::uint32_t i = 0; i < Cells::kPerLine; ++i) {
                in[i] ^= key;
                escapes |= static_cast<std::uint64_t>(in[i] == old[i]) |
                           static_cast<std::uint64_t>(dense::is_mark(in[i]));
            }
            if (escapes != 0) [[unlikely]] {
                return false;
            }
            std::memcpy(written, in.data(), sizeof(in));
            store_line(cell, in.data());
            position_ += Cells::kPerLine;
            return true;
        }
    }

    // Each word at once, in any order: a word is all there is of its element. Pairs with the acquire in
    // DenseConsumer::look.
    static void store_line(std::uint64_t* cell, const std::uint64_t* words) noexcept {
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
        // Two words a store, which processors with AVX do at once if aligned: half the places in the store
        // buffer, which is what a producer runs out of while it waits for a line.
        for (std::uint32_t i = 0; i < Cells::kPerLine; i += 2) {
            _mm_store_si128(reinterpret_cast<__m128i*>(cell + i),
                            _mm_loadu_si128(reinterpret_cast<const __m128i*>(words + i)));
        }
#else
        for (std::uint32_t i = 0; i < Cells::kPerLine; ++i) {
            std::atomic_ref(cell[i]).store(words[i], std::memory_order_release);
        }
#endif
    }

    void announce_if_due() noexcept {
        if (position_ - announced_ >= announce_every_) [[unlikely]] {
            announced_ = position_;
            // Pairs with the acquire in DenseConsumer::look_at_announced.
            cells_.announced->value.store(position_, std::memory_order_release);
        }
    }

    bool refresh() noexcept {
        if (corrupt_) {
            return false;
        }
        // Pairs with the release in DenseConsumer::publish_progress: the consumer's reads of a cell happen
        // before our next write to it.
        const std::uint32_t consumed = cells_.consumed->value.load(std::memory_order_acquire);
        // What it had consumed before <= consumed <= what we have written, modulo 2^32.
        const std::uint32_t previous = limit_ - cells_.capacity;
        if (consumed - previous > position_ - previous) {
            corrupt_ = true;
            limit_ = position_;
            return false;
        }
        limit_ = consumed + cells_.capacity;
        return limit_ != position_;
    }

    Cells cells_{};
    // The first word last written to each cell. Not read from the cell: its line is the consumer's by now, and
    // would have to be fetched from there only to be taken away once more for the writing.
    std::uint64_t* written_ = nullptr;
    std::uint32_t position_ = 0;   // next cell to write
    std::uint32_t limit_ = 0;      // first position that may not be written yet
    std::uint32_t announced_ = 0;  // progress that the consumer may know
    std::uint32_t announce_every_ = 1;
    bool corrupt_ = false;
};

/// The reading end. Exactly one thread at a time; see DenseProducer.
template <DenseElement T>
class DenseConsumer {
    using Cells = DenseCells<T>;

public:
    DenseConsumer() = default;
    /// `found`: `capacity` words of this end's own, zero. See DenseProducer.
    DenseConsumer(const Cells& cells, std::uint64_t* found, std::uint32_t position = 0) noexcept
        : cells_(cells),
          found_(found),
          position_(position),
          seen_(position),
          published_(position),
          publish_every_(cells.capacity >= 8 ? cells.capacity / 8 : 1),
          early_(Cells::announce_every(cells.capacity) / 2) {
        assert(std::has_single_bit(cells.capacity) && cells.capacity >= Cells::kPerLine);
    }

    [[nodiscard]] std::uint32_t capacity() const noexcept { return cells_.capacity; }

    /// False when no element is seen.
    [[nodiscard]] bool try_pop(T& value) noexcept {
        if (streaming_ && seen_ - position_ == early_) {
            look_early();
        }
        if (position_ == seen_ && !look()) {
            return false;
        }
        read(value);
        publish_if_due();
        return true;
    }

    /// Pops up to values.size() elements, in order, and tells how many.
    [[nodiscard]] std::size_t pop_batch(std::span<T> values) noexcept {
        if (streaming_ && seen_ - position_ <= early_) {
            look_early();
        }
        std::size_t count = 0;
        while (count < values.size() && (position_ != seen_ || look())) {
            const std::size_t wanted = values.size() - count;
            const std::size_t there = seen_ - position_;
            std::size_t run = wanted < there ? wanted : there;
            for (; run >= Cells::kPerLine && position_ % Cells::kPerLine == 0;
                 run -= Cells::kPerLine, count += Cells::kPerLine) {
                read_line(&values[count]);
            }
            // What is left of it, at most up to the next line.
            for (; run > 0; --run) {
                read(values[count++]);
                if (position_ % Cells::kPerLine == 0) {
                    break;
                }
            }
        }
        publish_if_due();
        return count;
    }

    /// Tells the producer about all that was taken now; otherwise it learns every eighth of the ring.
    void publish_progress() noexcept {
        published_ = position_;
        // Pairs with the acquire in DenseProducer::refresh.
        cells_.consumed->value.store(position_, std::memory_order_release);
    }

    [[nodiscard]] std::uint32_t position() const noexcept { return position_; }

    /// Whether it takes what comes for a stream.
    [[nodiscard]] bool streaming() const noexcept { return streaming_; }

private:
    static constexpr std::uint32_t kTryAfter = 16;     // elements found in cells
    static constexpr std::uint32_t kSeldomTry = 4096;  // where trying has not paid
    static constexpr std::uint32_t kAskAhead = 8;      // lines
    static constexpr std::uint64_t kPatience = 2048;   // ticks

    // Whether there is an element at position_; sets seen_.
    bool look() noexcept {
        if (streaming_) {
            return look_at_announced();
        }
        // Pairs with the release in DenseProducer::write and write_line.
        const std::uint64_t first =
            std::atomic_ref(*cells_.cell(position_)).load(std::memory_order_acquire);
        if (first == found_[cells_.index(position_)]) {
            return false;
        }
        seen_ = position_ + 1;
        if (++found_in_cells_ >= try_after_) [[unlikely]] {
            found_in_cells_ = 0;
            streaming_ = true;
            paid_ = false;
            patient_until_ = 0;
        }
        return true;
    }

    // What is announced, if it is more than what is seen. It may be behind what was found in cells; and nobody
    // honest is more than a lap ahead.
    bool look_early() noexcept {
        // Pairs with the release in DenseProducer::announce_if_due.
        const std::uint32_t announced = cells_.announced->value.load(std::memory_order_acquire);
        if (announced - seen_ - 1 >= cells_.capacity - (seen_ - position_)) {
            return false;
        }
        seen_ = announced;
        return true;
    }

    bool look_at_announced() noexcept {
        if (look_early()) [[likely]] {
            paid_ = true;
            patient_until_ = 0;
            return true;
        }
        const std::uint64_t now = __builtin_ia32_rdtsc();
        if (patient_until_ == 0) {
            patient_until_ = now + kPatience;
        } else if (now >= patient_until_) {
            streaming_ = false;
            try_after_ = paid_ ? kTryAfter : try_after_ < kSeldomTry ? 2 * try_after_ : kSeldomTry;
        }
        return false;
    }

    // At the first cell of a line: asks for one further on, if it is known to be written.
    void ask_ahead() const noexcept {
        constexpr std::uint32_t kElements = kAskAhead * Cells::kPerLine;
        if (position_ % Cells::kPerLine == 0 && seen_ - position_ > kElements) {
            prefetch_for_read(cells_.cell(position_ + kElements));
        }
    }

    // The element at position_, which is known to be there.
    void read(T& value) noexcept {
        ask_ahead();
        const std::uint64_t* cell = cells_.cell(position_);
        const std::uint32_t index = cells_.index(position_);
        const std::uint32_t lap = cells_.lap(position_);
        const std::uint64_t first = load_once(*cell);
        std::array<std::uint64_t, Cells::kWords> out;
        found_[index] = first;
        out[0] = first ^ dense::kKeys[lap];
        if (first == dense::kMarks[lap]) [[unlikely]] {
            out[0] = load_once(cells_.escaped[index]);
        }
        if constexpr (Cells::kWords > 1) {
            std::memcpy(out.data() + 1, cell + 1, sizeof(T) - sizeof(std::uint64_t));
        }
        std::memcpy(static_cast<void*>(&value), out.data(), sizeof(T));
        ++position_;
    }

    // A whole line of them.
    void read_line(T* values) noexcept {
        if constexpr (Cells::kWords > 1) {
            for (std::uint32_t i = 0; i < Cells::kPerLine; ++i) {
                read(values[i]);
            }
        } else {
            ask_ahead();
            const std::uint32_t lap = cells_.lap(position_);
            const std::uint32_t index = cells_.index(position_);
            std::array<std::uint64_t, Cells::kPerLine> in;
            std::memcpy(in.data(), cells_.cell(position_), sizeof(in));
            std::memcpy(&found_[index], in.data(), sizeof(in));
            std::uint64_t escapes = 0;
            for (std::uint64_t& word : in) {
                escapes |= static_cast<std::uint64_t>(word == dense::kMarks[lap]);
                word ^= dense::kKeys[lap];
            }
            if (escapes != 0) [[unlikely]] {
                for (std::uint32_t i = 0; i < Cells::kPerLine; ++i) {
                    if (found_[index + i] == dense::kMarks[lap]) {
                        in[i] = load_once(cells_.escaped[index + i]);
                    }
                }
            }
            std::memcpy(static_cast<void*>(values), in.data(), sizeof(in));
            position_ += Cells::kPerLine;
        }
    }

    void publish_if_due() noexcept {
        if (position_ - published_ >= publish_every_) [[unlikely]] {
            publish_progress();
        }
    }

    Cells cells_{};
    std::uint64_t* found_ = nullptr;  // the first word last found in each cell
    std::uint32_t position_ = 0;      // next cell to read
    std::uint32_t seen_ = 0;          // all before it are there
    std::uint32_t published_ = 0;     // progress that the producer knows
    std::uint32_t publish_every_ = 1;
    std::uint32_t early_ = 1;              // so many elements before the end of what is seen
    std::uint32_t found_in_cells_ = 0;     // since the last try
    std::uint32_t try_after_ = kTryAfter;  // so many, look at `announced`
    bool streaming_ = false;               // look at `announced`, not at cells
    bool paid_ = false;                    // it has told something since
    std::uint64_t patient_until_ = 0;      // how long; 0: the wait has not begun
};

/// A ring inside one process: owns its memory and holds both ends, each in lines of its own.
template <DenseElement T>
class DenseRing {
    using Cells = DenseCells<T>;

public:
    /// `capacity` is rounded up to a power of two, a pair of lines at least. Allocates; throws std::bad_alloc.
    explicit DenseRing(std::uint32_t capacity)
        : capacity_(std::bit_ceil(capacity < 2 * Cells::kPerLine ? 2 * Cells::kPerLine : capacity)),
          cells_(new Line[lines(std::size_t{capacity_} * Cells::kWords)]()),
          escaped_(new Line[lines(capacity_)]()),
          written_(new Line[lines(capacity_)]()),
          found_(new Line[lines(capacity_)]()),
          producer_(cells(), written_[0].words),
          consumer_(cells(), found_[0].words) {}

    DenseRing(const DenseRing&) = delete;
    DenseRing& operator=(const DenseRing&) = delete;

    [[nodiscard]] DenseProducer<T>& producer() noexcept { return producer_; }
    [[nodiscard]] DenseConsumer<T>& consumer() noexcept { return consumer_; }

private:
    struct alignas(kSlotStride) Line {
        std::uint64_t words[kSlotStride / sizeof(std::uint64_t)];
    };
    [[nodiscard]] static constexpr std::size_t lines(std::size_t words) noexcept {
        return (words * sizeof(std::uint64_t) + sizeof(Line) - 1) / sizeof(Line);
    }
    [[nodiscard]] Cells cells() noexcept {
        return {cells_[0].words, escaped_[0].words, &announced_, &consumed_, capacity_};
    }

    std::uint32_t capacity_;
    std::unique_ptr<Line[]> cells_;
    std::unique_ptr<Line[]> escaped_;
    std::unique_ptr<Line[]> written_;
    std::unique_ptr<Line[]> found_;
    alignas(kSlotStride) AnnouncedWord announced_{};
    alignas(kSlotStride) ConsumedWord consumed_{};
    alignas(kSlotStride) DenseProducer<T> producer_;
    alignas(kSlotStride) DenseConsumer<T> consumer_;
};

}  // namespace sanpoll::rings
