#include "engine/polling_core.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>

#include "engine/eal.hpp"
#include "engine/fence.hpp"
#include "engine/lane_registry.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine {

namespace {

constexpr std::uint32_t kLaneBatch = 32;    // requests taken from one lane in one turn
constexpr std::uint32_t kFabricBatch = 64;  // arrivals taken from one fabric queue in one turn
constexpr int kLongSleepMs = 100;
constexpr int kShortSleepMs = 1;  // where a missed doorbell is possible, see fence.hpp

// What will be read and written for a request that came by a lane lies in the cache of who posted it. All of its lines are
// asked for at once, where the core would wait for one after the other. Woven in: a compiler that finds a function to do nothing
// but ask leaves out its calls.
[[gnu::always_inline]] inline void fetch_lines_of(const WorkRequest& request) noexcept {
    if (request.opcode == Opcode::kReceive) {
        if (request.sge_count != 0) {
            claim_line(
                request.sge[0].address);  // its owner keeps away from it until a message is there
        }
        return;  // and looks at the result's line, which is better asked for later
    }
    if ((request.flags & kCarried) != 0) {
        return;  // the fabric has all that it needs at once, and knows when the result is
    }
    claim_line(request.context);  // the result's, which there is at once for most
    if (request.opcode == Opcode::kSend && request.sge_count != 0) {
        rings::prefetch_for_read(reinterpret_cast<const void*>(request.sge[0].address));
    }
}

}  // namespace

PollingCore::PollingCore(const Config& config, Clock& clock, const Handlers& handlers,
                         Notifier& notifier, std::uint32_t index)
    : config_(config),
      clock_(clock),
      handlers_(handlers),
      notifier_(notifier),
      index_(index),
      dedicated_(config.mode == Mode::kDedicated),
      token_(TokenPool::take()),
      notices_(config.notifier_slots) {
    lanes_.reserve(64);
    token_.release();
}

void PollingCore::end_for_good() noexcept {
    token_
        .acquire_first();  // dedicated too: it may have been another core's before, of which somebody still tries it
    ended_for_good_ = true;
}

PollingCore::~PollingCore() {
    stop();
    if (!ended_for_good_) {
        (void)token_.try_acquire();  // unless it is this thread's
    }
    TokenPool::give(token_);
    adopt_lanes();
    for (Lane* lane : lanes_) {
        delete lane;
    }
    free_dead_lanes();
}

void PollingCore::add_port(FabricPort& port) { ports_.push_back(&port); }

std::string PollingCore::start() {
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    event.data.u64 = kOwnWakeUp;
    if (epoll_fd_ < 0 || wake_fd_ < 0 ||
        ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) {
        return descriptor_error("a polling core", errno);
    }
    if (dedicated_) {
        cpu_ = static_cast<int>(config_.cores.at(index_));
    }
    try {
        thread_ = std::thread([this] { thread_main(); });
    } catch (const std::system_error& failure) {
        return thread_error("a polling core's thread", failure.code().value());
    }
    // Pairs with the release in thread_main(): its error text is complete.
    while (thread_state_.load(std::memory_order_acquire) == 0) {
        ::sched_yield();
    }
    return thread_error_;
}

void PollingCore::stop() {
    stopping_.store(true, std::memory_order_release);
    if (thread_.joinable()) {
        const std::uint64_t one = 1;
        (void)!::write(wake_fd_, &one, sizeof(one));
        thread_.join();
    }
    if (epoll_fd_ >= 0) {
        ::close(epoll_fd_);
        epoll_fd_ = -1;
    }
    if (wake_fd_ >= 0) {
        ::close(wake_fd_);
        wake_fd_ = -1;
    }
}

// ---- front end --------------------------------------------------------------------------------------

// The next post like this one may go the direct way, in the same region. Before the request takes effect: its number is the
// last, and what comes by the direct way needs the token.
void PollingCore::let_direct(const WorkRequest& request, PostGate& gate,
                             std::uint32_t generation) noexcept {
    const Endpoint& endpoint = *request.endpoint;
    if (request.sge_count == 1 &&
        (request.opcode == Opcode::kSend || request.opcode == Opcode::kReceive)) {
        endpoint.regions->remember(request.sge[0].region,
                                   request.opcode == Opcode::kSend ? kRead : kWrite);
    }
    if (!gate.is_direct(endpoint.handle) && endpoint.handle != 0) {
        gate.let_direct(endpoint.handle, generation, request.sequence + 1);
    }
}

// Another thread entered before us and has not handed over yet: queue behind it.
void PollingCore::post_behind(const WorkRequest& request) noexcept {
    // The request is admitted and must not be lost. Without a lane, or with a full one, this thread stays
    // until it is the request's turn; the other one needs no token to hand over.
    Lane* lane = lane_of_this_thread();
    while (lane == nullptr || !lane->has_room(request.sge_count)) {
        if (try_acquire()) {
            (void)turn();
            const bool in_turn = request.endpoint->next_sequence == request.sequence;
            if (in_turn) {
                apply(request);
            }
            release();
            if (in_turn) {
                return;
            }
        }
        ::sched_yield();
        if (lane == nullptr) {
            lane = lane_of_this_thread();
        }
    }
    lane->push(request);
    see_to_lanes();
}

Status PollingCore::post_by_lane(WorkRequest& request, PostGate& gate, std::uint32_t generation,
                                 const std::atomic<Endpoint*>& endpoint) noexcept {
    Lane* lane = lane_of_this_thread();
    if (lane == nullptr) [[unlikely]] {
        return Status::kNoMemory;
    }
    for (std::uint32_t tries = 0; !lane->has_room(request.sge_count); ++tries) {
        // The token's holder was preempted. It is made to run rather than the caller told of a shortage
        // that its own operations have not caused and that no completion of them would end.
        if (tries >= 10000) {
            if (tries == 20000) {
                return Status::kFull;
            }
            wake();
            ::sched_yield();
        }
        poll_once();
        rings::cpu_pause();
    }
    lane->claim();
    const std::optional<std::uint32_t> sequence = gate.enter_behind(generation);
    if (!sequence) [[unlikely]] {
        return Status::kNotOpen;
    }
    request.endpoint = endpoint.load(std::memory_order_relaxed);
    request.sequence = *sequence;
    // What it brings is read here, without asking once more whether it is registered: as any buffer of a call it has to be
    // until the call returns.
    if (dedicated_ && may_be_carried(request)) {
        request.flags |= kCarried;
    }
    lane->push(request);
    if (dedicated_) {
        wake();
        return Status::kOk;
    }
    see_to_lanes();
    return Status::kOk;
}

// Inline, after a push. The token's holder may have passed our lane already, and nobody may turn the core
// after it. So we stay until it is drained; if the holder was preempted, the backstop inherits the work.
// Our request may also have been what another lane waited for, hence again as long as a turn leaves some.
void PollingCore::see_to_lanes() noexcept {
    for (std::uint32_t tries = 0; tries < 100; ++tries) {
        if (try_acquire()) {
            (void)turn();
            const bool left = lanes_left_;
            release();
            if (!left) {
                return;
            }
        }
        rings::cpu_pause();
    }
    left_behind_.store(1, std::memory_order_release);
    wake();
}

Lane* PollingCore::lane_of_this_thread() noexcept {
    return LaneRegistry::find_or_make(*this, config_.lane_slots);
}

void PollingCore::wake() noexcept {
    // A plain load: the sleeper's heavy fence orders it after the caller's stores. Pairs with the store
    // in sleep_until_woken().
    light_fence();
    if (asleep_.load(std::memory_order_relaxed) != 0 &&
        asleep_.exchange(0, std::memory_order_acq_rel) != 0) {
        const std::uint64_t one = 1;
        (void)!::write(wake_fd_, &one, sizeof(one));
        wakes_.fetch_add(1, std::memory_order_relaxed);
    }
}

void PollingCore::run(ControlOp& op, Endpoint* endpoint, std::uint32_t sequence) noexcept {
    if (!dedicated_) {
        token_.acquire_first();
        // What was admitted before us may be a post that is still on its way to a lane, or another run(),
        // which waits for the token as we have done: so it is given back between the looks.
        for (std::uint32_t tries = 0; endpoint != nullptr && endpoint->next_sequence != sequence;
             ++tries) {
            (void)turn();
            release();
            // To the other run(), if that is what we wait for: else we would be first again.
            if (token_.give_way() == 0 && tries % 64 == 63) {
                ::sched_yield();
            }
            token_.acquire_first();
        }
        if (endpoint != nullptr) {
            ++endpoint->next_sequence;
        }
        op.run();
        do {
            (void)turn();
        } while (lanes_left_);
        release();
        return;
    }
    // Not by a lane: that would be behind this thread's own posts, and may be full or not to be had.
    PendingRun pending{&op, endpoint, sequence};
    pending.next = new_runs_.load(std::memory_order_relaxed);
    // Release pairs with the acquire in do_runs().
    while (!new_runs_.compare_exchange_weak(pending.next, &pending, std::memory_order_release,
                                            std::memory_order_relaxed)) {
    }
    wake();
    // Pairs with the release in do_runs().
    for (std::uint32_t tries = 0; !pending.done.load(std::memory_order_acquire); ++tries) {
        if (tries < 2000) {
            rings::cpu_pause();
        } else {
            ::sched_yield();
        }
    }
}

bool PollingCore::fence_for_sleep() noexcept { return heavy_fence(); }

void PollingCore::sleep_on_wake_count(std::uint32_t seen, bool fenced) noexcept {
    const int milliseconds = fenced ? kLongSleepMs : kShortSleepMs;
    const timespec limit{0, milliseconds * 1000000L};
    ::syscall(SYS_futex, &wake_count_, FUTEX_WAIT_PRIVATE, seen, &limit, nullptr, 0);
}

void PollingCore::wake_waiters() noexcept {
    // Pairs with the acquire in wait_until().
    wake_count_.fetch_add(1, std::memory_order_release);
    ::syscall(SYS_futex, &wake_count_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// ---- under the token --------------------------------------------------------------------------------

// Runs the control operations whose turn has come, each behind what its endpoint had admitted before it.
[[gnu::noinline]] std::uint32_t PollingCore::do_runs() noexcept {
    PendingRun* latest = new_runs_.exchange(nullptr, std::memory_order_acquire);
    PendingRun* in_order = nullptr;
    while (latest != nullptr) {
        PendingRun* const earlier = latest->next;
        latest->next = in_order;
        in_order = latest;
        latest = earlier;
    }
    PendingRun** at = &runs_;
    while (*at != nullptr) {
        at = &(*at)->next;
    }
    *at = in_order;
    end_behind();
    std::uint32_t done = 0;
    for (at = &runs_; *at != nullptr;) {
        PendingRun& run = **at;
        if (run.endpoint != nullptr && run.endpoint->next_sequence != run.sequence) {
            at = &run.next;
            continue;
        }
        *at = run.next;
        counters_.requests.add();
        if (run.endpoint != nullptr) {
            ++run.endpoint->next_sequence;
        }
        run.op->run();
        // Pairs with the acquire in run(); the waiter may free it from here on.
        run.done.store(true, std::memory_order_release);
        ++done;
    }
    return done;
}

void PollingCore::expect_notification(Endpoint& endpoint) noexcept {
    if (endpoint.ever_notified) {
        overflow_.end(1);  // the place for its closing is promised already
    }
    endpoint.ever_notified = true;
    const std::uint32_t pending = notified_pending_.load(std::memory_order_relaxed);
    notified_pending_.store(pending + 1, std::memory_order_relaxed);
    if (pending == 0) {
        wake();
    }
}

std::uint32_t PollingCore::drain(Lane& lane) noexcept {
    // On a core of its own: a look in vain takes the line of the next slot away from a poster who has claimed it, and what was
    // posted waits for that look. So we take as many as are likely to be there, one where the last look was in vain.
    const std::uint32_t most = dedicated_ ? lane.batch() : kLaneBatch;
    std::uint32_t taken = 0;
    WorkRequest request;
    while (taken < most && lane.front(request)) {
        fetch_lines_of(request);
        if (request.endpoint->next_sequence != request.sequence) {
            // An earlier post of the endpoint is in another lane or about to be. Its poster got its
            // number before ours was given out, so lanes cannot wait for each other in a circle.
            counters_.lane_stalls.add();
            lanes_left_ = true;
            break;
        }
        const std::uint64_t behind = behind_.context;
        if (request.opcode != Opcode::kReceive && (request.flags & kCarried) == 0) {
            end_behind();  // it may end at once, and not before a send in front of it
        }
        apply(request);
        if (behind != 0 && behind_.context == behind) {
            end_behind();
        }
        lane.pop(request);  // behind it, for what it carries
        ++taken;
    }
    lanes_left_ |= taken == most;
    lane.set_batch(taken == most ? std::min(2 * most, kLaneBatch) : 1);
    return taken;
}

void PollingCore::adopt_lanes() noexcept {
    // Acquire pairs with the release in LaneRegistry::find_or_make.
    Lane* lane = new_lanes_.exchange(nullptr, std::memory_order_acquire);
    while (lane != nullptr) {
        Lane* next = lane->next;
        lanes_.push_back(lane);
        lane = next;
    }
}

void PollingCore::bury(Lane* lane) noexcept {
    lane->next = dead_lanes_.load(std::memory_order_relaxed);
    // Release pairs with the acquire in free_dead_lanes().
    while (!dead_lanes_.compare_exchange_weak(lane->next, lane, std::memory_order_release,
                                              std::memory_order_relaxed)) {
    }
}

void PollingCore::free_dead_lanes() noexcept {
    Lane* lane = dead_lanes_.exchange(nullptr, std::memory_order_acquire);
    while (lane != nullptr) {
        Lane* next = lane->next;
        delete lane;
        lane = next;
    }
}

// Inline, threads that drive their own sockets have no lanes: apart, so that their turns stay short.
[[gnu::noinline]] std::uint32_t PollingCore::drain_lanes() noexcept {
    std::uint32_t work = 0;
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
        Lane* lane = lanes_[i];
        const std::uint32_t taken = drain(*lane);
        work += taken;
        // Retirement is looked at before the emptiness, so that the last request is not overlooked.
        if (taken == 0 && lane->retired()) [[unlikely]] {
            if (WorkRequest rest; !lane->front(rest)) {
                lanes_[i] = lanes_.back();
                lanes_.pop_back();
                bury(lane);
                end_behind();  // it may have been the last lane that is looked at
                --i;
            }
        }
    }
    if (work == 0 && behind_.context != 0 && ++turns_behind_ == kTurnsBehind) {
        end_behind();
    }
    // If no lane gave anything, those that wait do so for a post that has not come; its poster will look
    // after them.
    lanes_left_ &= work != 0;
    return work;
}

bool PollingCore::turn() noexcept {
    counters_.turns.add();
    std::uint32_t work = 0;
    if (left_behind_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
        // The lanes are drained below. An exchange and not a store: what is said from here on must not be
        // wiped out by a store that leaves the processor late. Acquire pairs with the release in
        // see_to_lanes(): what was pushed before the word that is taken back is seen below.
        left_behind_.exchange(0, std::memory_order_acquire);
    }
    if (new_lanes_.load(std::memory_order_relaxed) != nullptr) [[unlikely]] {
        adopt_lanes();
    }
    lanes_left_ = false;
    if (!lanes_.empty()) {
        work = drain_lanes();
    }
    if (new_runs_.load(std::memory_order_relaxed) != nullptr || runs_ != nullptr) [[unlikely]] {
        work += do_runs();
    }
    if (fabric_busy_ && behind_.context != 0) [[unlikely]] {
        end_behind();  // what follows may take a thousand times the moment that it was meant to wait
    }
    std::uint32_t found = 0;
    for (FabricPort* port : ports_) {
        found += port->poll(kFabricBatch);
    }
    fabric_busy_ = found != 0;
    work += found;
    if (!overflow_.empty())
        [[unlikely]] {  // flush_notices() leaves it empty or with something to do
        flush_notices();
    }
    if (work != 0) {
        counters_.busy_turns.add();
    }
    return work != 0;
}

}  // namespace sanpoll::engine
