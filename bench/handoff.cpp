#include "bench/handoff.hpp"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

// 512 lines are 32 KiB: too many stores for a store buffer to hide, few enough to stay in the L1 of either side.
constexpr std::size_t kOverwrittenLines = 512;

// Two lines apart, because the prefetcher of many cores fetches lines in pairs.
constexpr std::size_t kApart = 128;

struct alignas(kApart) Line {
    std::atomic<std::uint64_t> word{0};
};

struct Arena {
    Line ball;   // the line that goes to and fro
    Line turn;   // whose move it is while lines are overwritten
    Line ready;  // threads that are pinned and at the start, or kFailed
    struct alignas(64) Cell {
        std::atomic<std::uint64_t> word{0};
    };
    Cell cells[kOverwrittenLines];
};

constexpr std::uint64_t kFailed = 1000;

double median(std::vector<double>& values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

// Both threads call this before a burst. False if the other one could not be pinned.
bool meet(Arena& arena, bool pinned) {
    arena.ready.word.fetch_add(pinned ? 1 : kFailed, std::memory_order_acq_rel);
    for (;;) {
        const std::uint64_t seen = arena.ready.word.load(std::memory_order_acquire);
        if (seen >= kFailed) return false;
        if (seen == 2) return true;
        std::this_thread::yield();
    }
}

// The side that answers: waits for each odd value and writes the even one after it; then reads lines when told to.
void answer(Arena& arena, std::uint64_t round_trips, std::uint64_t passes) {
    for (std::uint64_t i = 0; i < round_trips; ++i) {
        while (arena.ball.word.load(std::memory_order_acquire) != 2 * i + 1) {
        }
        arena.ball.word.store(2 * i + 2, std::memory_order_release);
    }
    std::uint64_t sum = 0;
    for (std::uint64_t pass = 0; pass < passes; ++pass) {
        while (arena.turn.word.load(std::memory_order_acquire) != 2 * pass + 1) {
        }
        for (auto& cell : arena.cells)
            sum += cell.word.load(std::memory_order_relaxed);
        // Keeps the loads: the sum goes into the word that announces that they are done, in bits that nobody reads.
        arena.turn.word.store(2 * pass + 2 + (sum & 0), std::memory_order_release);
    }
}

double time_round_trips(Arena& arena, const Clock& clock, std::uint64_t& next, int round_trips) {
    const std::uint64_t start = clock.ticks();
    for (int i = 0; i < round_trips; ++i, next += 2) {
        arena.ball.word.store(next + 1, std::memory_order_release);
        while (arena.ball.word.load(std::memory_order_acquire) != next + 2) {
        }
    }
    return static_cast<double>(clock.to_ns(clock.ticks() - start)) / round_trips;
}

double time_overwrites(Arena& arena, const Clock& clock, std::uint64_t pass) {
    arena.turn.word.store(2 * pass + 1, std::memory_order_release);
    while (arena.turn.word.load(std::memory_order_acquire) != 2 * pass + 2) {
    }
    const std::uint64_t start = clock.ticks();
    for (auto& cell : arena.cells)
        cell.word.store(pass, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // until the last store has its line
    return static_cast<double>(clock.to_ns(clock.ticks() - start)) / kOverwrittenLines;
}

}  // namespace

std::string_view to_string(Placement placement) noexcept {
    switch (placement) {
        case Placement::kOneCpu:
            return "one-cpu";
        case Placement::kSmt:
            return "smt";
        case Placement::kNear:
            return "near";
        case Placement::kFar:
            return "far";
        case Placement::kUnknown:
            break;
    }
    return "unknown";
}

void to_json(nlohmann::json& out, const Handoff& seen) {
    out = {{"round_trip_ns", seen.round_trip_ns},
           {"overwrite_ns_per_line", seen.overwrite_ns_per_line},
           {"placement", to_string(seen.placement)}};
}

Placement classify(double round_trip_ns, double overwrite_ns_per_line) noexcept {
    if (round_trip_ns <= 0) return Placement::kUnknown;
    // Borders between what was seen on several hosts: smt 40-70 ns and < 2.5, near 110-200 and 3-8, far 280 and more
    // and 12-18. They overlap between makes of processor; so a class is said only where both numbers allow it.
    const bool smt = round_trip_ns < 85 && overwrite_ns_per_line < 2.6;
    const bool far = round_trip_ns > 220 && overwrite_ns_per_line > 9.5;
    const bool near = round_trip_ns >= 60 && round_trip_ns < 320 && overwrite_ns_per_line >= 1.5 &&
                      overwrite_ns_per_line <= 12;
    if (smt) return Placement::kSmt;
    if (far) return Placement::kFar;
    return near ? Placement::kNear : Placement::kUnknown;
}

bool same_placement(const Handoff& a, const Handoff& b) noexcept {
    if (a.placement == Placement::kOneCpu || b.placement == Placement::kOneCpu)
        return a.placement == b.placement;
    const double larger = std::max(a.round_trip_ns, b.round_trip_ns);
    const double smaller = std::min(a.round_trip_ns, b.round_trip_ns);
    return a.placement == b.placement && larger <= 1.5 * smaller;
}

Handoff measure_handoff(const Clock& clock, int cpu_a, int cpu_b, HandoffEffort effort) {
    if (cpu_a == cpu_b) return {0, 0, 0, Placement::kOneCpu};

    const auto arena = std::make_unique<Arena>();
    const int passes = effort.bursts * 3;
    std::vector<double> trips;
    std::vector<double> overwrites;
    trips.reserve(static_cast<std::size_t>(effort.bursts));
    overwrites.reserve(static_cast<std::size_t>(passes));
    bool measured = false;

    std::thread peer([&] {
        if (!meet(*arena, pin_this_thread(cpu_b))) return;
        answer(*arena,
               static_cast<std::uint64_t>(effort.bursts) *
                   static_cast<std::uint64_t>(effort.round_trips),
               static_cast<std::uint64_t>(passes));
    });
    std::thread timer([&] {
        if (!meet(*arena, pin_this_thread(cpu_a))) return;
        std::uint64_t next = 0;
        for (int i = 0; i < effort.bursts; ++i)
            trips.push_back(time_round_trips(*arena, clock, next, effort.round_trips));
        for (int i = 0; i < passes; ++i)
            overwrites.push_back(time_overwrites(*arena, clock, static_cast<std::uint64_t>(i)));
        measured = true;
    });
    peer.join();
    timer.join();
    if (!measured) {
        throw std::runtime_error("CPU " + std::to_string(cpu_a) + " or " + std::to_string(cpu_b) +
                                 " may not be used by this process; choose others with --cores");
    }

    Handoff result;
    result.round_trip_ns = median(trips);
    result.one_way_ns = result.round_trip_ns / 2;
    result.overwrite_ns_per_line = median(overwrites);
    result.placement = classify(result.round_trip_ns, result.overwrite_ns_per_line);
    return result;
}

}  // namespace sanpoll::bench
