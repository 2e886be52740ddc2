// Samples between placement sentinels: a host that moves its virtual CPUs changes every figure by a factor of up to
// four, so what was taken while it did so is taken again.
//
// Contract: one thread, which sleeps while a sentinel is measured (bench/handoff.hpp); whoever else takes part in
// the measurement has to be asleep then, too.
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/handoff.hpp"

namespace sanpoll::bench {

class Sampler {
public:
    // `retries`: of one sample. All samples together are repeated at most `budget` times, so that a host which has
    // moved for good does not make the run several times as long.
    Sampler(const Clock& clock, int cpu_a, int cpu_b, unsigned retries, std::size_t budget)
        : Sampler([clock, cpu_a, cpu_b] { return measure_handoff(clock, cpu_a, cpu_b); },
                  "CPUs " + std::to_string(cpu_a) + " and " + std::to_string(cpu_b), retries,
                  budget) {}

    // With another sentinel; `between` says for people what it measures.
    Sampler(std::function<Handoff()> sentinel, std::string between, unsigned retries,
            std::size_t budget)
        : sentinel_(std::move(sentinel)),
          between_(std::move(between)),
          retries_(retries),
          budget_(budget) {}

    // Calls `measure()` between two sentinels until both and the run's first agree; answers what the last call did.
    template <class Measure>
    auto take(Measure&& measure) {
        for (unsigned attempt = 0;; ++attempt) {
            const Handoff before = look();
            auto result = measure();
            const Handoff after = look();
            const bool moved =
                !same_placement(before, after) || !same_placement(sentinels_.front(), after);
            if (!moved) return result;
            if (attempt == retries_ || repeated_ >= budget_) {
                ++moved_;
                return result;
            }
            ++repeated_;
        }
    }

    [[nodiscard]] std::size_t repeated() const noexcept { return repeated_; }
    // Samples that stayed in another placement than the run's first.
    [[nodiscard]] std::size_t moved() const noexcept { return moved_; }

    // [{"round_trip_ns", "overwrite_ns_per_line", "placement"}], in order.
    [[nodiscard]] nlohmann::json json() const;
    // One line for people.
    [[nodiscard]] std::string summary() const;

private:
    Handoff look() { return sentinels_.emplace_back(sentinel_()); }

    std::function<Handoff()> sentinel_;
    std::string between_;
    unsigned retries_;
    std::size_t budget_;
    std::size_t repeated_ = 0;
    std::size_t moved_ = 0;
    std::vector<Handoff> sentinels_;
};

}  // namespace sanpoll::bench
