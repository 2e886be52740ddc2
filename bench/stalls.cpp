#include "bench/stalls.hpp"

#include <algorithm>

namespace sanpoll::bench {

std::uint64_t Stalls::running_from(std::uint64_t ticks) const noexcept {
    // The first gap that ends after `ticks`; at its end the core runs again.
    const auto gap = std::upper_bound(
        gaps_.begin(), gaps_.end(), ticks,
        [](std::uint64_t moment, const Gap& candidate) { return moment < candidate.end; });
    return gap != gaps_.end() && gap->begin < ticks ? gap->end : ticks;
}

}  // namespace sanpoll::bench
