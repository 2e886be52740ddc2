#include "switch/completion_queue.hpp"

#include <mutex>
#include <new>

namespace sanpoll_switch::detail {

CompletionQueue::CompletionQueue() {
    for (std::size_t i = 0; i < kCells; ++i)
        cells_[i].sequence.store(i, std::memory_order_relaxed);
}

bool CompletionQueue::push(const OVERLAPPED_ENTRY& entry) {
    // Acquire: partner is the store in pop() that empties the overflow. Who sees 0 there comes
    // after all that was in it.
    if (overflow_size_.load(std::memory_order_acquire) == 0 && push_to_ring(entry)) return true;
    const std::lock_guard lock(overflow_mutex_);
    try {
        overflow_.push(entry);
    } catch (const std::bad_alloc&) {
        return false;
    }
    // Sequentially consistent: partners are the loads in pop(); see push() in the header.
    overflow_size_.store(overflow_.size(), std::memory_order_seq_cst);
    return true;
}

bool CompletionQueue::push_to_ring(const OVERLAPPED_ENTRY& entry) {
    std::uint64_t position = tail_.load(std::memory_order_relaxed);
    for (;;) {
        Cell& cell = cells_[position % kCells];
        // Acquire: partner is the release store in pop_from_ring(), so that its reading of the
        // entry comes before our writing.
        const auto turn =
            static_cast<std::int64_t>(cell.sequence.load(std::memory_order_acquire) - position);
        if (turn < 0) return false;  // full: still the entry of one lap ago
        if (turn > 0) {
            position = tail_.load(std::memory_order_relaxed);
            continue;
        }
        // Release: partner is the acquire load of tail_ in pop(), for which a claimed cell is a
        // cell in use.
        if (tail_.compare_exchange_weak(position, position + 1, std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
            cell.entry = entry;
            // Sequentially consistent: partner is the load in pop_from_ring(); see push() in the
            // header.
            cell.sequence.store(position + 1, std::memory_order_seq_cst);
            return true;
        }
    }
}

std::size_t CompletionQueue::pop(OVERLAPPED_ENTRY* entries, std::size_t count) {
    std::size_t taken = pop_from_ring(entries, count);
    // Sequentially consistent: partner is the store in push().
    if (taken != 0 || overflow_size_.load(std::memory_order_seq_cst) == 0) return taken;

    const std::lock_guard lock(overflow_mutex_);
    // What is in the ring now is older than what is in the overflow. A cell that is claimed but not
    // yet written is older too: its producer has still to look for waiters, so giving up here loses
    // nothing.
    taken = pop_from_ring(entries, count);
    // Acquire: partner is the release of tail_ in push_to_ring().
    if (taken != 0 ||
        tail_.load(std::memory_order_acquire) != head_.load(std::memory_order_acquire))
        return taken;
    taken = overflow_.pop(entries, count);
    // Release: partner is the acquire load in push(). Sequentially consistent like its other
    // partner there.
    overflow_size_.store(overflow_.size(), std::memory_order_seq_cst);
    return taken;
}

std::size_t CompletionQueue::pop_from_ring(OVERLAPPED_ENTRY* entries, std::size_t count) {
    std::uint64_t position = head_.load(std::memory_order_relaxed);
    for (;;) {
        // A written cell stays written until its turn is taken, so those counted here are ours if
        // head_ is still the same.
        std::size_t ready = 0;
        while (ready < count && ready < kCells) {
            const std::uint64_t expected = position + ready;
            // Sequentially consistent, which includes acquire: partner is the store in
            // push_to_ring().
            if (cells_[expected % kCells].sequence.load(std::memory_order_seq_cst) != expected + 1)
                break;
            ++ready;
        }
        if (ready == 0) {
            const std::uint64_t now = head_.load(std::memory_order_relaxed);
            if (now == position) return 0;
            position = now;
            continue;
        }
        // Release: partner is the acquire load of head_ in pop().
        if (!head_.compare_exchange_weak(position, position + ready, std::memory_order_acq_rel,
                                         std::memory_order_relaxed)) {
            continue;
        }
        for (std::size_t i = 0; i < ready; ++i) {
            Cell& cell = cells_[(position + i) % kCells];
            entries[i] = cell.entry;
            // Release: partner is the acquire load in push_to_ring().
            cell.sequence.store(position + i + kCells, std::memory_order_release);
        }
        return ready;
    }
}

bool CompletionQueue::empty() const {
    // Ordered as in pop(), which has the partners.
    const std::uint64_t position = head_.load(std::memory_order_acquire);
    return cells_[position % kCells].sequence.load(std::memory_order_seq_cst) != position + 1 &&
           overflow_size_.load(std::memory_order_seq_cst) == 0;
}

void CompletionQueue::clear() noexcept {
    OVERLAPPED_ENTRY dropped;
    while (pop(&dropped, 1) != 0) {
    }
    overflow_.clear();
}

}  // namespace sanpoll_switch::detail
