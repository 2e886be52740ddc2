// The noise of the two cores between which messages go, and what it alone would make of a paced load.
#pragma once

#include <cstdint>

#include "bench/clock.hpp"
#include "bench/latency_histogram.hpp"
#include "bench/stalls.hpp"

namespace sanpoll::bench {

struct Noise {
    Stalls client;
    Stalls server;
};

// Two threads, one on each CPU, read the clock for `ms`. The calling thread sleeps meanwhile. Throws
// std::runtime_error if a CPU may not be used. One CPU for both: one thread, whose gaps are both's.
Noise measure_noise(const Clock& clock, int client_cpu, int server_cpu, std::uint64_t ms);

// Latencies of round trips that cost nothing, evenly `per_second` over the time in which both cores were watched: a
// message meant for the moment t leaves as soon after t as the client's core runs, is answered as soon after that as
// the server's does, and is seen as soon after that as the client's does again. What took no time counts as 1 ns.
//
// `most_per_second` > 0: each of the three steps takes on so many messages a second at most, so that those which a gap
// has held up are worked off at that rate, and delay the ones behind them.
LatencyHistogram ideal_round_trips(const Noise& noise, const Clock& clock, double per_second,
                                   double most_per_second = 0);

// What one core's gaps come to.
struct NoiseFigures {
    double seconds = 0;
    double over_1us_per_second = 0;
    double over_10us_per_second = 0;
    double over_50us_per_second = 0;
    double lost_percent = 0;  // of the time, in gaps over 1 us
    LatencyHistogram gaps;    // over 1 us
};
NoiseFigures figures_of(const std::vector<Stalls>& stalls, const Clock& clock);

}  // namespace sanpoll::bench
