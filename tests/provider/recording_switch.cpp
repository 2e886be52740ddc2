#include "tests/provider/recording_switch.hpp"

#include <algorithm>
#include <atomic>
#include <iterator>

#include "tests/provider/patience.hpp"

namespace sanpoll::test {

// The functions of the upcall table.
struct Upcalls {
    static RecordingSwitch& self() { return RecordingSwitch::instance(); }

    static SOCKET create_socket_handle(DWORD, DWORD_PTR, LPINT error) {
        RecordingSwitch& me = self();
        Upcall call;
        call.kind = UpcallKind::kCreateSocketHandle;
        call.thread = std::this_thread::get_id();
        std::unique_lock lock(me.mutex_);
        call.handle = me.next_handle_;
        me.next_handle_ += 4;
        if (const auto action = me.on_create_handle_; action) {
            lock.unlock();  // others are called meanwhile
            call.handle = action(call.handle);
            lock.lock();
        }
        if (call.handle == INVALID_SOCKET) {
            *error = WSAENOBUFS;
        } else {
            me.open_.insert(call.handle);
        }
        me.log_.push_back(call);
        me.changed_.notify_all();
        return call.handle;
    }

    static int close_socket_handle(SOCKET handle, LPINT error) {
        RecordingSwitch& me = self();
        Upcall call;
        call.kind = UpcallKind::kCloseSocketHandle;
        call.handle = handle;
        call.thread = std::this_thread::get_id();
        std::function<void(SOCKET)> action;
        {
            const std::lock_guard lock(me.mutex_);
            me.log_.push_back(call);
            me.changed_.notify_all();
            if (me.open_.erase(handle) == 0) {
                me.violation("WPUCloseSocketHandle of a handle that is not open");
                *error = WSAENOTSOCK;
                return SOCKET_ERROR;
            }
            if (me.completing_[handle] != 0) {
                me.violation("WPUCloseSocketHandle while a completion upcall is running");
            }
            me.closed_.insert(handle);
            action = me.on_close_handle_;
            ++me.acting_;
        }
        if (action) {
            action(handle);
        }
        const std::lock_guard lock(me.mutex_);
        action = nullptr;
        --me.acting_;
        me.changed_.notify_all();
        return 0;
    }

    static int complete(SOCKET handle, LPWSAOVERLAPPED overlapped, DWORD code, DWORD bytes,
                        LPINT error) {
        RecordingSwitch& me = self();
        Upcall call;
        call.kind = UpcallKind::kComplete;
        call.handle = handle;
        call.overlapped = overlapped;
        call.error = code;
        call.bytes = bytes;
        call.at_entry = *overlapped;
        call.thread = std::this_thread::get_id();
        std::function<void(const Upcall&)> action;
        {
            const std::lock_guard lock(me.mutex_);
            me.log_.push_back(call);
            if (!me.open_.contains(handle)) {
                me.violation("completion upcall with a handle that is not open");
                *error = WSAEINVAL;
                return SOCKET_ERROR;
            }
            if (call.at_entry.Internal != WSS_OPERATION_IN_PROGRESS) {
                me.violation("completion upcall for an operation that is not in progress");
            }
            if ((reinterpret_cast<std::uintptr_t>(call.at_entry.hEvent) & 1U) != 0) {
                me.violation("completion upcall although hEvent's low bit is set");
            }
            if (++me.completing_[handle] != 1) {
                me.violation("two completion upcalls of one socket at the same time");
            }
            action = me.on_complete_;
            ++me.acting_;
        }
        overlapped->InternalHigh = bytes;
        std::atomic_ref<ULONG_PTR>(overlapped->Internal).store(0, std::memory_order_release);
        if (action) {
            action(call);
        }
        const std::lock_guard lock(me.mutex_);
        action = nullptr;
        --me.acting_;
        --me.completing_[handle];
        me.changed_.notify_all();
        return 0;
    }

    static BOOL set_event(WSAEVENT event, LPINT error) { return change_event(event, true, error); }
    static BOOL reset_event(WSAEVENT event, LPINT error) {
        return change_event(event, false, error);
    }

    static BOOL change_event(WSAEVENT event, bool signal, LPINT error) {
        RecordingSwitch& me = self();
        Upcall call;
        call.kind = signal ? UpcallKind::kSetEvent : UpcallKind::kResetEvent;
        call.event = event;
        call.thread = std::this_thread::get_id();
        std::function<void(WSAEVENT)> action;
        {
            const std::lock_guard lock(me.mutex_);
            me.log_.push_back(call);
            const auto found = me.events_.find(event);
            if (found == me.events_.end()) {
                me.violation("upcall with an event that was never made");
                *error = WSA_INVALID_HANDLE;
                return FALSE;
            }
            if (signal && me.retired_.contains(event)) {
                me.violation("an event was signalled after its registration had ended");
            }
            found->second = signal;
            if (signal) {
                action = me.on_set_event_;
            }
            ++me.acting_;
            me.changed_.notify_all();
        }
        if (action) {
            action(event);
        }
        const std::lock_guard lock(me.mutex_);
        action = nullptr;
        --me.acting_;
        me.changed_.notify_all();
        return TRUE;
    }

    // What a provider of this kind has no use for.
    template <typename Result>
    static Result unexpected(const char* name, Result result) {
        const std::lock_guard lock(self().mutex_);
        self().violation(name);
        return result;
    }
    static BOOL close_event(WSAEVENT, LPINT) { return unexpected("WPUCloseEvent", FALSE); }
    static WSAEVENT create_event(LPINT) { return unexpected("WPUCreateEvent", WSAEVENT{}); }
    static int fd_is_set(SOCKET, wsp_fd_set*) { return unexpected("WPUFDIsSet", 0); }
    static int provider_path(GUID*, WCHAR*, LPINT, LPINT) {
        return unexpected("WPUGetProviderPath", SOCKET_ERROR);
    }
    static SOCKET modify_ifs_handle(DWORD, SOCKET, LPINT) {
        return unexpected("WPUModifyIFSHandle", static_cast<SOCKET>(INVALID_SOCKET));
    }
    static BOOL post_message(HWND, UINT, WPARAM, LPARAM) {
        return unexpected("WPUPostMessage", FALSE);
    }
    static int blocking_callback(DWORD, LPBLOCKINGCALLBACK*, PDWORD_PTR, LPINT) {
        return unexpected("WPUQueryBlockingCallback", SOCKET_ERROR);
    }
    static int handle_context(SOCKET, PDWORD_PTR, LPINT) {
        return unexpected("WPUQuerySocketHandleContext", SOCKET_ERROR);
    }
    static int queue_apc(LPWSATHREADID, LPWSAUSERAPC, DWORD_PTR, LPINT) {
        return unexpected("WPUQueueApc", SOCKET_ERROR);
    }
    static int open_thread(LPWSATHREADID, LPINT) {
        return unexpected("WPUOpenCurrentThread", SOCKET_ERROR);
    }
    static int close_thread(LPWSATHREADID, LPINT) {
        return unexpected("WPUCloseThread", SOCKET_ERROR);
    }
};

RecordingSwitch& RecordingSwitch::instance() {
    static auto* const one = new RecordingSwitch;  // upcalls may come until the process is gone
    return *one;
}

WSPUPCALLTABLEEX RecordingSwitch::table() const {
    WSPUPCALLTABLEEX table{};
    table.lpWPUCloseEvent = Upcalls::close_event;
    table.lpWPUCloseSocketHandle = Upcalls::close_socket_handle;
    table.lpWPUCreateEvent = Upcalls::create_event;
    table.lpWPUCreateSocketHandle = Upcalls::create_socket_handle;
    table.lpWPUFDIsSet = Upcalls::fd_is_set;
    table.lpWPUGetProviderPath = Upcalls::provider_path;
    table.lpWPUModifyIFSHandle = Upcalls::modify_ifs_handle;
    table.lpWPUPostMessage = Upcalls::post_message;
    table.lpWPUQueryBlockingCallback = Upcalls::blocking_callback;
    table.lpWPUQuerySocketHandleContext = Upcalls::handle_context;
    table.lpWPUQueueApc = Upcalls::queue_apc;
    table.lpWPUResetEvent = Upcalls::reset_event;
    table.lpWPUSetEvent = Upcalls::set_event;
    table.lpWPUOpenCurrentThread = Upcalls::open_thread;
    table.lpWPUCloseThread = Upcalls::close_thread;
    table.lpWPUCompleteOverlappedRequest = Upcalls::complete;
    return table;
}

void RecordingSwitch::violation(std::string text) { violations_.push_back(std::move(text)); }

void RecordingSwitch::reset() {
    const std::lock_guard lock(mutex_);
    log_.clear();
    violations_.clear();
    open_.clear();
    closed_.clear();
    completing_.clear();
    on_complete_ = nullptr;
    on_set_event_ = nullptr;
    on_close_handle_ = nullptr;
    on_create_handle_ = nullptr;
}

// ---- the log ----------------------------------------------------------------------------------------

std::vector<Upcall> RecordingSwitch::upcalls() const {
    const std::lock_guard lock(mutex_);
    return log_;
}

// Some tests ask for each of thousands of operations: only what is asked for is copied.
std::vector<Upcall> RecordingSwitch::upcalls(UpcallKind kind) const {
    const std::lock_guard lock(mutex_);
    std::vector<Upcall> result;
    std::copy_if(log_.begin(), log_.end(), std::back_inserter(result),
                 [kind](const Upcall& call) { return call.kind == kind; });
    return result;
}

std::vector<Upcall> RecordingSwitch::completions(LPWSAOVERLAPPED overlapped) const {
    const std::lock_guard lock(mutex_);
    std::vector<Upcall> result;
    std::copy_if(log_.begin(), log_.end(), std::back_inserter(result), [=](const Upcall& call) {
        return call.overlapped == overlapped && call.kind == UpcallKind::kComplete;
    });
    return result;
}

std::size_t RecordingSwitch::count(UpcallKind kind) const {
    const std::lock_guard lock(mutex_);
    return static_cast<std::size_t>(std::count_if(
        log_.begin(), log_.end(), [kind](const Upcall& call) { return call.kind == kind; }));
}

bool RecordingSwitch::wait_for(UpcallKind kind, std::size_t count) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] {
        return static_cast<std::size_t>(
                   std::count_if(log_.begin(), log_.end(),
                                 [&](const auto& call) { return call.kind == kind; })) >= count;
    });
}

bool RecordingSwitch::wait_for(LPWSAOVERLAPPED overlapped) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] {
        return std::any_of(log_.begin(), log_.end(), [&](const Upcall& call) {
            const auto running = completing_.find(call.handle);
            return call.overlapped == overlapped &&
                   (running == completing_.end() || running->second == 0);
        });
    });
}

SOCKET RecordingSwitch::latest_handle() const {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(log_.rbegin(), log_.rend(), [](const Upcall& call) {
        return call.kind == UpcallKind::kCreateSocketHandle &&
               call.thread == std::this_thread::get_id();
    });
    return found == log_.rend() ? INVALID_SOCKET : found->handle;
}

std::size_t RecordingSwitch::open_handles() const {
    const std::lock_guard lock(mutex_);
    return open_.size();
}

std::vector<std::string> RecordingSwitch::violations() const {
    const std::lock_guard lock(mutex_);
    return violations_;
}

// ---- events -----------------------------------------------------------------------------------------

WSAEVENT RecordingSwitch::create_event() {
    const std::lock_guard lock(mutex_);
    const auto event = reinterpret_cast<WSAEVENT>(next_event_);
    next_event_ += 8;
    events_[event] = false;
    return event;
}

bool RecordingSwitch::signaled(WSAEVENT event) const {
    const std::lock_guard lock(mutex_);
    return events_.at(event);
}

bool RecordingSwitch::wait_for(WSAEVENT event) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return events_.at(event); });
}

void RecordingSwitch::reset_event(WSAEVENT event) {
    const std::lock_guard lock(mutex_);
    events_.at(event) = false;
}

void RecordingSwitch::retire_event(WSAEVENT event) {
    const std::lock_guard lock(mutex_);
    retired_.insert(event);
}

// ---- behaviour --------------------------------------------------------------------------------------

ActionScope RecordingSwitch::on_complete(std::function<void(const Upcall&)> action) {
    const std::lock_guard lock(mutex_);
    on_complete_ = std::move(action);
    return {};
}

ActionScope RecordingSwitch::on_set_event(std::function<void(WSAEVENT)> action) {
    const std::lock_guard lock(mutex_);
    on_set_event_ = std::move(action);
    return {};
}

ActionScope RecordingSwitch::on_close_handle(std::function<void(SOCKET)> action) {
    const std::lock_guard lock(mutex_);
    on_close_handle_ = std::move(action);
    return {};
}

ActionScope::~ActionScope() { RecordingSwitch::instance().stop_acting(); }

void RecordingSwitch::stop_acting() {
    std::unique_lock lock(mutex_);
    on_complete_ = nullptr;
    on_set_event_ = nullptr;
    on_close_handle_ = nullptr;
    changed_.wait(lock, [&] { return acting_ == 0; });
}

void RecordingSwitch::on_create_handle(std::function<SOCKET(SOCKET)> action) {
    const std::lock_guard lock(mutex_);
    on_create_handle_ = std::move(action);
}

}  // namespace sanpoll::test
