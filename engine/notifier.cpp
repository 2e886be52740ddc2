#include "engine/notifier.hpp"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <ctime>
#include <system_error>

#include "engine/clock.hpp"
#include "engine/fence.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"
#include "engine/polling_core.hpp"

namespace sanpoll::engine {

namespace {
constexpr std::uint32_t kNoticeBatch = 64;
constexpr std::uint64_t kMaxSpinNs = 20000;  // a processor's time is the application's, not ours
thread_local const Notifier* this_thread_notifier = nullptr;
}  // namespace

Notifier::~Notifier() { stop(); }

std::string Notifier::start() {
    jobs_.reserve(kRoom);
    try {
        thread_ = std::thread([this] { thread_main(); });
    } catch (const std::system_error& failure) {
        return thread_error("the notifier thread", failure.code().value());
    }
    return {};
}

void Notifier::stop() {
    if (!thread_.joinable()) {
        return;
    }
    stopping_.store(true, std::memory_order_seq_cst);
    wake();
    thread_.join();
}

void Notifier::wake() noexcept {
    if (asleep_.exchange(0, std::memory_order_acq_rel) != 0) {
        ::syscall(SYS_futex, &asleep_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
    }
}

void Notifier::post(std::function<void()> job) {
    {
        const std::lock_guard lock(jobs_mutex_);
        if (jobs_.size() == jobs_.capacity() && next_job_ >= jobs_.size() / 2) {
            jobs_.erase(jobs_.begin(), jobs_.begin() + static_cast<std::ptrdiff_t>(next_job_));
            next_job_ = 0;
        }
        jobs_.push_back(std::move(job));
    }
    job_count_.fetch_add(1, std::memory_order_seq_cst);
    wake();
}

bool Notifier::is_this_thread() const noexcept { return this_thread_notifier == this; }
bool Notifier::is_any() noexcept { return this_thread_notifier != nullptr; }

bool Notifier::work() noexcept {
    bool worked = false;
    for (PollingCore* core : cores_) {
        worked |= core->deliver_notices(kNoticeBatch) != 0;
    }
    delivered_ = worked;
    // Pairs with the increment in post().
    while (job_count_.load(std::memory_order_acquire) != 0) {
        // Notices that were there before the job come first: a ring full of them at most.
        for (PollingCore* core : cores_) {
            (void)core->deliver_notices(config_.notifier_slots);
        }
        std::function<void()> job;
        {
            const std::lock_guard lock(jobs_mutex_);
            if (next_job_ == jobs_.size()) {
                break;
            }
            job = std::move(jobs_[next_job_++]);
            if (next_job_ == jobs_.size()) {
                jobs_.clear();
                next_job_ = 0;
            }
        }
        job_count_.fetch_sub(1, std::memory_order_relaxed);
        job();
        worked = true;
    }
    return worked;
}

void Notifier::sleep() noexcept {
    asleep_.store(1, std::memory_order_seq_cst);
    const bool fenced = heavy_fence();
    if (work() || stopping_.load(std::memory_order_seq_cst)) {
        asleep_.store(0, std::memory_order_relaxed);
        return;
    }
    const timespec limit{fenced ? 1 : 0, fenced ? 0 : 1000000L};
    ::syscall(SYS_futex, &asleep_, FUTEX_WAIT_PRIVATE, 1, &limit, nullptr, 0);
    asleep_.store(0, std::memory_order_relaxed);
}

void Notifier::thread_main() noexcept {
    ::pthread_setname_np(::pthread_self(), "sanpoll-notify");
    this_thread_notifier = this;
    std::uint64_t spin = static_cast<std::uint64_t>(config_.spin_us) * 1000;
    spin = config_.profile == Profile::kEco ? 0 : (spin < kMaxSpinNs ? spin : kMaxSpinNs);
    Clock& clock = Clock::steady();
    std::uint64_t last_work = clock.now_ns();
    bool recently = false;  // an idle wake-up must not lead to another spin
    for (;;) {
        if (work()) {
            // After a job, a signal, nothing is to be expected soon, and who was woken needs the processor.
            if (delivered_) {
                recently = true;
                last_work = clock.now_ns();
            }
            continue;
        }
        if (stopping_.load(std::memory_order_seq_cst)) {
            return;
        }
        if (recently && clock.now_ns() - last_work < spin) {
            rings::cpu_pause();
            continue;
        }
        recently = false;
        sleep();
    }
}

}  // namespace sanpoll::engine
