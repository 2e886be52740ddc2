// WSPSend, WSPRecv, WSPGetOverlappedResult: the data path of the front end. No lock, no allocation, no
// system call.
#include <atomic>

#include "engine/log.hpp"
#include "provider/posting.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// Captures the buffer list into the request and checks it: count, sum, and that each buffer lies in one
// registration with the right. Returns a WSA error or 0.
[[gnu::noinline]] int capture_list(Socket& socket, const WSABUF* buffers, DWORD count,
                                   std::uint32_t access, std::uint32_t longest,
                                   engine::WorkRequest& request) noexcept {
    if (count > engine::kMaxSges) {
        return WSAEINVAL;
    }
    if (count != 0 && buffers == nullptr) {
        return WSAEFAULT;
    }
    std::uint64_t sum = 0;
    for (DWORD i = 0; i < count; ++i) {
        sum += buffers[i].len;
    }
    if (sum > longest) {
        return WSAEMSGSIZE;
    }
    for (DWORD i = 0; i < count; ++i) {
        const auto address = reinterpret_cast<std::uint64_t>(buffers[i].buf);
        engine::RegionRef region = 0;
        if (buffers[i].len != 0) {
            region = socket.regions.find(address, buffers[i].len, access);
            if (region == 0) {
                return WSAEFAULT;
            }
        }
        request.piece(i) = {address, buffers[i].len, region};
    }
    request.sge_count = static_cast<std::uint8_t>(count);
    request.length = static_cast<std::uint32_t>(sum);
    return 0;
}

// The list of one buffer, which is what switches pass; anything else takes the long way.
inline int capture(Socket& socket, const WSABUF* buffers, DWORD count, std::uint32_t access,
                   std::uint32_t longest, engine::WorkRequest& request) noexcept {
    if (count == 1 && buffers != nullptr && buffers->len <= longest) [[likely]] {
        const auto address = reinterpret_cast<std::uint64_t>(buffers->buf);
        const engine::RegionRef region = socket.regions.find(address, buffers->len, access);
        if (region != 0) [[likely]] {
            request.sge[0] = {address, buffers->len, region};
            request.sge_count = 1;
            request.length = buffers->len;
            return 0;
        }
    }
    return capture_list(socket, buffers, count, access, longest, request);
}

// Waiting inside an upcall for an operation that ends by an upcall would be waiting for ourselves: there is
// one thread for upcalls, and upcalls of a socket are not nested. WSA_IO_INCOMPLETE is the one answer that
// does not say that the operation has ended.
[[gnu::noinline]] bool would_wait_for_itself(const WSAOVERLAPPED& overlapped) noexcept {
    if ((reinterpret_cast<std::uintptr_t>(overlapped.hEvent) & 1U) != 0 ||
        !Provider::instance().engine().notifier().is_this_thread()) {
        return false;
    }
    static std::atomic<bool> told{false};  // once is enough: the caller may ask again and again
    if (!told.exchange(true, std::memory_order_relaxed)) {
        engine::log(
            engine::LogLevel::kWarn,
            "WSPGetOverlappedResult with fWait was called inside a completion upcall, for an "
            "operation that ends with one: answered with WSA_IO_INCOMPLETE, for the thread "
            "that would end it is this one. Return from the upcall first, or submit the "
            "operation with the low bit of hEvent set");
    }
    return true;
}

[[nodiscard]] bool in_progress(WSAOVERLAPPED& overlapped) noexcept {
    // Acquire pairs with the release of whoever completes: the result fields are there.
    return std::atomic_ref<ULONG_PTR>(overlapped.Internal).load(std::memory_order_acquire) ==
           WSS_OPERATION_IN_PROGRESS;
}

// WSPGetOverlappedResult with fWait, and without a connection: apart, so that a look costs no more than a look.
// Returns 0 once the operation has ended.
[[gnu::noinline]] int wait_for(engine::PollingCore* core, WSAOVERLAPPED& overlapped,
                               BOOL wait) noexcept {
    if (core == nullptr) {
        return wait ? WSAEINVAL : WSA_IO_INCOMPLETE;
    }
    if (would_wait_for_itself(overlapped)) {
        core->poll_once();
        return in_progress(overlapped) ? WSA_IO_INCOMPLETE : 0;
    }
    core->wait_until([&] { return !in_progress(overlapped); });
    return 0;
}

}  // namespace

int WSPAPI wsp_send(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD sent, DWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                    LPWSATHREADID thread, LPINT error_number) {
    (void)sent;  // written only by a call that completes at once; none does
    (void)routine;
    (void)thread;
    Socket* socket = find_open(s);
    if (socket == nullptr) [[unlikely]] {
        return result(error_number, why_not_open(s));
    }
    if (flags != 0) [[unlikely]] {
        return result(error_number,
                      (flags & ~(WSP_MSG_OOB | WSP_MSG_PARTIAL)) == 0 ? WSAEOPNOTSUPP : WSAEINVAL);
    }
    if (overlapped == nullptr) [[unlikely]] {
        return result(error_number, WSAEINVAL);
    }
    engine::WorkRequest request;
    request.opcode = engine::Opcode::kSend;
    if (const int error =
            capture(*socket, buffers, count, engine::kRead, common().max_message, request);
        error != 0) [[unlikely]] {
        return result(error_number, buffers_refused(s, error));
    }
    if (socket->saturation.sends.load(std::memory_order_relaxed)) [[unlikely]] {
        return result(error_number, WSAEWOULDBLOCK);
    }
    return result(error_number, start(*socket, s, overlapped, request));
}

int WSPAPI wsp_recv(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD received, LPDWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                    LPWSATHREADID thread, LPINT error_number) {
    (void)received;
    (void)routine;
    (void)thread;
    Socket* socket = find_open(s);
    if (socket == nullptr) [[unlikely]] {
        return result(error_number, why_not_open(s));
    }
    if (flags != nullptr && *flags != 0) [[unlikely]] {
        return result(error_number, (*flags & ~(WSP_MSG_OOB | WSP_MSG_PARTIAL | WSP_MSG_PEEK)) == 0
                                        ? WSAEOPNOTSUPP
                                        : WSAEINVAL);
    }
    if (overlapped == nullptr) [[unlikely]] {
        return result(error_number, WSAEINVAL);
    }
    engine::WorkRequest request;
    request.opcode = engine::Opcode::kReceive;
    // A receive may be longer than any message; only the sum must fit its 32 bits.
    if (const int error = capture(*socket, buffers, count, engine::kWrite, 0xFFFFFFFFU, request);
        error != 0) [[unlikely]] {
        return result(error_number, buffers_refused(s, error));
    }
    if (socket->saturation.receives.load(std::memory_order_relaxed)) [[unlikely]] {
        return result(error_number, WSAEWOULDBLOCK);
    }
    return result(error_number, start(*socket, s, overlapped, request));
}

BOOL WSPAPI wsp_get_overlapped_result(SOCKET s, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                      BOOL wait, LPDWORD flags, LPINT error_number) {
    SocketTable::Found found;
    int error = find_socket(s, found);
    if (error == 0 && (overlapped == nullptr || transferred == nullptr || flags == nullptr))
        [[unlikely]] {
        error = WSAEINVAL;
    }
    if (error != 0) [[unlikely]] {
        set_error(error_number, error);
        return FALSE;
    }
    if (in_progress(*overlapped)) {
        engine::PollingCore* core = found.socket->core.load(std::memory_order_relaxed);
        if (wait || core == nullptr) [[unlikely]] {
            error = wait_for(core, *overlapped, wait);
        } else {
            core->poll_once();
            error = in_progress(*overlapped) ? WSA_IO_INCOMPLETE : 0;
        }
        if (error != 0) {
            set_error(error_number, error);
            return FALSE;
        }
    }
    error = static_cast<int>(overlapped->OffsetHigh);
    set_error(error_number, error);
    if (error != 0) [[unlikely]] {
        return FALSE;  // the byte count is left alone
    }
    *transferred = static_cast<DWORD>(overlapped->InternalHigh);
    *flags = overlapped->Offset;
    return TRUE;
}

}  // namespace sanpoll::provider
