// Two ports between which long messages are described, wherever they lie.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/engine/fabric/shm/shm_port_fixture.hpp"

namespace sanpoll::engine::shm {

inline constexpr std::uint32_t kMiB = 1U << 20;

// Where b finds them: in an arena that it has mapped, or in a's process, which here is its own. Or it wants them in
// pieces, because it finds that it may not read there (kPieces), or when that proves quicker (kAuto).
enum class Where { kArena, kProcess, kPieces, kAuto };

inline std::string name_of(const testing::TestParamInfo<Where>& one) {
    const char* const names[] = {"Arena", "Process", "Pieces", "Auto"};
    return names[static_cast<int>(one.param)];
}

class DescribedTest : public ShmPortTest, public testing::WithParamInterface<Where> {
protected:
    DescribedTest() : ShmPortTest(config()) {}
    static Config config() {
        Config config = tests::TwoPorts::small_config();
        config.copy = GetParam() == Where::kAuto ? Copy::kAuto : Copy::kDirect;
        return config;
    }
    void SetUp() override {
        ShmPortTest::SetUp();
        if (GetParam() == Where::kArena) {
            lend(tests::shareable_arena(), ports_.a, *ports_.link_a, ports_.b, *ports_.link_b);
        } else {
            ports_.link_a->copy = ports_.link_b->copy = tests::this_process();
            ports_.link_b->unreadable = GetParam() == Where::kPieces;
        }
    }
    // Whatever carries them.
    [[nodiscard]] std::uint64_t copied() const {
        const ShmCounters& counters = ports_.b.port.counters();
        return counters.bytes_from_arenas.value() + counters.bytes_from_process.value();
    }
    [[nodiscard]] static std::byte* arena(std::uint64_t offset = 0) {
        return reinterpret_cast<std::byte*>(tests::shareable_arena().base + offset);
    }
    void turn_a() { (void)ports_.a.core.turn(); }
    void turn_b() { (void)ports_.b.core.turn(); }
    [[nodiscard]] std::uint64_t described() const {
        return ports_.a.port.counters().messages_described.value();
    }
};

}  // namespace sanpoll::engine::shm
