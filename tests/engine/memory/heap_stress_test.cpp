// Eight threads take, resize and give back each other's blocks: nothing lies outside the arenas, nothing is
// changed by others, everything is returned at the end.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "engine/memory/heap.hpp"
#include "tests/engine/patience.hpp"

namespace sanpoll::engine::memory {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;
constexpr int kThreads = 8;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kSeconds = 5;
#else
constexpr int kSeconds = 2;
#endif

// SANPOLL_STRESS_SECONDS: for longer runs than the ordinary one.
std::chrono::seconds duration() {
    const char* const text = std::getenv("SANPOLL_STRESS_SECONDS");
    const int wanted = text != nullptr ? std::atoi(text) : 0;
    return std::chrono::seconds(wanted > 0 ? wanted : kSeconds);
}

// The head of every block says how the rest is filled.
struct Head {
    std::uint64_t size;
    std::uint64_t pattern;
};

void fill(void* block, std::uint64_t size, std::uint64_t pattern) {
    *static_cast<Head*>(block) = {size, pattern};
    // Both ends, and a byte in each page: what others overwrite shows, and large blocks do not take for ever.
    auto* const bytes = static_cast<unsigned char*>(block);
    const auto value = static_cast<unsigned char>(pattern);
    for (std::uint64_t at = sizeof(Head); at < size; at += at < 256 ? 1 : 4093) {
        bytes[at] = value;
    }
    if (size > sizeof(Head)) {
        bytes[size - 1] = value;
    }
}

bool intact(const void* block) {
    const Head head = *static_cast<const Head*>(block);
    const auto* const bytes = static_cast<const unsigned char*>(block);
    const auto value = static_cast<unsigned char>(head.pattern);
    for (std::uint64_t at = sizeof(Head); at < head.size; at += at < 256 ? 1 : 4093) {
        if (bytes[at] != value) {
            return false;
        }
    }
    return head.size <= sizeof(Head) || bytes[head.size - 1] == value;
}

bool in_an_arena(const void* block, std::uint64_t size, bool shareable) {
    const Arena* const arena =
        Arenas::of_process().find(reinterpret_cast<std::uint64_t>(block), size);
    return arena != nullptr && arena->shareable == shareable;
}

bool in_a_shareable_arena(const void* block) {
    const Arena* const arena = Arenas::of_process().find(reinterpret_cast<std::uint64_t>(block), 1);
    return arena != nullptr && arena->shareable;
}

// Places where threads leave blocks for each other.
struct Exchange {
    std::array<std::atomic<void*>, 512> places{};
    std::atomic<std::uint64_t> taken{0};
    std::atomic<std::uint64_t> refused{0};
    std::atomic<bool> stop{false};
};

std::uint64_t random_size(std::mt19937_64& random) {
    switch (random() % 16) {
        case 0:
            return sizeof(Head) + random() % (2 * kMiB);
        case 1:
        case 2:
            return sizeof(Head) + random() % 100000;
        default:
            return sizeof(Head) + random() % 4096;
    }
}

void one_step(Exchange& exchange, std::mt19937_64& random) {
    std::atomic<void*>& place = exchange.places[random() % exchange.places.size()];
    void* block = place.exchange(nullptr, std::memory_order_acq_rel);
    Reason reason = Reason::kNone;
    if (block == nullptr) {
        const std::uint64_t size = random_size(random);
        const std::size_t alignment = std::size_t{1} << (random() % 13);
        const bool shareable = random() % 4 != 0;
        block = allocate(size, alignment, shareable, reason);
        if (block == nullptr) {
            EXPECT_EQ(reason, Reason::kLimit);
            exchange.refused.fetch_add(1, std::memory_order_relaxed);
            return;
        }
        EXPECT_TRUE(in_an_arena(block, size, shareable));
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0U);
        exchange.taken.fetch_add(1, std::memory_order_relaxed);
        fill(block, size, random());
    } else {
        EXPECT_TRUE(intact(block));
        if (random() % 4 == 0) {
            const bool shareable = in_a_shareable_arena(block);
            const std::uint64_t size = random_size(random);
            if (void* const other = resize(block, size, 0, reason); other != nullptr) {
                block = other;
                EXPECT_TRUE(in_an_arena(block, size, shareable));
                fill(block, size, random());
            }
        } else {
            EXPECT_EQ(release(block), Reason::kNone);
            return;
        }
    }
    void* const displaced = place.exchange(block, std::memory_order_acq_rel);
    if (displaced != nullptr) {
        EXPECT_TRUE(intact(displaced));
        EXPECT_EQ(release(displaced), Reason::kNone);
    }
}

TEST(HeapStress, BlocksOfEightThreadsGoFromHandToHand) {
    Arenas& arenas = Arenas::of_process();
    arenas.set_rules({64 * kMiB, 1024 * kMiB, Hugepages::kAuto, -1});
    Exchange exchange;
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE(seed);
    // Each of the eight is replaced by a new thread now and then: what an ended one leaves in use is found
    // again by others, and blocks are freed while their thread ends.
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
        threads.emplace_back([&exchange, seed, i] {
            std::uint64_t generation = 0;
            while (!exchange.stop.load(std::memory_order_relaxed)) {
                std::thread([&] {
                    std::mt19937_64 random(seed + static_cast<std::uint64_t>(i) +
                                           1000 * ++generation);
                    for (int step = 0; step < 500 && !exchange.stop.load(std::memory_order_relaxed);
                         ++step) {
                        one_step(exchange, random);
                    }
                }).join();
            }
        });
    }
    std::this_thread::sleep_for(duration());
    EXPECT_TRUE(tests::eventually([&] { return exchange.taken.load() > 100; }));
    exchange.stop = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (std::atomic<void*>& place : exchange.places) {
        if (void* const block = place.exchange(nullptr); block != nullptr) {
            EXPECT_TRUE(intact(block));
            EXPECT_EQ(release(block), Reason::kNone);
        }
    }
    RecordProperty("blocks", std::to_string(exchange.taken.load()));
    RecordProperty("refused", std::to_string(exchange.refused.load()));
    for (std::uint32_t i = 0; i < arenas.count(); ++i) {
        EXPECT_EQ(used_bytes(i), 0U) << "arena " << i;
    }
    // Not only by our counts: all of every arena can be had again, in blocks that take arenas' blocks whole.
    const std::uint64_t all = arenas.bytes();
    arenas.set_rules({64 * kMiB, all, Hugepages::kAuto, -1});
    std::thread([all] {
        std::vector<void*> blocks;
        for (const bool shareable : {true, false}) {
            Reason reason = Reason::kNone;
            while (void* const block = allocate(30 * kMiB, 4096, shareable, reason)) {
                blocks.push_back(block);
            }
            EXPECT_EQ(reason, Reason::kLimit) << to_words(reason);
        }
        EXPECT_EQ(blocks.size(), all / (32 * kMiB));
        for (void* const block : blocks) {
            EXPECT_EQ(release(block), Reason::kNone);
        }
    }).join();
}

}  // namespace
}  // namespace sanpoll::engine::memory
