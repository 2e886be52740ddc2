// What registered memory costs: finding, entering and taking out regions, by how many there are.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "engine/memory/registration_cache.hpp"
#include "engine/memory_region.hpp"

namespace {

using sanpoll::engine::kRead;
using sanpoll::engine::kWrite;
using sanpoll::engine::RegionRef;
using sanpoll::engine::RegionTable;

constexpr std::uint64_t kBase = 0x7F0000000000;
constexpr std::uint64_t kStride = 8192;
constexpr std::uint64_t kLength = 4096;

void fill(RegionTable& table, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
        (void)table.add(kBase + static_cast<std::uint64_t>(i) * kStride, kLength, kRead | kWrite);
    }
}

// Another region each time, in an order that no prefetcher guesses.
std::vector<std::uint64_t> places(std::int64_t count) {
    std::mt19937_64 random(1);
    std::vector<std::uint64_t> all(4096);
    for (std::uint64_t& one : all) {
        one = kBase + random() % static_cast<std::uint64_t>(count) * kStride;
    }
    return all;
}

void find_same(benchmark::State& state) {
    RegionTable table;
    fill(table, state.range(0));
    for (auto _ : state) {
        benchmark::DoNotOptimize(table.find(kBase, 64, kRead));
    }
}

void find_any(benchmark::State& state) {
    RegionTable table;
    fill(table, state.range(0));
    const auto at = places(state.range(0));
    std::size_t i = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(table.find(at[i++ & 4095U], 64, kRead));
    }
}

void add_and_remove(benchmark::State& state) {
    RegionTable table;
    fill(table, state.range(0));
    const auto at = places(state.range(0));
    std::size_t i = 0;
    for (auto _ : state) {
        const RegionRef ref = table.add(at[i++ & 4095U] + kLength, kLength, kRead);
        if (!table.retire(ref)) {
            state.SkipWithError("it is in use");
        }
        table.remove_from_index(ref);
    }
}

// What a connection over a device does for memory that has been registered before.
struct Device final : sanpoll::engine::memory::RegistrationCache::Domain {
    bool drop(void*) noexcept override { return true; }
};

void cache_hit(benchmark::State& state) {
    using sanpoll::engine::memory::RegistrationCache;
    const auto count = static_cast<std::uint64_t>(state.range(0));
    void* const all = ::mmap(nullptr, count * kStride, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    const auto base = reinterpret_cast<std::uint64_t>(all);
    RegistrationCache cache;
    Device device;
    const std::string error = cache.start({1ULL << 40, 200000});
    if (all == MAP_FAILED || !error.empty()) {
        state.SkipWithError(error.c_str());
        return;
    }
    for (std::uint64_t i = 0; i < count; ++i) {
        const auto handle = cache.begin(device, base + i * kStride, kLength, kRead | kWrite);
        cache.complete(handle, &device);
        cache.release(handle);
    }
    const auto at = places(state.range(0));
    std::size_t i = 0;
    for (auto _ : state) {
        const auto found = cache.find(device, base + (at[i++ & 4095U] - kBase), kLength, kRead);
        if (found.handle == 0) {
            state.SkipWithError("it is not there");
            break;
        }
        cache.release(found.handle);
    }
    cache.forget(device);
    cache.stop();
    ::munmap(all, count * kStride);
}

BENCHMARK(cache_hit)->Arg(10)->Arg(1000)->Arg(10000);
BENCHMARK(find_same)->Arg(10)->Arg(1000)->Arg(10000)->Arg(100000);
BENCHMARK(find_any)->Arg(10)->Arg(1000)->Arg(10000)->Arg(100000);
BENCHMARK(add_and_remove)->Arg(10)->Arg(1000)->Arg(10000)->Arg(100000);

}  // namespace

BENCHMARK_MAIN();
