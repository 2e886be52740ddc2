// A described message that both ends of a link copy: what its receiver offers to a sender that happens to be polling.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "rings/slot.hpp"

namespace sanpoll::engine::shm {

struct Connection;

/// What the receiver of a described message shows to its sender, one at a time for a direction of a link. In two lines: the
/// first is written by the receiver, but for `claims`, by which both take chunks of the message; the second by the sender.
///
/// The receiver takes chunks from the front and the sender from the back, each by a compare-and-exchange, until they meet.
/// So no chunk is copied by both, and none by nobody: whoever takes one copies it at once, under its core's token. What is
/// not taken any more is the receiver's affair. A sender that does not look is not waited for, and is not woken; then
/// the receiver takes all of it. But one that has taken chunks and loses its processor, or is stopped, in the middle of them is
/// waited for: nothing takes its mapping away from it, so the receive does not end before it has finished or has died.
/// Only a close, or the end of the link, has a bound (ShmPort::end_receives): then the link is ended and that is said,
/// and the sender, when it goes on, writes what is left of one step of kStep bytes, sees that the job was given up, and writes
/// no more.
///
/// The sender believes what it finds here as little as a record of the ring, and changes nothing by it but memory that the
/// receiver has lent it for writing. Such pages are there before (memory::KnownPages), as those of what is exposed are: an
/// honest receiver makes nobody take pages for it. The receiver believes `claims` and `finished` in so far as that they are about bytes of a
/// receive that it has posted in such memory, where the sender may write whatever it likes: a lying one gets a message
/// said to have arrived that is not what it described.
///
/// Order: the job before is first marked as closed, then the words behind `claims` are written, each with release, then the
/// new `claims`. A sender reads `claims`, and with acquire what is behind; if anything of that is of a later job, its claim
/// comes after the closing and fails, for serials do not come again.
struct alignas(rings::kCacheLine) CopyJob {
    std::atomic<std::uint64_t> claims;      // JobWord: how many chunks either end has taken
    std::atomic<std::uint64_t> offset;      // of the target in the receiver's arena
    std::atomic<std::uint32_t> arena;       // the receiver's id of it
    std::atomic<std::uint32_t> connection;  // the sender's id of it
    std::atomic<std::uint32_t> message;     // which of the connection's, counted from its beginning
    std::atomic<std::uint32_t> length;
    // JobWord: how many of the chunks that the sender has taken are copied. A line of its own, for the receiver looks here
    // while the sender takes.
    alignas(rings::kCacheLine) std::atomic<std::uint64_t> finished;
};
static_assert(sizeof(CopyJob) == 2 * rings::kCacheLine);

/// `serial`: the receiver counts its jobs on the link.
struct JobWord {
    static constexpr unsigned kBits = 12;
    static constexpr std::uint32_t kMost = (1U << kBits) - 2;
    static constexpr std::uint32_t kClosed = kMost + 1;  // as `front`: nothing is to be had
    static constexpr std::uint32_t kGivenUp = 1;  // as `back` of that: what is taken is not wanted

    std::uint64_t serial = 0;
    std::uint32_t front = 0;
    std::uint32_t back = 0;

    [[nodiscard]] constexpr std::uint64_t word() const noexcept {
        return serial << (2 * kBits) | static_cast<std::uint64_t>(front) << kBits | back;
    }
    [[nodiscard]] static constexpr JobWord of(std::uint64_t word) noexcept {
        constexpr std::uint32_t kMask = (1U << kBits) - 1;
        return {word >> (2 * kBits), static_cast<std::uint32_t>(word >> kBits) & kMask,
                static_cast<std::uint32_t>(word) & kMask};
    }
};
/// What is left of 64 bits: the 2^40-th job comes after weeks of nothing else.
[[nodiscard]] constexpr std::uint64_t next_serial(std::uint64_t serial) noexcept {
    return (serial + 1) & ((std::uint64_t{1} << (64 - 2 * JobWord::kBits)) - 1);
}

/// How a message is cut into chunks; both ends come to the same. Few bytes a chunk, so that nobody waits long for the last
/// one, and many a claim, for each moves a line.
class JobChunks {
public:
    static constexpr std::uint32_t kBytes = 8192;  // unless there were too many then
    static constexpr std::uint32_t kMostBytes = 65536;
    static constexpr std::uint32_t kInAClaim = 8;  // at most
    /// The longest message that is shared out: of a longer one the chunks would be so long that one is waited for too long.
    static constexpr std::uint32_t kLongest = JobWord::kMost * kMostBytes;
    /// What the sender copies before it looks whether that is still wanted.
    static constexpr std::uint32_t kStep = 8192;

    JobChunks() noexcept = default;
    explicit constexpr JobChunks(std::uint32_t length) noexcept : length_(length) {
        while (count_of(length, bytes_) > JobWord::kMost) {
            bytes_ *= 2;
        }
        count_ = count_of(length, bytes_);
    }
    struct Run {
        std::uint32_t offset = 0;  // in the message
        std::uint32_t length = 0;
    };
    [[nodiscard]] constexpr Run run(std::uint32_t first, std::uint32_t count) const noexcept {
        const std::uint32_t offset = first * bytes_;
        return {offset, static_cast<std::uint32_t>(std::min<std::uint64_t>(
                            std::uint64_t{count} * bytes_, length_ - offset))};
    }
    /// What to take of `left` chunks, of which `part` is a fair one, with no more than `bytes` but one at least: the fewer are
    /// left, the fewer.
    [[nodiscard]] constexpr std::uint32_t claim(std::uint32_t left, std::uint32_t part,
                                                std::uint32_t bytes) const noexcept {
        return std::max(std::min({left / part, kInAClaim, bytes / bytes_}), 1U);
    }
    [[nodiscard]] constexpr std::uint32_t count() const noexcept { return count_; }

private:
    [[nodiscard]] static constexpr std::uint32_t count_of(std::uint32_t length,
                                                          std::uint32_t bytes) noexcept {
        return static_cast<std::uint32_t>((std::uint64_t{length} + bytes - 1) / bytes);
    }
    std::uint32_t length_ = 0;
    std::uint32_t bytes_ = kBytes;
    std::uint32_t count_ = 0;
};

/// What a job says, as its receiver writes it and its sender reads it.
struct JobTarget {
    std::uint64_t offset = 0;
    std::uint32_t arena = 0;
    std::uint32_t connection = 0;
    std::uint32_t message = 0;
    std::uint32_t length = 0;
};

/// The receiver's half. Token holder of the link's core only. Nothing blocks.
class JobOffered {
public:
    explicit JobOffered(CopyJob* job) noexcept : job_(job) {}

    /// Whose message it is; nullptr: no job.
    [[nodiscard]] bool is_of(const Connection& connection) const noexcept {
        return owner_ == &connection;
    }
    [[nodiscard]] Connection* owner() const noexcept { return owner_; }
    [[nodiscard]] bool idle() const noexcept { return owner_ == nullptr; }

    /// Offers one, while idle. From now on the sender may write into the target.
    void offer(Connection& owner, const JobTarget& target) noexcept;
    /// Takes chunks from the front, with at most `bytes`, but one at least; nothing if none is left, or the sender lied.
    [[nodiscard]] JobChunks::Run claim(std::uint32_t bytes) noexcept;
    /// The sender can take no more. What it has not taken is still to be had by claim().
    void close() noexcept { close_with(0); }
    /// The same where the message is not wanted any more: the sender ends what it has taken at once, done or not.
    void give_up() noexcept { close_with(JobWord::kGivenUp); }
    enum class Rest : std::uint8_t {
        kNone,     // nobody touches the target any more; it stays so, whatever a sender writes then
        kCopying,  // the sender may be at what it has taken
        kImpossible  // it said what cannot be
    };
    /// How it stands with what the sender has taken; after claim() has found nothing, or close().
    [[nodiscard]] Rest rest() noexcept;
    [[nodiscard]] bool corrupt() const noexcept { return corrupt_; }
    /// Bytes that the sender has placed, after kNone.
    [[nodiscard]] std::uint32_t placed() const noexcept;
    /// Whether somebody has to wait for what the sender has taken.
    [[nodiscard]] bool keeps_copying() noexcept { return !idle() && rest() == Rest::kCopying; }
    /// Idle again, after kNone; or closed before, and whatever the sender does.
    void end() noexcept { owner_ = nullptr; }

private:
    [[nodiscard]] bool is_possible(const JobWord& now) noexcept;
    void close_with(std::uint32_t back) noexcept;

    CopyJob* job_;
    Connection* owner_ = nullptr;
    std::uint64_t serial_ = 0;
    JobChunks chunks_;
    std::uint32_t front_ = 0;  // chunks that we have taken
    std::uint32_t back_ = 0;   // that the sender has, as far as we know
    bool closed_ = true;
    bool corrupt_ = false;
    bool untouched_ = false;  // rest() has said so
};

/// The sender's half. Token holder of the link's core only. Nothing blocks. All that is found is the receiver's word.
class JobSeen {
public:
    explicit JobSeen(CopyJob* job) noexcept : job_(job) {}

    /// Whether there may be something to take: one load, of a line that stays in this core's cache while nothing happens.
    [[nodiscard]] bool look() noexcept {
        // Acquire pairs with the release in JobOffered::offer.
        word_ = job_->claims.load(std::memory_order_acquire);
        return word_ != nothing_in_;
    }
    /// What look() has found.
    [[nodiscard]] JobTarget target() const noexcept;
    /// Takes chunks of that from the back, with at most `bytes`, but one at least. `length`: of our message, and of the target,
    /// which was checked. Nothing if the job is not that any more or none is left; nor if the receiver is quicker several times
    /// running, or does what no honest one would. What was taken is to be copied and finish() called before the token
    /// is given back.
    [[nodiscard]] JobChunks::Run claim(std::uint32_t length, std::uint32_t bytes) noexcept;
    /// Whether the receiver has no use any more for what was taken: then finish() without more of it.
    [[nodiscard]] bool given_up() const noexcept {
        // Relaxed: nothing is read by it. Partner: JobOffered::give_up. Another serial comes after that only.
        const JobWord now = JobWord::of(job_->claims.load(std::memory_order_relaxed));
        return now.serial != serial_ ||
               (now.front == JobWord::kClosed && now.back == JobWord::kGivenUp);
    }
    void finish() noexcept;

private:
    static constexpr int kTries = 8;

    CopyJob* job_;
    std::uint64_t word_ = 0;
    std::uint64_t nothing_in_ = 0;  // a word of which there is nothing to be had any more
    std::uint64_t serial_ = 0;      // of the job that we copied for last
    std::uint32_t taken_ = 0;       // chunks of it
};

}  // namespace sanpoll::engine::shm
