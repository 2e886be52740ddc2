// A polling core: drains lanes, polls fabric ports, publishes completions.
#pragma once

#include <atomic>
#include <cassert>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "engine/clock.hpp"
#include "engine/config.hpp"
#include "engine/core_counters.hpp"
#include "engine/fabric/endpoint.hpp"
#include "engine/fabric/fabric_port.hpp"
#include "engine/fence.hpp"
#include "engine/lane.hpp"
#include "engine/notice_queue.hpp"
#include "engine/poll_token.hpp"
#include "engine/work_request.hpp"
#include "rings/spsc_ring.hpp"

namespace sanpoll::engine {

class Notifier;

/// The poll token. turn() may be called by whoever holds it, and by nobody else:
///   dedicated  the core's own thread, a pinned lcore, holds it for good;
///   inline     a thread that posts or waits try-acquires it, turns the core and gives it back. A
///              backstop thread of ours does so only while somebody expects to be told without polling
///              (notified operations, sleeping waiters, work left behind) and sleeps otherwise.
/// Everything else here and in the ports is touched under the token only, so it needs no locks.
class PollingCore {
public:
    PollingCore(const Config& config, Clock& clock, const Handlers& handlers, Notifier& notifier,
                std::uint32_t index);
    ~PollingCore();
    PollingCore(const PollingCore&) = delete;
    PollingCore& operator=(const PollingCore&) = delete;

    /// Before start(). The port lives as long as the core.
    void add_port(FabricPort& port);
    /// Before start(): all cores of the engine. A thread that waits here may depend on a connection whose
    /// other end is served by another one of them.
    void set_cores(std::vector<PollingCore*> cores) { cores_ = std::move(cores); }
    /// Starts the core's thread. Returns an empty string or why it cannot, with the remedy.
    [[nodiscard]] std::string start();
    /// Stops and joins it. Pending operations have been closed before.
    void stop();
    /// After stop(), before its ports end: takes the token for good, so that whoever tries the direct way of a connection that
    /// has ended gets no further (direct.hpp). Blocks until the token is free.
    void end_for_good() noexcept;

    [[nodiscard]] bool dedicated() const noexcept { return dedicated_; }
    [[nodiscard]] std::uint32_t index() const noexcept { return index_; }
    [[nodiscard]] const CoreCounters& counters() const noexcept { return counters_; }
    /// How often the core's thread was called out of its sleep by a thread of this process.
    [[nodiscard]] std::uint64_t wakes() const noexcept {
        return wakes_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] Clock& clock() noexcept { return clock_; }
    /// The CPU it is pinned on, or -1.
    [[nodiscard]] int cpu() const noexcept { return cpu_; }

    // ---- front end, any thread ----------------------------------------------------------------

    /// Posts a send or receive: takes the endpoint's next sequence number from `gate` and hands the
    /// request over. kOk: exactly one completion follows. kNotOpen: the gate refused. kFull: this
    /// thread's lane is full, nothing was started; kNoMemory likewise, of a lane or of a place for the notice that is
    /// asked for (notice_queue.hpp). `endpoint` is where the gate's owner keeps its
    /// endpoint; it is read after the gate has admitted the post. Lock-free; no system call unless the
    /// core sleeps or its token is lent to another thread.
    [[nodiscard]] Status post(WorkRequest& request, PostGate& gate, std::uint32_t generation,
                              const std::atomic<Endpoint*>& endpoint) noexcept {
        if ((request.flags & kNotify) != 0) {
            return post_notified(request, gate, generation, endpoint);
        }
        return post_with_place(request, gate, generation, endpoint);
    }
    /// post() of what is polled for, or whose notice has its place in overflow_.
    [[nodiscard]] Status post_with_place(WorkRequest& request, PostGate& gate,
                                         std::uint32_t generation,
                                         const std::atomic<Endpoint*>& endpoint) noexcept {
        if (dedicated_ || !try_acquire()) {
            return post_by_lane(request, gate, generation, endpoint);
        }
        // We are the core for a moment: no lane on the way.
        const std::optional<std::uint32_t> sequence = gate.enter(generation);
        if (!sequence) [[unlikely]] {
            release();
            return Status::kNotOpen;
        }
        request.endpoint = endpoint.load(std::memory_order_relaxed);
        request.sequence = *sequence;
        const bool in_turn = request.endpoint->next_sequence == *sequence;
        if (in_turn) [[likely]] {
            if (request.endpoint->direct) {
                let_direct(request, gate, generation);
            }
            apply(request);
        } else {
            gate.stop_direct();  // nothing may overtake it
        }
        release();
        if (!in_turn) [[unlikely]] {
            post_behind(request);
        }
        return Status::kOk;
    }

    /// An RDMA operation of one piece whose end is polled for, if it can begin and end here and now. It takes no
    /// sequence number then: all posts that the gate has admitted have taken effect, and the next one does so, like a
    /// close, under the token that is ours until it has ended. False: nothing was started, whatever the reason, and
    /// post() is to be tried. Of the request:
    ///   find()     whether the piece lies in a live region that allows it; under the token
    ///   operation  what is to be done
    ///   ended()    it has ended well, and Handlers::completed is not called for it
    template <typename Request>
    [[nodiscard]] bool rdma_at_once(Request& request, PostGate& gate, std::uint32_t generation,
                                    const std::atomic<Endpoint*>& slot) noexcept {
        if (dedicated_ || !try_acquire()) [[unlikely]] {
            return false;
        }
        bool done = false;
        // As in run_at_rest(): while the token is ours, the endpoint behind an open gate stays.
        const std::uint64_t word = gate.look();
        if (PostGate::is_open_for(word, generation) && request.find()) [[likely]] {
            Endpoint& endpoint = *slot.load(std::memory_order_relaxed);
            done = endpoint.next_sequence == PostGate::sequence_of(word) &&
                   endpoint.port->rdma_one(endpoint, request.operation);
            if (done) [[likely]] {
                counters_.requests.add();
                counters_.completions.add();
                request.ended();
                after_completion();
                // The next one may go the direct way.
                if (endpoint.direct && !gate.is_direct(endpoint.handle)) [[unlikely]] {
                    gate.let_direct(endpoint.handle, generation, endpoint.next_sequence);
                }
            }
        }
        release();
        return done;
    }

    /// Inline mode: one turn, if nobody else is at it. Dedicated: nothing.
    void poll_once() noexcept {
        if (dedicated_) {
            return;
        }
        (void)token_.give_way();  // to control operations, which wait for the token
        if (try_acquire()) {
            token_.note_turn();
            (void)turn();
            release();
        }
    }

    /// Waits until `done()` is true: turns the core itself or spins, then sleeps between the core's
    /// completions. Blocks without limit.
    template <typename Done>
    void wait_until(Done done) noexcept;

    /// Runs `op` on the core and returns when it has run. With an endpoint and a sequence number (from
    /// closing its gate or entering it), at that place in the endpoint's order. Control plane only:
    /// blocks.
    void run(ControlOp& op, Endpoint* endpoint = nullptr, std::uint32_t sequence = 0) noexcept;

    /// Runs `op` at once if this thread can be the core for a moment and all that the gate has admitted has
    /// taken effect: then `op` needs no place in the endpoint's order. False: nothing was done, and run() is
    /// the way. Always so in dedicated mode. Any thread; lock-free, without a system call but PollToken's.
    [[nodiscard]] bool run_at_rest(ControlOp& op, const PostGate& gate, std::uint32_t generation,
                                   const std::atomic<Endpoint*>& endpoint) noexcept {
        if (dedicated_ || !try_acquire()) {
            return false;
        }
        // While the gate is open and the token is ours, nobody can end the endpoint: that is a control
        // operation behind the gate's close.
        const PostGate::View view = gate.view();
        // Acquire: pairs with the release by which the connection came to its socket.
        const bool at_rest =
            view.generation == generation && view.state == PostGate::State::kOpen &&
            endpoint.load(std::memory_order_acquire)->next_sequence == view.sequence;
        if (at_rest) {
            op.run();
        }
        release();
        return at_rest;
    }

    /// Wakes the core's thread if it sleeps.
    void wake() noexcept;

    /// Tells a connection's owner of it, and that it is ours: before its gate opens.
    void introduce(Endpoint& endpoint) noexcept {
        endpoint.core_slot->store(this, std::memory_order_relaxed);
        if (endpoint.token_slot != nullptr) {
            endpoint.token_slot->store(&token_, std::memory_order_relaxed);
        }
        // Release: who finds the endpoint finds its core. Posts find both by the gate's opening.
        endpoint.slot->store(&endpoint, std::memory_order_release);
    }

    // ---- token ---------------------------------------------------------------------------------

    /// In memory that outlives the core (TokenPool).
    [[nodiscard]] PollToken& token() noexcept { return token_; }
    [[nodiscard]] bool try_acquire() noexcept { return token_.try_acquire(); }
    void release() noexcept { token_.release(); }

    /// One bounded turn. True if there was anything to do. Token holder.
    bool turn() noexcept;

    // ---- fabrics, token holder -------------------------------------------------------------------

    /// complete() of an operation that is polled for and has ended well.
    void complete_polled(std::uint64_t context, std::uint32_t bytes) noexcept {
        counters_.completions.add();
        handlers_.completed(context, bytes, Status::kOk);
        after_completion();
    }

    void complete(const Completion& completion) noexcept {
        counters_.completions.add();
        if ((completion.flags & kNotify) == 0) [[likely]] {
            handlers_.completed(completion.context, completion.bytes, completion.status);
        } else {
            notified_pending_.store(notified_pending_.load(std::memory_order_relaxed) - 1,
                                    std::memory_order_relaxed);
            queue_notification(Notice{completion, false});
        }
        after_completion();
    }

    /// The same of a send whose message was received at once, on a core of its own: once the next request has been taken, or none
    /// has come for a moment, or the fabrics are busy. Nobody waits for it as for the receive, and its result's line would be fetched, together with the
    /// receive's line and buffer, from whoever posts the next one.
    ///
    /// Until then the send has ended but for being told. Nothing of the send direction is told before it: what may end at
    /// once calls end_behind() first. Nor can its endpoint end, or its owner take memory back: closes, suspensions and all
    /// other control operations come as runs, which call it too, as do the core's sleep and its end. Token holder.
    void complete_behind(const Completion& completion) noexcept {
        assert(dedicated_);  // others may not turn again
        end_behind();
        if ((completion.flags & kNotify) != 0) [[unlikely]] {
            complete(completion);
            return;
        }
        behind_ = {completion.context, completion.bytes};
        turns_behind_ = 0;
    }
    /// Tells what complete_behind() has kept, if anything.
    void end_behind() noexcept {
        if (const Behind ended = std::exchange(behind_, {}); ended.context != 0) [[unlikely]] {
            complete_polled(ended.context, ended.bytes);
            offer_line(ended.context);
        }
    }

    /// After the last complete() of an endpoint that was closed.
    void endpoint_closed(const Endpoint& endpoint) noexcept;

    // ---- the direct way (direct.hpp), token holder
    /// After a result is out.
    void after_completion() noexcept {
        // The result, then the look at who sleeps for it: ordered by the sleeper's heavy fence. Pairs
        // with the addition in wait_until().
        light_fence();
        if (waiters_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
            wake_waiters();
        }
    }
    [[nodiscard]] DirectCounters& direct_counters() noexcept { return counters_.direct; }
    [[nodiscard]] const DirectCounters& direct_counters() const noexcept {
        return counters_.direct;
    }
    /// A post that goes no further by the first parts.
    void count_direct_post() noexcept { counters_.requests.add(); }
    void count_direct_end() noexcept { counters_.completions.add(); }
    /// Whether the next look may be at one connection only: after some of these, or one that found nothing, it has to be
    /// a whole turn(). Takes one of them.
    [[nodiscard]] bool may_look_at_one() noexcept { return --looks_left_ >= 0; }
    /// Whether it was the last one.
    [[nodiscard]] bool has_looked_enough() const noexcept { return looks_left_ < 0; }
    /// The last look was as long as so many others more.
    void look_round_sooner(std::int32_t looks) noexcept { looks_left_ -= looks; }
    /// The next look is to be a whole turn: there is something to do that no look at a connection finds.
    void look_round_next() noexcept { looks_left_ = 0; }
    /// Somebody sleeps until something ends: after_completion() has something to do. After a result is out.
    [[nodiscard]] bool somebody_waits() const noexcept {
        light_fence();  // as in after_completion()
        return !rings::is_now(waiters_, 0);
    }
    /// What the first part of a look has to say to the second.
    void note_one_taken() noexcept { one_taken_ = true; }
    [[nodiscard]] bool one_was_taken() noexcept { return std::exchange(one_taken_, false); }
    void turn_instead() noexcept {
        looks_left_ = kLooksInARow;
        token_.note_turn();
        (void)turn();
    }

    /// A fabric has something left to do although nobody may be polling (for example a closing message
    /// that found no room): keeps the backstop awake until it is taken back.
    void keep_awake() noexcept {
        kept_awake_.store(kept_awake_.load(std::memory_order_relaxed) + 1,
                          std::memory_order_relaxed);
        wake();
    }
    void let_sleep() noexcept {
        kept_awake_.store(kept_awake_.load(std::memory_order_relaxed) - 1,
                          std::memory_order_relaxed);
    }

    /// Token holder.
    [[nodiscard]] bool is_kept_awake() const noexcept {
        return kept_awake_.load(std::memory_order_relaxed) != 0;
    }

    /// The core's epoll set: a fabric adds the descriptors that may end its sleep (edge-triggered, with
    /// data 0). A core that nobody turns does so for a while when one of them is rung, asked for or not.
    [[nodiscard]] int epoll_fd() const noexcept { return epoll_fd_; }

    // ---- notifier thread -------------------------------------------------------------------------

    /// Takes up to `budget` notices of this core and calls the handlers. Returns how many.
    std::uint32_t deliver_notices(std::uint32_t budget) noexcept;

private:
    static constexpr std::int32_t kLooksInARow = 32;  // at one connection, without a whole turn
    static constexpr std::uint32_t kTurnsBehind = 4;  // without a request; some 150 ns, idle
    static constexpr std::uint64_t kOwnWakeUp = 1;    // data of wake_fd_ in the epoll set

    static_assert(sizeof(Notice) <= rings::kLinePayload);

    struct PendingRun {
        ControlOp* op;
        Endpoint* endpoint;
        std::uint32_t sequence;
        PendingRun* next = nullptr;
        std::atomic<bool> done{false};
    };

    struct Behind {
        std::uint64_t context = 0;  // 0: none
        std::uint32_t bytes = 0;
    };

    static void let_direct(const WorkRequest& request, PostGate& gate,
                           std::uint32_t generation) noexcept;
    [[nodiscard]] Status post_notified(WorkRequest& request, PostGate& gate,
                                       std::uint32_t generation,
                                       const std::atomic<Endpoint*>& endpoint) noexcept;
    void apply(const WorkRequest& request) noexcept {
        counters_.requests.add();
        Endpoint* endpoint = request.endpoint;
        ++endpoint->next_sequence;
        if ((request.flags & kNotify) != 0) {
            expect_notification(*endpoint);
        }
        endpoint->port->post(*endpoint, request);
    }
    std::uint32_t do_runs() noexcept;
    void expect_notification(Endpoint& endpoint) noexcept;
    void post_behind(const WorkRequest& request) noexcept;
    void see_to_lanes() noexcept;
    void release_and_remember() noexcept;
    std::uint32_t drain(Lane& lane) noexcept;
    std::uint32_t drain_lanes() noexcept;
    void adopt_lanes() noexcept;
    void bury(Lane* lane) noexcept;
    void free_dead_lanes() noexcept;
    void queue_notification(const Notice& notice) noexcept;
    void flush_notices() noexcept;
    void wake_waiters() noexcept;
    [[nodiscard]] Lane* lane_of_this_thread() noexcept;
    [[nodiscard]] Status post_by_lane(WorkRequest& request, PostGate& gate,
                                      std::uint32_t generation,
                                      const std::atomic<Endpoint*>& endpoint) noexcept;
    [[nodiscard]] bool sleep_until_woken() noexcept;
    [[nodiscard]] bool attention() const noexcept;
    [[nodiscard]] bool only_left_behind() const noexcept;
    void thread_main() noexcept;
    void dedicated_loop() noexcept;
    void backstop_loop() noexcept;
    void answer_knock() noexcept;
    void note_gap(std::uint64_t now) noexcept;

    const Config& config_;
    Clock& clock_;
    const Handlers handlers_;
    Notifier& notifier_;
    const std::uint32_t index_;
    const bool dedicated_;
    int cpu_ = -1;

    PollToken& token_;  // front end and backstop meet there
    // Read on every completion or post, written rarely.
    alignas(rings::kCacheLine) std::atomic<std::uint32_t> asleep_{0};
    std::atomic<std::uint32_t> waiters_{0};
    std::atomic<std::uint64_t> wakes_{0};        // a count, orders nothing
    std::atomic<std::uint32_t> left_behind_{0};  // a poster gave up trying to get its lane drained
    std::atomic<bool> stopping_{false};
    std::atomic<Lane*> new_lanes_{nullptr};
    std::atomic<Lane*> dead_lanes_{nullptr};      // of ended threads; freed off the core
    std::atomic<PendingRun*> new_runs_{nullptr};  // dedicated, the latest first

    // Under the token.
    std::vector<PollingCore*> cores_;  // constant after start()
    alignas(rings::kCacheLine) std::vector<Lane*> lanes_;
    std::vector<FabricPort*> ports_;
    PendingRun* runs_ =
        nullptr;  // taken from new_runs_, in order; those left wait for earlier posts
    std::int32_t looks_left_ = 0;
    bool one_taken_ = false;
    bool fabric_busy_ = false;        // the last turn's polls found something
    Behind behind_;                   // completed by complete_behind(), and not told yet
    std::uint32_t turns_behind_ = 0;  // without a request since
    bool ended_for_good_ = false;
    bool lanes_left_ = false;  // the last turn left requests in lanes that the next one may take
    CoreCounters counters_;
    std::atomic<std::uint32_t> notified_pending_{
        0};                                     // written under the token, read by the backstop
    std::atomic<std::uint32_t> kept_awake_{0};  // likewise
    std::uint64_t last_look_ns_ = 0;

    rings::SpscRing notices_;
    NoticeQueue overflow_;  // notices that found the ring full

    alignas(rings::kCacheLine) std::atomic<std::uint32_t> wake_count_{0};  // futex of the waiters
    int epoll_fd_ = -1;
    int wake_fd_ = -1;
    std::thread thread_;
    std::atomic<int> thread_state_{0};  // 0 starting, 1 running, -1 failed
    std::string thread_error_;

    friend class LaneRegistry;
    void sleep_on_wake_count(std::uint32_t seen, bool fenced) noexcept;
    [[nodiscard]] bool fence_for_sleep() noexcept;
};

template <typename Done>
void PollingCore::wait_until(Done done) noexcept {
    const std::uint64_t start = clock_.now_ns();
    const std::uint64_t spin = static_cast<std::uint64_t>(config_.spin_us) * 1000;
    for (std::uint32_t i = 0;; ++i) {
        poll_once();
        for (PollingCore* other : cores_) {
            if (other != this) {
                other->poll_once();
            }
        }
        if (done()) {
            return;
        }
        rings::cpu_pause();
        if ((i & 15U) == 15U && config_.profile != Profile::kUltra &&
            clock_.now_ns() - start >= spin) {
            break;
        }
    }
    // Announces itself, so that completions ring and the backstop takes over the polling.
    waiters_.fetch_add(1, std::memory_order_seq_cst);
    wake();
    for (PollingCore* other : cores_) {
        if (other != this) {
            other->waiters_.fetch_add(1, std::memory_order_seq_cst);
            other->wake();
        }
    }
    for (;;) {
        // Pairs with the release in wake_waiters().
        const std::uint32_t seen = wake_count_.load(std::memory_order_acquire);
        const bool fenced = fence_for_sleep();
        if (done()) {
            break;
        }
        sleep_on_wake_count(seen, fenced);
    }
    waiters_.fetch_sub(1, std::memory_order_seq_cst);
    for (PollingCore* other : cores_) {
        if (other != this) {
            other->waiters_.fetch_sub(1, std::memory_order_seq_cst);
        }
    }
}

}  // namespace sanpoll::engine
