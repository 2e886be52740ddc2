// Ping-pong by RDMA writes: each end writes into the other's memory, waits for the write's completion, and looks at its
// own memory until the other's has come. What ib_write_lat of perftest does.
#pragma once

#include <cstdint>

#include "bench/clock.hpp"
#include "bench/latency_histogram.hpp"
#include "bench/rdma_end.hpp"

namespace sanpoll::bench {

class RdmaPing {
public:
    // Bytes of memory that an end needs for writes of `size` bytes.
    [[nodiscard]] static std::size_t memory_for(std::size_t size) noexcept {
        return 2 * stride_of(size) + 64;
    }

    // `end` outlives this; a receive of its stays posted. Writes of at least one byte.
    RdmaPing(RdmaEnd& end, std::size_t size, const Clock& clock);

    // `count` round trips, `count` answers.
    void ping(std::uint64_t count, LatencyHistogram& histogram);
    void answer(std::uint64_t count);

private:
    [[nodiscard]] static constexpr std::size_t stride_of(std::size_t size) noexcept {
        return (size + 63) / 64 * 64;
    }

    void write();
    void await();

    RdmaEnd& end_;
    const std::size_t size_;
    const Clock clock_;
    // Whether RDMA goes on only while this end polls, too: so it is where neither a device does the work nor the
    // initiator alone.
    const bool polls_;
    std::uint8_t round_ = 0;  // the last byte of what is written; the one of fresh memory is 1
    WSAOVERLAPPED written_{};
};

}  // namespace sanpoll::bench
