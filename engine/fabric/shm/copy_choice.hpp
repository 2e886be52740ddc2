// Which of the two ways of long RDMA is the quicker one, found out by using both.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

namespace sanpoll::engine::shm {

/// For one link and one kind of operation. Its core only; nothing blocks.
///
/// Neither way is always the better one. Through the staging area two processors copy at once with vector
/// loads, two to three times as fast as the kernel's one copy - as long as they share a cache. Where every
/// line has to cross to another one, staging is three to four times slower than the one copy. Schedulers and
/// hypervisors move processors about, so what was found out is tried again now and then: the way that is not
/// preferred carries one timed operation in eight after a change, one in 256 when nothing changes.
class CopyChoice {
public:
    /// Operations of this many bytes are timed; shorter ones go the way that these have found out.
    static constexpr std::uint32_t kTimed = 256U << 10;

    /// Whether an operation of `length` bytes that begins now is to be one copy between the processes.
    [[nodiscard]] bool direct(std::uint32_t length) noexcept {
        if (length < kTimed) {
            return preferred_ == kDirect;
        }
        for (const unsigned way : {kDirect, kStaged}) {
            if (cost_[way] == 0) {
                return way == kDirect;
            }
        }
        if (++since_trial_ < period_) {
            return preferred_ == kDirect;
        }
        since_trial_ = 0;
        return preferred_ != kDirect;
    }

    /// An operation that went this way has ended well.
    void took(bool direct, std::uint32_t length, std::uint64_t nanoseconds) noexcept {
        if (length < kTimed) {
            return;
        }
        const unsigned way = direct ? kDirect : kStaged;
        const std::uint64_t per_mib = std::max<std::uint64_t>((nanoseconds << 20) / length, 1);
        std::uint64_t& cost = cost_[way];
        // A process that was not scheduled for a while makes no new mean.
        const std::uint64_t sample = cost == 0 ? per_mib : std::min(per_mib, cost * 4);
        if (cost == 0) {
            cost = sample;
        } else if (way == preferred_) {
            if (sample > cost * 2) {
                period_ = kShortest;  // something has changed: look at the other one soon
            }
            cost = (cost * 3 + sample) / 4;
        } else {
            period_ =
                quicker(sample, cost_[preferred_]) ? kShortest : std::min(period_ * 2, kLongest);
            cost = (cost + sample) / 2;
        }
        const unsigned other = preferred_ == kDirect ? kStaged : kDirect;
        if (cost_[other] != 0 && quicker(cost_[other], cost_[preferred_])) {
            preferred_ = other;
            period_ = kShortest;
            since_trial_ = 0;
        }
    }

    /// What is preferred now.
    [[nodiscard]] bool prefers_direct() const noexcept { return preferred_ == kDirect; }

private:
    static constexpr unsigned kStaged = 0;
    static constexpr unsigned kDirect = 1;
    static constexpr std::uint32_t kShortest = 8;
    static constexpr std::uint32_t kLongest = 256;

    // By an eighth: two ways that cost the same are not worth going to and fro between them.
    static bool quicker(std::uint64_t a, std::uint64_t b) noexcept { return a * 8 < b * 7; }

    std::array<std::uint64_t, 2> cost_{};  // ns for a MiB; 0: not known
    unsigned preferred_ = kDirect;         // until both are known
    std::uint32_t period_ = kShortest;     // timed operations from trial to trial
    std::uint32_t since_trial_ = 0;
};

}  // namespace sanpoll::engine::shm
