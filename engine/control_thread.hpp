// Everything that may wait or call the system: connection management, timers, peers' sockets.
#pragma once

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

/// One thread with an epoll set, a task queue and timers. Handlers and tasks run on it, one after the
/// other; what they own needs no lock among themselves.
class ControlThread {
public:
    explicit ControlThread(Clock& clock) : clock_(clock) {}
    ~ControlThread();
    ControlThread(const ControlThread&) = delete;
    ControlThread& operator=(const ControlThread&) = delete;

    [[nodiscard]] std::string start();
    /// Runs the tasks that are queued, then ends the thread.
    void stop();

    /// Any thread: has `task` run on the control thread. May throw std::bad_alloc.
    void post(std::function<void()> task);
    /// Any thread but this one: runs `task` there and waits for it.
    void call(const std::function<void()>& task);

    using Handler = std::function<void(std::uint32_t epoll_events)>;

    // ---- on the control thread only -----------------------------------------------------------

    /// Watches `fd`. Returns false when the system refuses.
    [[nodiscard]] bool watch(int fd, std::uint32_t epoll_events, Handler handler);
    void change(int fd, std::uint32_t epoll_events) noexcept;
    void forget(int fd) noexcept;

    /// Runs `task` once, `delay_ms` from now. The id is for cancel_timer().
    std::uint64_t add_timer(std::uint64_t delay_ms, std::function<void()> task);
    void cancel_timer(std::uint64_t id) noexcept;

    [[nodiscard]] bool is_this_thread() const noexcept;

private:
    void thread_main();
    void run_tasks();
    int run_timers();

    Clock& clock_;
    int epoll_fd_ = -1;
    int wake_fd_ = -1;
    std::thread thread_;
    std::mutex mutex_;  // guards the two below
    std::vector<std::function<void()>> tasks_;
    bool stopping_ = false;
    std::unordered_map<int, std::shared_ptr<Handler>> handlers_;
    // By due time and id; and the due time by id, for many connects have their timers at once.
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::function<void()>> timers_;
    std::unordered_map<std::uint64_t, std::uint64_t> due_;
    std::uint64_t next_timer_ = 1;
};

}  // namespace sanpoll::engine
