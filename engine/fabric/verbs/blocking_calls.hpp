// Threads for calls that may wait inside the kernel.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace sanpoll::engine::verbs {

/// iWARP drivers may open their TCP connection inside rdma_connect and rdma_accept and wait for the other
/// host there, ten seconds and more. The control thread must not. A call that finds no idle thread gets a
/// new one, up to a limit, then waits its turn; so one silent host does not delay the connects to others.
class BlockingCalls {
public:
    static constexpr std::size_t kMostThreads = 16;

    BlockingCalls() = default;
    ~BlockingCalls() { stop(); }
    BlockingCalls(const BlockingCalls&) = delete;
    BlockingCalls& operator=(const BlockingCalls&) = delete;

    /// Any thread: runs `call` on a thread of its own, soon. False if no thread could be started; `call` is
    /// not run then.
    [[nodiscard]] bool run(std::function<void()> call);
    /// Runs what is queued and waits for all; as long as the calls take.
    void stop();

private:
    void thread_main();

    std::mutex mutex_;  // guards all that follows
    std::condition_variable changed_;
    std::deque<std::function<void()>> queue_;
    std::vector<std::thread> threads_;
    std::size_t idle_ = 0;
    bool stopping_ = false;
};

}  // namespace sanpoll::engine::verbs
