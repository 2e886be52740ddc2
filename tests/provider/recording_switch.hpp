// A switch that does nothing but write down what the provider calls, and notice what it must not call.
#pragma once

#include <ws2san.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace sanpoll::test {

enum class UpcallKind {
    kCreateSocketHandle,
    kCloseSocketHandle,
    kComplete,
    kSetEvent,
    kResetEvent
};

struct Upcall {
    UpcallKind kind{};
    SOCKET handle = INVALID_SOCKET;  // the switch's
    WSAEVENT event = nullptr;
    LPWSAOVERLAPPED overlapped = nullptr;
    DWORD error = 0;
    DWORD bytes = 0;
    WSAOVERLAPPED at_entry{};  // kComplete: the structure as the provider left it
    std::thread::id thread;
};

/// As long as it lives the recording switch does what it was told to in its upcalls. Declared behind the
/// locals that the action refers to; not destroyed inside an upcall.
class [[nodiscard]] ActionScope {
public:
    ActionScope() = default;
    ~ActionScope();
    ActionScope(const ActionScope&) = delete;
    ActionScope& operator=(const ActionScope&) = delete;
};

// One per process, since upcalls carry no context. All functions may be called from any thread.
class RecordingSwitch {
public:
    static RecordingSwitch& instance();

    [[nodiscard]] WSPUPCALLTABLEEX table() const;
    /// Forgets everything, also the violations. No provider may be running.
    void reset();

    // ---- the log
    [[nodiscard]] std::vector<Upcall> upcalls() const;
    [[nodiscard]] std::vector<Upcall> upcalls(UpcallKind kind) const;
    [[nodiscard]] std::vector<Upcall> completions(LPWSAOVERLAPPED overlapped) const;
    [[nodiscard]] std::size_t count(UpcallKind kind) const;
    /// Waits for that many upcalls of a kind; false when patience ends.
    [[nodiscard]] bool wait_for(UpcallKind kind, std::size_t count) const;
    /// Waits for a completion upcall with that WSAOVERLAPPED: use another one for the next operation.
    [[nodiscard]] bool wait_for(LPWSAOVERLAPPED overlapped) const;
    /// The handle that the calling thread's latest WPUCreateSocketHandle returned.
    [[nodiscard]] SOCKET latest_handle() const;
    [[nodiscard]] std::size_t open_handles() const;
    /// What the provider did that no provider may do.
    [[nodiscard]] std::vector<std::string> violations() const;

    // ---- events: manual-reset, never reused
    [[nodiscard]] WSAEVENT create_event();
    [[nodiscard]] bool signaled(WSAEVENT event) const;
    [[nodiscard]] bool wait_for(WSAEVENT event) const;
    void reset_event(WSAEVENT event);
    /// From here on the event must not be signalled any more.
    void retire_event(WSAEVENT event);

    // ---- what the switch does inside its upcalls
    // An action may refer to the locals of its test, and an upcall may come at any time until the provider
    // has ended: the scope that is returned takes the action back and waits for one that is running.
    /// After the operation's fields are set; nothing of the switch is locked.
    [[nodiscard]] ActionScope on_complete(std::function<void(const Upcall&)> action);
    [[nodiscard]] ActionScope on_set_event(std::function<void(WSAEVENT)> action);
    [[nodiscard]] ActionScope on_close_handle(std::function<void(SOCKET)> action);
    void on_create_handle(std::function<SOCKET(SOCKET proposed)> action);

private:
    friend struct Upcalls;
    friend class ActionScope;
    void stop_acting();
    void violation(std::string text);  // mutex held

    mutable std::mutex mutex_;
    mutable std::condition_variable changed_;
    std::vector<Upcall> log_;
    std::vector<std::string> violations_;
    std::set<SOCKET> open_;
    std::set<SOCKET> closed_;
    std::map<SOCKET, int> completing_;
    std::map<WSAEVENT, bool> events_;
    std::set<WSAEVENT> retired_;
    SOCKET next_handle_ = 0x40000;
    std::uintptr_t next_event_ = 0xE000;
    int acting_ = 0;  // actions that are running
    std::function<void(const Upcall&)> on_complete_;
    std::function<void(WSAEVENT)> on_set_event_;
    std::function<void(SOCKET)> on_close_handle_;
    std::function<SOCKET(SOCKET)> on_create_handle_;
};

}  // namespace sanpoll::test
