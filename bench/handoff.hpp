// The raw hand-off between two CPUs: how long a cache line takes from one to the other, with nothing around it.
//
// It is the yardstick of everything that goes through shared memory, and the sentinel that tells where a host
// has put its virtual CPUs at the moment. Two numbers are needed, because either alone misleads:
//   - the round trip of one line (two threads in turn write the same line and wait for the other's write);
//   - the cost of overwriting a line that the peer has read (the store has to take the line back first): near and
//     far caches differ by a factor of four there, hardware threads of one core pay next to nothing.
//
// Contract: measure_handoff() starts two threads, pins them and joins them; about 10 ms; a median of bursts, so a burst
// that the scheduler cut does not count. Throws std::runtime_error if a CPU may not be used. The calling thread is
// not pinned and sleeps meanwhile.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "bench/clock.hpp"

namespace sanpoll::bench {

enum class Placement {
    kUnknown,  // the two numbers contradict each other, or nothing could be measured
    kOneCpu,   // both ends are on one CPU: there is no hand-off
    kSmt,      // two hardware threads of one core
    kNear,     // two cores below one last-level cache
    kFar,      // two cores that share no cache
};

std::string_view to_string(Placement placement) noexcept;

struct Handoff {
    double round_trip_ns = 0;          // one line, there and back
    double one_way_ns = 0;             // half of it
    double overwrite_ns_per_line = 0;  // a store into a line that the peer has read
    Placement placement = Placement::kUnknown;
};

struct HandoffEffort {
    int bursts = 9;
    int round_trips = 2000;  // in one burst
};

// Both numbers between two CPUs. The same CPU twice: zeros and kOneCpu, nothing is started.
Handoff measure_handoff(const Clock& clock, int cpu_a, int cpu_b, HandoffEffort effort = {});

// {"round_trip_ns", "overwrite_ns_per_line", "placement"}: a sentinel in a program's --json.
void to_json(nlohmann::json& out, const Handoff& seen);

// What the two numbers say.
Placement classify(double round_trip_ns, double overwrite_ns_per_line) noexcept;

// Whether two measurements were taken in the same placement: same class, and round trips within a factor 1.5.
bool same_placement(const Handoff& a, const Handoff& b) noexcept;

}  // namespace sanpoll::bench
