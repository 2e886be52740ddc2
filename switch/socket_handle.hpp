// Switch handles: what WPUCreateSocketHandle gives to the provider, with its context and, later, a
// completion port.
#pragma once

#include <ws2san.h>

#include <atomic>

#include "switch/completion_port.hpp"
#include "switch/futex.hpp"
#include "switch/handle_table.hpp"

namespace sanpoll_switch::detail {

class SwitchSocket {
public:
    DWORD_PTR context = 0;  // the provider's; set before the handle exists

    // Once: false if it has a port already. The pin keeps the port's memory until the socket is
    // closed.
    bool associate(PortTable::Pin port, ULONG_PTR key);

    // 0, WSA_NOT_ENOUGH_MEMORY, or nothing to do: no port, or one that has been closed.
    int queue(LPOVERLAPPED overlapped, DWORD error, DWORD bytes);

    void recycle() noexcept;

private:
    SlowPathMutex mutex_;  // of two threads that associate, one writes
    PortTable::Pin port_;
    ULONG_PTR key_ = 0;
    std::atomic<bool> associated_{false};  // publishes the two above
};

using SocketTable = HandleTable<SwitchSocket, HandleKind::kSocket, 256>;
SocketTable& sockets();

// 0, WSA_INVALID_HANDLE (either handle) or WSA_INVALID_PARAMETER (associated already).
int associate_port(SOCKET switch_handle, HANDLE port, ULONG_PTR key);

// Catches the switch handle that the provider makes while a call of WSPSocket or WSPAccept runs in
// this thread. May be nested: a condition function can make a socket of its own.
class HandleCapture {
public:
    HandleCapture();
    ~HandleCapture();
    HandleCapture(const HandleCapture&) = delete;
    HandleCapture& operator=(const HandleCapture&) = delete;

    // INVALID_SOCKET: none was made.
    SOCKET handle() const { return handle_; }

    // Called by WPUCreateSocketHandle.
    static void offer(SOCKET handle);

private:
    HandleCapture* const outer_;
    SOCKET handle_ = INVALID_SOCKET;
};

}  // namespace sanpoll_switch::detail
