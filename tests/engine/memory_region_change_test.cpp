// The table of registered memory while it changes: against a model, and with threads that look while others change it.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>
#include <vector>

#include "tests/engine/region_removal.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using tests::kBoth;
using tests::remove;

// ---- against a model --------------------------------------------------------------------------------

struct Model {
    struct Region {
        std::uint64_t base;
        std::uint64_t end;
        std::uint32_t access;
    };
    std::map<RegionRef, Region> regions;

    [[nodiscard]] bool has(std::uint64_t address, std::uint32_t length,
                           std::uint32_t access) const {
        for (const auto& [ref, region] : regions) {
            if (fits(region, address, length, access)) {
                return true;
            }
        }
        return false;
    }
    [[nodiscard]] static bool fits(const Region& region, std::uint64_t address,
                                   std::uint32_t length, std::uint32_t access) {
        return region.base <= address && address + length <= region.end &&
               (region.access & access) == access;
    }
};

void compare(RegionTable& table, const Model& model, std::mt19937_64& random, int queries,
             std::uint64_t space) {
    for (int i = 0; i < queries; ++i) {
        const std::uint64_t address = 0x100000 + random() % space;
        const auto length = static_cast<std::uint32_t>(random() % 400);
        const auto access = static_cast<std::uint32_t>(random() % 4);
        const RegionRef ref = table.find(address, length, access);
        if (ref == 0) {
            ASSERT_FALSE(model.has(address, length, access)) << address << '+' << length;
        } else {
            const auto found = model.regions.find(ref);
            ASSERT_NE(found, model.regions.end());
            ASSERT_TRUE(Model::fits(found->second, address, length, access));
        }
    }
}

TEST(RegionTableModel, AnswersAsABruteForceSearchWhileItChanges) {
    constexpr std::uint64_t kSpace = 20000;
    for (const std::uint64_t seed : {1, 2, 3}) {
        std::mt19937_64 random(seed);
        RegionTable table;
        Model model;
        for (int step = 0; step < 400; ++step) {
            if (model.regions.empty() || random() % 3 != 0) {
                const std::uint64_t base = 0x100000 + random() % kSpace;
                const std::uint64_t length =
                    random() % 20 == 0 ? random() % 8000 + 1 : random() % 300 + 1;
                const auto access = static_cast<std::uint32_t>(random() % 4);
                const RegionRef ref = table.add(base, length, access);
                ASSERT_NE(ref, 0U);
                ASSERT_TRUE(
                    model.regions.emplace(ref, Model::Region{base, base + length, access}).second);
            } else {
                auto victim = model.regions.begin();
                std::advance(victim, static_cast<long>(random() % model.regions.size()));
                ASSERT_TRUE(remove(table, victim->first));
                model.regions.erase(victim);
            }
            ASSERT_EQ(table.size(), model.regions.size());
            ASSERT_NO_FATAL_FAILURE(compare(table, model, random, 50, kSpace)) << "seed " << seed;
        }
    }
}

TEST(RegionTableModel, TenThousandRegionsAreAllFound) {
    const std::uint64_t count = tests::scaled(10000);
    std::mt19937_64 random(11);
    RegionTable table;
    std::vector<RegionRef> refs;
    Model model;
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t base = 0x100000 + i * 256;
        const std::uint64_t length = random() % 256 + 1;
        refs.push_back(table.add(base, length, kBoth));
        ASSERT_NE(refs.back(), 0U) << i;
        ASSERT_TRUE(
            model.regions.emplace(refs.back(), Model::Region{base, base + length, kBoth}).second);
    }
    for (std::uint64_t i = 0; i < count; ++i) {
        ASSERT_EQ(table.find(0x100000 + i * 256, 1, kBoth), refs[i]) << i;
        const Model::Region& region = model.regions[refs[i]];
        ASSERT_EQ(table.find(region.end - 1, 1, kBoth), refs[i]) << i;
        ASSERT_EQ(table.find(region.end, 1, kBoth) == 0, region.end % 256 != 0 || i + 1 == count);
    }
    ASSERT_NO_FATAL_FAILURE(compare(table, model, random, 500, count * 256));
    for (std::uint64_t i = 0; i < count; i += 2) {
        if (i % 20 == 0) {
            ASSERT_TRUE(remove(table, refs[i]));
            ASSERT_EQ(table.find(0x100000 + i * 256, 1, kBoth), 0U);
        }
    }
}

// ---- concurrently -----------------------------------------------------------------------------------

TEST(RegionTableRace, LastingRegionsAreAlwaysFoundWhileOthersComeAndGo) {
    constexpr std::uint64_t kLasting = 20;
    RegionTable table;
    RegionRef lasting[kLasting];
    for (std::uint64_t i = 0; i < kLasting; ++i) {
        lasting[i] = table.add(0x100000 + i * 0x1000, 0x800, kBoth);
    }
    std::atomic<bool> stop{false};
    std::atomic<std::uint64_t> lost{0};
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> looks{0};
    std::vector<std::thread> finders;
    for (std::uint64_t t = 0; t < 2; ++t) {
        finders.emplace_back([&, t] {
            std::mt19937_64 random(t);
            while (!stop.load(std::memory_order_relaxed)) {
                const std::uint64_t i = random() % kLasting;
                const std::uint64_t address = 0x100000 + i * 0x1000 + random() % 0x700;
                if (table.find(address, 0x40, kRead) != lasting[i]) {
                    lost.fetch_add(1);
                }
                // What comes and goes lies between; a range that spans it fits nobody.
                if (table.find(address, 0x1000, kRead) != 0) {
                    wrong.fetch_add(1);
                }
                const RegionRef passing = table.find(0x100900 + i * 0x1000, 0x10, kRead);
                if (passing != 0 && passing == lasting[i]) {
                    wrong.fetch_add(1);
                }
                looks.fetch_add(1, std::memory_order_relaxed);
            }
        });
    }
    std::mt19937_64 random(99);
    std::vector<RegionRef> passing;
    const std::uint64_t rounds = tests::scaled(20000);
    for (std::uint64_t round = 0; round < rounds || looks.load() < 1000; ++round) {
        if (passing.size() < 200 && random() % 2 == 0) {
            passing.push_back(table.add(0x100900 + random() % kLasting * 0x1000, 0x100, kRead));
            ASSERT_NE(passing.back(), 0U);
        } else if (!passing.empty()) {
            const std::size_t victim = random() % passing.size();
            ASSERT_TRUE(remove(table, passing[victim]));
            passing.erase(passing.begin() + static_cast<std::ptrdiff_t>(victim));
        }
    }
    stop.store(true);
    for (std::thread& thread : finders) {
        thread.join();
    }
    EXPECT_EQ(lost.load(), 0U);
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_GT(looks.load(), 0U);
}

// Whoever shuts the gate and then empties the table finds it empty for good, however many were just adding.
TEST(RegionTableRace, NothingIsAddedBehindAClose) {
    RegionTable table;
    PostGate gate;
    std::atomic<std::uint32_t> current{0};
    std::atomic<bool> stop{false};
    std::atomic<std::uint32_t> refused{0};
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 2; ++t) {
        threads.emplace_back([&, t] {
            for (std::uint64_t n = 0; !stop.load(std::memory_order_relaxed); ++n) {
                RegionRef ref = 0;
                const Status status = table.add_for(gate, current.load(std::memory_order_acquire),
                                                    0x1000 + (2 * (n % 64) + t) * 0x1000, 0x1000,
                                                    kBoth, nullptr, ref);
                if (status == Status::kNotOpen) {
                    refused.fetch_add(1, std::memory_order_relaxed);
                    std::this_thread::yield();
                }
            }
        });
    }
    for (std::uint64_t i = 0; i < tests::scaled(300); ++i) {
        const std::uint32_t generation = gate.revive();
        current.store(generation, std::memory_order_release);
        ASSERT_TRUE(gate.open(generation));
        while (table.size() < 3) {
            std::this_thread::yield();
        }
        ASSERT_TRUE(gate.close(generation));
        table.reset();
        const std::uint32_t before = refused.load(std::memory_order_relaxed);
        while (refused.load(std::memory_order_relaxed) < before + 3) {
            std::this_thread::yield();
        }
        ASSERT_EQ(table.size(), 0U);
    }
    stop.store(true);
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace
}  // namespace sanpoll::engine
