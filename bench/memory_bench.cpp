// Registered heaps beside the host program's malloc (Google Benchmark).
#include <benchmark/benchmark.h>

#include <array>
#include <cstdint>
#include <cstdlib>

#include "engine/memory/arena.hpp"
#include "engine/memory/heap.hpp"

namespace {

namespace memory = sanpoll::engine::memory;

struct Heap {
    static void* take(std::size_t size) {
        memory::Reason reason{};
        return memory::allocate(size, 0, true, reason);
    }
    static void give(void* block) { (void)memory::release(block); }
};

struct HostMalloc {
    static void* take(std::size_t size) { return std::malloc(size); }
    static void give(void* block) { std::free(block); }
};

// Each block freed before the next one is taken.
template <typename From>
void take_and_give(benchmark::State& state) {
    const auto size = static_cast<std::size_t>(state.range(0));
    for (auto _ : state) {
        void* const block = From::take(size);
        if (block == nullptr) {
            state.SkipWithError("no memory");
            break;
        }
        benchmark::DoNotOptimize(block);
        From::give(block);
    }
}

// 64 blocks in use at once, as by a caller with a window of requests; the first byte of each is written.
template <typename From>
void window(benchmark::State& state) {
    const auto size = static_cast<std::size_t>(state.range(0));
    std::array<void*, 64> blocks{};
    std::size_t next = 0;
    for (auto _ : state) {
        if (blocks[next] != nullptr) {
            From::give(blocks[next]);
        }
        blocks[next] = From::take(size);
        if (blocks[next] == nullptr) {
            state.SkipWithError("no memory");
            break;
        }
        *static_cast<volatile char*>(blocks[next]) = 1;
        next = (next + 1) % blocks.size();
    }
    for (void* const block : blocks) {
        if (block != nullptr) {
            From::give(block);
        }
    }
}

// Which arena an address lies in, with as many arenas as given.
void find_arena(benchmark::State& state) {
    memory::Arenas arenas;
    arenas.set_rules({32U << 20, 4ULL << 30, sanpoll::engine::Hugepages::kOff, -1});
    memory::Refusal refusal;
    for (std::int64_t i = 0; i < state.range(0); ++i) {
        (void)arenas.make(true, 0, refusal);
    }
    std::uint32_t next = 0;
    for (auto _ : state) {
        const memory::Arena& arena = arenas.arena(next);
        benchmark::DoNotOptimize(arenas.find(arena.base + 4096, 65536));
        next = next + 1 == arenas.count() ? 0 : next + 1;
    }
}

#define SIZES Arg(64)->Arg(4096)->Arg(1 << 20)
BENCHMARK(take_and_give<Heap>)->SIZES;
BENCHMARK(take_and_give<HostMalloc>)->SIZES;
BENCHMARK(window<Heap>)->SIZES;
BENCHMARK(window<HostMalloc>)->SIZES;
BENCHMARK(find_arena)->Arg(1)->Arg(4)->Arg(64);

}  // namespace

BENCHMARK_MAIN();
