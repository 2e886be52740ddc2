// Work that takes a given time by either of two ways, for tests of what chooses between them.
#pragma once

#include <cstdint>

namespace sanpoll::tests {

/// `World` has run(), which does one piece of work the way that its choice says, tells it how long that took, and answers
/// whether it was the direct one.
template <typename World>
struct TwoWays {
    TwoWays(std::uint64_t staged, std::uint64_t direct) : staged_ns(staged), direct_ns(direct) {}

    std::uint64_t staged_ns;
    std::uint64_t direct_ns;

    [[nodiscard]] std::uint64_t takes(bool direct) const { return direct ? direct_ns : staged_ns; }

    /// How many of the next ones go the direct way.
    std::uint32_t direct_ones(std::uint32_t times) {
        std::uint32_t count = 0;
        for (std::uint32_t i = 0; i < times; ++i) {
            count += static_cast<World*>(this)->run() ? 1 : 0;
        }
        return count;
    }
};

}  // namespace sanpoll::tests
