// What a polling core counts.
#pragma once

#include "engine/counter.hpp"

namespace sanpoll::engine {

/// What went the direct way (direct.hpp), counted once: it is in the counters of the core and of its fabric as well.
struct DirectCounters {
    Counter sends;  // posted and ended at once
    Counter bytes_sent;
    Counter receives;  // posted
    Counter received;  // ended
    Counter bytes_received;
};

/// Statistics of a core; written by the token holder, read by anybody.
struct CoreCounters {
    DirectCounters direct;
    Counter turns;
    Counter busy_turns;
    CounterWith requests{direct.sends, direct.receives};     // work requests applied
    CounterWith completions{direct.sends, direct.received};  // polled and notified
    Counter notifications;
    Counter sleeps;
    Counter lane_stalls;  // a request had to wait for an earlier one of its endpoint
    Counter
        longest_gap_ns;  // dedicated: the longest time between two looks at the clock, 64 turns apart
};

}  // namespace sanpoll::engine
