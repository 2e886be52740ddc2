// What ring_bench found: as a table for people, as JSON for programs.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/ring_measure.hpp"

namespace sanpoll::bench {

class RingReport {
public:
    void add(const RingKind& kind, std::size_t bytes, RingPattern pattern,
             const RingSample& sample);

    [[nodiscard]] bool empty() const noexcept { return cells_.empty(); }
    [[nodiscard]] std::uint64_t errors() const noexcept;

    // One block for each pattern and size: every ring's median and range, and each of our rings' ratio to the best
    // peer (above 1: ours is better), to the raw round trip where that is what is measured.
    [[nodiscard]] std::string table() const;

    // {"results": [...], "comparisons": [...], "sentinels": [...]}; ring_bench.cpp says what the keys mean.
    [[nodiscard]] nlohmann::json json() const;

private:
    struct Series {
        RingKind kind;
        std::vector<RingSample> rounds;

        [[nodiscard]] std::vector<double> values() const;  // of the rounds that count, sorted
        [[nodiscard]] double median() const;
    };
    struct Cell {
        RingPattern pattern;
        std::size_t bytes;
        std::vector<Series> series;  // in the order of their first samples

        [[nodiscard]] const Series* best(RingKind::Role role) const;
    };

    [[nodiscard]] double raw_line_ns() const;

    std::vector<Cell> cells_;
};

}  // namespace sanpoll::bench
