#include "provider/waiting.hpp"

#include <atomic>
#include <ctime>

#include "engine/log.hpp"
#include "provider/engine_stay.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// Waiting inside an upcall for an operation that ends by an upcall would be waiting for ourselves: there is
// one thread for upcalls, and upcalls of a socket are not nested. WSA_IO_INCOMPLETE is the one answer that
// does not say that the operation has ended.
bool would_wait_for_itself(const WSAOVERLAPPED& overlapped) noexcept {
    if ((reinterpret_cast<std::uintptr_t>(overlapped.hEvent) & 1U) != 0 ||
        !Provider::instance().engine().notifier().is_this_thread()) {
        return false;
    }
    static std::atomic<bool> told{false};  // once is enough: the caller may ask again and again
    if (!told.exchange(true, std::memory_order_relaxed)) {
        engine::log(
            engine::LogLevel::kWarn,
            "WSPGetOverlappedResult with fWait was called inside a completion upcall, for an "
            "operation that ends with one: answered with WSA_IO_INCOMPLETE, for the thread "
            "that would end it is this one. Return from the upcall first, or submit the "
            "operation with the low bit of hEvent set");
    }
    return true;
}

// Whether there is nothing to wait for any more. The last WSPCleanup may wait for this thread before it ends what is
// pending: then as soon as it has begun.
bool has_gone_down() noexcept {
    // Acquire pairs with the releases in provider.cpp: what was posted has ended; or the cleanup is at it.
    return common().drained.load(std::memory_order_acquire) ||
           (common().ending.load(std::memory_order_acquire) && is_waited_for());
}

// What is to be said then. In this order: what has ended by the time that nothing is pending has a result.
int gone_down_error(WSAOVERLAPPED& overlapped) noexcept {
    const bool drained = common().drained.load(std::memory_order_acquire);
    if (!in_progress(overlapped)) {
        return 0;
    }
    return drained ? WSANOTINITIALISED : WSA_IO_INCOMPLETE;
}

}  // namespace

bool is_going_down(int error) noexcept {
    return error == WSANOTINITIALISED ||
           (error == WSAENOTSOCK && common().ending.load(std::memory_order_acquire));
}

int wait_for(engine::PollingCore* core, WSAOVERLAPPED& overlapped, BOOL wait) noexcept {
    if (core == nullptr) {
        return wait ? WSAEINVAL : WSA_IO_INCOMPLETE;
    }
    if (would_wait_for_itself(overlapped)) {
        core->poll_once();
        return in_progress(overlapped) ? WSA_IO_INCOMPLETE : 0;
    }
    // What was never posted does not end: the last WSPCleanup ends the wait for it.
    core->wait_until([&] { return !in_progress(overlapped) || has_gone_down(); });
    return gone_down_error(overlapped);
}

int going_down_error(WSAOVERLAPPED& overlapped, BOOL wait) noexcept {
    const EngineStay stay;  // not up; but no other start comes before we have looked
    while (in_progress(overlapped) && !has_gone_down()) {
        if (!wait) {
            return WSA_IO_INCOMPLETE;
        }
        const timespec moment{0, 50000};
        ::nanosleep(&moment, nullptr);
    }
    return gone_down_error(overlapped);
}

}  // namespace sanpoll::provider
