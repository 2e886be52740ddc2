// A completion queue that serves many connections, and the channel that wakes a sleeping core.
#pragma once

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/fabric/verbs/device.hpp"
#include "engine/fabric/verbs/private_buffers.hpp"

namespace sanpoll::engine::verbs {

/// What a completion says. Of one that is not a success, `bytes` means nothing.
struct WorkCompletion {
    std::uint64_t id;
    std::uint32_t status;  // ibv_wc_status
    std::uint32_t bytes;   // of a received packet
    std::uint32_t vendor_error;
};

/// Its size is given once. Each connection reserves room for all work requests that it can ever have under
/// way, so it cannot run over, whatever happens: also when a queue pair fails, and every request of its ends
/// with an error at once.
class CompletionQueue {
public:
    /// Completions that one connection can have outstanding.
    static constexpr std::uint32_t kPerConnection = kReceiveBuffers + kSendDepth;
    static constexpr std::uint32_t kEntries = 4096;

    // ---- control thread; may block

    /// nullptr: `error` says why.
    [[nodiscard]] static std::unique_ptr<CompletionQueue> make(Device& device, std::string& error);
    ~CompletionQueue();
    CompletionQueue(const CompletionQueue&) = delete;
    CompletionQueue& operator=(const CompletionQueue&) = delete;

    /// Room for one more connection? Given back with release(), after the connection's last completion
    /// has been taken.
    [[nodiscard]] bool reserve() noexcept {
        if (connections_ == capacity_) {
            return false;
        }
        ++connections_;
        return true;
    }
    void release() noexcept { --connections_; }
    [[nodiscard]] std::uint32_t connections() const noexcept { return connections_; }

    [[nodiscard]] Device& device() const noexcept { return device_; }
    [[nodiscard]] ibv_cq* cq() const noexcept { return cq_; }
    /// Readable when a completion has come after arm().
    [[nodiscard]] int fd() const noexcept { return channel_->fd; }

    // ---- the polling core

    /// Takes up to `budget` completions and calls take(completion) for each. Returns how many, or -1: the
    /// device has failed. By ibv_start_poll where the device has it, else by ibv_poll_cq.
    template <typename Take>
    [[nodiscard]] int poll(std::uint32_t budget, Take take) noexcept;

    /// Asks for one event when the next completion comes. What has come before must be polled for then.
    /// False: the device has failed.
    [[nodiscard]] bool arm() noexcept { return ::ibv_req_notify_cq(cq_, 0) == 0; }
    /// Takes the events that have come. They are acknowledged later, many at once: that takes a lock.
    void take_events() noexcept;

    /// The device has failed; nothing more is expected of it.
    void mark_failed() noexcept { failed_ = true; }
    [[nodiscard]] bool failed() const noexcept { return failed_; }

    [[nodiscard]] bool extended() const noexcept { return extended_ != nullptr; }

private:
    explicit CompletionQueue(Device& device) : device_(device) {}

    template <typename Take>
    [[nodiscard]] int poll_plain(std::uint32_t budget, Take take) noexcept;
    template <typename Take>
    [[nodiscard]] int poll_extended(std::uint32_t budget, Take take) noexcept;

    Device& device_;
    ibv_comp_channel* channel_ = nullptr;
    ibv_cq* cq_ = nullptr;
    ibv_cq_ex* extended_ = nullptr;  // the same, where it can be polled that way
    std::uint32_t capacity_ = 0;     // connections
    std::uint32_t connections_ = 0;
    bool failed_ = false;
    std::uint32_t unacknowledged_ =
        0;  // the core's; the control thread's after the core has let go
};

template <typename Take>
int CompletionQueue::poll(std::uint32_t budget, Take take) noexcept {
    return extended_ != nullptr ? poll_extended(budget, take) : poll_plain(budget, take);
}

template <typename Take>
int CompletionQueue::poll_plain(std::uint32_t budget, Take take) noexcept {
    constexpr std::uint32_t kBatch = 16;
    ibv_wc batch[kBatch];
    std::uint32_t taken = 0;
    while (taken < budget) {
        const std::uint32_t wanted = budget - taken < kBatch ? budget - taken : kBatch;
        const int count = ::ibv_poll_cq(cq_, static_cast<int>(wanted), batch);
        if (count < 0) [[unlikely]] {
            return -1;
        }
        for (int i = 0; i < count; ++i) {
            const ibv_wc& wc = batch[i];
            take(WorkCompletion{wc.wr_id, static_cast<std::uint32_t>(wc.status), wc.byte_len,
                                wc.vendor_err});
        }
        taken += static_cast<std::uint32_t>(count);
        if (static_cast<std::uint32_t>(count) < wanted) {
            break;
        }
    }
    return static_cast<int>(taken);
}

template <typename Take>
int CompletionQueue::poll_extended(std::uint32_t budget, Take take) noexcept {
    ibv_poll_cq_attr attributes{};
    int result = ::ibv_start_poll(extended_, &attributes);
    if (result == ENOENT) {
        return 0;  // there is nothing, and nothing to end
    }
    if (result != 0) [[unlikely]] {
        return -1;
    }
    std::uint32_t taken = 0;
    for (;;) {
        const auto status = static_cast<std::uint32_t>(extended_->status);
        // Of an error, only the id, the status and the vendor's word are defined.
        take(
            status == IBV_WC_SUCCESS
                ? WorkCompletion{extended_->wr_id, status, ::ibv_wc_read_byte_len(extended_), 0}
                : WorkCompletion{extended_->wr_id, status, 0, ::ibv_wc_read_vendor_err(extended_)});
        if (++taken == budget) {
            break;
        }
        result = ::ibv_next_poll(extended_);
        if (result != 0) {
            break;
        }
    }
    ::ibv_end_poll(extended_);
    return result != 0 && result != ENOENT ? -1 : static_cast<int>(taken);
}

}  // namespace sanpoll::engine::verbs
