#include "engine/fabric/verbs/completion_queue.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "engine/limit_error.hpp"

namespace sanpoll::engine::verbs {

std::unique_ptr<CompletionQueue> CompletionQueue::make(Device& device, std::string& error) {
    const Api& api = device.api();
    std::unique_ptr<CompletionQueue> queue(new CompletionQueue(device));
    const auto why = [&device](const char* what) {
        const int reason = errno;
        std::string text;
        if (no_descriptors(reason)) {
            text = descriptor_error(fmt::format("a {} of the RDMA device {}", what, device.name()),
                                    reason);
        } else {
            const std::string lock_limit = reason == ENOMEM ? lock_limit_text() : std::string();
            text = fmt::format(
                "the RDMA device {} gives no {} ({}): it may have {} completion queues of {} "
                "entries (max_cq, max_cqe) in all, and each polling core takes one: use fewer{}{}",
                device.name(), what, std::generic_category().message(reason),
                device.limits().max_completion_queues, device.limits().max_completions,
                lock_limit.empty() ? "" : "; or ", lock_limit);
        }
        errno = reason;  // the caller wants it
        return text;
    };
    queue->channel_ = api.verbs.create_comp_channel(device.context());
    if (queue->channel_ == nullptr) {
        error = why("completion channel");
        return nullptr;
    }
    const int flags = ::fcntl(queue->channel_->fd, F_GETFL);
    (void)::fcntl(queue->channel_->fd, F_SETFL, flags | O_NONBLOCK);
    (void)::fcntl(queue->channel_->fd, F_SETFD, FD_CLOEXEC);

    const std::uint32_t entries = std::min(kEntries, device.limits().max_completions);
    queue->capacity_ = entries / kPerConnection;
    ibv_cq_init_attr_ex attributes{};
    attributes.cqe = entries;
    attributes.channel = queue->channel_;
    attributes.wc_flags = IBV_WC_EX_WITH_BYTE_LEN;
    if (!device.soft()) {
        // Soft-RoCE's ibv_next_poll, when it finds no more, has already moved on as ibv_end_poll does; and
        // ibv_end_poll, which others need then, moves on once more. So that queue is polled the plain way.
        queue->extended_ = ::ibv_create_cq_ex(device.context(), &attributes);
    }
    queue->cq_ = queue->extended_ != nullptr
                     ? ::ibv_cq_ex_to_cq(queue->extended_)
                     : api.verbs.create_cq(device.context(), static_cast<int>(entries), nullptr,
                                           queue->channel_, 0);
    if (queue->cq_ == nullptr) {
        error = why("completion queue");
        return nullptr;
    }
    return queue;
}

CompletionQueue::~CompletionQueue() {
    const Api& api = device_.api();
    if (cq_ != nullptr) {
        if (unacknowledged_ != 0) {
            api.verbs.ack_cq_events(cq_,
                                    unacknowledged_);  // or its destruction would wait for them
        }
        (void)api.verbs.destroy_cq(cq_);
    }
    if (channel_ != nullptr) {
        (void)api.verbs.destroy_comp_channel(channel_);
    }
}

void CompletionQueue::take_events() noexcept {
    constexpr std::uint32_t kAcknowledgeEvery = 256;
    const Api& api = device_.api();
    ibv_cq* which = nullptr;
    void* context = nullptr;
    while (api.verbs.get_cq_event(channel_, &which, &context) == 0) {
        ++unacknowledged_;
    }
    if (unacknowledged_ >= kAcknowledgeEvery) {
        api.verbs.ack_cq_events(cq_, unacknowledged_);
        unacknowledged_ = 0;
    }
}

}  // namespace sanpoll::engine::verbs
