#include "bench/noise_floor.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

#include "bench/cpu_placement.hpp"
#include "bench/pacer.hpp"

namespace sanpoll::bench {
namespace {

// What is shorter is the loop's own (some tens of ns), or too little to tell from it.
constexpr std::uint64_t kNoticedNs = 300;
constexpr std::size_t kMostGaps = 1 << 16;

// Where the watching threads wait for each other: the last one says when it begins, for all.
struct Start {
    std::atomic<int> missing;             // its decrements are each other's partners
    std::atomic<std::uint64_t> begin{0};  // the last one's release store, the others' acquire loads
};

std::optional<Stalls> watch(const Clock& clock, int cpu, std::uint64_t ms, Start& start) {
    const bool pinned = pin_this_thread(cpu);
    std::vector<Gap> gaps;
    gaps.reserve(kMostGaps);
    if (start.missing.fetch_sub(1, std::memory_order_acq_rel) == 1)
        start.begin.store(clock.ticks(), std::memory_order_release);
    std::uint64_t begin = 0;
    while ((begin = start.begin.load(std::memory_order_acquire)) == 0)
        std::this_thread::yield();
    if (!pinned) return std::nullopt;
    // It is another CPU's reading, which may be a little ahead of this one's.
    while (clock.ticks() < begin) {
    }
    const auto threshold =
        static_cast<std::uint64_t>(static_cast<double>(kNoticedNs) / clock.ns_per_tick());
    const std::uint64_t end = record_gaps([&] { return clock.ticks(); }, begin,
                                          begin + clock.from_ms(ms), threshold, gaps);
    return Stalls(std::move(gaps), begin, end);
}

// One step of a message's way, on one core.
class Station {
public:
    Station(const Stalls& core, std::uint64_t ticks_each) : core_(core), ticks_each_(ticks_each) {}
    // When a message leaves that came at `ticks`, behind all those before it.
    std::uint64_t pass(std::uint64_t ticks) {
        const std::uint64_t left = core_.running_from(std::max(ticks, free_));
        free_ = left + ticks_each_;
        return left;
    }

private:
    const Stalls& core_;
    const std::uint64_t ticks_each_;
    std::uint64_t free_ = 0;
};

}  // namespace

Noise measure_noise(const Clock& clock, int client_cpu, int server_cpu, std::uint64_t ms) {
    std::optional<Stalls> client;
    std::optional<Stalls> server;
    Start start{server_cpu == client_cpu ? 1 : 2};
    std::thread first([&] { client = watch(clock, client_cpu, ms, start); });
    if (server_cpu == client_cpu) {
        first.join();
        server = client;
    } else {
        std::thread second([&] { server = watch(clock, server_cpu, ms, start); });
        first.join();
        second.join();
    }
    if (!client || !server) {
        throw std::runtime_error("CPU " + std::to_string(client_cpu) + " or " +
                                 std::to_string(server_cpu) + " may not be used by this process");
    }
    return {std::move(*client), std::move(*server)};
}

LatencyHistogram ideal_round_trips(const Noise& noise, const Clock& clock, double per_second,
                                   double most_per_second) {
    LatencyHistogram histogram;
    if (per_second <= 0) return histogram;
    const std::uint64_t begin = std::max(noise.client.begin(), noise.server.begin());
    const std::uint64_t end = std::min(noise.client.end(), noise.server.end());
    const std::uint64_t each = most_per_second > 0 ? Pacer(clock, 0, most_per_second).due(1) : 0;
    Station sending(noise.client, each);
    Station answering(noise.server, each);
    Station seeing(noise.client, each);
    const Pacer pacer(clock, begin, per_second);
    for (std::uint64_t i = 0; pacer.due(i) < end; ++i) {
        const std::uint64_t due = pacer.due(i);
        histogram.record(clock.to_ns(seeing.pass(answering.pass(sending.pass(due))) - due));
    }
    return histogram;
}

NoiseFigures figures_of(const std::vector<Stalls>& stalls, const Clock& clock) {
    NoiseFigures figures;
    std::array<std::uint64_t, 3> counts{};
    double lost_ns = 0;
    for (const Stalls& one : stalls) {
        figures.seconds += static_cast<double>(clock.to_ns(one.end() - one.begin())) / 1e9;
        for (const Gap& gap : one.gaps()) {
            const std::uint64_t ns = clock.to_ns(gap.end - gap.begin);
            if (ns <= 1000) continue;
            ++counts[0];
            counts[1] += ns > 10000 ? 1 : 0;
            counts[2] += ns > 50000 ? 1 : 0;
            lost_ns += static_cast<double>(ns);
            figures.gaps.record(ns);
        }
    }
    if (figures.seconds <= 0) return figures;
    figures.over_1us_per_second = static_cast<double>(counts[0]) / figures.seconds;
    figures.over_10us_per_second = static_cast<double>(counts[1]) / figures.seconds;
    figures.over_50us_per_second = static_cast<double>(counts[2]) / figures.seconds;
    figures.lost_percent = lost_ns / figures.seconds / 1e9 * 100;
    return figures;
}

}  // namespace sanpoll::bench
