#include "engine/control_thread.hpp"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <system_error>

#include "engine/limit_error.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine {

namespace {

constexpr int kTriesForTurn = 200;  // most turns are shorter than a sleep and a wake-up
constexpr int kRounds = 16;  // of tasks that post tasks, before descriptors are looked at again

thread_local ControlThread::Helper* innermost_helper = nullptr;

}  // namespace

ControlThread::~ControlThread() { stop(); }

// ---- life -------------------------------------------------------------------------------------------

std::string ControlThread::start() {
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = static_cast<unsigned>(wake_fd_);
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
        wake();
        thread_.join();
    }
    for (int* fd : {&epoll_fd_, &wake_fd_}) {
        if (*fd >= 0) {
            ::close(*fd);
            *fd = -1;
        }
    }
}

// ---- the turn ---------------------------------------------------------------------------------------

void ControlThread::enter() noexcept {
    // Relaxed, pairs with the load in try_enter(): a hint, so that a thread that tries again and again lets in
    // one that waits.
    wanted_.fetch_add(1, std::memory_order_relaxed);
    bool ours = turn_.try_lock();
    for (int tries = 0; !ours && tries < kTriesForTurn; ++tries) {
        rings::cpu_pause();
        ours = turn_.try_lock();
    }
    if (!ours) {
        turn_.lock();
    }
    wanted_.fetch_sub(1, std::memory_order_relaxed);
    // Relaxed, pairs with the load in is_this_thread(): a thread finds its own id only if it put it there.
    holder_.store(std::this_thread::get_id(), std::memory_order_relaxed);
}

bool ControlThread::try_enter() noexcept {
    if (wanted_.load(std::memory_order_relaxed) != 0 || !turn_.try_lock()) {
        return false;
    }
    holder_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    return true;
}

void ControlThread::leave() noexcept {
    holder_.store({}, std::memory_order_relaxed);
    turn_.unlock();
}

bool ControlThread::is_this_thread() const noexcept {
    return holder_.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

void ControlThread::wake() noexcept {
    const std::uint64_t one = 1;
    (void)!::write(wake_fd_, &one, sizeof(one));
}

void ControlThread::post(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    if (is_this_thread()) {
        return;  // it is run before the turn ends
    }
    for (Helper* helper = innermost_helper; helper != nullptr; helper = helper->outer_) {
        if (&helper->control_ == this) {
            helper->posted_ = true;
            return;
        }
    }
    wake();
}

void ControlThread::post_apart(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        apart_.push_back(std::move(task));
    }
    wake();
}

void ControlThread::call_borrowed(Borrowed task) {
    enter();
    (void)run_tasks(true);
    std::exception_ptr failure;
    try {
        task.run(task.task);
    } catch (...) {
        failure = std::current_exception();
    }
    (void)run_timers();
    finish_turn();
    if (failure != nullptr) {
        std::rethrow_exception(failure);
    }
}

bool ControlThread::try_call_borrowed(Borrowed task) {
    if (!try_enter()) {
        return false;
    }
    std::exception_ptr failure;
    try {
        task.run(task.task);
    } catch (...) {
        failure = std::current_exception();
    }
    finish_turn();
    if (failure != nullptr) {
        std::rethrow_exception(failure);
    }
    return true;
}

ControlThread::Helper::Helper(ControlThread& control) noexcept
    : control_(control), outer_(innermost_helper) {
    innermost_helper = this;
}

ControlThread::Helper::~Helper() {
    innermost_helper = outer_;
    if (!posted_) {
        return;
    }
    if (control_.try_enter()) {
        control_.finish_turn();
    } else {
        control_.wake();  // who has the turn may have looked at the queue already
    }
}

// Runs what was posted before and in the turn, and ends it. Timers and what is apart are left to the thread.
void ControlThread::finish_turn() noexcept {
    int rounds = 0;
    while (rounds < kRounds && run_tasks(false)) {
        ++rounds;
    }
    if (rounds == kRounds) {
        wake();
    }
    leave();
}

// ---- descriptors and timers -------------------------------------------------------------------------

bool ControlThread::watch(int fd, std::uint32_t epoll_events, Handler handler) {
    Watched watched{++last_serial_, std::make_shared<Handler>(std::move(handler))};
    epoll_event event{};
    event.events = epoll_events;
    event.data.u64 = static_cast<std::uint64_t>(watched.serial) << 32 | static_cast<unsigned>(fd);
    handlers_[fd] = std::move(watched);  // first: what has no handler must not ring
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) {
        const int error = errno;
        handlers_.erase(fd);
        errno = error;
        return false;
    }
    return true;
}

void ControlThread::change(int fd, std::uint32_t epoll_events) noexcept {
    const auto found = handlers_.find(fd);
    if (found == handlers_.end()) {
        return;
    }
    epoll_event event{};
    event.events = epoll_events;
    event.data.u64 =
        static_cast<std::uint64_t>(found->second.serial) << 32 | static_cast<unsigned>(fd);
    (void)::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
}

void ControlThread::forget(int fd) noexcept {
    (void)::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
    handlers_.erase(fd);
}

std::uint64_t ControlThread::add_timer(std::uint64_t delay_ms, std::function<void()> task) {
    const std::uint64_t id = next_timer_++;
    const std::uint64_t due = clock_.now_ns() + delay_ms * 1000000;
    const auto timer = timers_.emplace(std::pair(due, id), std::move(task)).first;
    try {
        due_[id] = due;
    } catch (...) {
        timers_.erase(timer);
        throw;
    }
    if (due < sleeps_until_) {
        sleeps_until_ = due;
        wake();  // to sleep anew, not so long
    }
    return id;
}

void ControlThread::cancel_timer(std::uint64_t id) noexcept {
    if (const auto found = due_.find(id); found != due_.end()) {
        timers_.erase({found->second, id});
        due_.erase(found);
    }
}

// True if there were any. What a task throws has nobody to catch it: the process ends, as on the thread.
bool ControlThread::run_tasks(bool apart) noexcept {
    std::vector<std::function<void()>> batch;
    std::vector<std::function<void()>> long_ones;
    {
        const std::lock_guard lock(mutex_);
        batch.swap(tasks_);
        if (apart) {
            long_ones.swap(apart_);
        }
    }
    for (auto& task : batch) {
        task();
    }
    for (auto& task : long_ones) {
        task();
    }
    return !batch.empty() || !long_ones.empty();
}

// True if any was due.
bool ControlThread::run_timers() noexcept {
    bool ran = false;
    while (!timers_.empty() && timers_.begin()->first.first <= clock_.now_ns()) {
        const auto first = timers_.begin();
        const std::function<void()> task = std::move(first->second);
        due_.erase(first->first.second);
        timers_.erase(first);
        task();
        ran = true;
    }
    return ran;
}

// How long to wait for the next one, ms; -1 without a limit.
int ControlThread::until_next_timer() noexcept {
    if (timers_.empty()) {
        sleeps_until_ = UINT64_MAX;
        return -1;
    }
    const std::uint64_t due = timers_.begin()->first.first;
    const std::uint64_t now = clock_.now_ns();
    if (due <= now) {
        return 0;
    }
    sleeps_until_ = due;
    return static_cast<int>(std::min<std::uint64_t>((due - now) / 1000000 + 1, 60000));
}

void ControlThread::handle(std::uint64_t data, std::uint32_t epoll_events) {
    // Who had the turn before may have forgotten the descriptor, and opened another of its number. A copy
    // keeps the handler alive while it runs.
    const auto found = handlers_.find(static_cast<int>(data & UINT32_MAX));
    if (found != handlers_.end() && found->second.serial == data >> 32) {
        const std::shared_ptr<Handler> handler = found->second.handler;
        (*handler)(epoll_events);
    }
}

void ControlThread::thread_main() {
    ::pthread_setname_np(::pthread_self(), "sanpoll-ctl");
    const auto own = static_cast<std::uint64_t>(wake_fd_);
    enter();
    for (;;) {
        bool worked = true;
        for (int rounds = 0; worked && rounds < kRounds; ++rounds) {
            worked = run_tasks(true);
            worked |= run_timers();  // in each: tasks may go on for ever
        }
        {
            const std::lock_guard lock(mutex_);
            const bool idle = tasks_.empty() && apart_.empty();
            if (stopping_ && idle) {
                break;
            }
            if (stopping_ || !idle) {
                wake();  // after a look at the descriptors
            }
        }
        // A task that is posted from here on finds nobody who has the turn, and wakes.
        const int timeout = until_next_timer();
        leave();
        epoll_event events[32];
        const int count = ::epoll_wait(epoll_fd_, events, 32, timeout);
        enter();
        sleeps_until_ = 0;
        for (int i = 0; i < count; ++i) {
            if (events[i].data.u64 == own) {
                std::uint64_t rings = 0;
                (void)!::read(wake_fd_, &rings, sizeof(rings));
                continue;
            }
            handle(events[i].data.u64, events[i].events);
        }
    }
    leave();
}

}  // namespace sanpoll::engine
