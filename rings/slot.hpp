// The unit of every ring: a pair of cache lines, the first of which says itself whether it is full.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace sanpoll::rings {

inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::size_t kLinePayload = 60;   // what travels with the sequence word
inline constexpr std::size_t kSlotPayload = 124;  // with the second line
inline constexpr std::size_t kSlotStride = 128;   // bytes from one slot to the next in memory

/// A sequence word and 124 bytes of payload, the first 60 in the word's own line. What is longer goes on
/// in the line beside it, which is not touched otherwise.
///
/// The slot at position p of the stream is full when `sequence == p + 1` (modulo 2^32); any other
/// value means "not yet". The word shares the line with the data on purpose: the hand-off moves this
/// one line, whereas a ring with a tail index moves the index's line and then the data's line, one
/// miss after the other.
///
/// Zero-filled memory is a valid empty ring: position 0 waits for 1, and a slot can only hold the
/// value that its position waits for after the producer has written it in this lap (the previous lap
/// left `p + 1 - capacity` there).
///
/// The second line belongs to the same slot because processors fetch lines in pairs of 128 bytes: a reader
/// that looks at one slot would pull the next one out of the writer's cache. See slot_index for the other
/// half of it. A reader that expects long payloads asks for the second line with every look at the first
/// (SpscConsumer::front_with_second_line): then both are on their way at once, and a payload of two lines
/// takes hardly longer than one of a single line.
struct alignas(kSlotStride) Slot {
    std::atomic<std::uint32_t> sequence;
    std::byte payload[kSlotPayload];
};

static_assert(sizeof(Slot) == kSlotStride && alignof(Slot) == kSlotStride);
static_assert(offsetof(Slot, payload) == 4);
static_assert(offsetof(Slot, payload) + kLinePayload == kCacheLine);
static_assert(offsetof(Slot, payload) + kSlotPayload == kSlotStride);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free,
              "the word is shared by processes; a lock-based atomic would not be");

/// Where in the memory of a ring of `mask + 1` slots (a power of two) the slot of `position` lies.
///
/// Not in the order of positions: two cores that hand lines to each other in rising order, or in any
/// order of constant stride, train their prefetchers to fetch the lines that come next, from the core
/// that is about to write them, and each of those writes then waits for its line once more. Here the
/// stride is another one every time, and p * (2p + 1) still visits every slot once a lap (an odd linear
/// and an even square coefficient make a permutation modulo any power of two).
[[nodiscard]] constexpr std::uint32_t slot_index(std::uint32_t position,
                                                 std::uint32_t mask) noexcept {
    return (position * (2 * position + 1)) & mask;
}

/// The consumer's progress, alone in its line: the producer reads it only when the ring looks full,
/// that is about once a lap, so it almost never moves.
struct alignas(kCacheLine) ConsumedWord {
    std::atomic<std::uint32_t> value;
};

static_assert(sizeof(ConsumedWord) == kCacheLine);

/// Reads a word of memory that another process may change at any moment, exactly once. Without it the
/// compiler may load again after a check, and the check would have looked at another value.
template <typename T>
[[nodiscard]] inline T load_once(const T& word) noexcept {
    static_assert(std::is_integral_v<T> && sizeof(T) <= 8);
    return __atomic_load_n(&word, __ATOMIC_RELAXED);
}

/// Asks for a line ahead of reading it.
inline void prefetch_for_read(const void* line) noexcept { __builtin_prefetch(line, 0, 3); }

/// Tells the processor that this is a wait loop; keeps a sibling hyper-thread running.
inline void cpu_pause() noexcept { __builtin_ia32_pause(); }

}  // namespace sanpoll::rings
