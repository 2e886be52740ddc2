// WSPEventSelect, WSPEnumNetworkEvents and the signalling of events (spec, section 11).
#include <optional>

#include "engine/log.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// The signals that this thread is in the middle of, innermost first.
struct SignalUnderway {
    const Socket* socket;
    const SignalUnderway* outer;
};
thread_local const SignalUnderway* signals_underway = nullptr;
thread_local ControlCall* innermost_call = nullptr;

// A thread that waits inside an upcall: for the signals of a socket, or for the notifier thread. The signals that it is
// in the middle of do not end meanwhile, so who waits for one of these waits for whatever this thread waits for. In a
// circle of such threads nobody would ever go on.
struct Waiter {
    const Socket& socket;
    const bool for_notifier;  // the socket's end is waited for, and not its signals
    const bool on_notifier;
    const SignalUnderway* const signals = signals_underway;
    std::uint64_t number = 0;   // in the order in which they came
    std::uint64_t bit = 0;      // names it in masks; 0: there were no more
    std::uint64_t excuses = 0;  // those that it gives way to, as of the last look
    bool waits_for_us = false;
    Waiter* next = nullptr;

    [[nodiscard]] std::uint32_t signals_of(const Socket& which) const noexcept {
        std::uint32_t count = 0;
        for (const SignalUnderway* at = signals; at != nullptr; at = at->outer) {
            count += at->socket == &which ? 1 : 0;
        }
        return count;
    }
    [[nodiscard]] bool waits_for(const Waiter& other) const noexcept {
        if (for_notifier) {
            return other.on_notifier && socket.gone.load(std::memory_order_acquire) == 0;
        }
        return other.signals_of(socket) != 0;
    }
};

// All of them in the process. There is one only while upcalls end each other's registrations or close connections.
class Waiters {
public:
    void enter(Waiter& waiter) noexcept {
        {
            const std::lock_guard lock(mutex_);
            waiter.number = ++came_;
            waiter.bit = ~bits_ & (bits_ + 1);  // the lowest that is free
            bits_ |= waiter.bit;
            waiter.next = first_;
            first_ = &waiter;
        }
        changed();  // somebody may have to give way to it
    }
    void leave(Waiter& waiter) noexcept {
        {
            const std::lock_guard lock(mutex_);
            remove(waiter);
        }
        changed();
    }

    /// Whether its socket's signals are over, but for those that it must not wait for: its own, and those of threads
    /// that wait for it, be it by way of others, if it is the last to have come of the circle that this would close. The
    /// others go on waiting, and who waits for the notifier thread cannot but wait. Who gives way to another one does not
    /// wait for it, whatever else it may wait for: no circle leads along there. Leaves, if so.
    ///
    /// Somebody goes on always: of a circle of waits in which nobody gives way, the last to come would see all others wait
    /// for it, and so give way.
    [[nodiscard]] bool leave_if_over(Waiter& waiter) noexcept {
        {
            const std::lock_guard lock(mutex_);
            if (waiter.socket.signalling.load(std::memory_order_acquire) > excused(waiter)) {
                return false;
            }
            remove(waiter);
        }
        changed();  // others may not be excused any more, and so be waited for
        return true;
    }

    /// A value that changes with whatever a waiter looks at: taken before the look, waited for after it.
    [[nodiscard]] std::uint32_t ticket() const noexcept {
        return changes_.load(std::memory_order_acquire);
    }
    void wait(std::uint32_t ticket) const noexcept {
        changes_.wait(ticket, std::memory_order_acquire);
    }
    void changed() noexcept {
        // Pairs with the acquire in ticket().
        changes_.fetch_add(1, std::memory_order_release);
        changes_.notify_all();
    }

private:
    void remove(const Waiter& waiter) noexcept {
        Waiter** at = &first_;
        while (*at != &waiter) {
            at = &(*at)->next;
        }
        *at = waiter.next;
        bits_ &= ~waiter.bit;
    }
    [[nodiscard]] std::uint32_t excused(Waiter& waiter) noexcept {
        // From the first to come to this one: whom each gives way to depends on those before it.
        for (Waiter* at = after(0); at != &waiter; at = after(at->number)) {
            if (!at->for_notifier) {
                find_who_waits_for(*at);
            }
        }
        find_who_waits_for(waiter);
        std::uint32_t count = 0;
        for (const Waiter* at = first_; at != nullptr; at = at->next) {
            count += at->waits_for_us ? at->signals_of(waiter.socket) : 0;
        }
        return count;
    }
    // Marks them, itself too, and keeps in `excuses` which ones they were.
    void find_who_waits_for(Waiter& waiter) noexcept {
        for (Waiter* at = first_; at != nullptr; at = at->next) {
            at->waits_for_us = at == &waiter;
        }
        waiter.excuses = 0;
        for (bool found = true; found;) {
            found = false;
            for (Waiter* at = first_; at != nullptr; at = at->next) {
                if (!at->waits_for_us && (at->for_notifier || at->number < waiter.number) &&
                    waits_for_marked(*at)) {
                    at->waits_for_us = true;
                    waiter.excuses |= at->bit;
                    found = true;
                }
            }
        }
    }
    [[nodiscard]] bool waits_for_marked(const Waiter& waiter) const noexcept {
        for (const Waiter* at = first_; at != nullptr; at = at->next) {
            if (at->waits_for_us && (waiter.excuses & at->bit) == 0 && waiter.waits_for(*at)) {
                return true;
            }
        }
        return false;
    }
    // The next to have come; there is one.
    [[nodiscard]] Waiter* after(std::uint64_t number) const noexcept {
        Waiter* next = nullptr;
        for (Waiter* at = first_; at != nullptr && at->number > number; at = at->next) {
            next = at;  // the last to come is first
        }
        return next;
    }

    std::mutex mutex_;
    Waiter* first_ = nullptr;
    std::uint64_t came_ = 0;
    std::uint64_t bits_ = 0;  // that are taken
    std::atomic<std::uint32_t> changes_{0};
};
constinit Waiters waiters;

}  // namespace

bool record_event(Socket& socket, LONG bit) noexcept {
    if ((socket.event_mask & bit) == 0) {
        return false;
    }
    socket.recorded |= bit;
    return true;
}

namespace {

// An event must not be signalled, nor reset, after WSPCloseSocket or WSPEventSelect has returned. So an upcall
// announces itself and checks the registration under the mutex, and those two change the registration
// under the mutex and then wait for the announced ones.
class EventUpcall {
public:
    /// With the mutex held; the end is without.
    explicit EventUpcall(Socket& socket) noexcept
        : underway_{&socket, signals_underway}, socket_(socket) {
        socket.signalling.fetch_add(1, std::memory_order_relaxed);
        signals_underway = &underway_;
    }
    ~EventUpcall() {
        signals_underway = underway_.outer;
        // Pairs with the acquire in wait_for_signals.
        socket_.signalling.fetch_sub(1, std::memory_order_release);
        waiters.changed();
    }
    EventUpcall(const EventUpcall&) = delete;
    EventUpcall& operator=(const EventUpcall&) = delete;

private:
    const SignalUnderway underway_;
    Socket& socket_;
};

[[nodiscard]] bool reset_event(WSAEVENT event) noexcept {
    INT upcall_error = 0;
    return Provider::instance().upcalls().lpWPUResetEvent(event, &upcall_error) != FALSE;
}

}  // namespace

void signal_event(Socket& socket, std::uint32_t version) noexcept {
    WSAEVENT event = nullptr;
    std::optional<EventUpcall> upcall;
    {
        const std::lock_guard lock(socket.mutex);
        if (socket.event_version != version || socket.event == nullptr) {
            return;
        }
        event = socket.event;
        upcall.emplace(socket);
    }
    INT upcall_error = 0;
    (void)Provider::instance().upcalls().lpWPUSetEvent(event, &upcall_error);
}

void reset_accept_event(Socket& socket, std::uint32_t generation) noexcept {
    WSAEVENT event = nullptr;
    std::optional<EventUpcall> upcall;
    {
        const std::lock_guard lock(socket.mutex);
        if (socket.gate.generation() != generation || (socket.event_mask & FD_ACCEPT) == 0) {
            return;
        }
        event = socket.event;
        upcall.emplace(socket);
    }
    (void)reset_event(event);
}

ControlCall::ControlCall(const Socket* elsewhere) noexcept
    : use_(std::in_place), outer_(innermost_call), elsewhere_(elsewhere) {
    if (up()) {
        helper_.emplace(Provider::instance().engine().control());
    }
    innermost_call = this;
}

ControlCall::~ControlCall() {
    helper_.reset();  // may add signals
    innermost_call = outer_;
    use_.reset();  // the upcalls below may be of the last WSPCleanup's thread
    for (std::uint32_t i = 0; i < count_; ++i) {
        signal_event(*signals_[i].socket, signals_[i].version);
    }
}

bool ControlCall::take(Socket& socket, std::uint32_t version) noexcept {
    if (innermost_call == nullptr || innermost_call->count_ == kSignals ||
        innermost_call->elsewhere_ == &socket) {
        return false;
    }
    innermost_call->signals_[innermost_call->count_++] = {&socket, version};
    return true;
}

void signal_event_later(Socket& socket, std::uint32_t version) noexcept {
    if (ControlCall::take(socket, version)) {
        return;
    }
    try {
        Provider::instance().engine().notifier().post(
            [&socket, version] { signal_event(socket, version); });
    } catch (const std::bad_alloc&) {
        // The notifier has room for hundreds: so many wait only if an upcall does not return.
        engine::log(
            engine::LogLevel::kError,
            "there is no memory to tell of an event of a socket; WSPEnumNetworkEvents knows of "
            "it. Do upcalls return?");
    }
}

void wait_for_signals(Socket& socket) noexcept {
    if (socket.signalling.load(std::memory_order_acquire) == 0) {
        return;
    }
    Waiter waiter{socket, false, engine::Notifier::is_any()};
    waiters.enter(waiter);
    for (;;) {
        const std::uint32_t ticket = waiters.ticket();
        if (waiters.leave_if_over(waiter)) {
            return;
        }
        waiters.wait(ticket);
    }
}

void wait_until_gone(Socket& socket, bool by_notifier) noexcept {
    // Pairs with the release in `closed`.
    if (socket.gone.load(std::memory_order_acquire) != 0) {
        return;
    }
    Waiter waiter{socket, true, false};
    if (by_notifier) {
        waiters.enter(waiter);
    }
    while (socket.gone.load(std::memory_order_acquire) == 0) {
        socket.gone.wait(0, std::memory_order_acquire);
    }
    if (by_notifier) {
        waiters.leave(waiter);
    }
}

bool sets_an_event() noexcept { return signals_underway != nullptr; }

int WSPAPI wsp_event_select(SOCKET s, WSAEVENT event, LONG mask, LPINT error_number) {
    return result(
        error_number, guarded([&]() -> int {
            SocketTable::Found found;
            if (const int error = find_socket(s, found); error != 0) {
                return error;
            }
            if ((mask & ~(FD_ACCEPT | FD_CONNECT)) != 0 || (mask != 0 && event == nullptr)) {
                return WSAEINVAL;
            }
            Socket& socket = *found.socket;
            bool signal = false;
            std::uint32_t version = 0;
            {
                const std::lock_guard lock(socket.mutex);
                if (socket.gate.generation() != found.view.generation) {
                    return WSAENOTSOCK;
                }
                if (socket.state == State::kSwappedOut) {
                    return WSAEINVAL;
                }
                version = ++socket.event_version;
                socket.event = mask != 0 ? event : nullptr;
                socket.event_mask = mask;
                socket.recorded = 0;
                socket.accept_armed = true;
                // What is true already is indicated now: a request may have come between WSPListen and
                // this, a connect may have ended before.
                if (has_request(socket) && record_event(socket, FD_ACCEPT)) {
                    socket.accept_armed = false;
                    signal = true;
                }
                if (socket.connect_unreported && record_event(socket, FD_CONNECT)) {
                    signal = true;
                }
            }
            wait_for_signals(socket);
            if (signal) {
                signal_event(socket, version);
            }
            return 0;
        }));
}

int WSPAPI wsp_enum_network_events(SOCKET s, WSAEVENT event, LPWSANETWORKEVENTS events,
                                   LPINT error_number) {
    return result(error_number, guarded([&]() -> int {
                      SocketTable::Found found;
                      if (const int error = find_socket(s, found); error != 0) {
                          return error;
                      }
                      if (events == nullptr) {
                          return WSAEINVAL;
                      }
                      Socket& socket = *found.socket;
                      const EngineUse use;
                      {
                          // Who asks all the time is answered by this, and what it records is signalled before the reset.
                          const ControlCall call;
                          if (!call.up()) {
                              return WSANOTINITIALISED;  // since we looked for the socket
                          }
                          Provider::instance().engine().fabric().progress();
                      }
                      // A close that comes from here on waits until the record has been read: this was before it.
                      std::optional<EventUpcall> upcall;
                      std::uint32_t endings = 0;
                      {
                          const std::lock_guard lock(socket.mutex);
                          if (socket.gate.generation() != found.view.generation) {
                              return WSAENOTSOCK;
                          }
                          endings = socket.endings.load(std::memory_order_relaxed);
                          if (socket.state == State::kSwappedOut) {
                              return WSAEINVAL;
                          }
                          upcall.emplace(socket);
                      }
                      // Reset first, read second; who records does it the other way round, so at worst the event is
                      // signalled with nothing recorded, never the reverse.
                      if (event != nullptr && !reset_event(event)) {
                          return WSAEINVAL;
                      }
                      const std::lock_guard lock(socket.mutex);
                      // Unless it was closed inside the reset, or in a circle of calls that wait for each other.
                      if (socket.endings.load(std::memory_order_relaxed) != endings) {
                          return WSAENOTSOCK;
                      }
                      events->lNetworkEvents = socket.recorded;
                      if ((socket.recorded & FD_ACCEPT) != 0) {
                          events->iErrorCode[FD_ACCEPT_BIT] = 0;
                      }
                      if ((socket.recorded & FD_CONNECT) != 0) {
                          events->iErrorCode[FD_CONNECT_BIT] = socket.connect_error;
                          socket.connect_unreported = false;
                      }
                      socket.recorded = 0;
                      return 0;
                  }));
}

}  // namespace sanpoll::provider
