// What an agent (bench/ping_agent.hpp) has of an open connection, whatever carries it: virtual once a phase, so that
// the loops of bench/ping_loops.hpp are compiled for each transport and no virtual call lies in a measured path.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "bench/connection.hpp"
#include "bench/ping_loops.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {

// Contract: one thread; open until destroyed. ping() and stream() throw ConnectionFault.
class MeasuredEnds {
public:
    MeasuredEnds() = default;
    MeasuredEnds(const MeasuredEnds&) = delete;
    MeasuredEnds& operator=(const MeasuredEnds&) = delete;
    virtual ~MeasuredEnds() = default;

    // Does this end's part of `skip` + `count` round trips, numbered from `first`. A client records the last `count`.
    virtual void ping(const Clock& clock, std::uint32_t size, std::uint64_t first,
                      std::uint64_t skip, std::uint64_t count, LatencyHistogram& histogram) = 0;
    // Does this end's part of a stream of `count` messages. A client answers the ticks it took, a server 0.
    virtual std::uint64_t stream(const Clock& clock, std::uint32_t size, std::uint64_t count,
                                 std::uint32_t receives) = 0;
};

// A server's end, a client's, or, driven by one thread, both.
template <Connection C>
class EndsOf final : public MeasuredEnds {
public:
    EndsOf(std::unique_ptr<C> server, std::unique_ptr<C> client)
        : server_(std::move(server)), client_(std::move(client)) {}

    void ping(const Clock& clock, std::uint32_t size, std::uint64_t first, std::uint64_t skip,
              std::uint64_t count, LatencyHistogram& histogram) override {
        if (client_ && server_) {
            ping_with_self(*client_, *server_, clock, size, first, skip, count, histogram);
        } else if (client_) {
            bench::ping(*client_, clock, size, first, skip, count, histogram);
        } else {
            serve(*server_, size, first, skip + count);
        }
    }

    std::uint64_t stream(const Clock& clock, std::uint32_t size, std::uint64_t count,
                         std::uint32_t receives) override {
        if (client_ && server_)
            return stream_with_self(*client_, *server_, clock, size, count, receives);
        if (client_) return send_stream(*client_, clock, size, count, receives);
        take_stream(*server_, size, count, receives);
        return 0;
    }

private:
    std::unique_ptr<C> server_;
    std::unique_ptr<C> client_;
};

// One end in this process.
template <Connection C>
std::unique_ptr<MeasuredEnds> one_end(bool server, std::unique_ptr<C> connection) {
    return server ? std::make_unique<EndsOf<C>>(std::move(connection), nullptr)
                  : std::make_unique<EndsOf<C>>(nullptr, std::move(connection));
}

}  // namespace sanpoll::bench
