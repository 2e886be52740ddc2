// The queue inside a completion port: first in, first out, any number of threads on both sides,
// without a bound.
//
// Two parts. The ring serves the ordinary case: a fixed array of cells, one cache line each, whose
// sequence number says whose turn it is, so that producers meet only at one counter and consumers
// only at another, with no lock and no allocation. Entries that find the ring full go to the
// overflow, a list under a lock; from then on all do, until the overflow is empty again, and the
// overflow is taken from only when the ring is empty: the order stays that of arrival.
//
//   cell.sequence == position              free for the producer whose turn is `position`
//   cell.sequence == position + 1          full, for the consumer whose turn is `position`
//   cell.sequence == position + kCells     free again, one lap later
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <sanpoll/switch.hpp>

#include "switch/backlog.hpp"
#include "switch/futex.hpp"

namespace sanpoll_switch::detail {

class CompletionQueue {
public:
    // A size of the ring that stays in a core's cache; a longer queue is a backlog, not a hand-off.
    static constexpr std::size_t kCells = 256;

    CompletionQueue();

    // Any thread. False: no memory. Its last write is sequentially consistent, so that the caller
    // may look for waiters after it and trust that one of both sides notices the other
    // (CompletionPort::push).
    bool push(const OVERLAPPED_ENTRY& entry);

    // Any thread. Takes up to `count` entries, returns how many. No system call unless an overflow
    // is in use at the same time and its holder has lost its core. The first read of each attempt
    // is sequentially consistent.
    std::size_t pop(OVERLAPPED_ENTRY* entries, std::size_t count);

    // Any thread, true for the moment of looking: nothing that pop() would find.
    bool empty() const;

    // One thread, nobody else there: drops what is queued, gives the overflow's memory back.
    void clear() noexcept;

private:
    struct alignas(64) Cell {
        std::atomic<std::uint64_t> sequence{0};
        OVERLAPPED_ENTRY entry{};
    };

    bool push_to_ring(const OVERLAPPED_ENTRY& entry);
    std::size_t pop_from_ring(OVERLAPPED_ENTRY* entries, std::size_t count);

    // Apart from each other: producers write the first, consumers the second, and all read the
    // third.
    alignas(64) std::atomic<std::uint64_t> tail_{0};
    alignas(64) std::atomic<std::uint64_t> head_{0};
    alignas(64) std::atomic<std::size_t> overflow_size_{0};
    SlowPathMutex overflow_mutex_;
    Backlog overflow_;
    std::array<Cell, kCells> cells_;
};

}  // namespace sanpoll_switch::detail
