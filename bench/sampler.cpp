#include "bench/sampler.hpp"

#include <fmt/format.h>

#include "bench/spread.hpp"

namespace sanpoll::bench {

nlohmann::json Sampler::json() const { return sentinels_; }

std::string Sampler::summary() const {
    if (sentinels_.empty()) return "no sentinel was measured";
    if (sentinels_.front().placement == Placement::kOneCpu)
        return "one CPU for both ends: no hand-off to compare with";
    std::vector<double> trips;
    trips.reserve(sentinels_.size());
    for (const Handoff& seen : sentinels_)
        trips.push_back(seen.round_trip_ns);
    const Spread spread = spread_of(trips);
    return fmt::format(
        "{}, {}: a line's round trip {:.0f} ns (range {:.0f} - {:.0f}); "
        "{} samples repeated, {} stayed in another placement",
        between_, to_string(sentinels_.front().placement), spread.median, spread.least, spread.most,
        repeated_, moved_);
}

}  // namespace sanpoll::bench
