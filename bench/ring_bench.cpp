// Rings between two threads on two CPUs: round trip of one value, and values a second. The slot ring of rings/
// against the classic ring with indices, 8 and 56 bytes of content, single and in bursts.
//
// ring_bench [Google Benchmark's options]; the CPUs are chosen as sanpoll-ping chooses them.
#include <benchmark/benchmark.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>
#include <thread>

#include "bench/clock.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/handoff.hpp"
#include "bench/index_ring.hpp"
#include "rings/spsc_ring.hpp"

namespace {

using namespace sanpoll;

constexpr std::uint32_t kCapacity = 1024;
constexpr std::uint64_t kBatch =
    20'000;  // values of one iteration: long against starting and stopping

template <std::size_t Bytes>
struct Value {
    std::uint64_t number = 0;
    std::array<std::byte, Bytes - sizeof(std::uint64_t)> rest{};
};

template <>
struct Value<8> {
    std::uint64_t number = 0;
};

// Both kinds of ring with one face.
template <std::size_t Bytes>
struct SlotRing {
    using Item = Value<Bytes>;
    rings::SpscRing ring{kCapacity};
    bool push(const Item& item) { return ring.producer().try_push(item); }
    bool pop(Item& item) { return ring.consumer().try_pop(item); }
    std::size_t push_some(std::span<const Item> items) { return ring.producer().push_batch(items); }
    std::size_t pop_some(std::span<Item> items) { return ring.consumer().pop_batch(items); }
};

template <std::size_t Bytes>
struct ClassicRing {
    using Item = Value<Bytes>;
    bench::IndexRing<Item> ring{kCapacity};
    bool push(const Item& item) { return ring.try_push(item); }
    bool pop(Item& item) { return ring.try_pop(item); }
};

const bench::CpuChoice& cpus() {
    static const bench::CpuChoice choice =
        bench::choose_pair(bench::read_topology(bench::allowed_cpus()));
    return choice;
}

// A second thread that runs `turn` once for each go() of the measuring one, pinned to the other CPU.
template <typename Turn>
class Partner {
public:
    explicit Partner(Turn turn) : thread_([this, turn] { run(turn); }) {
        bench::pin_this_thread(cpus().server);
    }
    ~Partner() {
        go_.store(kStop, std::memory_order_release);
        thread_.join();
    }
    Partner(const Partner&) = delete;
    Partner& operator=(const Partner&) = delete;

    void go() { go_.store(++turns_, std::memory_order_release); }
    void wait() {
        while (done_.load(std::memory_order_acquire) != turns_)
            bench::cpu_pause();
    }

private:
    static constexpr std::uint64_t kStop = ~0ULL;

    void run(const Turn& turn) {
        bench::pin_this_thread(cpus().client);
        for (std::uint64_t next = 1;; ++next) {
            std::uint64_t seen = go_.load(std::memory_order_acquire);
            while (seen != next && seen != kStop) {
                bench::cpu_pause();
                seen = go_.load(std::memory_order_acquire);
            }
            if (seen == kStop) return;
            turn();
            done_.store(next, std::memory_order_release);
        }
    }

    alignas(128) std::atomic<std::uint64_t> go_{0};
    alignas(128) std::atomic<std::uint64_t> done_{0};
    std::uint64_t turns_ = 0;
    std::thread thread_;  // last: it uses all the others
};

bool skipped_on_one_cpu(benchmark::State& state) {
    if (cpus().server != cpus().client) return false;
    state.SkipWithError("needs two CPUs");
    return true;
}

template <typename Ring>
void round_trip(benchmark::State& state) {
    if (skipped_on_one_cpu(state)) return;
    using Item = typename Ring::Item;
    const auto there = std::make_unique<Ring>();
    const auto back = std::make_unique<Ring>();
    Partner partner([&] {
        Item item;
        for (std::uint64_t i = 0; i < kBatch; ++i) {
            while (!there->pop(item)) {
            }
            while (!back->push(item)) {
            }
        }
    });
    for (auto _ : state) {
        partner.go();
        Item item;
        for (std::uint64_t i = 0; i < kBatch; ++i) {
            item.number = i;
            while (!there->push(item)) {
            }
            while (!back->pop(item)) {
            }
            if (item.number != i) state.SkipWithError("out of order");
        }
        partner.wait();
    }
    state.counters["round_trip"] =
        benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(kBatch),
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

template <typename Ring>
void stream(benchmark::State& state) {
    if (skipped_on_one_cpu(state)) return;
    using Item = typename Ring::Item;
    const auto ring = std::make_unique<Ring>();
    Partner partner([&] {
        Item item;
        for (std::uint64_t i = 0; i < kBatch; ++i) {
            item.number = i;
            while (!ring->push(item)) {
            }
        }
    });
    for (auto _ : state) {
        partner.go();
        Item item;
        for (std::uint64_t i = 0; i < kBatch; ++i) {
            while (!ring->pop(item)) {
            }
            if (item.number != i) state.SkipWithError("out of order");
        }
        partner.wait();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}

template <typename Ring>
void stream_in_bursts(benchmark::State& state) {
    if (skipped_on_one_cpu(state)) return;
    using Item = typename Ring::Item;
    constexpr std::size_t kBurst = 32;
    static_assert(kBatch % kBurst == 0);
    const auto ring = std::make_unique<Ring>();
    Partner partner([&] {
        std::array<Item, kBurst> burst;
        for (std::uint64_t i = 0; i < kBatch; i += kBurst) {
            for (std::size_t k = 0; k < kBurst; ++k)
                burst[k].number = i + k;
            for (std::span<const Item> left(burst); !left.empty();) {
                left = left.subspan(ring->push_some(left));
            }
        }
    });
    for (auto _ : state) {
        partner.go();
        std::array<Item, kBurst> burst;
        for (std::uint64_t i = 0; i < kBatch;) {
            const std::size_t count = ring->pop_some(burst);
            for (std::size_t k = 0; k < count; ++k) {
                if (burst[k].number != i + k) state.SkipWithError("out of order");
            }
            i += count;
        }
        partner.wait();
    }
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kBatch));
}

BENCHMARK(round_trip<SlotRing<8>>)->UseRealTime();
BENCHMARK(round_trip<ClassicRing<8>>)->UseRealTime();
BENCHMARK(round_trip<SlotRing<56>>)->UseRealTime();
BENCHMARK(round_trip<ClassicRing<56>>)->UseRealTime();
BENCHMARK(stream<SlotRing<8>>)->UseRealTime();
BENCHMARK(stream<ClassicRing<8>>)->UseRealTime();
BENCHMARK(stream<SlotRing<56>>)->UseRealTime();
BENCHMARK(stream<ClassicRing<56>>)->UseRealTime();
BENCHMARK(stream_in_bursts<SlotRing<8>>)->UseRealTime();
BENCHMARK(stream_in_bursts<SlotRing<56>>)->UseRealTime();

}  // namespace

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    // The yardstick and the sentinel go into the heading (and into --benchmark_out's context).
    const auto handoff =
        bench::measure_handoff(bench::Clock::calibrate(), cpus().server, cpus().client);
    benchmark::AddCustomContext("cpus", std::to_string(cpus().server) + "," +
                                            std::to_string(cpus().client) + " (" + cpus().why +
                                            ")");
    benchmark::AddCustomContext("cache_line_round_trip_ns", std::to_string(handoff.round_trip_ns));
    benchmark::AddCustomContext("placement", std::string(to_string(handoff.placement)));
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
