#include "switch/event.hpp"

#include <array>
#include <mutex>
#include <optional>
#include <sanpoll/switch.hpp>
#include <span>

#include "switch/last_error.hpp"

namespace sanpoll_switch {
namespace detail {

void Event::enlist(Waiter& waiter) {
    const std::lock_guard lock(mutex_);
    waiter.previous = nullptr;
    waiter.next = first_;
    if (first_ != nullptr) first_->previous = &waiter;
    first_ = &waiter;
    // Sequentially consistent: see set().
    waiters_.fetch_add(1, std::memory_order_seq_cst);
}

void Event::withdraw(Waiter& waiter) {
    const std::lock_guard lock(mutex_);
    (waiter.previous != nullptr ? waiter.previous->next : first_) = waiter.next;
    if (waiter.next != nullptr) waiter.next->previous = waiter.previous;
    waiters_.fetch_sub(1, std::memory_order_relaxed);
}

void Event::wake_all() {
    // The wakes themselves are under the lock: a waiter's block may go as soon as it has withdrawn.
    const std::lock_guard lock(mutex_);
    for (Waiter* waiter = first_; waiter != nullptr; waiter = waiter->next)
        waiter->block->wake();
}

EventTable& events() {
    // Never destroyed: threads of a provider may still signal while the process exits.
    static EventTable& table = *new EventTable;
    return table;
}

namespace {

std::uintptr_t value_of(WSAEVENT event) { return reinterpret_cast<std::uintptr_t>(event); }

}  // namespace

WSAEVENT create_event() {
    return reinterpret_cast<WSAEVENT>(events().open([](Event&) {}));
}

int set_event(WSAEVENT event) {
    const auto pin = events().pin(value_of(event));
    if (!pin) return WSA_INVALID_HANDLE;
    pin->set();
    return 0;
}

int reset_event(WSAEVENT event) {
    const auto pin = events().pin(value_of(event));
    if (!pin) return WSA_INVALID_HANDLE;
    pin->reset();
    return 0;
}

int close_event(WSAEVENT event) {
    return events().close(value_of(event), [](Event& closed) { closed.wake_all(); })
               ? 0
               : WSA_INVALID_HANDLE;
}

namespace {

// One call of WSAWaitForMultipleEvents for at most kCapacity events: its size is cleared at each
// call.
template <std::size_t kCapacity>
class EventWait {
public:
    EventWait(std::span<const WSAEVENT> handles, bool all) : count_(handles.size()), all_(all) {
        for (std::size_t i = 0; i < count_; ++i)
            pins_[i] = events().pin(value_of(handles[i]));
    }

    DWORD run(DWORD timeout) {
        if (any_closed()) return fail(WSA_INVALID_HANDLE, WSA_WAIT_FAILED);
        if (const auto result = look()) return *result;
        if (timeout == 0) return WSA_WAIT_TIMEOUT;
        const Deadline deadline = deadline_after(timeout);
        for (unsigned spin = wait_spins(); spin > 0; --spin) {
            if (const auto result = look()) return *result;
            cpu_relax();
        }
        for (std::size_t i = 0; i < count_; ++i) {
            waiters_[i].block = &block_;
            pins_[i]->enlist(waiters_[i]);
        }
        const DWORD result = sleep(deadline);
        for (std::size_t i = 0; i < count_; ++i)
            pins_[i]->withdraw(waiters_[i]);
        return result;
    }

private:
    DWORD sleep(const Deadline& deadline) {
        bool in_time = true;
        for (;;) {
            block_.arm();
            if (const auto result = look()) return *result;
            if (any_closed()) return fail(WSA_INVALID_HANDLE, WSA_WAIT_FAILED);
            if (!in_time) return WSA_WAIT_TIMEOUT;
            in_time = block_.sleep(deadline);
        }
    }

    std::optional<DWORD> look() const { return all_ ? look_for_all() : look_for_any(); }

    std::optional<DWORD> look_for_any() const {
        for (std::size_t i = 0; i < count_; ++i) {
            if (Event::signaled(pins_[i]->changes()))
                return WSA_WAIT_EVENT_0 + static_cast<DWORD>(i);
        }
        return std::nullopt;
    }

    std::optional<DWORD> look_for_all() const {
        std::array<std::uint64_t, kCapacity> seen;
        for (std::size_t i = 0; i < count_; ++i) {
            seen[i] = pins_[i]->changes();
            if (!Event::signaled(seen[i])) return std::nullopt;
        }
        for (std::size_t i = 0; i < count_; ++i) {
            if (pins_[i]->changes() != seen[i]) return std::nullopt;
        }
        return WSA_WAIT_EVENT_0;
    }

    bool any_closed() const {
        for (std::size_t i = 0; i < count_; ++i) {
            if (!pins_[i] || pins_[i].closed()) return true;
        }
        return false;
    }

    const std::size_t count_;
    const bool all_;
    WaitBlock block_;
    std::array<EventTable::Pin, kCapacity> pins_;
    std::array<Event::Waiter, kCapacity> waiters_;
};

BOOL report(int error) { return error == 0 ? TRUE : fail(error, FALSE); }

}  // namespace
}  // namespace detail

WSAEVENT WSACreateEvent() {
    const WSAEVENT event = detail::create_event();
    if (event == WSA_INVALID_EVENT) detail::set_last_error(WSA_NOT_ENOUGH_MEMORY);
    return event;
}

BOOL WSASetEvent(WSAEVENT event) { return detail::report(detail::set_event(event)); }
BOOL WSAResetEvent(WSAEVENT event) { return detail::report(detail::reset_event(event)); }
BOOL WSACloseEvent(WSAEVENT event) { return detail::report(detail::close_event(event)); }

DWORD WSAWaitForMultipleEvents(DWORD count, const WSAEVENT* events, BOOL wait_all, DWORD timeout,
                               BOOL /*alertable*/) {
    if (count == 0 || count > WSA_MAXIMUM_WAIT_EVENTS || events == nullptr) {
        return detail::fail(WSA_INVALID_PARAMETER, WSA_WAIT_FAILED);
    }
    const std::span handles(events, count);
    const bool all = wait_all != FALSE;
    if (count <= 4) return detail::EventWait<4>(handles, all).run(timeout);
    return detail::EventWait<WSA_MAXIMUM_WAIT_EVENTS>(handles, all).run(timeout);
}

}  // namespace sanpoll_switch
