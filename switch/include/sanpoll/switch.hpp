// The caller's side of the service provider interface: loads a SAN provider and supplies what it
// calls back.
//
//   auto loaded = sanpoll_switch::Provider::load();
//   if (!loaded) { std::fprintf(stderr, "%s\n", loaded.error.message.c_str()); return 1; }
//   sanpoll_switch::Provider& provider = *loaded.provider;
//   auto [descriptor, switch_handle, error] = provider.socket();
//   provider.table().lpWSPBind(descriptor, ...);
//
// Two values name one socket: the *descriptor* is the provider's and goes into calls down (WSPSend
// ...), the *switch handle* is ours and goes into calls up and into CreateIoCompletionPort. Never
// mix them.
//
// Everything here is C++ in namespace sanpoll_switch, also the functions with Windows' names, so
// that a program may link other code that defines them. All handles are index plus generation: a
// closed, stale or forged one is an error. All functions may be called from any thread unless their
// contract says otherwise.
#pragma once

#include <ws2san.h>

#include <cstdint>
#include <memory>
#include <string>

namespace sanpoll_switch {

// ------------------------------------------------------------------------------------- provider --

// The seven functions that WSPIoctl gives; one that the provider answers with WSAEOPNOTSUPP is
// null.
struct ExtensionFunctions {
    LPFN_WSPREGISTERMEMORY register_memory = nullptr;
    LPFN_WSPDEREGISTERMEMORY deregister_memory = nullptr;
    LPFN_WSPREGISTERRDMAMEMORY register_rdma_memory = nullptr;
    LPFN_WSPDEREGISTERRDMAMEMORY deregister_rdma_memory = nullptr;
    LPFN_WSPRDMAWRITE rdma_write = nullptr;
    LPFN_WSPRDMAREAD rdma_read = nullptr;
    LPFN_WSPMEMORYREGISTRATIONCACHECALLBACK memory_registration_cache_callback = nullptr;
};

enum class LoadStep {
    kNone,
    kFindLibrary,       // no file at the path
    kOpenLibrary,       // dlopen
    kFindEntryPoint,    // no WSPStartupEx in it
    kStartup,           // WSPStartupEx answered an error or another version than 2.2
    kProcTable,         // one of the 17 required functions is missing
    kExtensionFunction  // WSPIoctl answered something else than a pointer or WSAEOPNOTSUPP
};

struct LoadError {
    LoadStep step = LoadStep::kNone;
    int wsa_error = 0;    // the provider's number where there is one
    std::string message;  // one line: the step, the error's name, what to do about it
};

struct LoadOptions {
    // Path of the provider's library; empty: the environment's SANPOLL_LIBRARY, else libsanpoll.so
    // in ../lib beside the running program, else libsanpoll.so where the dynamic loader looks.
    std::string library;
    // The identity under which WPUGetProviderPath finds the library; all zero: not asked for.
    GUID provider_id{};
    // false keeps the library mapped after the last WSPCleanup (for tools that resolve addresses at
    // exit).
    bool unload = true;
};

class Provider;

struct LoadResult {
    std::unique_ptr<Provider> provider;  // null on failure
    LoadError error;
    explicit operator bool() const { return provider != nullptr; }
};

// A socket, or the error (then both values are INVALID_SOCKET).
struct ProviderSocket {
    SOCKET descriptor = INVALID_SOCKET;
    SOCKET switch_handle = INVALID_SOCKET;
    int error = 0;
    explicit operator bool() const { return descriptor != INVALID_SOCKET; }
};

// One start of one provider. Owned by one thread at a time; its functions may be called from any.
// Destruction calls WSPCleanup (which closes what is still open and makes the last upcalls), then
// unloads the library; no other thread may still be in a call. A library that refuses WSPCleanup
// stays mapped.
class Provider {
public:
    [[nodiscard]] static LoadResult load(const LoadOptions& options = {});
    ~Provider();
    Provider(const Provider&) = delete;
    Provider& operator=(const Provider&) = delete;

    const WSPPROC_TABLE& table() const { return table_; }
    const ExtensionFunctions& extensions() const { return extensions_; }
    const WSPDATA& data() const { return data_; }
    const std::string& path() const { return path_; }

    // WSPSocket(AF_INET, SOCK_STREAM, IPPROTO_TCP, ..., WSA_FLAG_OVERLAPPED) with the switch handle
    // that the provider made for it. `info` as for WSPSocket; a duplicate that reuses its old
    // descriptor has no new switch handle.
    ProviderSocket socket(LPWSAPROTOCOL_INFOW info = nullptr) const;

    // WSPAccept with the switch handle of the new socket. `peer`, if not null, receives the peer's
    // address.
    ProviderSocket accept(SOCKET listener, sockaddr_in* peer = nullptr,
                          LPCONDITIONPROC condition = nullptr, DWORD_PTR callback_data = 0) const;

    // WSPCloseSocket: 0 or the error.
    int close(SOCKET descriptor) const;

private:
    Provider() = default;

    void* library_ = nullptr;
    bool started_ = false;
    bool unload_ = true;
    GUID provider_id_{};
    std::string path_;
    WSPDATA data_{};
    WSPPROC_TABLE table_{};
    ExtensionFunctions extensions_;
};

// The path that LoadOptions with an empty `library` stands for.
std::string default_library();

// TCP/IP's protocol information: the sign for a SAN provider that the caller is the switch.
WSAPROTOCOL_INFOW tcpip_protocol_info();

// "WSAECONNRESET" for 10054; "error 12345" for a number without a name.
std::string wsa_error_name(int error);

// The upcall table as the provider gets it.
const WSPUPCALLTABLEEX& upcall_table();

// --------------------------------------------------------------------------------------- events --
//
// Manual-reset. Setting an event that nobody sleeps on and waiting for a signaled one make no
// system call. A waiter spins briefly (set_wait_spins), then sleeps.

inline constexpr DWORD WSA_INFINITE = 0xFFFFFFFFu;
inline constexpr DWORD WSA_MAXIMUM_WAIT_EVENTS = 64;
inline constexpr DWORD WSA_WAIT_EVENT_0 = 0;
inline constexpr DWORD WSA_WAIT_IO_COMPLETION =
    0xC0;  // never returned: there are no alertable waits
inline constexpr DWORD WSA_WAIT_TIMEOUT = 258;
inline constexpr DWORD WSA_WAIT_FAILED = 0xFFFFFFFFu;

// New event, nonsignaled. WSA_INVALID_EVENT: WSA_NOT_ENOUGH_MEMORY.
WSAEVENT WSACreateEvent();
// FALSE: WSA_INVALID_HANDLE. Writes before WSASetEvent are visible after the wait that it ends.
BOOL WSASetEvent(WSAEVENT event);
BOOL WSAResetEvent(WSAEVENT event);
// Ends the event; threads that wait for it get WSA_WAIT_FAILED. FALSE: WSA_INVALID_HANDLE.
BOOL WSACloseEvent(WSAEVENT event);
// Waits for one (the lowest index wins) or for all at the same time, `timeout` in milliseconds.
// Returns WSA_WAIT_EVENT_0 + index (0 for all), WSA_WAIT_TIMEOUT, or WSA_WAIT_FAILED with
// WSA_INVALID_PARAMETER (count not in 1..64, null array) or WSA_INVALID_HANDLE. `alertable` is
// ignored.
DWORD WSAWaitForMultipleEvents(DWORD count, const WSAEVENT* events, BOOL wait_all, DWORD timeout,
                               BOOL alertable);

// ----------------------------------------------------------------------------- completion ports --
//
// First in, first out; sleeping threads are woken last in, first out. Any number of threads on both
// sides. Dequeueing makes no system call while there is something in the port, queueing none while
// nobody sleeps.

struct OVERLAPPED_ENTRY {
    ULONG_PTR lpCompletionKey;
    LPOVERLAPPED lpOverlapped;
    ULONG_PTR Internal;  // the operation's WSA error, 0 = success
    DWORD dwNumberOfBytesTransferred;
};
using LPOVERLAPPED_ENTRY = OVERLAPPED_ENTRY*;

inline constexpr int WAIT_TIMEOUT = 258;
inline constexpr int ERROR_ABANDONED_WAIT_0 = 735;
inline const HANDLE INVALID_HANDLE_VALUE = reinterpret_cast<HANDLE>(UINTPTR_MAX);

// A switch handle as the HANDLE that CreateIoCompletionPort takes.
inline HANDLE as_handle(SOCKET switch_handle) { return reinterpret_cast<HANDLE>(switch_handle); }

// file == INVALID_HANDLE_VALUE, existing == nullptr: a new port. file == a switch handle:
// completions of that socket are queued to `existing` (or to a new port) with `key` from now on; a
// socket is associated once. nullptr: WSA_INVALID_HANDLE, WSA_INVALID_PARAMETER (already
// associated), WSA_NOT_ENOUGH_MEMORY.
HANDLE CreateIoCompletionPort(HANDLE file, HANDLE existing, ULONG_PTR key,
                              DWORD concurrent_threads);

// Takes up to `count` entries, waits up to `timeout` milliseconds for the first. FALSE:
// WAIT_TIMEOUT, ERROR_ABANDONED_WAIT_0 (port closed while waiting), WSA_INVALID_HANDLE,
// WSA_INVALID_PARAMETER; *removed is then 0.
BOOL GetQueuedCompletionStatusEx(HANDLE port, OVERLAPPED_ENTRY* entries, ULONG count,
                                 ULONG* removed, DWORD timeout, BOOL alertable);

// Queues an entry of the caller's own. FALSE: WSA_INVALID_HANDLE, WSA_NOT_ENOUGH_MEMORY.
BOOL PostQueuedCompletionStatus(HANDLE port, DWORD bytes, ULONG_PTR key, LPOVERLAPPED overlapped);

// Closes a completion port or an event. FALSE: WSA_INVALID_HANDLE.
BOOL CloseHandle(HANDLE handle);

// ---------------------------------------------------------------------------------------- other --

// The calling thread's last error of the functions above with Windows' names.
int WSAGetLastError();
void WSASetLastError(int error);

// Number of pauses that a wait spins before it sleeps; process-wide.
void set_wait_spins(unsigned spins);

// How often this process has entered the kernel on behalf of events and completion ports.
struct KernelCalls {
    std::uint64_t sleeps = 0;
    std::uint64_t wakes = 0;
};
KernelCalls kernel_calls();

}  // namespace sanpoll_switch
