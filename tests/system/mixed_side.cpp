#include "tests/system/mixed_side.hpp"

#include <sched.h>

#include <mutex>
#include <stdexcept>
#include <thread>

#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

constexpr ULONG kPortBatch = 64;
constexpr int kIdleTurns = 32;  // until a thread lets others have its CPU

void take_notifications(HANDLE port) {
    sanpoll_switch::OVERLAPPED_ENTRY entries[kPortBatch];
    ULONG taken = 0;
    if (sanpoll_switch::GetQueuedCompletionStatusEx(port, entries, kPortBatch, &taken, 0, FALSE)) {
        for (ULONG i = 0; i < taken; ++i) {
            Operation::notified(entries[i]);
        }
    }
}

}  // namespace

/// The threads of one run, and the first thing that went wrong in one of them.
class MixedSide::Workers {
public:
    explicit Workers(MixedSide& side) : side_(side) {}

    void run() {
        std::vector<std::thread> threads;
        for (std::uint32_t i = 0; i < side_.plan_.threads; ++i) {
            threads.emplace_back([this, i] { work(i); });
        }
        for (std::thread& thread : threads) {
            thread.join();
        }
        if (!failure_.empty()) {
            throw std::runtime_error(failure_);
        }
    }

private:
    void work(std::uint32_t index) {
        try {
            drive(index);
        } catch (const std::exception& failure) {
            const std::lock_guard lock(mutex_);
            if (failure_.empty()) {
                failure_ = failure.what();
            }
            failed_.store(true);
        }
    }

    // The halves of one socket are different threads', except of the first few sockets.
    void drive(std::uint32_t index) {
        const std::uint32_t threads = side_.plan_.threads;
        std::vector<SendFlow*> sends;
        std::vector<ReceiveFlow*> receives;
        for (std::uint32_t i = 0; i < side_.plan_.sockets; ++i) {
            if (i % threads == index) {
                sends.push_back(side_.sends_[i].get());
            }
            if ((i + i / threads) % threads == index) {
                receives.push_back(side_.receives_[i].get());
            }
        }
        auto last_progress = std::chrono::steady_clock::now();
        for (int idle = 0; !failed_.load(std::memory_order_relaxed);) {
            bool progress = false;
            std::erase_if(sends, [&](SendFlow* flow) {
                progress |= flow->step();
                return flow->done();
            });
            std::erase_if(receives, [&](ReceiveFlow* flow) {
                progress |= flow->step();
                return flow->done();
            });
            take_notifications(side_.port_);
            if (sends.empty() && receives.empty()) {
                return;
            }
            if (progress) {
                idle = 0;
            } else if (++idle >= kIdleTurns) {
                const auto now = std::chrono::steady_clock::now();
                if (idle == kIdleTurns) {
                    last_progress = now;
                } else if (now - last_progress > kPatience) {
                    std::string state = "nothing moves any more:";
                    for (const SendFlow* flow : sends) {
                        state += "\n  " + flow->state();
                    }
                    for (const ReceiveFlow* flow : receives) {
                        state += "\n  " + flow->state();
                    }
                    throw std::runtime_error(state);
                }
                ::sched_yield();
            }
        }
    }

    MixedSide& side_;
    std::mutex mutex_;
    std::string failure_;
    std::atomic<bool> failed_{false};
};

MixedSide::MixedSide(const Provider& provider, const TrafficPlan& plan, std::uint32_t side,
                     std::vector<ProviderSocket> sockets)
    : provider_(provider),
      plan_(plan),
      sockets_(std::move(sockets)),
      pool_(plan.seed),
      port_(sanpoll_switch::CreateIoCompletionPort(sanpoll_switch::INVALID_HANDLE_VALUE, nullptr, 0,
                                                   0)) {
    for (std::uint32_t i = 0; i < sockets_.size(); ++i) {
        sanpoll_switch::CreateIoCompletionPort(sanpoll_switch::as_handle(sockets_[i].switch_handle),
                                               port_, i, 0);
        // The longest messages go over every fourth socket only: they are most of the time of a run.
        const bool with_longest = i % 4 == 0;
        const auto plan_of = [&](std::uint32_t way) {
            return FlowPlan{&provider_,
                            sockets_[i].descriptor,
                            Stream(plan_.seed, i * 2 + way, with_longest),
                            plan_.messages_each_way,
                            static_cast<Telling>(i % 3),
                            &pool_,
                            "socket " + std::to_string(i) + " side " + std::to_string(side)};
        };
        sends_.push_back(std::make_unique<SendFlow>(plan_of(side)));
        receives_.push_back(std::make_unique<ReceiveFlow>(plan_of(1 - side)));
    }
}

MixedSide::~MixedSide() {
    // Before the memory and the operations go.
    for (const ProviderSocket& socket : sockets_) {
        provider_.close(socket.descriptor);
    }
    sanpoll_switch::CloseHandle(port_);
}

void MixedSide::run() {
    Workers(*this).run();
    sanpoll_switch::OVERLAPPED_ENTRY entry{};
    ULONG taken = 0;
    if (sanpoll_switch::GetQueuedCompletionStatusEx(port_, &entry, 1, &taken, 0, FALSE)) {
        throw std::runtime_error("a notification came although all operations had been told of");
    }
}

std::uint64_t MixedSide::bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const auto& flow : sends_) {
        sum += flow->bytes();
    }
    return sum;
}

}  // namespace sanpoll::system_test
