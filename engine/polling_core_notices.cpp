// Notices: what a core hands to the notifier, so that upcalls are made off the core. A ring to that thread, and behind it a list
// for what finds the ring full: none may be lost, and their order is that in which things happened. An endpoint that has ever had
// a notified operation is reported closed by the same way, behind its last notification.
#include "engine/fence.hpp"
#include "engine/notifier.hpp"
#include "engine/polling_core.hpp"

namespace sanpoll::engine {

// ---- front end --------------------------------------------------------------------------------------

Status PollingCore::post_notified(WorkRequest& request, PostGate& gate, std::uint32_t generation,
                                  const std::atomic<Endpoint*>& endpoint) noexcept {
    if (!overflow_.reserve(NoticeQueue::kPlacesOfOne)) [[unlikely]] {
        return Status::kNoMemory;
    }
    const Status status = post_with_place(request, gate, generation, endpoint);
    if (status != Status::kOk) {
        overflow_.give_back(NoticeQueue::kPlacesOfOne);
    }
    return status;
}

// ---- under the token --------------------------------------------------------------------------------

void PollingCore::endpoint_closed(const Endpoint& endpoint) noexcept {
    if (!endpoint.ever_notified) {
        handlers_.closed(endpoint.owner);
        return;
    }
    Notice notice{};
    notice.completion.owner = endpoint.owner;
    notice.closed = true;
    queue_notification(notice);
}

void PollingCore::queue_notification(const Notice& notice) noexcept {
    counters_.notifications.add();
    if (overflow_.empty() && notices_.producer().try_push(notice)) [[likely]] {
        overflow_.end(1);
        notifier_.ring();
        return;
    }
    // Full: the notifier is behind. Nothing may be lost and order must hold, so the rest waits here.
    overflow_.push(notice);
    keep_awake();
    flush_notices();
}

void PollingCore::flush_notices() noexcept {
    bool pushed = false;
    while (!overflow_.empty() && notices_.producer().try_push(overflow_.front())) {
        overflow_.pop();
        overflow_.end(1);
        let_sleep();
        pushed = true;
    }
    if (pushed) {
        notifier_.ring();
    }
}

// ---- notifier thread --------------------------------------------------------------------------------

std::uint32_t PollingCore::deliver_notices(std::uint32_t budget) noexcept {
    std::uint32_t delivered = 0;
    Notice notice{};
    while (delivered < budget && notices_.consumer().try_pop(notice)) {
        ++delivered;
        if (notice.closed) {
            handlers_.closed(notice.completion.owner);
        } else {
            handlers_.notify(notice.completion);
        }
        light_fence();  // as in complete()
        if (waiters_.load(std::memory_order_relaxed) != 0) {
            wake_waiters();
        }
    }
    if (delivered != 0) {
        notices_.consumer().publish_progress();
    }
    return delivered;
}

}  // namespace sanpoll::engine
