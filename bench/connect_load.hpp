// What connect_bench does with the two ends: connections that come and go, some of them under way at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "bench/connect_ends.hpp"
#include "bench/latency_histogram.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {

// The client's times, all from before its socket is made:
struct ConnectTimes {
    LatencyHistogram connected;    // until the client may use the connection
    LatencyHistogram whole;        // until it knows that the server has accepted, and has closed it
    std::uint64_t elapsed_ns = 0;  // of all together
};

// `count` connections, `at_once` (1 ... kMostSlots) of them under way; as soon as one is over the next one starts.
// The server takes as many meanwhile.
ConnectTimes run_connects(ConnectClient& client, const SpinRule& rule, std::uint64_t count,
                          std::size_t at_once, ConnectWait wait);

}  // namespace sanpoll::bench
