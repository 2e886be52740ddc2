#include "engine/fabric/verbs/blocking_calls.hpp"

#include <pthread.h>

#include <system_error>
#include <utility>

namespace sanpoll::engine::verbs {

bool BlockingCalls::run(std::function<void()> call) {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
        return false;
    }
    queue_.push_back(std::move(call));
    if (queue_.size() > idle_ && threads_.size() < kMostThreads) {
        try {
            threads_.emplace_back([this] { thread_main(); });
        } catch (const std::system_error&) {
            if (threads_.empty()) {
                queue_.pop_back();
                return false;
            }
        }
    }
    changed_.notify_one();
    return true;
}

void BlockingCalls::stop() {
    std::vector<std::thread> threads;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        threads.swap(threads_);
        changed_.notify_all();
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

void BlockingCalls::thread_main() {
    ::pthread_setname_np(::pthread_self(), "sanpoll-cm");
    std::unique_lock lock(mutex_);
    for (;;) {
        while (queue_.empty()) {
            if (stopping_) {
                return;
            }
            ++idle_;
            changed_.wait(lock);
            --idle_;
        }
        const std::function<void()> call = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        call();
        lock.lock();
    }
}

}  // namespace sanpoll::engine::verbs
