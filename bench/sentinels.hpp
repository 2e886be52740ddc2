// The sentinels of a program that measures in rounds: raw hand-offs between its two CPUs before and after each round, and
// whether the host left the CPUs where they were meanwhile (handoff.hpp says why that is asked).
//
// Contract: one thread; each call of stayed() measures once, some 10 ms, while the program's other threads have to
// sleep. Throws what measure_handoff() throws.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "bench/clock.hpp"
#include "bench/handoff.hpp"

namespace sanpoll::bench {

class Sentinels {
public:
    // Measures once: what rounds are compared with.
    Sentinels(const Clock& clock, int cpu_a, int cpu_b);

    // Ends a round: whether the placement is the first one's, and was when the round began, which is when this was
    // called last.
    bool stayed();

    // [{round_trip_ns, overwrite_ns_per_line, placement}], in the order in which they were taken.
    [[nodiscard]] nlohmann::json json() const;

private:
    const Clock clock_;
    const int cpu_a_;
    const int cpu_b_;
    std::vector<Handoff> taken_;
};

}  // namespace sanpoll::bench
