// Measures one ring in one pattern between two CPUs: a sample of several batches, between two sentinels.
//
// Threads: the calling one is pinned and takes part; the other one is started for each sample.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/clock.hpp"
#include "bench/handoff.hpp"
#include "bench/ring_peers/ring_pair.hpp"

namespace sanpoll::bench {

enum class RingPattern {
    kRoundTrip,  // one element there over one ring, and back over another
    kOneByOne,   // a stream, one call an element
    kBursts,     // a stream, kRingBurst elements a call
};

std::string to_string(RingPattern pattern);

struct RingSample {
    double ns = 0;  // a round trip, or what one element of a stream takes: median of the batches
    std::uint64_t errors = 0;  // elements lost, doubled or out of order
    Handoff before;
    Handoff after;
    bool moved = false;  // the CPUs lay otherwise than at the start, or moved meanwhile
};

class RingStage {
public:
    // Measures the first sentinel, which all others are compared with. Throws std::runtime_error if a CPU may not
    // be used.
    RingStage(const Clock& clock, int cpu, int partner_cpu);

    // Again, up to `retries` times, where the placement moved.
    [[nodiscard]] RingSample measure(const RingKind& kind, std::size_t bytes, RingPattern pattern,
                                     int retries = 2);

    [[nodiscard]] const Handoff& first_sentinel() const noexcept { return first_; }

private:
    [[nodiscard]] Handoff sentinel() const;

    const Clock& clock_;
    int cpu_;
    int partner_cpu_;
    Handoff first_;
    Handoff last_;
};

}  // namespace sanpoll::bench
