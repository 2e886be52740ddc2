// The core's own thread: the lcore of dedicated mode, the backstop of inline mode, and their sleep.
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>

#include <ctime>

#include "engine/eal.hpp"
#include "engine/fence.hpp"
#include "engine/polling_core.hpp"

namespace sanpoll::engine {

namespace {

constexpr std::uint32_t kTurnsPerLook = 64;  // a look at the clock costs as much as an empty turn
constexpr int kLongSleepMs = 100;
constexpr int kShortSleepMs = 1;  // where a missed doorbell is possible, see fence.hpp

}  // namespace

bool PollingCore::attention() const noexcept {
    return notified_pending_.load(std::memory_order_relaxed) != 0 ||
           kept_awake_.load(std::memory_order_relaxed) != 0 ||
           waiters_.load(std::memory_order_relaxed) != 0 ||
           left_behind_.load(std::memory_order_acquire) != 0;
}

bool PollingCore::only_left_behind() const noexcept {
    return notified_pending_.load(std::memory_order_relaxed) == 0 &&
           kept_awake_.load(std::memory_order_relaxed) == 0 &&
           waiters_.load(std::memory_order_relaxed) == 0;
}

void PollingCore::thread_main() noexcept {
    ::pthread_setname_np(::pthread_self(), dedicated_ ? "sanpoll-core" : "sanpoll-back");
    if (dedicated_) {
        thread_error_ = eal::adopt_this_thread(config_, cpu_);
        if (!thread_error_.empty()) {
            thread_state_.store(-1, std::memory_order_release);
            return;
        }
    }
    thread_state_.store(1, std::memory_order_release);
    if (dedicated_) {
        dedicated_loop();
        eal::release_this_thread();
    } else {
        backstop_loop();
    }
}

void PollingCore::note_gap(std::uint64_t now) noexcept {
    if (last_look_ns_ != 0) {
        counters_.longest_gap_ns.raise_to(now - last_look_ns_);
    }
    last_look_ns_ = now;
}

void PollingCore::dedicated_loop() noexcept {
    token_.acquire_patiently();
    const std::uint64_t spin = static_cast<std::uint64_t>(config_.spin_us) * 1000;
    std::uint64_t last_work = clock_.now_ns();
    std::uint32_t turns = 0;
    bool worked = false;
    while (!stopping_.load(std::memory_order_acquire)) {
        worked |= turn();
        if (++turns % kTurnsPerLook != 0 && !(config_.profile == Profile::kEco && !worked)) {
            continue;
        }
        const std::uint64_t now = clock_.now_ns();
        note_gap(now);
        if (worked) {
            last_work = now;
            worked = false;
        } else if (config_.profile == Profile::kEco ||
                   (config_.profile == Profile::kBalanced && now - last_work >= spin)) {
            if (sleep_until_woken()) {
                last_work = clock_.now_ns();
            }
            last_look_ns_ = 0;  // a sleep is not a gap
        }
    }
    end_behind();
    release();
}

// What the last turn left in the lanes is still ours to do.
void PollingCore::release_and_remember() noexcept {
    if (lanes_left_) {
        left_behind_.store(1, std::memory_order_relaxed);
    }
    release();
}

void PollingCore::backstop_loop() noexcept {
    const std::uint64_t spin = static_cast<std::uint64_t>(config_.spin_us) * 1000;
    std::uint64_t last_work = clock_.now_ns();
    while (!stopping_.load(std::memory_order_acquire)) {
        if (!attention()) {
            // Nobody waits to be told: sleep without asking the peers to ring. One may knock all the same,
            // because it needs something of us that no call of ours waits for.
            asleep_.store(1, std::memory_order_relaxed);
            const bool fenced = heavy_fence();
            bool knocked = false;
            if (!attention() && !stopping_.load(std::memory_order_acquire)) {
                epoll_event event{};
                knocked = ::epoll_wait(epoll_fd_, &event, 1, fenced ? -1 : kShortSleepMs) == 1 &&
                          event.data.u64 != kOwnWakeUp;
            }
            asleep_.store(0, std::memory_order_relaxed);
            if (knocked) {
                answer_knock();
            }
            last_work = clock_.now_ns();
            continue;
        }
        if (only_left_behind()) {
            // Whoever turns the core next takes that work along. We come in only if nobody does, since a
            // thread that holds the token and loses its processor holds up everybody.
            const timespec moment{0, 50000};
            ::nanosleep(&moment, nullptr);
            if (!attention()) {
                continue;
            }
        }
        (void)token_.give_way();
        if (!try_acquire()) {
            ::sched_yield();  // somebody else is turning the core
            continue;
        }
        token_.note_other_turn();
        const bool worked = turn();
        if (worked) {
            release_and_remember();
            last_work = clock_.now_ns();
            continue;
        }
        if (config_.profile == Profile::kEco ||
            (config_.profile == Profile::kBalanced && clock_.now_ns() - last_work >= spin)) {
            if (sleep_until_woken()) {
                last_work = clock_.now_ns();
            }
        }
        release_and_remember();
        rings::cpu_pause();
    }
}

// Turns the core until it has been idle for as long as it spins otherwise.
void PollingCore::answer_knock() noexcept {
    const std::uint64_t spin = static_cast<std::uint64_t>(config_.spin_us) * 1000;
    // Whoever holds the token may have passed what the knock is about: at least one turn is ours.
    token_.acquire_patiently();
    for (FabricPort* port : ports_) {
        port->disarm();  // takes the rings, or a full socket would swallow later ones
    }
    std::uint64_t last_work = clock_.now_ns();
    for (bool ours = true;; ours = try_acquire()) {
        const bool worked = ours && turn();
        if (ours) {
            token_.note_other_turn();
            release_and_remember();
        } else {
            ::sched_yield();  // somebody else is turning the core
        }
        (void)token_.give_way();
        const std::uint64_t now = clock_.now_ns();
        if (worked) {
            last_work = now;
        } else if (now - last_work >= spin || stopping_.load(std::memory_order_acquire)) {
            return;
        }
        rings::cpu_pause();
    }
}

// Called and left with the token held; in inline mode it is given back for the time of the sleep. False if it slept and
// nobody called: then the next turn tells whether there is anything to do, and spinning before the next sleep would be
// all that an idle process does.
bool PollingCore::sleep_until_woken() noexcept {
    bool called = true;
    end_behind();
    asleep_.store(1, std::memory_order_relaxed);
    for (FabricPort* port : ports_) {
        port->arm();
    }
    bool certain = heavy_fence();
    for (const FabricPort* port : ports_) {
        certain &= !port->may_miss_wake();
    }
    // What was written before the fence is seen now; what comes later finds the flags.
    // Notices that found the notifier's ring full must be tried again: nobody rings when it has room.
    if (!turn() && overflow_.empty() && !stopping_.load(std::memory_order_acquire)) {
        counters_.sleeps.add();
        if (!dedicated_) {
            release();
        }
        epoll_event events[16];
        called = ::epoll_wait(epoll_fd_, events, 16, certain ? kLongSleepMs : kShortSleepMs) != 0;
        if (!dedicated_) {
            token_.acquire_patiently();
        }
    }
    for (FabricPort* port : ports_) {
        port->disarm();
    }
    asleep_.store(0, std::memory_order_relaxed);
    return called;
}

}  // namespace sanpoll::engine
