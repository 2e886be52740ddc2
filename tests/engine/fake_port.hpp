// A fabric port of a few lines, and what the engine's user would be, for tests of the core.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "engine/fabric/endpoint.hpp"
#include "engine/fabric/fabric_port.hpp"
#include "engine/lane_registry.hpp"
#include "engine/polling_core.hpp"
#include "engine/post_gate.hpp"

namespace sanpoll::tests {

/// What came back for a socket. The engine hands out its address as the owner.
struct Record {
    Record() { context_base = enroll(this); }
    ~Record() { roll()[context_base >> kShift].store(nullptr); }
    Record(const Record&) = delete;
    Record& operator=(const Record&) = delete;

    std::mutex mutex;
    std::vector<std::uint64_t> completed;  // numbers, in order
    std::vector<std::uint64_t> notified;
    int closed = 0;
    std::function<void(const engine::Completion&)> on_notify;  // on the notifier thread, unlocked
    std::uint64_t context_base;  // a polled completion brings its context only, so that names us

    [[nodiscard]] std::size_t completions() {
        const std::lock_guard lock(mutex);
        return completed.size();
    }
    [[nodiscard]] std::size_t notifications() {
        const std::lock_guard lock(mutex);
        return notified.size();
    }
    [[nodiscard]] int closures() {
        const std::lock_guard lock(mutex);
        return closed;
    }

    static constexpr int kShift = 40;
    [[nodiscard]] static Record* of(std::uint64_t context) noexcept {
        return roll()[context >> kShift].load();
    }
    [[nodiscard]] static constexpr std::uint64_t number_of(std::uint64_t context) noexcept {
        return context & ((1ULL << kShift) - 1);
    }

private:
    static constexpr std::uint64_t kRoll = 65536;
    [[nodiscard]] static std::atomic<Record*>* roll() noexcept {
        static std::atomic<Record*> all[kRoll];
        return all;
    }
    [[nodiscard]] static std::uint64_t enroll(Record* record) noexcept {
        static std::atomic<std::uint64_t> next{0};
        const std::uint64_t index = next.fetch_add(1) % kRoll;
        roll()[index].store(record);
        return index << kShift;
    }
};

inline engine::Handlers record_handlers() {
    engine::Handlers handlers;
    handlers.completed = [](std::uint64_t context, std::uint32_t, engine::Status) noexcept {
        Record* record = Record::of(context);
        const std::lock_guard lock(record->mutex);
        record->completed.push_back(Record::number_of(context));
    };
    handlers.notify = [](const engine::Completion& completion) noexcept {
        auto* record = static_cast<Record*>(completion.owner);
        if (record->on_notify) {
            record->on_notify(completion);
        }
        const std::lock_guard lock(record->mutex);
        record->notified.push_back(Record::number_of(completion.context));
    };
    handlers.closed = [](void* owner) noexcept {
        auto* record = static_cast<Record*>(owner);
        const std::lock_guard lock(record->mutex);
        ++record->closed;
    };
    return handlers;
}

struct FakeEndpoint final : engine::Endpoint {};

/// Remembers what was posted; completes it at once, or when told to.
class FakePort final : public engine::FabricPort {
public:
    explicit FakePort(engine::PollingCore& core) : core_(core) {}

    [[nodiscard]] std::string_view fabric() const noexcept override { return "fake"; }
    void post(engine::Endpoint& endpoint, const engine::WorkRequest& request) noexcept override {
        const Inside inside(*this);
        posted.push_back(request);
        count.store(posted.size(), std::memory_order_release);
        if (complete_at_once.load(std::memory_order_relaxed)) {
            core_.complete({endpoint.owner, request.context, request.length, engine::Status::kOk,
                            request.flags});
        } else {
            pending_.push_back({endpoint.owner, request.context, request.length,
                                engine::Status::kOk, request.flags});
        }
    }
    void close(engine::Endpoint& endpoint) noexcept override {
        const Inside inside(*this);
        posted_at_close = posted.size();
        core_.endpoint_closed(endpoint);
    }
    std::uint32_t poll(std::uint32_t budget) noexcept override {
        const Inside inside(*this);
        last_budget = budget;
        polls.fetch_add(1, std::memory_order_relaxed);
        std::uint32_t taken = 0;
        while (taken < budget && !pending_.empty() &&
               arrivals.load(std::memory_order_acquire) != 0) {
            arrivals.fetch_sub(1, std::memory_order_relaxed);
            const engine::Completion first = pending_.front();
            pending_.erase(pending_.begin());
            core_.complete(first);
            ++taken;
        }
        return taken;
    }
    void arm() noexcept override { armed.fetch_add(1, std::memory_order_relaxed); }
    void disarm() noexcept override { armed.fetch_sub(1, std::memory_order_relaxed); }

    /// Before the first post: so many need no memory.
    void reserve(std::size_t posts) {
        posted.reserve(posts);
        pending_.reserve(posts);
    }

    std::vector<engine::WorkRequest> posted;  // under the token
    std::size_t posted_at_close = 0;
    std::uint32_t last_budget = 0;
    std::atomic<std::size_t> count{0};  // of posted
    std::atomic<bool> complete_at_once{true};
    std::atomic<int> arrivals{0};  // how many pending requests poll() may complete
    std::atomic<std::uint64_t> polls{0};
    std::atomic<int> armed{0};
    std::atomic<int> intruders{0};  // calls made while another was running

private:
    struct Inside {
        explicit Inside(FakePort& owner) : port(owner) {
            // Relaxed: it must notice two callers at once, not order them.
            if (port.inside_.fetch_add(1, std::memory_order_relaxed) != 0) {
                port.intruders.fetch_add(1, std::memory_order_relaxed);
            }
        }
        ~Inside() { port.inside_.fetch_sub(1, std::memory_order_relaxed); }
        FakePort& port;
    };

    engine::PollingCore& core_;
    std::vector<engine::Completion> pending_;  // under the token
    std::atomic<int> inside_{0};
};

/// A connected socket on a fake port.
class FakeSocket {
public:
    FakeSocket(engine::PollingCore& core, FakePort& port) : core_(core) {
        generation_ = gate.revive();
        endpoint_.owner = &record;
        endpoint_.slot = &slot_;
        endpoint_.gate = &gate;
        endpoint_.generation = generation_;
        endpoint_.port = &port;
        endpoint_.core = &core;
        slot_.store(&endpoint_);
        (void)gate.open(generation_);
    }

    [[nodiscard]] engine::Status post(std::uint64_t number, std::uint8_t flags = 0,
                                      std::uint32_t sge_count = 1) {
        engine::WorkRequest request{};
        request.opcode = engine::Opcode::kSend;
        request.context = record.context_base | number;
        request.flags = flags;
        request.sge_count = static_cast<std::uint8_t>(sge_count);
        return core_.post(request, gate, generation_, slot_);
    }

    /// Closes as the provider does. Returns how many posts were admitted.
    std::uint32_t close() {
        const auto before = gate.close(generation_);
        if (!before) {
            return 0;
        }
        struct Op final : engine::ControlOp {
            explicit Op(engine::Endpoint& target) : endpoint(target) {}
            void run() noexcept override { endpoint.port->close(endpoint); }
            engine::Endpoint& endpoint;
        } op(endpoint_);
        core_.run(op, &endpoint_, before->sequence);
        return before->sequence;
    }

    [[nodiscard]] const std::atomic<engine::Endpoint*>& slot() const { return slot_; }
    [[nodiscard]] engine::Endpoint& endpoint() { return endpoint_; }
    [[nodiscard]] std::uint32_t generation() const { return generation_; }

    Record record;
    engine::PostGate gate;

private:
    engine::PollingCore& core_;
    FakeEndpoint endpoint_;
    std::atomic<engine::Endpoint*> slot_{nullptr};
    std::uint32_t generation_ = 0;
};

}  // namespace sanpoll::tests
