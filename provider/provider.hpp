// What all functions of the table share: the provider's life, errors, upcalls.
#pragma once

#include <ws2san.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <vector>

#include "engine/engine.hpp"
#include "provider/socket_table.hpp"

namespace sanpoll::provider {

enum class Life : std::uint32_t { kDown, kUp, kForked };

/// What every post reads, in one place and without an indirection. Changes only in WSPStartupEx, WSPCleanup
/// and a fork.
struct Common {
    SocketTable sockets;
    std::atomic<Life> life{Life::kDown};
    std::atomic<bool> ending{false};  // the last WSPCleanup is under way
    // The provider is down, and nothing that was posted is pending any more.
    std::atomic<bool> drained{true};
    std::uint32_t max_message = 0;
    std::uint32_t max_rdma = 0;
};
/// Never destroyed: other threads may call while the process runs its exit handlers.
union CommonHolder {
    constexpr CommonHolder() noexcept : value{} {}
    ~CommonHolder() {}
    Common value;
};
extern CommonHolder common_holder;
[[nodiscard]] inline Common& common() noexcept { return common_holder.value; }

/// One per process, made at the first WSPStartupEx and never destroyed: stale handles may be tried at
/// any time, also while the process ends.
class Provider {
public:
    static Provider& instance();

    /// Any thread; what every call looks at first.
    [[nodiscard]] Life life() const noexcept {
        return common().life.load(std::memory_order_acquire);
    }
    [[nodiscard]] SocketTable& sockets() noexcept { return common().sockets; }
    [[nodiscard]] engine::Engine& engine() noexcept { return *engine_; }
    [[nodiscard]] const engine::Config& config() const noexcept { return config_; }
    /// The upcall table of the latest WSPStartupEx.
    [[nodiscard]] const WSPUPCALLTABLEEX& upcalls() const noexcept {
        return *upcalls_.load(std::memory_order_acquire);
    }

    /// Results are WSA error numbers, 0 for success.
    [[nodiscard]] int start(const WSPUPCALLTABLEEX& upcalls);
    [[nodiscard]] int cleanup();

    void abandon_in_child() noexcept;

private:
    friend class EngineUse;
    friend class Closing;
    void start_registration_cache();
    [[nodiscard]] static bool inside_upcall() noexcept;
    void end_engine() noexcept;

    [[nodiscard]] bool lock_life(std::unique_lock<std::mutex>& lock, bool inside) noexcept;

    std::mutex life_mutex_;  // startup and cleanup, one after the other
    int startups_ = 0;
    std::atomic<const WSPUPCALLTABLEEX*> upcalls_{nullptr};
    std::vector<std::unique_ptr<WSPUPCALLTABLEEX>> upcall_tables_;  // old ones may be in use still
    engine::Config config_;
    std::unique_ptr<engine::Engine> engine_;
    std::atomic<std::uint32_t> users_{0};     // EngineUses that may be up
    std::atomic<std::uint32_t> closings_{0};  // Closings
};

/// While one lives that is up(), the engine stays: the last WSPCleanup waits for its end, and is refused to upcalls that
/// are made in this thread in its time. So in its time no upcall of another thread is waited for that may call it. Inside
/// one that is up() another one is too. Any thread.
class EngineUse {
public:
    EngineUse() noexcept;
    ~EngineUse();
    EngineUse(const EngineUse&) = delete;
    EngineUse& operator=(const EngineUse&) = delete;

    /// False: the provider does not run, or is about to end; the engine must not be touched.
    [[nodiscard]] bool up() const noexcept { return up_; }
    /// Whether one that is up() lives in this thread.
    [[nodiscard]] static bool here() noexcept;

private:
    [[nodiscard]] static bool enter() noexcept;

    const bool up_;
};

/// Lives from before a gate is shut until the record has ended: the last WSPCleanup waits for those of other threads, so
/// that their upcalls come before its end. An upcall may be waited for in its time, and may call WSPCleanup unless it sets
/// an event. Begins before the EngineUse that the socket is closed under.
class Closing {
public:
    Closing() noexcept;
    ~Closing();
    Closing(const Closing&) = delete;
    Closing& operator=(const Closing&) = delete;

    /// Of one that ends a record later, when the upcall has returned that it is inside: it begins before the Closing there
    /// has ended, and ends after finish_close().
    static void begin_late() noexcept;
    static void end_late() noexcept;

    /// How many live in this thread, but for late ones.
    [[nodiscard]] static std::uint32_t here() noexcept;
};

/// Whether the last WSPCleanup would wait for this thread, which is inside an upcall.
[[nodiscard]] bool is_waited_for() noexcept;

/// The WSA number of an engine status.
[[nodiscard]] int wsa_error(engine::Status status) noexcept;

inline void set_error(LPINT error_number, int error) noexcept {
    if (error_number != nullptr) {
        *error_number = error;
    }
}

/// The end of an `int` function of the table.
[[nodiscard]] inline int result(LPINT error_number, int error) noexcept {
    set_error(error_number, error);
    return error == 0 ? 0 : SOCKET_ERROR;
}

/// The error of a call that finds the provider so: 0 if it runs.
[[nodiscard]] inline int error_of(Life life) noexcept {
    switch (life) {
        case Life::kUp:
            return 0;
        case Life::kForked:
            return WSAENETDOWN;  // sockets do not follow fork(), see the README
        case Life::kDown:
            break;
    }
    return WSANOTINITIALISED;
}
[[nodiscard]] inline int life_error() noexcept {
    return error_of(common().life.load(std::memory_order_acquire));
}

/// Finds the record behind a descriptor, or says why not.
[[nodiscard]] inline int find_socket(SOCKET descriptor, SocketTable::Found& found) noexcept {
    if (const int error = life_error(); error != 0) [[unlikely]] {
        return error;
    }
    found = common().sockets.find(descriptor);
    return found.socket == nullptr ? WSAENOTSOCK : 0;
}

/// The same for posts, in the fewest steps: the record if the provider runs and the gate is open, else
/// nullptr, and then why_not_open() tells the reason.
[[nodiscard]] inline Socket* find_open(SOCKET descriptor) noexcept {
    if (common().life.load(std::memory_order_relaxed) != Life::kUp) [[unlikely]] {
        return nullptr;
    }
    return common().sockets.find_open(descriptor);
}
[[nodiscard]] int why_not_open(SOCKET descriptor) noexcept;

/// Runs the body of a control-plane function: memory that this thread lacks for it is an answer, not a crash. What a body hands to
/// the engine's control thread ends with Status::kNoMemory there, if it is a listen, a connect or an accept; other
/// tasks that find no memory end the process.
template <typename Body>
[[nodiscard]] int guarded(Body body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return WSAENOBUFS;
    } catch (...) {
        return WSAENETDOWN;
    }
}

/// Why posts are refused on a live socket: the connection's error, or WSAENOTCONN.
[[nodiscard]] int refusal(const engine::PostGate::View& view) noexcept;

// ---- listening (listen.cpp) ------------------------------------------------------------------------

/// Forgets the requests whose originators have gone. With the socket's mutex held. Looks at all of them.
void drop_withdrawn(Socket& socket) noexcept;
/// Whether a request waits whose originator has not gone; it is then the first. With the mutex held. Forgets
/// those before it, and so looks at each once.
[[nodiscard]] bool has_request(Socket& socket) noexcept;

// ---- events (event.cpp) ---------------------------------------------------------------------------

/// Records `bit` if it is selected; true if the event is to be signalled. With the socket's mutex held.
[[nodiscard]] bool record_event(Socket& socket, LONG bit) noexcept;
/// Signals the socket's event unless the registration has changed since `version`. No lock held.
void signal_event(Socket& socket, std::uint32_t version) noexcept;
/// Resets the event that is registered for FD_ACCEPT now, if there is one. As signal_event().
void reset_accept_event(Socket& socket, std::uint32_t generation) noexcept;
/// The same for callers that must not make upcalls: at the end of this thread's innermost ControlCall, or on
/// the notifier thread. Mutex may be held.
void signal_event_later(Socket& socket, std::uint32_t version) noexcept;

/// A call of the switch that manages connections does itself what that needs, and signals in its own thread what
/// comes of it: each thread that had to be woken instead would cost more than all of it. Its end runs the tasks
/// of the control thread that were posted here, then makes the upcalls: with nothing locked. Spans no upcall and no
/// wait for one: tasks and signals that somebody waits for there would be kept here meanwhile.
class ControlCall {
public:
    /// Signals of `elsewhere` are left to the notifier thread.
    explicit ControlCall(const Socket* elsewhere = nullptr) noexcept;
    ~ControlCall();
    ControlCall(const ControlCall&) = delete;
    ControlCall& operator=(const ControlCall&) = delete;

    /// As EngineUse::up().
    [[nodiscard]] bool up() const noexcept { return use_->up(); }

    /// Keeps a signal for the end of the innermost one. False: there is none, or it has no room.
    [[nodiscard]] static bool take(Socket& socket, std::uint32_t version) noexcept;

private:
    struct Signal {
        Socket*
            socket;  // type-stable; of another registration by then, perhaps, which signal_event() finds
        std::uint32_t version;
    };
    static constexpr std::uint32_t kSignals = 16;

    std::optional<EngineUse> use_;
    ControlCall* const outer_;
    const Socket* const elsewhere_;
    std::optional<engine::ControlThread::Helper> helper_;
    std::uint32_t count_ = 0;
    Signal signals_[kSignals];
};

/// Waits until no signal of an earlier registration is running, but for those that this thread is in the middle of,
/// and those of threads that wait for this one meanwhile, each inside an upcall: of such a circle the last to come goes on.
/// No lock held, no EngineUse.
void wait_for_signals(Socket& socket) noexcept;
/// Waits until the last upcall of the record's connection has been made; `by_notifier`: perhaps by the notifier thread. Then
/// not on that.
void wait_until_gone(Socket& socket, bool by_notifier) noexcept;
/// Whether this thread is in the middle of setting an event.
[[nodiscard]] bool sets_an_event() noexcept;

// ---- the engine's results (completion.cpp) ----------------------------------------------------------

[[nodiscard]] engine::Handlers completion_handlers() noexcept;
/// Last upcall and end of a record whose endpoint is gone.
void finish_close(Socket& socket) noexcept;
/// The second half of a close: ends what the gate had admitted, as it was when the gate closed. Ends `use`, which is up. With
/// a Closing.
void dismantle(Socket& socket, const engine::PostGate::View& before,
               std::optional<EngineUse>& use) noexcept;
/// Closes what the last WSPCleanup finds. A socket in the making is left alone.
void close_left(SOCKET descriptor) noexcept;
/// The body of WSPCloseSocket. When it has returned, the last upcall has been made, and the peer reaches nothing of what was
/// exposed, or has had its time (ShmPort::lingers). Not so inside an upcall, where it cannot wait: there
/// WPUCloseSocketHandle, which follows, is the sign.
[[nodiscard]] int close_socket(SOCKET descriptor) noexcept;

// ---- making sockets -------------------------------------------------------------------------------------

// With an EngineUse that is up: the last WSPCleanup closes what has been made, and waits for what is in the making.

/// A record in state kCreated that is in the making until finish_making(); nullptr: WSAEMFILE (socket.cpp).
[[nodiscard]] Socket* make_record(SOCKET& descriptor, DWORD catalog_entry);
/// Its switch handle, from when on it is closed as any other. False, WSAENOBUFS: the switch has none.
[[nodiscard]] bool give_handle(Socket& socket) noexcept;
/// The descriptor is about to be given out.
void finish_making(Socket& socket) noexcept;
/// Takes back what is in the making.
void abandon_making(Socket& socket) noexcept;
/// WSPSocket with the token of a duplicate (duplicate.cpp).
[[nodiscard]] int import_socket(std::uint32_t token, DWORD catalog_entry, SOCKET& descriptor);
/// A request from a peer, on the control thread. False: the queue is full, refuse it (listen.cpp).
[[nodiscard]] bool take_request(Socket& socket, std::uint32_t generation,
                                std::shared_ptr<engine::IncomingConnection> request);

// ---- the functions of the table; contracts in ws2spi.h ---------------------------------------------------

SOCKET WSPAPI wsp_accept(SOCKET s, struct sockaddr* addr, LPINT addrlen, LPCONDITIONPROC condition,
                         DWORD_PTR callback_data, LPINT error_number);
int WSPAPI wsp_bind(SOCKET s, const struct sockaddr* name, int namelen, LPINT error_number);
int WSPAPI wsp_cleanup(LPINT error_number);
int WSPAPI wsp_close_socket(SOCKET s, LPINT error_number);
int WSPAPI wsp_connect(SOCKET s, const struct sockaddr* name, int namelen, LPWSABUF caller_data,
                       LPWSABUF callee_data, LPQOS sqos, LPQOS gqos, LPINT error_number);
int WSPAPI wsp_duplicate_socket(SOCKET s, DWORD process_id, LPWSAPROTOCOL_INFOW info,
                                LPINT error_number);
int WSPAPI wsp_enum_network_events(SOCKET s, WSAEVENT event, LPWSANETWORKEVENTS events,
                                   LPINT error_number);
int WSPAPI wsp_event_select(SOCKET s, WSAEVENT event, LONG mask, LPINT error_number);
BOOL WSPAPI wsp_get_overlapped_result(SOCKET s, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                      BOOL wait, LPDWORD flags, LPINT error_number);
int WSPAPI wsp_get_sock_opt(SOCKET s, int level, int name, CHAR* value, LPINT length,
                            LPINT error_number);
BOOL WSPAPI wsp_get_qos_by_name(SOCKET s, LPWSABUF name, LPQOS qos, LPINT error_number);
int WSPAPI wsp_ioctl(SOCKET s, DWORD code, LPVOID in, DWORD in_length, LPVOID out, DWORD out_length,
                     LPDWORD returned, LPWSAOVERLAPPED overlapped,
                     LPWSAOVERLAPPED_COMPLETION_ROUTINE routine, LPWSATHREADID thread,
                     LPINT error_number);
int WSPAPI wsp_listen(SOCKET s, int backlog, LPINT error_number);
int WSPAPI wsp_recv(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD received, LPDWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                    LPWSATHREADID thread, LPINT error_number);
int WSPAPI wsp_send(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD sent, DWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                    LPWSATHREADID thread, LPINT error_number);
int WSPAPI wsp_set_sock_opt(SOCKET s, int level, int name, const CHAR* value, int length,
                            LPINT error_number);
SOCKET WSPAPI wsp_socket(int af, int type, int protocol, LPWSAPROTOCOL_INFOW info, GROUP g,
                         DWORD flags, LPINT error_number);

// ---- extension functions; contracts in ws2san.h -----------------------------------------------------------

HANDLE WSPAPI wsp_register_memory(SOCKET s, PVOID buffer, DWORD length, DWORD flags,
                                  LPINT error_number);
int WSPAPI wsp_deregister_memory(SOCKET s, HANDLE handle, LPINT error_number);
int WSPAPI wsp_register_rdma_memory(SOCKET s, PVOID buffer, DWORD length, DWORD flags,
                                    LPVOID descriptor, LPDWORD descriptor_length,
                                    LPINT error_number);
int WSPAPI wsp_deregister_rdma_memory(SOCKET s, LPVOID descriptor, DWORD descriptor_length,
                                      LPINT error_number);
int WSPAPI wsp_rdma_write(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                          DWORD target_length, DWORD offset, LPDWORD written, DWORD flags,
                          LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                          LPWSATHREADID thread, LPINT error_number);
int WSPAPI wsp_rdma_read(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                         DWORD target_length, DWORD offset, LPDWORD read, DWORD flags,
                         LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                         LPWSATHREADID thread, LPINT error_number);
int WSPAPI wsp_memory_registration_cache_callback(PVOID address, SIZE_T size, LPINT error_number);

}  // namespace sanpoll::provider
