#include "engine/control_thread.hpp"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <system_error>

#include "engine/limit_error.hpp"

namespace sanpoll::engine {

ControlThread::~ControlThread() { stop(); }

std::string ControlThread::start() {
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = wake_fd_;
    if (epoll_fd_ < 0 || wake_fd_ < 0 ||
        ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) {
        return descriptor_error("the control thread", errno);
    }
    try {
        thread_ = std::thread([this] { thread_main(); });
    } catch (const std::system_error& failure) {
        return thread_error("the control thread", failure.code().value());
    }
    return {};
}

void ControlThread::stop() {
    if (thread_.joinable()) {
        {
            const std::lock_guard lock(mutex_);
            stopping_ = true;
        }
        const std::uint64_t one = 1;
        (void)!::write(wake_fd_, &one, sizeof(one));
        thread_.join();
    }
    for (int* fd : {&epoll_fd_, &wake_fd_}) {
        if (*fd >= 0) {
            ::close(*fd);
            *fd = -1;
        }
    }
}

void ControlThread::post(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    const std::uint64_t one = 1;
    (void)!::write(wake_fd_, &one, sizeof(one));
}

void ControlThread::call(const std::function<void()>& task) {
    std::mutex done_mutex;
    std::condition_variable done_changed;
    bool done = false;
    post([&] {
        task();
        // Notified under the lock: the waiter may return and end `done_changed` right after it.
        const std::lock_guard lock(done_mutex);
        done = true;
        done_changed.notify_one();
    });
    std::unique_lock lock(done_mutex);
    done_changed.wait(lock, [&] { return done; });
}

bool ControlThread::is_this_thread() const noexcept {
    return thread_.get_id() == std::this_thread::get_id();
}

bool ControlThread::watch(int fd, std::uint32_t epoll_events, Handler handler) {
    auto kept = std::make_shared<Handler>(std::move(handler));
    epoll_event event{};
    event.events = epoll_events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
        return false;
    }
    handlers_[fd] = std::move(kept);
    return true;
}

void ControlThread::change(int fd, std::uint32_t epoll_events) noexcept {
    epoll_event event{};
    event.events = epoll_events;
    event.data.fd = fd;
    (void)::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
}

void ControlThread::forget(int fd) noexcept {
    (void)::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
    handlers_.erase(fd);
}

std::uint64_t ControlThread::add_timer(std::uint64_t delay_ms, std::function<void()> task) {
    const std::uint64_t id = next_timer_++;
    const std::uint64_t due = clock_.now_ns() + delay_ms * 1000000;
    due_[id] = due;
    timers_.emplace(std::pair(due, id), std::move(task));
    return id;
}

void ControlThread::cancel_timer(std::uint64_t id) noexcept {
    if (const auto found = due_.find(id); found != due_.end()) {
        timers_.erase({found->second, id});
        due_.erase(found);
    }
}

void ControlThread::run_tasks() {
    std::vector<std::function<void()>> batch;
    {
        const std::lock_guard lock(mutex_);
        batch.swap(tasks_);
    }
    for (auto& task : batch) {
        task();
    }
}

// Returns how long to wait for the next one, ms; -1 without a limit.
int ControlThread::run_timers() {
    while (!timers_.empty()) {
        const auto first = timers_.begin();
        const std::uint64_t now = clock_.now_ns();
        if (first->first.first > now) {
            return static_cast<int>(
                std::min<std::uint64_t>((first->first.first - now) / 1000000 + 1, 60000));
        }
        const std::function<void()> task = std::move(first->second);
        due_.erase(first->first.second);
        timers_.erase(first);
        task();
    }
    return -1;
}

void ControlThread::thread_main() {
    ::pthread_setname_np(::pthread_self(), "sanpoll-ctl");
    for (;;) {
        run_tasks();
        const int timeout = run_timers();
        {
            const std::lock_guard lock(mutex_);
            if (!tasks_.empty()) {
                continue;
            }
            if (stopping_) {
                return;
            }
        }
        epoll_event events[32];
        const int count = ::epoll_wait(epoll_fd_, events, 32, timeout);
        for (int i = 0; i < count; ++i) {
            const int fd = events[i].data.fd;
            if (fd == wake_fd_) {
                std::uint64_t rings = 0;
                (void)!::read(wake_fd_, &rings, sizeof(rings));
                continue;
            }
            // A handler before may have forgotten this one; a copy keeps it alive while it runs.
            if (const auto found = handlers_.find(fd); found != handlers_.end()) {
                const std::shared_ptr<Handler> handler = found->second;
                (*handler)(events[i].events);
            }
        }
    }
}

}  // namespace sanpoll::engine
