#include "bench/spin.hpp"

namespace sanpoll::bench {

void Spin::look_at_clock() {
    const std::uint64_t now = rule_.clock.ticks();
    if (start_ == 0) {
        start_ = now;
        return;
    }
    if (now - start_ > rule_.clock.from_ms(std::chrono::milliseconds(kPatience).count())) {
        throw ConnectionFault(
            std::string(awaited_) + " did not come for " + std::to_string(kPatience.count()) +
            " s; the other end is stopped, or starved of its CPU (choose CPUs with --cores)");
    }
}

}  // namespace sanpoll::bench
