// The one thread that calls the switch back.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/config.hpp"
#include "engine/fence.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine {

class PollingCore;

/// Upcalls run code that we do not know, which may block or call back into us, so they run here and
/// never on a polling core, with nothing locked. One thread, so that the completions of a socket reach
/// the switch one at a time and in order.
class Notifier {
public:
    explicit Notifier(const Config& config) : config_(config) {}
    ~Notifier();
    Notifier(const Notifier&) = delete;
    Notifier& operator=(const Notifier&) = delete;

    /// Before start(): a core whose notices are delivered here.
    void add_core(PollingCore& core) { cores_.push_back(&core); }
    [[nodiscard]] std::string start();
    /// Delivers what is left, then ends the thread.
    void stop();

    /// A core has pushed notices. Token holder; a system call only if the thread sleeps.
    void ring() noexcept {
        // A plain load: the sleeper's heavy fence orders it after the push. Pairs with sleep().
        light_fence();
        if (asleep_.load(std::memory_order_relaxed) != 0) [[unlikely]] {
            wake();
        }
    }

    /// Has `job` run on the notifier thread, after the notices and jobs that came before. Control plane. Needs memory only
    /// beyond kRoom jobs that wait; may throw std::bad_alloc then.
    void post(std::function<void()> job);

    [[nodiscard]] bool is_this_thread() const noexcept;
    /// Whether this thread is the notifier thread of whichever engine, also of one that is being ended.
    [[nodiscard]] static bool is_any() noexcept;

private:
    static constexpr std::size_t kRoom = 512;  // bytes are 32 times as many

    void wake() noexcept;
    void thread_main() noexcept;
    bool work() noexcept;
    void sleep() noexcept;

    const Config& config_;
    std::vector<PollingCore*> cores_;
    std::thread thread_;
    std::atomic<bool> stopping_{false};
    alignas(rings::kCacheLine) std::atomic<std::uint32_t> asleep_{0};  // futex
    std::atomic<std::uint32_t> job_count_{0};
    std::mutex jobs_mutex_;
    std::vector<std::function<void()>> jobs_;  // those that have run, then those that wait
    std::size_t next_job_ = 0;
    bool delivered_ = false;  // the last look found notices; the thread's own
};

}  // namespace sanpoll::engine
