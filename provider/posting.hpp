// How a captured request is handed to its core: shared by the functions that post. Any thread; nothing here blocks, allocates
// or calls the system, except that a thread's first post makes its word (engine_stay.hpp), and in dedicated mode its lane
// (engine/lane.hpp). From start() until
// finish() the WSAOVERLAPPED is the provider's (ws2san.h); where start() fails, it stays the caller's, with `Internal` as it was.
#pragma once

#include <atomic>

#include "provider/provider.hpp"

namespace sanpoll::provider {

[[gnu::noinline]] inline int not_started(SOCKET descriptor, LPWSAOVERLAPPED overlapped,
                                         ULONG_PTR before, engine::Status status) noexcept {
    std::atomic_ref<ULONG_PTR>(overlapped->Internal).store(before, std::memory_order_relaxed);
    // kNotOpen: broken or closed since it was looked at.
    return status != engine::Status::kNotOpen ? wsa_error(status) : why_not_open(descriptor);
}

// A close drops the registrations: if the socket was closed meanwhile, that is the answer.
[[gnu::noinline]] inline int buffers_refused(SOCKET descriptor, int error) noexcept {
    return find_open(descriptor) != nullptr ? error : why_not_open(descriptor);
}

// An operation has ended: its results, and last that it has.
inline void finish(WSAOVERLAPPED& overlapped, std::uint64_t bytes, int error) noexcept {
    overlapped.OffsetHigh = static_cast<DWORD>(error);
    overlapped.Offset = 0;
    overlapped.InternalHigh = bytes;
    // The last touch: the caller may reuse or free the structure from here on. Pairs with the acquire in
    // wsp_get_overlapped_result.
    std::atomic_ref<ULONG_PTR>(overlapped.Internal).store(0, std::memory_order_release);
}

// An operation is about to be handed over, and may complete from then on.
inline void begin(WSAOVERLAPPED& overlapped) noexcept {
    overlapped.InternalHigh = 0;
    std::atomic_ref<ULONG_PTR>(overlapped.Internal)
        .store(WSS_OPERATION_IN_PROGRESS, std::memory_order_relaxed);
}

// Hands a captured request over; its pieces have been found registered. Returns WSA_IO_PENDING, after which it ends exactly once,
// perhaps before this returns; or why nothing was started, an error of why_not_open() or of wsa_error().
[[nodiscard]] inline int start(Socket& socket, SOCKET descriptor, LPWSAOVERLAPPED overlapped,
                               engine::WorkRequest& request) noexcept {
    request.context = reinterpret_cast<std::uint64_t>(overlapped);
    // hEvent is read here, once; the low bit says who is told.
    request.flags = (reinterpret_cast<std::uintptr_t>(overlapped->hEvent) & 1U) != 0
                        ? std::uint8_t{0}
                        : engine::kNotify;
    const std::atomic_ref<ULONG_PTR> internal(overlapped->Internal);
    const ULONG_PTR before = internal.load(std::memory_order_relaxed);
    begin(*overlapped);
    const engine::Status status =
        socket.core.load(std::memory_order_relaxed)
            ->post(request, socket.gate, static_cast<std::uint32_t>(descriptor >> 32),
                   socket.endpoint);
    if (status != engine::Status::kOk) [[unlikely]] {
        return not_started(descriptor, overlapped, before, status);
    }
    return WSA_IO_PENDING;
}

}  // namespace sanpoll::provider
