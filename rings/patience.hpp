// When to look for an answer: not before it is written.
//
// Who has asked in a TurnLine and looks at it at once takes the line away from who is going to answer: that one
// must get it back before it can write, and then it travels once more. A look that comes just after the answer was written
// moves the line once. On the Intel hosts seen, with 40 ns of work between question and answer, that is 150 ns a hand-off
// instead of 245 (README.md).
//
// The time counts from when the other side can see the question, not from when it is written: the store may wait for the
// line as long as a hand-off takes, and does so above all when the other side has looked too early and taken the line. Counted
// from the writing, such a look would make the answer late, the next look of the one who waits for that too early, and so the
// answer to that late in turn: once begun it went on (README.md has the figures).
// So who waits makes sure first that the question is out, which takes no longer than it would wait anyway (settle()).
//
// How long the other side takes is not known, so it is learned, for questions of each size: an answer that the first look
// finds makes the wait a little shorter, a second look in vain within a few makes it longer by more, which settles where one
// look in ten to twenty is too early. A single slow answer changes nothing, and one that takes very long, or is looked for very late, says nothing.
// Looking late costs what it is late by; it is never more than kMost.
#pragma once

#include <bit>
#include <cstdint>

#include "rings/slot.hpp"

namespace sanpoll::rings {

/// One thread at a time; stays where it is. Times are ticks of any steady counter, modulo 2^64.
class Patience {
public:
    Patience() = default;
    Patience(const Patience&) = delete;
    Patience& operator=(const Patience&) = delete;

    static constexpr std::uint64_t kMost = 4096;       // ticks: the longest wait
    static constexpr std::uint64_t kSlow = 2 * kMost;  // answers that come later say nothing
    static constexpr std::uint64_t kOnItsWay =
        160;  // until a question is out, if nobody settles that

    /// We have asked, with `length` bytes.
    void begin(std::uint64_t now, std::uint32_t length = 0) noexcept {
        const auto kind =
            static_cast<std::uint32_t>(std::bit_width((length - (length != 0)) / kCacheLine));
        learned_ = &all_[kind < kKinds ? kind : kKinds - 1];
        asked_ = now;
        waiting_ = learned_->wait != 0 && !never_;
        early_ = false;
        late_ = false;
        on_its_way_ = kOnItsWay;
    }
    /// Whether the question is known to be out: the wait counts from there. Else kOnItsWay is allowed for that.
    [[nodiscard]] bool settled() const noexcept { return on_its_way_ == 0; }
    /// It is, since now or thereabouts: all stores of this thread have been done. Once after begin().
    void settle(std::uint64_t now) noexcept {
        asked_ = now;
        on_its_way_ = 0;
    }
    /// Whether a look has to be put off until over(): no counter need be read otherwise.
    [[nodiscard]] bool waiting() const noexcept { return waiting_; }
    [[nodiscard]] bool over(std::uint64_t now) noexcept {
        if (now - asked_ < learned_->wait + on_its_way_) {
            return false;
        }
        late_ = now - asked_ >= kSlow;
        waiting_ = false;
        return true;
    }
    /// Either side had something else to do or to tell on the way, so that the next answer says nothing about the others.
    void excuse() noexcept { excused_ = true; }
    /// The other side's answers are this side's own work: nobody takes the line away, and nobody waits. For good.
    void never() noexcept { never_ = true; }
    [[nodiscard]] bool is_never() const noexcept { return never_; }
    /// Who is going to sleep looks once more, now.
    void give_up() noexcept { waiting_ = false; }

    /// A look found nothing.
    void looked_in_vain() noexcept { early_ = true; }
    /// Whether one did since begin(): say found_late() then, else found().
    [[nodiscard]] bool looked_early() const noexcept { return early_; }
    /// The answer was found by the first look.
    void found() noexcept {
        Learned& about = *learned_;
        if (late_ || excused_) {
            excused_ = false;
            return;
        }
        const std::uint64_t less = 1 + about.wait / 512;
        about.wait -= about.wait < less ? about.wait : less;
        about.early_looks = (about.early_looks << 1) & kRecent;
    }
    /// ... by a later one.
    void found_late(std::uint64_t now) noexcept {
        Learned& about = *learned_;
        if (now - asked_ >= kSlow || excused_) {
            excused_ = false;
            return;
        }
        if (about.early_looks == 0) {
            about.early_looks = 1;
            return;
        }
        about.early_looks = 0;
        const std::uint64_t longer = about.wait + kLonger + about.wait / 128;
        about.wait = longer < kMost ? longer : kMost;
    }

    /// After questions of the last one's size.
    [[nodiscard]] std::uint64_t wait() const noexcept { return learned_->wait; }

    // Both sides of a line learn, and what one is late by makes the other's next look that much too early. Where their waits
    // differ, that goes on from one round to the next until one looks in vain, so the larger the steps, the more
    // both end up with: with 36 ticks a round trip was 145 ns, and 250 in some runs, with 17 it is 130.
    static constexpr std::uint64_t kLonger = 16;  // at least

private:
    static constexpr std::uint32_t kKinds = 8;     // a line, two, four, ...
    static constexpr std::uint32_t kRecent = 0xE;  // of three answers before

    struct Learned {
        std::uint64_t wait = 0;
        std::uint32_t early_looks = 0;  // a bit for each of the last answers, the newest lowest
    };

    std::uint64_t asked_ = 0;
    std::uint64_t on_its_way_ = 0;
    Learned all_[kKinds];
    Learned* learned_ = all_;
    bool waiting_ = false;
    bool excused_ = false;
    bool never_ = false;
    bool early_ = false;  // a look after the wait was in vain
    bool late_ = false;   // the first look came so late that it says nothing
};

}  // namespace sanpoll::rings
