// Waiting for the end of an operation, and for that of the provider: what WSPGetOverlappedResult does where a look is not
// enough. Any thread.
#pragma once

#include <ws2san.h>

#include "engine/polling_core.hpp"
#include "rings/one_instruction.hpp"

namespace sanpoll::provider {

[[nodiscard]] inline bool in_progress(WSAOVERLAPPED& overlapped) noexcept {
    // Acquire pairs with the release of whoever completes: the result fields are there.
    return rings::is_now(overlapped.Internal, WSS_OPERATION_IN_PROGRESS);
}

/// With fWait, or without a connection (`core` is nullptr). Blocks without limit, as PollingCore::wait_until(). With an
/// EngineStay that is up. Returns 0 once the operation has ended; WSAEINVAL, WSA_IO_INCOMPLETE or WSANOTINITIALISED while it
/// has not.
[[nodiscard]] int wait_for(engine::PollingCore* core, WSAOVERLAPPED& overlapped,
                           BOOL wait) noexcept;

/// Whether `error`, for which there is no socket to ask, comes of the last WSPCleanup: WSANOTINITIALISED, or WSAENOTSOCK while
/// that closes what is left.
[[nodiscard]] bool is_going_down(int error) noexcept;

/// The same where the provider is going down, or is down. It may still write what is pending, so nobody is told before that
/// is over that there is nothing any more. Touches no engine. WSA_IO_INCOMPLETE without `wait`, and where the last WSPCleanup
/// waits for this thread before it ends what is pending.
[[nodiscard]] int going_down_error(WSAOVERLAPPED& overlapped, BOOL wait) noexcept;

}  // namespace sanpoll::provider
