#include "engine/fabric/shm/joint_copy.hpp"

namespace sanpoll::engine::shm {

namespace {

// Of what is left, a half is the sender's, since it comes late; the receiver takes a quarter and looks again.
constexpr std::uint32_t kReceiversPart = 4;
constexpr std::uint32_t kSendersPart = 2;

constexpr std::uint64_t closed_word(std::uint64_t serial, std::uint32_t back) noexcept {
    return JobWord{serial, JobWord::kClosed, back}.word();
}

}  // namespace

// ---- the receiver -----------------------------------------------------------------------------------

void JobOffered::offer(Connection& owner, const JobTarget& target) noexcept {
    if (!closed_) {
        // All of it was taken, which who sees the old word and the new length would not know.
        job_->claims.store(closed_word(serial_, 0), std::memory_order_relaxed);
    }
    owner_ = &owner;
    chunks_ = JobChunks(target.length);
    front_ = back_ = 0;
    closed_ = corrupt_ = untouched_ = false;
    // These pair with the acquires in JobSeen::target: whoever sees one of them sees that the job before is closed.
    job_->offset.store(target.offset, std::memory_order_release);
    job_->arena.store(target.arena, std::memory_order_release);
    job_->connection.store(target.connection, std::memory_order_release);
    job_->message.store(target.message, std::memory_order_release);
    job_->length.store(target.length, std::memory_order_release);
    serial_ = next_serial(serial_);
    // Pairs with the acquire in JobSeen::look.
    job_->claims.store(JobWord{serial_, 0, 0}.word(), std::memory_order_release);
}

// The word is the sender's as much as ours: nothing is taken from it that an honest one could not have written there.
bool JobOffered::is_possible(const JobWord& now) noexcept {
    corrupt_ = corrupt_ || now.serial != serial_ || now.front != front_ || now.back < back_ ||
               now.back > chunks_.count() - front_;
    return !corrupt_;
}

JobChunks::Run JobOffered::claim(std::uint32_t bytes) noexcept {
    std::uint64_t seen = closed_ ? 0 : job_->claims.load(std::memory_order_relaxed);
    for (;;) {
        if (!closed_) {
            const JobWord now = JobWord::of(seen);
            if (!is_possible(now)) {
                return {};
            }
            back_ = now.back;
        }
        const std::uint32_t left = chunks_.count() - front_ - back_;
        if (left == 0) {
            return {};
        }
        const std::uint32_t count = chunks_.claim(left, kReceiversPart, bytes);
        // Relaxed: what orders the bytes is `finished`.
        if (closed_ || job_->claims.compare_exchange_weak(
                           seen, JobWord{serial_, front_ + count, back_}.word(),
                           std::memory_order_relaxed, std::memory_order_relaxed)) {
            const JobChunks::Run run = chunks_.run(front_, count);
            front_ += count;
            return run;
        }
    }
}

void JobOffered::close_with(std::uint32_t back) noexcept {
    if (!closed_) {
        closed_ = true;
        // One exchange: a claim of the sender is either in what it returns, or fails.
        const JobWord last = JobWord::of(
            job_->claims.exchange(closed_word(serial_, back), std::memory_order_relaxed));
        if (is_possible(last)) {
            back_ = last.back;
        }
    } else if (back == JobWord::kGivenUp) {
        job_->claims.store(closed_word(serial_, back), std::memory_order_relaxed);
    }
}

JobOffered::Rest JobOffered::rest() noexcept {
    if (corrupt_) {
        return Rest::kImpossible;
    }
    if (back_ == 0 || untouched_) {
        return Rest::kNone;
    }
    // Pairs with the release in JobSeen::finish: the bytes are there.
    const JobWord finished = JobWord::of(job_->finished.load(std::memory_order_acquire));
    if (finished.serial != serial_) {
        return Rest::kCopying;  // it has not finished any yet
    }
    if (finished.back > back_ || finished.front != 0) {
        corrupt_ = true;
        return Rest::kImpossible;
    }
    untouched_ = finished.back == back_;
    return untouched_ ? Rest::kNone : Rest::kCopying;
}

std::uint32_t JobOffered::placed() const noexcept {
    return back_ == 0 ? 0 : chunks_.run(chunks_.count() - back_, back_).length;
}

// ---- the sender -------------------------------------------------------------------------------------

JobTarget JobSeen::target() const noexcept {
    JobTarget target;
    // Each pairs with the release in JobOffered::offer.
    target.offset = job_->offset.load(std::memory_order_acquire);
    target.arena = job_->arena.load(std::memory_order_acquire);
    target.connection = job_->connection.load(std::memory_order_acquire);
    target.message = job_->message.load(std::memory_order_acquire);
    target.length = job_->length.load(std::memory_order_acquire);
    return target;
}

JobChunks::Run JobSeen::claim(std::uint32_t length, std::uint32_t bytes) noexcept {
    const JobChunks chunks(length);
    const std::uint64_t serial = JobWord::of(word_).serial;
    // An honest receiver never changes `back`, and only raises `front`.
    const std::uint32_t ours = serial == serial_ ? taken_ : 0;
    std::uint32_t front = 0;
    for (int tries = kTries; tries != 0; --tries) {
        const JobWord now = JobWord::of(word_);
        if (now.serial != serial) {
            return {};  // the next look sees what has come
        }
        // Also what is closed, and what no honest receiver would have written.
        if (now.front + now.back >= chunks.count() || now.back != ours || now.front < front) {
            nothing_in_ = word_;
            return {};
        }
        front = now.front;
        const std::uint32_t left = chunks.count() - now.front - now.back;
        const std::uint32_t count = chunks.claim(left, kSendersPart, bytes);
        const std::uint64_t next = JobWord{serial, now.front, now.back + count}.word();
        // Acquire for a word that has changed, as in look().
        if (job_->claims.compare_exchange_weak(word_, next, std::memory_order_acquire,
                                               std::memory_order_acquire)) {
            word_ = next;
            taken_ = ours + count;
            serial_ = serial;
            return chunks.run(chunks.count() - now.back - count, count);
        }
    }
    return {};  // it is quicker than we are: it needs no help
}

void JobSeen::finish() noexcept {
    // The bytes first. Pairs with the acquire in JobOffered::rest.
    job_->finished.store(JobWord{serial_, 0, taken_}.word(), std::memory_order_release);
}

}  // namespace sanpoll::engine::shm
