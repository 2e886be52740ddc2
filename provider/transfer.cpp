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

// What switches pass nearly always: one buffer in the region of the post before, on an open connection, and the end
// is polled for. PollingCore::post_one knows what is asked of it.
template <engine::Opcode kOpcode_>
struct OneBuffer {
    static constexpr engine::Opcode kOpcode = kOpcode_;
    static constexpr bool kSends = kOpcode == engine::Opcode::kSend;

    engine::RegionTable& regions;
    WSAOVERLAPPED& overlapped;
    std::uint64_t context;
    std::uint64_t address;
    std::uint32_t length;
    engine::RegionTable::Again region;

    std::uint32_t find() noexcept {
        region = regions.find_again(address, length, kSends ? engine::kRead : engine::kWrite);
        return region.ref;
    }
    void begin() noexcept {
        overlapped.InternalHigh = 0;
        std::atomic_ref<ULONG_PTR>(overlapped.Internal)
            .store(WSS_OPERATION_IN_PROGRESS, std::memory_order_relaxed);
    }
    void hold() noexcept { engine::RegionTable::hold(region); }
    void sent() noexcept { finish(overlapped, length, 0); }
};

// Posts that in one straight line. False: it is something else, or not now; nothing has been done, and what is
// wrong, if anything is, has to be found out.
template <engine::Opcode kOpcode>
[[gnu::always_inline]] inline bool start_common(SOCKET s, const WSABUF* buffers, DWORD count,
                                                std::uint32_t longest,
                                                LPWSAOVERLAPPED overlapped) noexcept {
    const SocketTable::Seen seen = look(s);
    if (seen.socket == nullptr || !SocketTable::is_open(seen, s)) [[unlikely]] {
        return false;
    }
    Socket& socket = *seen.socket;
    engine::PollingCore& core = *socket.core.load(std::memory_order_relaxed);
    if (core.dedicated()) [[unlikely]] {
        return false;  // by its lane: told apart here, so that it costs that way little
    }
    if (overlapped == nullptr) [[unlikely]] {
        return false;
    }
    if (count != 1 || buffers == nullptr) [[unlikely]] {
        return false;
    }
    const std::uint32_t length = buffers->len;
    if (kOpcode == engine::Opcode::kReceive ? length == 0 : length > longest) [[unlikely]] {
        return false;
    }
    if ((reinterpret_cast<std::uintptr_t>(overlapped->hEvent) & 1U) == 0) [[unlikely]] {
        return false;
    }
    const std::atomic<bool>& saturated =
        kOpcode == engine::Opcode::kSend ? socket.saturation.sends : socket.saturation.receives;
    if (saturated.load(std::memory_order_relaxed)) [[unlikely]] {
        return false;
    }
    OneBuffer<kOpcode> request{socket.regions,
                               *overlapped,
                               reinterpret_cast<std::uint64_t>(overlapped),
                               reinterpret_cast<std::uint64_t>(buffers->buf),
                               length,
                               {}};
    return core.post_one(request, socket.gate, seen.word, socket.endpoint);
}

// Any post: what is wrong with it is told here.
int send_any(SOCKET s, const WSABUF* buffers, DWORD count, DWORD flags,
             LPWSAOVERLAPPED overlapped) noexcept {
    Socket* socket = find_open(s);
    if (socket == nullptr) {
        return why_not_open(s);
    }
    if (flags != 0) {
        return (flags & ~(WSP_MSG_OOB | WSP_MSG_PARTIAL)) == 0 ? WSAEOPNOTSUPP : WSAEINVAL;
    }
    if (overlapped == nullptr) {
        return WSAEINVAL;
    }
    engine::WorkRequest request;
    request.opcode = engine::Opcode::kSend;
    if (const int error =
            capture(*socket, buffers, count, engine::kRead, common().max_message, request);
        error != 0) {
        return buffers_refused(s, error);
    }
    if (socket->saturation.sends.load(std::memory_order_relaxed)) {
        return WSAEWOULDBLOCK;
    }
    return start(*socket, s, overlapped, request);
}

// A receive may be longer than any message; only the sum must fit its 32 bits.
constexpr std::uint32_t kLongestReceive = 0xFFFFFFFFU;

int receive_any(SOCKET s, const WSABUF* buffers, DWORD count, const DWORD* flags,
                LPWSAOVERLAPPED overlapped) noexcept {
    Socket* socket = find_open(s);
    if (socket == nullptr) {
        return why_not_open(s);
    }
    if (flags != nullptr && *flags != 0) {
        return (*flags & ~(WSP_MSG_OOB | WSP_MSG_PARTIAL | WSP_MSG_PEEK)) == 0 ? WSAEOPNOTSUPP
                                                                               : WSAEINVAL;
    }
    if (overlapped == nullptr) {
        return WSAEINVAL;
    }
    engine::WorkRequest request;
    request.opcode = engine::Opcode::kReceive;
    if (const int error =
            capture(*socket, buffers, count, engine::kWrite, kLongestReceive, request);
        error != 0) {
        return buffers_refused(s, error);
    }
    if (socket->saturation.receives.load(std::memory_order_relaxed)) {
        return WSAEWOULDBLOCK;
    }
    return start(*socket, s, overlapped, request);
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

// The signatures of these three are those of the functions that end in calling them: the way there is a jump.
[[gnu::noinline]] int send_slowly(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD, DWORD flags,
                                  LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE,
                                  LPWSATHREADID, LPINT error_number) noexcept {
    return result(error_number, send_any(s, buffers, count, flags, overlapped));
}

[[gnu::noinline]] int receive_slowly(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD,
                                     LPDWORD flags, LPWSAOVERLAPPED overlapped,
                                     LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID,
                                     LPINT error_number) noexcept {
    return result(error_number, receive_any(s, buffers, count, flags, overlapped));
}

// The result of an operation that has ended.
inline BOOL tell_result(const WSAOVERLAPPED& overlapped, LPDWORD transferred, LPDWORD flags,
                        LPINT error_number) noexcept {
    const int error = static_cast<int>(overlapped.OffsetHigh);
    set_error(error_number, error);
    if (error != 0) [[unlikely]] {
        return FALSE;  // the byte count is left alone
    }
    *transferred = static_cast<DWORD>(overlapped.InternalHigh);
    *flags = overlapped.Offset;
    return TRUE;
}

// Of one that had not when it was looked at.
[[gnu::noinline]] BOOL poll_result(Socket* socket, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                   BOOL wait, LPDWORD flags, LPINT error_number) noexcept {
    engine::PollingCore* core = socket->core.load(std::memory_order_relaxed);
    int error = 0;
    if (wait || core == nullptr) [[unlikely]] {
        error = wait_for(core, *overlapped, wait);
    } else {
        core->poll_for(socket->gate, socket->endpoint);
        error = in_progress(*overlapped) ? WSA_IO_INCOMPLETE : 0;
    }
    if (error != 0) {
        set_error(error_number, error);
        return FALSE;
    }
    return tell_result(*overlapped, transferred, flags, error_number);
}

// Why there is nothing to be asked: first of the descriptor, then of the arguments.
[[gnu::noinline]] BOOL refuse_result(SOCKET s, LPWSAOVERLAPPED, LPDWORD, BOOL, LPDWORD,
                                     LPINT error_number) noexcept {
    SocketTable::Found found;
    const int error = find_socket(s, found);
    set_error(error_number, error != 0 ? error : WSAEINVAL);
    return FALSE;
}

}  // namespace

int WSPAPI wsp_send(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD sent, DWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                    LPWSATHREADID thread, LPINT error_number) {
    // `sent` is written only by a call that completes at once; none does.
    if (flags != 0 || !start_common<engine::Opcode::kSend>(s, buffers, count, common().max_message,
                                                           overlapped)) [[unlikely]] {
        return send_slowly(s, buffers, count, sent, flags, overlapped, routine, thread,
                           error_number);
    }
    return result(error_number, WSA_IO_PENDING);
}

int WSPAPI wsp_recv(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD received, LPDWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                    LPWSATHREADID thread, LPINT error_number) {
    if ((flags != nullptr && *flags != 0) ||
        !start_common<engine::Opcode::kReceive>(s, buffers, count, kLongestReceive, overlapped))
        [[unlikely]] {
        return receive_slowly(s, buffers, count, received, flags, overlapped, routine, thread,
                              error_number);
    }
    return result(error_number, WSA_IO_PENDING);
}

BOOL WSPAPI wsp_get_overlapped_result(SOCKET s, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                      BOOL wait, LPDWORD flags, LPINT error_number) {
    const SocketTable::Seen seen = look(s);
    if (seen.socket == nullptr || !SocketTable::is_live(seen, s)) [[unlikely]] {
        return refuse_result(s, overlapped, transferred, wait, flags, error_number);
    }
    if (overlapped == nullptr || transferred == nullptr || flags == nullptr) [[unlikely]] {
        return refuse_result(s, overlapped, transferred, wait, flags, error_number);
    }
    if (in_progress(*overlapped)) {
        return poll_result(seen.socket, overlapped, transferred, wait, flags, error_number);
    }
    return tell_result(*overlapped, transferred, flags, error_number);
}

}  // namespace sanpoll::provider
