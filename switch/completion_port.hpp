// Completion ports: a queue of completions and the threads that sleep until there is one.
#pragma once

#include <ws2san.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "switch/completion_queue.hpp"
#include "switch/futex.hpp"
#include "switch/handle_table.hpp"

namespace sanpoll_switch::detail {

class CompletionPort {
public:
    // Any thread. False: no memory. No system call unless a thread sleeps; then one, for one
    // thread.
    bool push(const OVERLAPPED_ENTRY& entry) {
        if (!queue_.push(entry)) return false;
        // Sequentially consistent with the end of queue_.push(): either this load sees the waiter
        // that enlist() counted, or that waiter's look into the queue, which comes after, sees the
        // entry.
        if (waiters_.load(std::memory_order_seq_cst) != 0) wake_one();
        return true;
    }

    std::size_t pop(OVERLAPPED_ENTRY* entries, std::size_t count) {
        return queue_.pop(entries, count);
    }

    // Like pop(), but sleeps until there is something, the deadline has passed or `closed()` says
    // so; then 0.
    template <class Closed>
    std::size_t pop_or_sleep(OVERLAPPED_ENTRY* entries, std::size_t count, const Deadline& deadline,
                             Closed&& closed) {
        bool in_time = true;
        for (;;) {
            Waiter waiter;
            enlist(waiter);
            std::size_t taken = queue_.pop(entries, count);
            if (taken == 0 && in_time && !closed()) in_time = waiter.block.sleep(deadline);
            const bool chosen = withdraw(waiter);
            if (taken == 0) taken = queue_.pop(entries, count);
            // Chosen for one entry, but perhaps served by another: the wake then belongs to whoever
            // sleeps still. (An entry that becomes visible after this look brings its own wake.)
            if (taken != 0 && chosen && !queue_.empty()) wake_one();
            if (taken != 0 || !in_time || closed()) return taken;
        }
    }

    void wake_all();

    void recycle() noexcept { queue_.clear(); }

private:
    // One sleeping thread, on its stack.
    struct Waiter {
        WaitBlock block;
        Waiter* previous = nullptr;
        Waiter* next = nullptr;
        bool linked = false;
    };

    void enlist(Waiter& waiter);
    // Whether wake_one() had chosen this one.
    bool withdraw(Waiter& waiter);
    void unlink(Waiter& waiter);
    void wake_one();

    CompletionQueue queue_;
    alignas(64) std::atomic<std::uint32_t> waiters_{0};  // linked ones
    SlowPathMutex mutex_;                                // guards the list
    Waiter* newest_ = nullptr;
};

// One by one: a port is 17 KB.
using PortTable = HandleTable<CompletionPort, HandleKind::kPort, 1>;
PortTable& ports();

}  // namespace sanpoll_switch::detail
