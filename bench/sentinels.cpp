#include "bench/sentinels.hpp"

#include <nlohmann/json.hpp>

namespace sanpoll::bench {

Sentinels::Sentinels(const Clock& clock, int cpu_a, int cpu_b)
    : clock_(clock), cpu_a_(cpu_a), cpu_b_(cpu_b) {
    taken_.push_back(measure_handoff(clock_, cpu_a_, cpu_b_));
}

bool Sentinels::stayed() {
    taken_.push_back(measure_handoff(clock_, cpu_a_, cpu_b_));
    const Handoff& before = taken_[taken_.size() - 2];
    return same_placement(taken_.front(), before) && same_placement(taken_.front(), taken_.back());
}

nlohmann::json Sentinels::json() const { return taken_; }

}  // namespace sanpoll::bench
