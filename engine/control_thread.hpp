// Everything that may wait or call the system: connection management, timers, peers' sockets.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "engine/clock.hpp"

namespace sanpoll::engine {

/// One thread with an epoll set, a task queue and timers. Handlers and tasks run one after the other, under
/// one lock, *the turn*; what they own needs no other. Most run on the thread. But waking a thread costs more
/// than most tasks do, so whoever has one and finds the turn free runs it at once, where it is.
class ControlThread {
public:
    explicit ControlThread(Clock& clock) : clock_(clock) {}
    ~ControlThread();
    ControlThread(const ControlThread&) = delete;
    ControlThread& operator=(const ControlThread&) = delete;

    [[nodiscard]] std::string start();
    /// Runs the tasks that are queued, then ends the thread.
    void stop();

    /// Any thread: has `task`, a short one, run by whoever has the turn next. May throw std::bad_alloc.
    void post(std::function<void()> task);
    /// The same for what may take its time, such as making a queue pair: not in a call of the application's that
    /// has nothing to do with it. In order among themselves, not with the others. A call() waits for these too.
    void post_apart(std::function<void()> task);
    /// Any thread that has not the turn: waits for it and runs `task`, after those posted before. What a task
    /// must not do under a lock of its own, the caller must not either. Needs no memory. What the task throws is thrown
    /// here, when the turn has ended.
    template <typename Task>
    void call(const Task& task) {
        call_borrowed({&task, [](const void* called) { (*static_cast<const Task*>(called))(); }});
    }
    /// The same if the turn is free, and without waiting for what was posted apart. False: nothing was done.
    template <typename Task>
    [[nodiscard]] bool try_call(const Task& task) {
        return try_call_borrowed(
            {&task, [](const void* called) { (*static_cast<const Task*>(called))(); }});
    }

    /// While it lives, what its thread posts does not wake the control thread; its end runs that instead,
    /// here, unless somebody has the turn. Its end must come with nothing locked.
    class Helper {
    public:
        explicit Helper(ControlThread& control) noexcept;
        ~Helper();
        Helper(const Helper&) = delete;
        Helper& operator=(const Helper&) = delete;

    private:
        friend class ControlThread;
        ControlThread& control_;
        Helper* const outer_;
        bool posted_ = false;
    };

    using Handler = std::function<void(std::uint32_t epoll_events)>;

    // ---- with the turn only ---------------------------------------------------------------------

    // What throws std::bad_alloc has done nothing.

    /// Watches `fd`. Returns false when the system refuses.
    [[nodiscard]] bool watch(int fd, std::uint32_t epoll_events, Handler handler);
    void change(int fd, std::uint32_t epoll_events) noexcept;
    void forget(int fd) noexcept;

    /// Runs `task` once, `delay_ms` from now. The id is for cancel_timer().
    std::uint64_t add_timer(std::uint64_t delay_ms, std::function<void()> task);
    void cancel_timer(std::uint64_t id) noexcept;

    /// Whether this thread has the turn.
    [[nodiscard]] bool is_this_thread() const noexcept;

private:
    struct Watched {
        std::uint32_t serial = 0;  // of the watch: a number of a descriptor comes again
        std::shared_ptr<Handler> handler;
    };

    // A task that the caller of call() keeps.
    struct Borrowed {
        const void* task;
        void (*run)(const void*);
    };

    void call_borrowed(Borrowed task);
    [[nodiscard]] bool try_call_borrowed(Borrowed task);
    void thread_main();
    void enter() noexcept;
    [[nodiscard]] bool try_enter() noexcept;
    void leave() noexcept;
    void wake() noexcept;
    void finish_turn() noexcept;
    [[nodiscard]] bool run_tasks(bool apart) noexcept;
    [[nodiscard]] bool run_timers() noexcept;
    [[nodiscard]] int until_next_timer() noexcept;
    void handle(std::uint64_t data, std::uint32_t epoll_events);

    Clock& clock_;
    int epoll_fd_ = -1;
    int wake_fd_ = -1;
    std::thread thread_;

    std::mutex turn_;
    std::atomic<std::uint32_t> wanted_{0};  // threads in enter(): who only tries gives way
    std::atomic<std::thread::id>
        holder_{};  // of the turn; only its own thread compares it with itself

    std::mutex mutex_;  // guards the three below
    std::vector<std::function<void()>> tasks_;
    std::vector<std::function<void()>> apart_;
    bool stopping_ = false;

    // With the turn.
    std::unordered_map<int, Watched> handlers_;
    std::uint32_t last_serial_ = 0;
    // By due time and id; and the due time by id, for many connects have their timers at once.
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::function<void()>> timers_;
    std::unordered_map<std::uint64_t, std::uint64_t> due_;
    std::uint64_t next_timer_ = 1;
    std::uint64_t sleeps_until_ = 0;  // when the thread wakes by itself, ns; 0: it is awake
};

}  // namespace sanpoll::engine
