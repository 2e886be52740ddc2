// Two SPSC rings, one each way, and the line for whoever is answered next: questions and answers take the line, streams
// the rings, and either arrive in the order in which they were written.
//
// What goes into the line says how far the ring of its direction had been written before it: the reader takes it when it
// has come so far, neither earlier nor later. To see that order the reader looks at the ring first and at the line then:
// a ring slot that was written after the line comes with it.
#pragma once

#include <cstring>
#include <memory>

#include "rings/spsc_ring.hpp"
#include "rings/turn_line.hpp"

namespace sanpoll::rings {

/// What travels: whole words, a line at most.
template <typename T>
concept DuplexElement = std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(std::uint64_t) == 0 &&
                        sizeof(T) <= kCacheLine;

/// One end: writes one way, reads the other. Exactly one thread at a time. Nothing blocks.
template <DuplexElement T>
class DuplexEnd {
public:
    DuplexEnd() = default;
    DuplexEnd(const SpscProducer& producer, const SpscConsumer& consumer,
              const TurnEnd& turn) noexcept
        : producer_(producer), consumer_(consumer), turn_(turn) {}

    /// False when there is no room.
    [[nodiscard]] bool try_push(const T& value) noexcept {
        if (turn_.mine()) {
            const std::uint64_t first = kWhole ? first_word(value) : producer_.position();
            if (turn_.would_show(first)) [[likely]] {
                if constexpr (kWhole) {
                    turn_.set_note({{producer_.position(), 0}});
                    std::memcpy(turn_.rest(),
                                reinterpret_cast<const std::byte*>(&value) + sizeof(first),
                                sizeof(T) - sizeof(first));
                } else {
                    std::memcpy(turn_.rest(), &value, sizeof(T));
                }
                turn_.publish(first);
                return true;
            }
        }
        return producer_.try_push(value);
    }

    /// False when there is nothing to be read.
    [[nodiscard]] bool try_pop(T& value) noexcept {
        const bool in_ring =
            consumer_.front() != nullptr;  // before the look at the line: see above
        if (turn_.look() &&
            (kWhole ? turn_.peer_note().words[0] : turn_.first()) == consumer_.position()) {
            auto* to = reinterpret_cast<std::byte*>(&value);
            const TurnEnd& turn = turn_;
            if constexpr (kWhole) {
                const std::uint64_t first = turn.first();
                std::memcpy(to, &first, sizeof(first));
                std::memcpy(to + sizeof(first), turn.rest(), sizeof(T) - sizeof(first));
            } else {
                std::memcpy(to, turn.rest(), sizeof(T));
            }
            turn_.take();
            return true;
        }
        return in_ring && consumer_.try_pop(value);
    }

private:
    // Behind a word that says how far the ring was, or instead of it.
    static constexpr bool kWhole = sizeof(T) > TurnEnd::kRest;

    static std::uint64_t first_word(const T& value) noexcept {
        std::uint64_t word = 0;
        std::memcpy(&word, &value, sizeof(word));
        return word;
    }

    SpscProducer producer_;
    SpscConsumer consumer_;
    TurnEnd turn_;
};

/// Both ends inside one process, and the memory. Each end is in lines of its own.
template <DuplexElement T>
class Duplex {
public:
    /// `capacity`, of each direction, is rounded up to a power of two, 2 at least. Allocates; throws std::bad_alloc.
    explicit Duplex(std::uint32_t capacity)
        : capacity_(std::bit_ceil(capacity < 2 ? 2U : capacity)),
          slots_(new Slot[2 * std::size_t{capacity_}]()) {
        for (const std::uint32_t way : {0U, 1U}) {
            const std::uint32_t back = 1 - way;
            ends_[way].end = DuplexEnd<T>(SpscProducer(slots(way), capacity_, &consumed_[way]),
                                          SpscConsumer(slots(back), capacity_, &consumed_[back]),
                                          TurnEnd(line_, way == 0));
        }
    }

    Duplex(const Duplex&) = delete;
    Duplex& operator=(const Duplex&) = delete;

    /// 0 or 1: what the one writes the other reads.
    [[nodiscard]] DuplexEnd<T>& end(std::uint32_t which) noexcept { return ends_[which].end; }

private:
    struct alignas(kSlotStride) End {
        DuplexEnd<T> end;
    };
    Slot* slots(std::uint32_t way) const noexcept {
        return slots_.get() + std::size_t{way} * capacity_;
    }

    std::uint32_t capacity_;
    std::unique_ptr<Slot[]> slots_;
    ConsumedWord consumed_[2]{};
    TurnLine line_{};
    End ends_[2];
};

}  // namespace sanpoll::rings
