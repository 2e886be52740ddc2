// When a core did not run, as a thread that does nothing but read the clock sees it: the machine's own noise, below
// which no latency on it can be.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace sanpoll::bench {

// Ticks of the last reading before and the first one after.
struct Gap {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    friend bool operator==(const Gap&, const Gap&) = default;
};

// Reads the clock until it says `until`, and notes each two readings that are more than `threshold` apart; `begin`
// counts as the first one, so that a core which is late to begin was away till then. Ends earlier when `gaps` has no
// capacity left. Answers the last reading. `read()` answers ticks that never go back.
template <class Read>
std::uint64_t record_gaps(Read&& read, std::uint64_t begin, std::uint64_t until,
                          std::uint64_t threshold, std::vector<Gap>& gaps) {
    std::uint64_t last = begin;
    while (last < until && gaps.size() < gaps.capacity()) {
        const std::uint64_t now = read();
        if (now - last > threshold) gaps.push_back({last, now});
        last = now;
    }
    return last;
}

// One core's gaps over a span of time.
class Stalls {
public:
    Stalls() = default;
    // `gaps` ascending, none touching another.
    Stalls(std::vector<Gap> gaps, std::uint64_t begin, std::uint64_t end)
        : gaps_(std::move(gaps)), begin_(begin), end_(end) {}

    // The first moment not before `ticks` at which the core ran.
    [[nodiscard]] std::uint64_t running_from(std::uint64_t ticks) const noexcept;
    [[nodiscard]] const std::vector<Gap>& gaps() const noexcept { return gaps_; }
    [[nodiscard]] std::uint64_t begin() const noexcept { return begin_; }
    [[nodiscard]] std::uint64_t end() const noexcept { return end_; }

private:
    std::vector<Gap> gaps_;
    std::uint64_t begin_ = 0;
    std::uint64_t end_ = 0;
};

}  // namespace sanpoll::bench
