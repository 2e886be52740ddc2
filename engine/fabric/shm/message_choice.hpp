// Which of the two ways of long messages out of a process' own memory is the quicker one, found out by using both.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <utility>

namespace sanpoll::engine::shm {

/// For the messages of about one length that arrive over one link. Its core only; nothing blocks.
///
/// As with RDMA (copy_choice.hpp) neither way is always the better one, and here it also depends on what the sender
/// does. One copy between the processes reads a buffer that the sender has not written since the last time out of
/// the reader's own cache; a buffer just written crosses to it line by line, and then two processors at work in turn
/// are quicker. Unlike RDMA messages are under way several at a time, which has consequences:
///
///   - a message that changes the way waits for what is under way, so that only one is timed that goes the same way
///     as the one before it. A trial of the other way is two messages;
///   - the first ones go one way and then the other, as many as touch each page of a staging area for the first time,
///     which is dear; of these the quickest counts;
///   - trials are rare, and a sample counts little: one message in a hundred takes several times its time because
///     somebody was not scheduled, and that is not a reason to look around.
class MessageChoice {
public:
    /// `direct`: what is preferred until the other way is known to be quicker.
    explicit constexpr MessageChoice(bool direct) noexcept
        : preferred_(direct ? kDirect : kStaged) {}

    /// Whether a message that begins now is to be one copy between the processes.
    [[nodiscard]] bool direct() noexcept {
        unsigned way = preferred_;
        if (first_ != 0) {
            --first_;
            way = first_ >= kFirstDirect ? kStaged : kDirect;
        } else if (++since_trial_ > period_) {
            way = 1 - preferred_;
            if (since_trial_ == period_ + kInTrial) {
                since_trial_ = 0;
            }
        }
        return way == kDirect;
    }

    /// A message that went this way has come whole.
    void took(bool direct, std::uint64_t nanoseconds) noexcept {
        const unsigned way = direct ? kDirect : kStaged;
        if (std::exchange(last_, way) != way) {
            return;
        }
        std::uint64_t& cost = cost_[way];
        const std::uint64_t sample = std::max<std::uint64_t>(nanoseconds, 1);
        if (cost == 0 || first_ != 0) {
            cost = cost == 0 ? sample : std::min(cost, sample);
            return;
        }
        if (way == preferred_) {
            cost = (cost * 7 + std::min(sample, cost * 2)) / 8;
            if (cost > settled_ * 2 || cost * 2 < settled_) {
                settle();  // something has changed
            }
        } else {
            // It counts for more if it is better than what is remembered: the first ones met a cold memory.
            cost =
                sample < cost ? (cost + sample * 3) / 4 : (cost + std::min(sample, cost * 2)) / 2;
            period_ = std::min(period_ * 2, kLongest);
        }
        const unsigned other = 1 - preferred_;
        // By an eighth: two ways that cost the same are not worth going to and fro between them.
        if (cost_[other] != 0 && cost_[other] * 8 < cost_[preferred_] * 7) {
            preferred_ = other;
            settle();
        }
    }

    /// What is preferred now.
    [[nodiscard]] bool prefers_direct() const noexcept { return preferred_ == kDirect; }

private:
    static constexpr unsigned kStaged = 0;
    static constexpr unsigned kDirect = 1;
    static constexpr std::uint32_t kInTrial = 2;
    static constexpr std::uint32_t kFirstStaged = 40;
    static constexpr std::uint32_t kFirstDirect = 8;
    static constexpr std::uint32_t kShortest = 64;
    static constexpr std::uint32_t kLongest = 4096;

    void settle() noexcept {
        settled_ = cost_[preferred_];
        period_ = kShortest;
        since_trial_ = 0;
    }

    std::array<std::uint64_t, 2> cost_{};  // ns; 0: not known
    std::uint64_t settled_ = 1;            // what the preferred way cost when it was chosen
    unsigned preferred_;
    unsigned last_ = 2;                                  // the way of the last one that was told of
    std::uint32_t first_ = kFirstStaged + kFirstDirect;  // messages left of the first ones
    std::uint32_t period_ = kShortest;                   // messages from trial to trial
    std::uint32_t since_trial_ = 0;
};

/// Of all messages that arrive over one link: a choice for each of a few ranges of lengths. Short ones have little to
/// share between two processors, and wait for the invitation first; so it was found, near, that one copy is the quicker
/// way at 64 KiB and two at 1 MiB.
class MessageChoices {
public:
    [[nodiscard]] MessageChoice& of(std::uint32_t length) noexcept {
        const auto range = static_cast<unsigned>(std::bit_width(length >> kFirst));
        return choices_[std::min(range, kRanges - 1)];
    }

private:
    static constexpr unsigned kFirst = 15;  // below 32 KiB, below 64 KiB and so on
    static constexpr unsigned kRanges = 6;  // the last one: from 512 KiB
    std::array<MessageChoice, kRanges> choices_{MessageChoice(true),  MessageChoice(true),
                                                MessageChoice(true),  MessageChoice(true),
                                                MessageChoice(false), MessageChoice(false)};
};

}  // namespace sanpoll::engine::shm
