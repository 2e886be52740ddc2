// How a request enters a queue of its connection.
#pragma once

#include <cstdint>

#include "engine/fabric/request_queue.hpp"

namespace sanpoll::engine {

/// Holds the regions of all the request's pieces and puts it into `queue`. Else nothing is held and nothing has changed:
/// kBadRegion, one was deregistered between the poster's check and now, or kNoMemory. The connection's core; allocates
/// only where RequestQueue::push does.
[[nodiscard, gnu::always_inline]] inline Status hold_and_push(RegionTable& regions,
                                                              RequestQueue& queue,
                                                              const WorkRequest& request) noexcept {
    const std::uint32_t count = request.sge_count;
    std::uint32_t held = 0;
    for (; held != count; ++held) {
        const Sge& piece = request.piece(held);
        if (piece.length != 0 && !regions.hold(piece.region)) [[unlikely]] {
            break;
        }
    }
    const bool all = held == count;
    if (all && queue.push(request)) [[likely]] {
        return Status::kOk;
    }
    while (held-- != 0) {
        if (request.piece(held).length != 0) {
            regions.release(request.piece(held).region);
        }
    }
    return all ? Status::kNoMemory : Status::kBadRegion;
}

}  // namespace sanpoll::engine
