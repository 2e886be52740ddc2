// WSPSend, WSPRecv, WSPGetOverlappedResult: the data path of the front end. No lock, no allocation, no
// system call.
#include <atomic>
#include <cstddef>
#include <cstring>

#include "provider/direct_way.hpp"
#include "provider/engine_stay.hpp"
#include "provider/posting.hpp"
#include "provider/provider.hpp"
#include "provider/waiting.hpp"

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

// A socket whose gate is direct, and the list of one buffer whose end is polled for: what switches pass nearly always.
// nullptr: it is something else, and what is wrong, if anything is, has to be found out.
[[gnu::always_inline]] inline Socket* find_direct(SOCKET s, const WSABUF* buffers, DWORD count,
                                                  DWORD flags,
                                                  const WSAOVERLAPPED* overlapped) noexcept {
    Socket& socket = common().sockets.reach(s);
    if (!socket.gate.is_direct(s)) [[unlikely]] {
        return nullptr;
    }
    apart();
    if (overlapped == nullptr) [[unlikely]] {
        return nullptr;
    }
    apart();
    if (((count - 1) | flags) != 0) [[unlikely]] {
        return nullptr;
    }
    apart();
    if (buffers == nullptr) [[unlikely]] {
        return nullptr;
    }
    if ((reinterpret_cast<std::uintptr_t>(overlapped->hEvent) & 1U) == 0) [[unlikely]] {
        return nullptr;
    }
    return &socket;
}

// Any post: what is wrong with it is told here.
int send_any(SOCKET s, const WSABUF* buffers, DWORD count, DWORD flags,
             LPWSAOVERLAPPED overlapped) noexcept {
    const EngineStay stay;
    if (!stay.up()) [[unlikely]] {
        return stay.error();
    }
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
    const EngineStay stay;
    if (!stay.up()) [[unlikely]] {
        return stay.error();
    }
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

// The arguments of these are where those of the functions that end in calling them are, except for the last one: the way
// there is a jump. SANPOLL_AS_WRITTEN, or compilers leave out those that are not used and move the others.
SANPOLL_AS_WRITTEN int send_slowly(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD, DWORD flags,
                                   LPWSAOVERLAPPED overlapped, LPINT error_number) noexcept {
    return result(error_number, send_any(s, buffers, count, flags, overlapped));
}

SANPOLL_AS_WRITTEN int receive_slowly(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD,
                                      LPDWORD flags, LPWSAOVERLAPPED overlapped,
                                      LPINT error_number) noexcept {
    return result(error_number, receive_any(s, buffers, count, flags, overlapped));
}

// The second parts of the direct way. What is known by then need not be handed on.
SANPOLL_AS_WRITTEN int send_on(SOCKET s, LPWSABUF buffers, DWORD, LPDWORD, DWORD,
                               LPWSAOVERLAPPED overlapped, LPINT error_number) noexcept {
    Socket& socket = common().sockets.at(s);
    const EngineStay stay;
    // It may have been closed since, and its record be another's, or the engine be gone.
    if (!stay.up() || !socket.gate.is_direct(s)) [[unlikely]] {
        return send_slowly(s, buffers, 1, nullptr, 0, overlapped, error_number);
    }
    const std::uint32_t length = buffers->len;
    if (engine::direct::post_send(
            way_of(socket, s), reinterpret_cast<std::uint64_t>(overlapped),
            reinterpret_cast<std::uint64_t>(buffers->buf),
            length, [&]() __attribute__((always_inline)) { begin(*overlapped); },
            [&]() __attribute__((always_inline)) { finish(*overlapped, length, 0); })) {
        return result(error_number, WSA_IO_PENDING);
    }
    return send_slowly(s, buffers, 1, nullptr, 0, overlapped, error_number);
}

[[gnu::noinline]] int end_send(engine::Endpoint* connection, LPINT error_number) noexcept {
    engine::direct::end_send(static_cast<engine::shm::Connection&>(*connection));
    return result(error_number, WSA_IO_PENDING);
}

// Of a send that answers what came in the turn line.
SANPOLL_AS_WRITTEN int send_in_turn(engine::Endpoint* connection, engine::shm::Link* link,
                                    char* from, std::uint64_t length,
                                    engine::PollToken::Word* token, LPWSAOVERLAPPED overlapped,
                                    LPINT error_number) noexcept {
    const auto outcome = engine::direct::send_in_turn(
        {connection, link, token}, reinterpret_cast<std::uint64_t>(from),
        length, [&]() __attribute__((always_inline)) { finish(*overlapped, length, 0); });
    if (outcome == engine::direct::Outcome::kNothing) [[unlikely]] {
        const SOCKET s = connection->handle;  // it may be gone when the token is given back
        engine::PollToken::leave(*token);
        WSABUF buffer{static_cast<ULONG>(length), from};
        return send_on(s, &buffer, 1, nullptr, 0, overlapped, error_number);
    }
    if (outcome == engine::direct::Outcome::kHeld) [[unlikely]] {
        return end_send(connection, error_number);
    }
    return result(error_number, WSA_IO_PENDING);
}

SANPOLL_AS_WRITTEN int receive_on(SOCKET s, LPWSABUF buffers, DWORD, LPDWORD, LPDWORD,
                                  LPWSAOVERLAPPED overlapped, LPINT error_number) noexcept {
    Socket& socket = common().sockets.at(s);
    const EngineStay stay;
    // It may have been closed since, and its record be another's, or the engine be gone.
    if (!stay.up() || !socket.gate.is_direct(s)) [[unlikely]] {
        return receive_slowly(s, buffers, 1, nullptr, nullptr, overlapped, error_number);
    }
    if (engine::direct::post_receive(way_of(socket, s), reinterpret_cast<std::uint64_t>(overlapped),
                                     reinterpret_cast<std::uint64_t>(buffers->buf), buffers->len,
                                     [&]() noexcept { begin(*overlapped); })) {
        return result(error_number, WSA_IO_PENDING);
    }
    return receive_slowly(s, buffers, 1, nullptr, nullptr, overlapped, error_number);
}

[[gnu::noinline]] int end_receive(engine::shm::Connection& connection,
                                  LPINT error_number) noexcept {
    engine::direct::end_receive(connection);
    return result(error_number, WSA_IO_PENDING);
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

// The same where another thread may have written it, as a core of its own does: the line is asked for once more, to be
// written, since who has the result uses the structure for the next operation.
inline BOOL tell_fetched(WSAOVERLAPPED& overlapped, LPDWORD transferred, LPDWORD flags,
                         LPINT error_number) noexcept {
    engine::claim_line(reinterpret_cast<std::uint64_t>(&overlapped));
    return tell_result(overlapped, transferred, flags, error_number);
}

// Each look at an operation in progress takes its line away from the core that is going to write it, and gets nothing
// for it: on the Intel hosts seen the end of an operation was seen 60 ns later for that. So whoever asks for the same one again,
// and has nothing else to do, looks after a moment: where the result takes some 200 ns, 40 to 120 ticks are about the same, none
// is worse, and so are 160 and more. Who goes round among several does not wait.
[[gnu::noinline]] void look_less_often(const WSAOVERLAPPED& overlapped) noexcept {
    constexpr std::uint64_t kMoment =
        80;  // ticks: some 30 ns, where a pause is as long as the processor's maker likes
    static thread_local const WSAOVERLAPPED* looked_at = nullptr;
    if (looked_at == &overlapped) {
        const std::uint64_t start = __builtin_ia32_rdtsc();
        while (__builtin_ia32_rdtsc() - start < kMoment) {
        }
    }
    looked_at = &overlapped;
}

// Of one that had not when it was looked at.
SANPOLL_AS_WRITTEN BOOL poll_result(SOCKET s, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                    BOOL wait, LPDWORD flags, LPINT error_number) noexcept {
    const EngineStay stay;
    SocketTable::Found found;
    int error = stay.up() ? find_socket(s, found) : stay.error();
    if (is_going_down(error)) [[unlikely]] {
        error = going_down_error(*overlapped, wait);
    } else if (error == 0) {
        engine::PollingCore* core = core_of(*found.socket);
        if (wait || core == nullptr) [[unlikely]] {
            error = wait_for(core, *overlapped, wait);
        } else {
            core->poll_once();
            if (core->dedicated()) {
                look_less_often(*overlapped);
            }
            error = in_progress(*overlapped) ? WSA_IO_INCOMPLETE : 0;
        }
    }
    if (error != 0) {
        set_error(error_number, error);
        return FALSE;
    }
    return tell_fetched(*overlapped, transferred, flags, error_number);
}

SANPOLL_AS_WRITTEN BOOL tell_if_ended(LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                      LPDWORD flags, LPINT error_number) noexcept {
    if (in_progress(*overlapped)) {
        set_error(error_number, WSA_IO_INCOMPLETE);
        return FALSE;
    }
    return tell_result(*overlapped, transferred, flags, error_number);
}

// The same of a socket whose gate is direct, where one look is asked for. The second part of a look that is not over; the
// token is held.
SANPOLL_AS_WRITTEN BOOL look_on(engine::Endpoint* connection, LPWSAOVERLAPPED overlapped,
                                LPDWORD transferred, BOOL, LPDWORD flags,
                                LPINT error_number) noexcept {
    engine::direct::end_look(static_cast<engine::shm::Connection&>(*connection),
                             [](std::uint64_t context, std::uint64_t bytes) {
                                 finish(*reinterpret_cast<LPWSAOVERLAPPED>(context), bytes, 0);
                             });
    return tell_if_ended(overlapped, transferred, flags, error_number);
}

SANPOLL_AS_WRITTEN BOOL look_in_turn(engine::Endpoint* connection, LPWSAOVERLAPPED overlapped,
                                     LPDWORD transferred, BOOL, LPDWORD flags,
                                     LPINT error_number) noexcept {
    engine::direct::look_in_turn(static_cast<engine::shm::Connection&>(*connection));
    return tell_if_ended(overlapped, transferred, flags, error_number);
}

// The first part.
SANPOLL_AS_WRITTEN BOOL look_for_result(SOCKET s, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                        Socket* socket, LPDWORD flags,
                                        LPINT error_number) noexcept {
    std::uint64_t ended = 0;
    std::uint64_t received = 0;
    engine::Endpoint* held = nullptr;
    const auto outcome = engine::direct::look(
        way_of(*socket, s),
        held, [&](std::uint64_t context, std::uint64_t bytes) __attribute__((always_inline)) {
            finish(*reinterpret_cast<LPWSAOVERLAPPED>(context), bytes, 0);
            ended = context;
            received = bytes;
        });
    if (outcome == engine::direct::Outcome::kNothing) [[unlikely]] {
        return poll_result(s, overlapped, transferred, FALSE, flags, error_number);
    }
    if (outcome == engine::direct::Outcome::kTurn) {
        return look_in_turn(held, overlapped, transferred, FALSE, flags, error_number);
    }
    if (outcome == engine::direct::Outcome::kHeld) [[unlikely]] {
        return look_on(held, overlapped, transferred, FALSE, flags, error_number);
    }
    if (ended != reinterpret_cast<std::uint64_t>(overlapped)) [[unlikely]] {
        return tell_if_ended(overlapped, transferred, flags, error_number);
    }
    // What finish() has just written, as tell_result() reads it.
    set_error(error_number, 0);
    *transferred = static_cast<DWORD>(received);
    *flags = 0;
    return TRUE;
}

// Any question, and why there is nothing to be asked: first of the descriptor, then of the arguments.
SANPOLL_AS_WRITTEN BOOL result_slowly(SOCKET s, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                      BOOL wait, LPDWORD flags, LPINT error_number) noexcept {
    SocketTable::Found found;
    int error = find_socket(s, found);
    const bool sound = overlapped != nullptr && transferred != nullptr && flags != nullptr;
    if (error == 0 && !sound) {
        error = WSAEINVAL;
    }
    if (is_going_down(error) && sound && in_progress(*overlapped)) [[unlikely]] {
        error = going_down_error(*overlapped, wait);
    }
    if (error != 0) [[unlikely]] {
        set_error(error_number, error);
        return FALSE;
    }
    if (in_progress(*overlapped)) {
        return poll_result(s, overlapped, transferred, wait, flags, error_number);
    }
    return tell_fetched(*overlapped, transferred, flags, error_number);
}

}  // namespace

int WSPAPI wsp_send(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD, DWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID,
                    LPINT error_number) {
    // The number sent is written only by a call that completes at once; none does.
    Socket* const socket = find_direct(s, buffers, count, flags, overlapped);
    if (socket == nullptr) [[unlikely]] {
        return send_slowly(s, buffers, count, nullptr, flags, overlapped, error_number);
    }
    const std::uint64_t length = buffers->len;
    char* const from = buffers->buf;
    engine::direct::Turn turn;
    const auto outcome = engine::direct::send(
        way_of(*socket, s), reinterpret_cast<std::uint64_t>(from), length,
        turn, [&]() __attribute__((always_inline)) { finish(*overlapped, length, 0); });
    if (outcome == engine::direct::Outcome::kTurn) {
        return send_in_turn(turn.connection, turn.link, from, length, turn.token, overlapped,
                            error_number);
    }
    if (outcome == engine::direct::Outcome::kNothing) [[unlikely]] {
        return send_on(s, buffers, 1, nullptr, 0, overlapped, error_number);
    }
    if (outcome == engine::direct::Outcome::kHeld) [[unlikely]] {
        return end_send(turn.connection, error_number);
    }
    return result(error_number, WSA_IO_PENDING);
}

int WSPAPI wsp_recv(SOCKET s, LPWSABUF buffers, DWORD count, LPDWORD, LPDWORD flags,
                    LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID,
                    LPINT error_number) {
    Socket* const socket = find_direct(s, buffers, count, 0, overlapped);
    if (socket == nullptr || (flags != nullptr && *flags != 0)) [[unlikely]] {
        return receive_slowly(s, buffers, count, nullptr, flags, overlapped, error_number);
    }
    const std::uint64_t length = buffers->len;
    if (length == 0) [[unlikely]] {
        return receive_slowly(s, buffers, count, nullptr, flags, overlapped, error_number);
    }
    engine::shm::Connection* held = nullptr;
    const auto outcome = engine::direct::receive(
        way_of(*socket, s), reinterpret_cast<std::uint64_t>(overlapped),
        reinterpret_cast<std::uint64_t>(buffers->buf), length,
        held, [&]() __attribute__((always_inline)) { begin(*overlapped); });
    if (outcome == engine::direct::Outcome::kNothing) [[unlikely]] {
        return receive_on(s, buffers, 1, nullptr, nullptr, overlapped, error_number);
    }
    if (outcome == engine::direct::Outcome::kHeld) [[unlikely]] {
        return end_receive(*held, error_number);
    }
    return result(error_number, WSA_IO_PENDING);
}

BOOL WSPAPI wsp_get_overlapped_result(SOCKET s, LPWSAOVERLAPPED overlapped, LPDWORD transferred,
                                      BOOL wait, LPDWORD flags, LPINT error_number) {
    Socket& socket = common().sockets.reach(s);
    if (!socket.gate.is_direct(s)) [[unlikely]] {
        return result_slowly(s, overlapped, transferred, wait, flags, error_number);
    }
    apart();
    if (overlapped == nullptr) [[unlikely]] {
        return result_slowly(s, overlapped, transferred, wait, flags, error_number);
    }
    apart();
    if (transferred == nullptr) [[unlikely]] {
        return result_slowly(s, overlapped, transferred, wait, flags, error_number);
    }
    apart();
    if (flags == nullptr) [[unlikely]] {
        return result_slowly(s, overlapped, transferred, wait, flags, error_number);
    }
    if (in_progress(*overlapped)) {
        if (wait) [[unlikely]] {
            return poll_result(s, overlapped, transferred, wait, flags, error_number);
        }
        return look_for_result(s, overlapped, transferred, &socket, flags, error_number);
    }
    // Neither an error nor flags: one comparison for both.
    static_assert(offsetof(WSAOVERLAPPED, OffsetHigh) ==
                  offsetof(WSAOVERLAPPED, Offset) + sizeof(DWORD));
    std::uint64_t error_and_flags = 0;
    std::memcpy(&error_and_flags, &overlapped->Offset, sizeof(error_and_flags));
    if (error_and_flags != 0) [[unlikely]] {
        return tell_result(*overlapped, transferred, flags, error_number);
    }
    set_error(error_number, 0);
    *transferred = static_cast<DWORD>(overlapped->InternalHigh);
    *flags = 0;
    return TRUE;
}

}  // namespace sanpoll::provider
