// The data plane of a fabric on one polling core.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/fabric/endpoint.hpp"
#include "engine/work_request.hpp"

namespace sanpoll::engine {

/// All functions but the first two are called by the holder of the core's poll token only, never block and,
/// once the connections are warm, neither allocate nor call the system.
class FabricPort {
public:
    virtual ~FabricPort() = default;

    /// Fabric::name() of the fabric whose port it is. Any thread.
    [[nodiscard]] virtual std::string_view fabric() const noexcept = 0;
    /// The device that carries `endpoint`, such as "rxe0"; empty if the fabric knows no devices. Any thread,
    /// for an endpoint that is not closed yet; the text lasts as long.
    [[nodiscard]] virtual std::string_view device(const Endpoint& endpoint) const noexcept {
        (void)endpoint;
        return {};
    }

    /// Whether the processes at the two ends of `endpoint` map each other's arenas, and why not, in words;
    /// empty for a fabric where the question makes no sense. Any thread, as device().
    [[nodiscard]] virtual std::string_view arenas(const Endpoint& endpoint) const noexcept {
        (void)endpoint;
        return {};
    }

    /// Starts a send or receive. It ends in exactly one PollingCore::complete, perhaps before this
    /// returns.
    virtual void post(Endpoint& endpoint, const WorkRequest& request) noexcept = 0;

    /// An RDMA operation whose region was found under this token and is live, while nothing that was admitted for the
    /// endpoint before waits outside of the port. True: it has been done, whole and well, behind all that was posted
    /// before; the caller completes it. False: nothing has happened, and post() is to be tried. A port without a
    /// way that is so short has none.
    [[nodiscard]] virtual bool rdma_one(Endpoint& endpoint, const RdmaOne& operation) noexcept {
        (void)endpoint;
        (void)operation;
        return false;
    }

    /// Ends the endpoint: everything pending completes with kAborted, the peer is told, then
    /// PollingCore::endpoint_closed, then the endpoint's memory is given back.
    virtual void close(Endpoint& endpoint) noexcept = 0;

    /// Takes at most `budget` arrivals from each of its queues. Returns how many it took, 0 when idle.
    virtual std::uint32_t poll(std::uint32_t budget) noexcept = 0;

    /// Asks the peers to ring this core's doorbell when they write, because it is about to sleep; undone
    /// by disarm(). After arm() the caller must poll once more before it sleeps.
    virtual void arm() noexcept = 0;
    virtual void disarm() noexcept = 0;
    /// Whether what wakes the core after arm() may get lost: its sleep must then be short.
    [[nodiscard]] virtual bool may_miss_wake() const noexcept { return false; }
};

}  // namespace sanpoll::engine
