// ring_bench and engine_bench as their users see them; no figure is looked at beyond that it is one.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "bench/cpu_placement.hpp"
#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

bool one_cpu() { return allowed_cpus().size() < 2; }

// ThreadSanitizer does not know the barriers of rte_ring's default model.
#if defined(__SANITIZE_THREAD__)
constexpr const char* kRings =
    "round_trip/8/(one line|SpscRing|Duplex|Dense.*)|bursts_of_32/64/(Dense|boost)";
#else
constexpr const char* kRings =
    "round_trip/8/(one "
    "line|SpscRing|Duplex|Dense.*|rte_ring.*)|bursts_of_32/64/(Dense|boost|rte_ring).*";
#endif

TEST(RingBench, WritesWhatItMeasured) {
    if (one_cpu()) GTEST_SKIP() << "needs two CPUs";
    test::RunningProgram program("ring_bench", {"--rounds", "1", "--json", "-",
                                                std::string("--benchmark_filter=") + kRings});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    const json report = json::parse(result.out);
    EXPECT_EQ(report["program"], "ring_bench");
    EXPECT_FALSE(report["sentinels"].empty());
    std::set<std::string> rings;
    for (const json& cell : report["results"]) {
        rings.insert(cell["ring"]);
        const bool trip = cell["what"] == "round_trip";
        EXPECT_GT(cell[trip ? "round_trip_ns" : "elements_per_second"].get<double>(), 0) << cell;
        EXPECT_EQ(cell["rounds"].size(), 1U) << cell;
        EXPECT_FALSE(cell["configuration"].get<std::string>().empty());
    }
    for (const char* name : {"one line", "SpscRing", "DenseRing", "Duplex"})
        EXPECT_TRUE(rings.contains(name)) << name;
    for (const json& one : report["comparisons"])
        EXPECT_NE(one["ring"], "one line") << one;
    EXPECT_EQ(report["comparisons"].size(), 2U);
}

TEST(RingBench, RefusesWhatItDoesNotKnow) {
    test::RunningProgram program("ring_bench", {"--rounds", "none"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 2);
    EXPECT_NE(result.err.find("rounds"), std::string::npos) << result.err;
}

TEST(EngineBench, WritesWhatItMeasured) {
    test::RunningProgram program("engine_bench",
                                 {"--rounds", "2", "--json", "-", "--benchmark_min_time=0.001",
                                  "--benchmark_filter=lane_post|region_find/10$|handle_find/1$"});
    const auto result = program.wait();
    ASSERT_EQ(result.status, 0) << result.err;
    const json report = json::parse(result.out);
    EXPECT_EQ(report["program"], "engine_bench");
    ASSERT_EQ(report["results"].size(), 5U) << result.out;
    for (const json& one : report["results"]) {
        EXPECT_GT(one["ns"].get<double>(), 0) << one;
        EXPECT_EQ(one["rounds_ns"].size(), 2U) << one;
        EXPECT_TRUE(one.contains("parameter")) << one;
    }
    if (!one_cpu()) {
        EXPECT_EQ(report["sentinels"].size(), 3U);
    }
}

TEST(EngineBench, RefusesWhatItDoesNotKnow) {
    test::RunningProgram program("engine_bench", {"--roundz", "1"});
    EXPECT_EQ(program.wait().status, 2);
}

}  // namespace
}  // namespace sanpoll::bench
