#include "bench/bare_copy.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

TEST(BareCopy, MeasuresBothWays) {
    const auto cpus = allowed_cpus();
    if (cpus.size() < 2) GTEST_SKIP() << "one CPU only";
    for (const std::uint32_t size : {128U, 65536U, 65536U + 128}) {
        const BareCopy copy = measure_bare_copy(cpus[0], cpus[1], size, 4, 1U << 20);
        EXPECT_GT(copy.alone, 0);
        EXPECT_GT(copy.both, 0);
    }
}

TEST(BareCopy, OneCpuMeasuresNothing) {
    const BareCopy copy = measure_bare_copy(0, 0, 65536, 4, 1U << 20);
    EXPECT_EQ(copy.alone, 0);
    EXPECT_EQ(copy.both, 0);
}

TEST(BareCopy, ACpuThatIsNotThereIsNamed) {
    EXPECT_THROW((void)measure_bare_copy(100000, 0, 65536, 4, 1U << 20), std::runtime_error);
    EXPECT_THROW((void)measure_bare_copy(0, 100000, 65536, 4, 1U << 20), std::runtime_error);
}

}  // namespace
}  // namespace sanpoll::bench
