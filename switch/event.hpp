// Manual-reset events.
//
// The state is a counter of changes, odd while the event is signaled. That makes "all signaled at
// the same moment" decidable without a lock: read all counters, then read them again; if none has
// changed, they held together in between.
#pragma once

#include <ws2san.h>

#include <atomic>
#include <cstdint>

#include "switch/futex.hpp"
#include "switch/handle_table.hpp"

namespace sanpoll_switch::detail {

class Event {
public:
    // One thread's registration at one event, on that thread's stack.
    struct Waiter {
        WaitBlock* block = nullptr;
        Waiter* previous = nullptr;
        Waiter* next = nullptr;
    };

    // Any thread. No system call and no lock unless somebody is registered.
    void set() {
        change(true);
        // Sequentially consistent with change(): either this load sees the waiter that enlist()
        // counted, or that waiter's look at changes(), which comes after, sees the event signaled.
        if (waiters_.load(std::memory_order_seq_cst) != 0) wake_all();
    }

    void reset() { change(false); }

    // Odd: signaled. Sequentially consistent: partners are the exchange in change() (whose release
    // makes the setter's writes visible) and the count in enlist(), as told in set().
    std::uint64_t changes() const { return changes_.load(std::memory_order_seq_cst); }
    static bool signaled(std::uint64_t changes) { return (changes & 1) != 0; }

    // Registered waiters are woken by each set(). The same thread withdraws before `waiter` goes.
    void enlist(Waiter& waiter);
    void withdraw(Waiter& waiter);

    void wake_all();

    void recycle() noexcept { changes_.store(0, std::memory_order_relaxed); }

private:
    // A read-modify-write also where nothing changes: a set of a signaled event must be ordered
    // with a reset at the same time, or the resetting thread could miss what the setter wrote
    // before, and the signal with it.
    void change(bool signal) {
        std::uint64_t seen = changes_.load(std::memory_order_relaxed);
        while (!changes_.compare_exchange_weak(seen, signaled(seen) == signal ? seen : seen + 1,
                                               std::memory_order_seq_cst,
                                               std::memory_order_relaxed)) {
        }
    }

    std::atomic<std::uint64_t> changes_{0};
    std::atomic<std::uint32_t> waiters_{0};  // registered ones
    SlowPathMutex mutex_;                    // guards the list
    Waiter* first_ = nullptr;
};

using EventTable = HandleTable<Event, HandleKind::kEvent, 256>;
EventTable& events();

// 0 or WSA_INVALID_HANDLE. The upcalls and the functions with Windows' names are made of these.
WSAEVENT create_event();
int set_event(WSAEVENT event);
int reset_event(WSAEVENT event);
int close_event(WSAEVENT event);

}  // namespace sanpoll_switch::detail
