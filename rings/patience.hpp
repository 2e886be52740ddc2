// When to look for an answer: not before it is written.
//
// Who has asked in a TurnLine and looks at it at once takes the line away from who is going to answer: that one
// must get it back before it can write, and then it travels once more. A look that comes just after the answer was written
// moves the line once. On the Intel hosts seen, with 40 ns of work between question and answer, that is 150 ns a hand-off
// instead of 245 (bench/README.md).
//
// How long the other side takes is not known, so it is learned: each answer that the first look finds makes the wait a
// little shorter, each look in vain much longer, which settles where about one look in 25 is too early. An answer that
// takes long says nothing and changes nothing. Looking late costs what it is late by; it is never more than kMost.
#pragma once

#include <cstdint>

namespace sanpoll::rings {

/// One thread at a time. Times are ticks of any steady counter, modulo 2^64.
class Patience {
public:
    static constexpr std::uint64_t kShorter = 1;
    static constexpr std::uint64_t kLonger = 32;
    static constexpr std::uint64_t kMost = 1024;       // the longest wait
    static constexpr std::uint32_t kRecent = 0xE;      // an early look counts if another one was so near
    static constexpr std::uint64_t kSlow = 2 * kMost;  // answers that come later say nothing

    /// We have asked.
    void begin(std::uint64_t now) noexcept {
        asked_ = now;
        waiting_ = wait_ != 0;
        early_ = false;
    }
    /// Whether a look has to be put off until over(): no counter need be read otherwise.
    [[nodiscard]] bool waiting() const noexcept { return waiting_; }
    [[nodiscard]] bool over(std::uint64_t now) noexcept {
        if (now - asked_ < wait_) {
            return false;
        }
        waiting_ = false;
        return true;
    }
    /// Who is going to sleep looks once more, now.
    void give_up() noexcept { waiting_ = false; }

    /// A look found nothing.
    void looked_in_vain() noexcept { early_ = true; }
    /// The answer was found. True: answered_late() is to be told when.
    [[nodiscard]] bool looked_early() const noexcept { return early_; }
    /// ... by the first look.
    void found() noexcept {
        wait_ -= wait_ < kShorter ? wait_ : kShorter;
        early_looks_ = (early_looks_ << 1) & kRecent;
    }
    /// ... by a later one.
    void found_late(std::uint64_t now) noexcept {
        if (now - asked_ >= kSlow) {
            return;
        }
        if (early_looks_ == 0) {
            early_looks_ = 1;
            return;
        }
        early_looks_ = 0;
        wait_ = wait_ + kLonger < kMost ? wait_ + kLonger : kMost;
    }

    [[nodiscard]] std::uint64_t wait() const noexcept { return wait_; }

private:
    std::uint64_t asked_ = 0;
    std::uint64_t wait_ = 0;
    std::uint32_t early_looks_ = 0;  // a bit for each of the last answers, the newest lowest
    bool waiting_ = false;
    bool early_ = false;  // a look after the wait was in vain
};

}  // namespace sanpoll::rings
