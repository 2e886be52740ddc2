// One open RDMA device.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "engine/fabric/verbs/api.hpp"

namespace sanpoll::engine::verbs {

enum class Transport : std::uint8_t {
    kInfiniband,  // InfiniBand and RoCE
    kIwarp,       // has no RNR, and wants remote write access to the memory that it reads into
};

/// What a device can do, as far as it concerns us.
struct DeviceLimits {
    std::uint32_t max_queue_pairs = 0;
    std::uint32_t max_regions = 0;             // registered at once
    std::uint64_t max_region_bytes = 0;        // of one
    std::uint32_t max_protection_domains = 0;  // a connection takes one
    std::uint32_t max_work_requests = 0;       // of one queue
    std::uint32_t max_completions = 0;         // of one completion queue
    std::uint32_t max_completion_queues = 0;
    std::uint32_t max_sges = 0;            // of one work request
    std::uint32_t max_read_sges = 0;       // of one RDMA READ
    std::uint32_t max_message = 0;         // bytes of one work request
    std::uint8_t initiator_depth = 0;      // RDMA READs of ours under way at once
    std::uint8_t responder_resources = 0;  // and of the peer
};

/// The most that it can do, in words.
[[nodiscard]] std::string described(const DeviceLimits& limits);

/// Memory that a device may reach. Gives it back when it goes.
class Registration {
public:
    Registration() = default;
    Registration(const Api& api, ibv_mr* mr) noexcept : api_(&api), mr_(mr) {}
    ~Registration() { reset(); }
    Registration(Registration&& other) noexcept
        : api_(other.api_), mr_(std::exchange(other.mr_, nullptr)) {}
    Registration& operator=(Registration&& other) noexcept {
        if (this != &other) {
            reset();
            api_ = other.api_;
            mr_ = std::exchange(other.mr_, nullptr);
        }
        return *this;
    }

    [[nodiscard]] explicit operator bool() const noexcept { return mr_ != nullptr; }
    [[nodiscard]] std::uint32_t lkey() const noexcept { return mr_->lkey; }
    [[nodiscard]] std::uint32_t rkey() const noexcept { return mr_->rkey; }
    /// Blocks: a device may take its time.
    void reset() noexcept;

private:
    const Api* api_ = nullptr;
    ibv_mr* mr_ = nullptr;
};

/// Made and destroyed on the control thread. Outlives every port's use of it (VerbsPort::attached) and
/// every registration. RDMA CM owns the context; it stays open.
class Device {
public:
    /// `context`: rdma_cm_id::verbs. nullptr: `error` says what is wrong and how to mend it. Blocks.
    [[nodiscard]] static std::unique_ptr<Device> make(const Api& api, ibv_context* context,
                                                      std::string& error);
    ~Device();
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    [[nodiscard]] const Api& api() const noexcept { return api_; }
    [[nodiscard]] ibv_context* context() const noexcept { return context_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] const DeviceLimits& limits() const noexcept { return limits_; }
    [[nodiscard]] Transport transport() const noexcept { return transport_; }
    /// Whether a message that meets no receive buffer is sent again (else it ends the connection).
    [[nodiscard]] bool has_rnr() const noexcept { return transport_ == Transport::kInfiniband; }
    /// Soft devices have been seen to lose completion events: sleep on them must be short.
    [[nodiscard]] bool soft() const noexcept { return soft_; }
    /// Whether a completion with this ibv_wc_status says only that everything on the queue pair has ended.
    /// Soft-iWARP says LOC_QP_OP_ERR of what it was about to send when the stream ended.
    [[nodiscard]] bool tells_no_cause(std::uint32_t status) const noexcept {
        return status == IBV_WC_WR_FLUSH_ERR ||
               (status == IBV_WC_LOC_QP_OP_ERR && soft_ && transport_ == Transport::kIwarp);
    }
    /// How many bytes of an RDMA READ at the peer's `address` may be asked for at once. Soft-iWARP's short
    /// answers (32 bytes, sent with their header) hold wrong bytes where their source crosses a page.
    [[nodiscard]] std::uint32_t longest_read(std::uint64_t address,
                                             std::uint32_t wanted) const noexcept {
        constexpr std::uint32_t kShortAnswer = 32;
        constexpr std::uint32_t kPage = 4096;  // of the peer's; a larger one is a multiple
        const auto left = static_cast<std::uint32_t>(kPage - address % kPage);
        return soft_ && transport_ == Transport::kIwarp && left < kShortAnswer && left < wanted
                   ? left
                   : wanted;
    }

    /// The device has been pulled out or has failed. Any thread.
    void mark_lost() noexcept { lost_.store(true, std::memory_order_relaxed); }
    [[nodiscard]] bool lost() const noexcept { return lost_.load(std::memory_order_relaxed); }

    /// Registers [address, address + length) in `pd` for `access` (IBV_ACCESS_*). Empty: `error` says why and
    /// how to mend it (RLIMIT_MEMLOCK first of all). Any thread but a polling core's; blocks.
    [[nodiscard]] Registration register_memory(ibv_pd* pd, void* address, std::size_t length,
                                               int access, std::string& error) const;

private:
    Device(const Api& api, ibv_context* context);

    const Api& api_;
    ibv_context* context_;
    std::string name_;
    DeviceLimits limits_;
    Transport transport_ = Transport::kInfiniband;
    bool soft_ = false;
    ibv_cq* placeholder_ = nullptr;  // Soft-iWARP only
    std::atomic<bool> lost_{false};  // a hint; orders nothing
};

}  // namespace sanpoll::engine::verbs
