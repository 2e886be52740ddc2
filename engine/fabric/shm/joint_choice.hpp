// Whether the sender of a long message is asked to copy a part of it, found out by doing both.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace sanpoll::engine::shm {

/// For the messages of about one length that arrive over one link out of arenas. Its core only; nothing blocks.
///
/// Two processors copy quicker than one what neither has in its cache, and what one of them has just written. Where a few
/// buffers go round that the receiver's cache holds, and that their sender does not write, the receiver alone is quicker: the
/// other one would take the lines away from it (bench/README.md). Which it is only shows in how the messages follow each
/// other, for who reads them afterwards may have to fetch them. So not a message is timed but a run of them, and a run that
/// goes the other way is compared with the one before it and the one behind it. The first messages after a change do not
/// count: their buffers are where the other way has left them. That it be quicker than both, by a sixteenth, twice, is
/// asked for: a run takes several times its time when somebody was not scheduled.
class JointChoice {
public:
    static constexpr std::uint32_t kRun = 16;
    static constexpr std::uint32_t kAfterAChange = 16;  // messages that do not count

    /// Whether a message that begins now is to be copied by both.
    [[nodiscard]] bool joint() const noexcept { return joint_ != (phase_ == Phase::kTrial); }
    /// Tells one time from joint() to the next that it begins anew. A message that was begun at another one, or that did not
    /// go the way that was asked for, is none that took() wants to hear of.
    [[nodiscard]] std::uint32_t changes() const noexcept { return changes_; }
    /// Whether the time of what comes now is asked for; if not, took() may be told anything.
    [[nodiscard]] bool timed() const noexcept {
        return phase_ != Phase::kBefore || since_trial_ + 1 >= period_;
    }
    [[nodiscard]] friend bool operator==(const JointChoice&, const JointChoice&) = default;
    /// One has come whole, so long after it came or the one before it had, whichever was later.
    void took(std::uint64_t nanoseconds) noexcept {
        if (skip_ != 0) {
            --skip_;
            return;
        }
        sum_ += nanoseconds;
        if (++count_ == kRun) {
            count_ = 0;
            end_run(sum_);
            sum_ = 0;
        }
    }

private:
    enum class Phase : std::uint8_t { kBefore, kTrial, kBehind };
    static constexpr std::uint32_t kShortest = 4;
    static constexpr std::uint32_t kLongest = 128;

    void change() noexcept {
        ++changes_;
        skip_ = kAfterAChange;
    }
    void end_run(std::uint64_t took) noexcept {
        switch (phase_) {
            case Phase::kBefore:
                before_ = took;
                if (++since_trial_ >= period_) {
                    phase_ = Phase::kTrial;
                    change();
                }
                return;
            case Phase::kTrial:
                trial_ = took;
                phase_ = Phase::kBehind;
                change();
                return;
            case Phase::kBehind:
                break;
        }
        phase_ = Phase::kBefore;
        since_trial_ = 0;
        if (trial_ * 16 >= std::min(before_, took) * 15) {
            won_ = false;
            period_ = std::min(period_ * 2, kLongest);
        } else if (!won_) {
            won_ = true;
            period_ = 1;  // soon again
        } else {
            won_ = false;
            joint_ = !joint_;
            change();
            period_ = kShortest;
        }
    }

    std::uint64_t sum_ = 0;  // ns, of this run
    std::uint64_t before_ = 0;
    std::uint64_t trial_ = 0;
    std::uint32_t count_ = 0;  // messages of it
    std::uint32_t skip_ = kAfterAChange;
    std::uint32_t changes_ = 0;
    std::uint32_t since_trial_ = 0;
    std::uint32_t period_ = 1;  // runs from trial to trial
    Phase phase_ = Phase::kBefore;
    bool joint_ = true;  // what is preferred
    bool won_ = false;   // the last trial
};

/// Of all messages that arrive over one link: a choice for each of a few ranges of lengths.
class JointChoices {
public:
    /// Shorter ones its receiver copies alone: two ends have nothing to share there but their lines.
    static constexpr std::uint32_t kFrom = 32U << 10;

    [[nodiscard]] JointChoice& of(std::uint32_t length) noexcept {
        const auto range = static_cast<unsigned>(std::bit_width(length / kFrom));
        return choices_[std::min(range, kRanges) - 1];
    }

private:
    static constexpr unsigned kRanges =
        6;  // from 32 KiB, 64 KiB and so on; the last one: from 1 MiB
    std::array<JointChoice, kRanges> choices_;
};

}  // namespace sanpoll::engine::shm
