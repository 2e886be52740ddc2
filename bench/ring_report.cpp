#include "bench/ring_report.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace sanpoll::bench {
namespace {

using nlohmann::json;

double middle_of(const std::vector<double>& sorted) {
    if (sorted.empty()) return 0;
    const std::size_t middle = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const char* role_name(RingKind::Role role) {
    switch (role) {
        case RingKind::Role::kOurs:
            return "ours";
        case RingKind::Role::kPeer:
            return "peer";
        case RingKind::Role::kRaw:
            break;
    }
    return "raw";
}

}  // namespace

std::vector<double> RingReport::Series::values() const {
    std::vector<double> all;
    for (const bool moved_too : {false, true}) {
        for (const RingSample& sample : rounds) {
            if (moved_too || !sample.moved) all.push_back(sample.ns);
        }
        if (!all.empty()) break;
    }
    std::sort(all.begin(), all.end());
    return all;
}

double RingReport::Series::median() const { return middle_of(values()); }

const RingReport::Series* RingReport::Cell::best(RingKind::Role role) const {
    const Series* found = nullptr;
    for (const Series& one : series) {
        if (one.kind.role == role && (found == nullptr || one.median() < found->median()))
            found = &one;
    }
    return found;
}

void RingReport::add(const RingKind& kind, std::size_t bytes, RingPattern pattern,
                     const RingSample& sample) {
    const auto cell = std::find_if(cells_.begin(), cells_.end(), [&](const Cell& one) {
        return one.pattern == pattern && one.bytes == bytes;
    });
    Cell& in = cell != cells_.end() ? *cell : cells_.emplace_back(Cell{pattern, bytes, {}});
    const auto series = std::find_if(in.series.begin(), in.series.end(),
                                     [&](const Series& one) { return one.kind.name == kind.name; });
    Series& to = series != in.series.end() ? *series : in.series.emplace_back(Series{kind, {}});
    to.rounds.push_back(sample);
}

std::uint64_t RingReport::errors() const noexcept {
    std::uint64_t sum = 0;
    for (const Cell& cell : cells_) {
        for (const Series& series : cell.series) {
            for (const RingSample& sample : series.rounds)
                sum += sample.errors;
        }
    }
    return sum;
}

double RingReport::raw_line_ns() const {
    for (const Cell& cell : cells_) {
        if (cell.pattern != RingPattern::kRoundTrip) continue;
        for (const Series& series : cell.series) {
            if (series.kind.role == RingKind::Role::kRaw) return series.median();
        }
    }
    return 0;
}

std::string RingReport::table() const {
    std::string text;
    for (const Cell& cell : cells_) {
        const bool trip = cell.pattern == RingPattern::kRoundTrip;
        const double raw = raw_line_ns();
        const Series* peer = cell.best(RingKind::Role::kPeer);
        text += fmt::format("\n{}, {} B{}\n", to_string(cell.pattern), cell.bytes,
                            trip ? ", ns" : ", million a second");
        text += fmt::format("  {:<14} {:>8} {:>17}  {:>12}{}\n", "", "median", "range",
                            "to best peer", trip && raw > 0 ? "  to one line" : "");
        for (const Series& series : cell.series) {
            const auto values = series.values();
            const double median = middle_of(values);
            const auto shown = [&](double ns) { return trip ? ns : 1000 / ns; };
            const double low = trip ? values.front() : shown(values.back());
            const double high = trip ? values.back() : shown(values.front());
            text += fmt::format("  {:<14} {:>8.1f} {:>17}  ", series.kind.name, shown(median),
                                fmt::format("{:.1f} - {:.1f}", low, high));
            text += series.kind.role == RingKind::Role::kOurs && peer != nullptr
                        ? fmt::format("{:>12.2f}", peer->median() / median)
                        : fmt::format("{:>12}", &series == peer ? "(best)" : "");
            if (trip && raw > 0) text += fmt::format("  {:>11.2f}", median / raw);
            text += "\n";
        }
    }
    return text;
}

nlohmann::json RingReport::json() const {
    nlohmann::json results = nlohmann::json::array();
    nlohmann::json comparisons = nlohmann::json::array();
    nlohmann::json sentinels = nlohmann::json::array();
    const double raw = raw_line_ns();
    for (const Cell& cell : cells_) {
        const bool trip = cell.pattern == RingPattern::kRoundTrip;
        const char* unit = trip ? "round_trip_ns" : "elements_per_second";
        const auto in_unit = [&](double ns) { return trip ? ns : 1e9 / ns; };
        for (const Series& series : cell.series) {
            nlohmann::json rounds = nlohmann::json::array();
            int moved = 0;
            for (const RingSample& sample : series.rounds) {
                rounds.push_back({{unit, in_unit(sample.ns)},
                                  {"moved", sample.moved},
                                  {"before", sample.before},
                                  {"after", sample.after}});
                sentinels.push_back(sample.after);
                moved += sample.moved ? 1 : 0;
            }
            results.push_back({{"what", to_string(cell.pattern)},
                               {"element_bytes", cell.bytes},
                               {"ring", series.kind.name},
                               {"configuration", series.kind.configuration},
                               {"role", role_name(series.kind.role)},
                               {unit, in_unit(series.median())},
                               {"rounds_moved", moved},
                               {"rounds", rounds}});
        }
        const Series* ours = cell.best(RingKind::Role::kOurs);
        const Series* peer = cell.best(RingKind::Role::kPeer);
        if (ours == nullptr) continue;
        nlohmann::json row{{"what", to_string(cell.pattern)},
                           {"element_bytes", cell.bytes},
                           {"ring", ours->kind.name},
                           {unit, in_unit(ours->median())}};
        if (peer != nullptr) {
            row["best_peer"] = peer->kind.name;
            row[std::string("peer_") + unit] = in_unit(peer->median());
            row["times_best_peer"] = peer->median() / ours->median();
        }
        if (trip && raw > 0) row["times_raw_line"] = ours->median() / raw;
        comparisons.push_back(row);
    }
    return {{"results", results}, {"comparisons", comparisons}, {"sentinels", sentinels}};
}

}  // namespace sanpoll::bench
