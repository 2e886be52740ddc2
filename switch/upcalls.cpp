// The upcall table. Any thread of a provider may be here; nothing is thrown, no lock is held on
// return into other code. Upcalls for windows, blocking hooks, file handles and APCs, which a SAN
// provider never makes, answer as documented for a process that has none of these.
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <sanpoll/switch.hpp>

#include "switch/event.hpp"
#include "switch/provider_paths.hpp"
#include "switch/socket_handle.hpp"

namespace sanpoll_switch {
namespace detail {
namespace {

// The interface promises a valid lpErrno; a null one costs the number, not the process.
template <class Result>
Result answer(LPINT error_out, int error, Result result) {
    if (error_out != nullptr) *error_out = error;
    return result;
}

BOOL answer_event(LPINT error_out, int error) {
    return answer(error_out, error, error == 0 ? TRUE : FALSE);
}

int answer_int(LPINT error_out, int error) {
    return answer(error_out, error, error == 0 ? 0 : SOCKET_ERROR);
}

// --------------------------------------------------------------------------------------- events --

BOOL WSPAPI close_event_upcall(WSAEVENT event, LPINT error_out) {
    return answer_event(error_out, close_event(event));
}

WSAEVENT WSPAPI create_event_upcall(LPINT error_out) {
    const WSAEVENT event = create_event();
    return answer(error_out, event == WSA_INVALID_EVENT ? WSA_NOT_ENOUGH_MEMORY : 0, event);
}

BOOL WSPAPI reset_event_upcall(WSAEVENT event, LPINT error_out) {
    return answer_event(error_out, reset_event(event));
}

BOOL WSPAPI set_event_upcall(WSAEVENT event, LPINT error_out) {
    return answer_event(error_out, set_event(event));
}

// ------------------------------------------------------------------------------- socket handles --

SOCKET WSPAPI create_socket_handle(DWORD /*catalog_entry*/, DWORD_PTR context, LPINT error_out) {
    const SOCKET handle =
        sockets().open([context](SwitchSocket& socket) { socket.context = context; });
    if (handle == 0) return answer(error_out, WSAENOBUFS, SOCKET{INVALID_SOCKET});
    HandleCapture::offer(handle);
    return answer(error_out, 0, handle);
}

int WSPAPI close_socket_handle(SOCKET handle, LPINT error_out) {
    return answer_int(error_out, sockets().close(handle) ? 0 : WSAENOTSOCK);
}

int WSPAPI query_socket_handle_context(SOCKET handle, PDWORD_PTR context, LPINT error_out) {
    const auto socket = sockets().pin(handle);
    if (!socket) return answer_int(error_out, WSAENOTSOCK);
    if (context == nullptr) return answer_int(error_out, WSAEFAULT);
    *context = socket->context;
    return answer_int(error_out, 0);
}

// ----------------------------------------------------------------------------------- completion --

int WSPAPI complete_overlapped_request(SOCKET handle, LPWSAOVERLAPPED overlapped, DWORD error,
                                       DWORD bytes, LPINT error_out) {
    const auto socket = sockets().pin(handle);
    if (!socket || overlapped == nullptr) return answer_int(error_out, WSAEINVAL);

    // From the write to Internal on the caller may reuse or free the structure: read what is needed
    // of it before.
    const auto event_bits = reinterpret_cast<std::uintptr_t>(overlapped->hEvent);
    const auto event = reinterpret_cast<WSAEVENT>(event_bits & ~std::uintptr_t{1});

    // Relaxed: ordered by the store that follows. Atomic, because a poller may read it too early
    // and discard it.
    std::atomic_ref(overlapped->InternalHigh).store(bytes, std::memory_order_relaxed);
    // Any value but WSS_OPERATION_IN_PROGRESS will do; OffsetHigh, which the provider has written,
    // is the result.
    const ULONG_PTR status = error == WSS_OPERATION_IN_PROGRESS ? ~ULONG_PTR{0} : error;
    // Release: partner is the acquire load in the provider's WSPGetOverlappedResult, or in a caller
    // that polls Internal.
    std::atomic_ref(overlapped->Internal).store(status, std::memory_order_release);

    const int event_error = event == nullptr ? 0 : set_event(event);
    const int port_error = socket->queue(overlapped, error, bytes);
    return answer_int(error_out, event_error != 0 ? event_error : port_error);
}

// ---------------------------------------------------------------------------------------- paths --

int WSPAPI get_provider_path(LPGUID provider_id, LPWSTR path, LPINT length, LPINT error_out) {
    if (provider_id == nullptr || path == nullptr || length == nullptr)
        return answer_int(error_out, WSAEFAULT);
    const auto found = provider_path(*provider_id);
    if (!found) return answer_int(error_out, WSAEINVAL);
    const auto needed = static_cast<INT>(found->size() + 1);
    const INT space = *length;
    *length = needed;
    if (space < needed) return answer_int(error_out, WSAEFAULT);
    std::copy_n(found->c_str(), needed, path);
    return answer_int(error_out, 0);
}

// ---------------------------------------------------- what Windows has and this process has not --

int WSPAPI fd_is_set(SOCKET handle, wsp_fd_set* set) {
    if (set == nullptr) return 0;
    const auto count = std::min<std::size_t>(set->fd_count, WSP_FD_SETSIZE);
    return std::count(set->fd_array, set->fd_array + count, handle) != 0 ? 1 : 0;
}

SOCKET WSPAPI modify_ifs_handle(DWORD /*catalog_entry*/, SOCKET /*proposed*/, LPINT error_out) {
    return answer(error_out, WSAEINVAL, SOCKET{INVALID_SOCKET});  // descriptors are no file handles
}

BOOL WSPAPI post_message(HWND /*window*/, UINT /*message*/, WPARAM /*wide*/, LPARAM /*wider*/) {
    return FALSE;  // no windows
}

int WSPAPI query_blocking_callback(DWORD /*catalog_entry*/, LPBLOCKINGCALLBACK* callback,
                                   PDWORD_PTR context, LPINT error_out) {
    if (callback == nullptr || context == nullptr) return answer_int(error_out, WSAEFAULT);
    *callback = nullptr;
    *context = 0;
    return answer_int(error_out, 0);
}

int WSPAPI queue_apc(LPWSATHREADID thread, LPWSAUSERAPC apc, DWORD_PTR /*context*/,
                     LPINT error_out) {
    // No wait here is alertable, so an APC would never run: say so instead of dropping it.
    return answer_int(error_out, thread == nullptr || apc == nullptr ? WSAEFAULT : WSAEOPNOTSUPP);
}

int WSPAPI open_current_thread(LPWSATHREADID thread, LPINT error_out) {
    if (thread == nullptr) return answer_int(error_out, WSAEFAULT);
    thread->ThreadHandle =
        reinterpret_cast<HANDLE>(static_cast<std::uintptr_t>(::syscall(SYS_gettid)));
    thread->Reserved = 0;
    return answer_int(error_out, 0);
}

int WSPAPI close_thread(LPWSATHREADID thread, LPINT error_out) {
    if (thread == nullptr) return answer_int(error_out, WSAEFAULT);
    *thread = {};
    return answer_int(error_out, 0);
}

}  // namespace

}  // namespace detail

const WSPUPCALLTABLEEX& upcall_table() {
    using namespace detail;
    static constexpr WSPUPCALLTABLEEX table = {
        .lpWPUCloseEvent = close_event_upcall,
        .lpWPUCloseSocketHandle = close_socket_handle,
        .lpWPUCreateEvent = create_event_upcall,
        .lpWPUCreateSocketHandle = create_socket_handle,
        .lpWPUFDIsSet = fd_is_set,
        .lpWPUGetProviderPath = get_provider_path,
        .lpWPUModifyIFSHandle = modify_ifs_handle,
        .lpWPUPostMessage = post_message,
        .lpWPUQueryBlockingCallback = query_blocking_callback,
        .lpWPUQuerySocketHandleContext = query_socket_handle_context,
        .lpWPUQueueApc = queue_apc,
        .lpWPUResetEvent = reset_event_upcall,
        .lpWPUSetEvent = set_event_upcall,
        .lpWPUOpenCurrentThread = open_current_thread,
        .lpWPUCloseThread = close_thread,
        .lpWPUCompleteOverlappedRequest = complete_overlapped_request,
    };
    return table;
}

}  // namespace sanpoll_switch
