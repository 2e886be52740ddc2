// RDMA of short and long pieces out of the provider's memory, latency and bandwidth, with UCX's put and get in turn.
//
// Each round begins and ends with a sentinel (handoff.hpp). What --json writes:
//   program, cpus {client, server, why}, sharing (what SIO_SANPOLL_FABRIC says of the arenas), configuration {ucx},
//   skipped [{name, why}], sentinels [{round_trip_ns, overwrite_ns_per_line, placement}],
//   results [{transport "shm arena" | "ucx put" | "ucx get", operation "write" | "read",
//             measure "latency" | "bandwidth", bytes, a figure, rounds [its value in each round]}]
// The figure, a median of the rounds, is half_p50_ns (writes: half a round trip in which each end looks at the memory that the
// other writes), p50_ns (reads: from the post to the completion), or bytes_per_second with operations_per_second.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/control_channel.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/rdma_end.hpp"

namespace sanpoll::bench {

struct CompareOptions {
    std::vector<std::size_t> sizes = {8, 64, 4096, 65536, 1 << 20};
    std::size_t rounds = 5;
    std::size_t window = 16;      // operations posted ahead
    std::size_t mebibytes = 256;  // moved in a measurement of bandwidth, up to 100,000 operations
    std::uint64_t count = 20000;  // round trips of one, fewer of long pieces
    bool ucx = true;
    std::string json_file;  // "-": standard output; empty: none

    // Of each end.
    [[nodiscard]] std::size_t memory() const;
};

// Both ends are connected and know each other's memory; `control` leads to the other one, which serves.
// Prints a table. Throws ConnectionFault.
void compare_rdma(const CompareOptions& options, RdmaEnd& end, const ControlChannel& control,
                  const CpuChoice& cpus);

// The other end, until the leader says "quit".
void serve_compare(RdmaEnd& end, const ControlChannel& leader);

}  // namespace sanpoll::bench
