#include "switch/completion_port.hpp"

#include <mutex>
#include <sanpoll/switch.hpp>

#include "switch/event.hpp"
#include "switch/last_error.hpp"
#include "switch/socket_handle.hpp"

namespace sanpoll_switch {
namespace detail {

void CompletionPort::enlist(Waiter& waiter) {
    const std::lock_guard lock(mutex_);
    waiter.next = newest_;
    if (newest_ != nullptr) newest_->previous = &waiter;
    newest_ = &waiter;
    waiter.linked = true;
    // Sequentially consistent: see push().
    waiters_.fetch_add(1, std::memory_order_seq_cst);
}

bool CompletionPort::withdraw(Waiter& waiter) {
    const std::lock_guard lock(mutex_);
    if (!waiter.linked) return true;
    unlink(waiter);
    return false;
}

void CompletionPort::unlink(Waiter& waiter) {
    (waiter.previous != nullptr ? waiter.previous->next : newest_) = waiter.next;
    if (waiter.next != nullptr) waiter.next->previous = waiter.previous;
    waiter.linked = false;
    waiters_.fetch_sub(1, std::memory_order_relaxed);
}

void CompletionPort::wake_one() {
    const std::lock_guard lock(mutex_);
    if (newest_ == nullptr) return;
    // The thread that went to sleep last has the warmest cache. Unlinked, so that the next entry
    // chooses another one.
    Waiter& chosen = *newest_;
    unlink(chosen);
    chosen.block.wake();
}

void CompletionPort::wake_all() {
    const std::lock_guard lock(mutex_);
    while (newest_ != nullptr) {
        Waiter& waiter = *newest_;
        unlink(waiter);
        waiter.block.wake();
    }
}

PortTable& ports() {
    // Never destroyed: threads of a provider may still complete while the process exits.
    static PortTable& table = *new PortTable;
    return table;
}

namespace {

std::uintptr_t value_of(HANDLE handle) { return reinterpret_cast<std::uintptr_t>(handle); }

}  // namespace
}  // namespace detail

HANDLE CreateIoCompletionPort(HANDLE file, HANDLE existing, ULONG_PTR key,
                              DWORD /*concurrent_threads*/) {
    using namespace detail;
    const bool associate = file != INVALID_HANDLE_VALUE;
    if (!associate && existing != nullptr) return fail<HANDLE>(WSA_INVALID_PARAMETER, nullptr);

    HANDLE port = existing;
    if (port == nullptr) {
        port = reinterpret_cast<HANDLE>(ports().open([](CompletionPort&) {}));
        if (port == nullptr) return fail<HANDLE>(WSA_NOT_ENOUGH_MEMORY, nullptr);
    }
    if (!associate) return port;

    const int error = associate_port(reinterpret_cast<SOCKET>(file), port, key);
    if (error == 0) return port;
    if (existing == nullptr) CloseHandle(port);
    return fail<HANDLE>(error, nullptr);
}

BOOL GetQueuedCompletionStatusEx(HANDLE port, OVERLAPPED_ENTRY* entries, ULONG count,
                                 ULONG* removed, DWORD timeout, BOOL /*alertable*/) {
    using namespace detail;
    if (entries == nullptr || count == 0 || removed == nullptr)
        return fail(WSA_INVALID_PARAMETER, FALSE);
    *removed = 0;
    const auto pin = ports().pin(value_of(port));
    if (!pin) return fail(WSA_INVALID_HANDLE, FALSE);

    std::size_t taken = pin->pop(entries, count);
    if (taken == 0 && timeout != 0) {
        const Deadline deadline = deadline_after(timeout);
        for (unsigned spin = wait_spins(); taken == 0 && spin > 0; --spin) {
            cpu_relax();
            taken = pin->pop(entries, count);
        }
        if (taken == 0)
            taken = pin->pop_or_sleep(entries, count, deadline, [&] { return pin.closed(); });
    }
    if (taken == 0) return fail(pin.closed() ? ERROR_ABANDONED_WAIT_0 : WAIT_TIMEOUT, FALSE);
    *removed = static_cast<ULONG>(taken);
    return TRUE;
}

BOOL PostQueuedCompletionStatus(HANDLE port, DWORD bytes, ULONG_PTR key, LPOVERLAPPED overlapped) {
    using namespace detail;
    const auto pin = ports().pin(value_of(port));
    if (!pin) return fail(WSA_INVALID_HANDLE, FALSE);
    if (!pin->push({key, overlapped, 0, bytes})) return fail(WSA_NOT_ENOUGH_MEMORY, FALSE);
    return TRUE;
}

BOOL CloseHandle(HANDLE handle) {
    using namespace detail;
    if (ports().close(value_of(handle), [](CompletionPort& port) { port.wake_all(); })) return TRUE;
    return close_event(handle) == 0 ? TRUE : fail(WSA_INVALID_HANDLE, FALSE);
}

}  // namespace sanpoll_switch
