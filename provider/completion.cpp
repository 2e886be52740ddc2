// How results reach the switch: by the fields of the WSAOVERLAPPED, or by upcall (spec, section 10).
#include <atomic>

#include "engine/log.hpp"
#include "provider/posting.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// Apart, so that success needs no frame.
[[gnu::noinline]] void failed(std::uint64_t context, std::uint32_t bytes,
                              engine::Status status) noexcept {
    finish(*reinterpret_cast<LPWSAOVERLAPPED>(context), bytes, wsa_error(status));
}

// The operation was submitted with hEvent's low bit set: the switch polls, nobody is called.
void completed(std::uint64_t context, std::uint32_t bytes, engine::Status status) noexcept {
    if (status != engine::Status::kOk) [[unlikely]] {
        failed(context, bytes, status);
        return;
    }
    finish(*reinterpret_cast<LPWSAOVERLAPPED>(context), bytes, 0);
}

// The switch wants to be told. On the notifier thread, nothing locked.
void notify(const engine::Completion& completion) noexcept {
    auto* socket = static_cast<Socket*>(completion.owner);
    auto* overlapped = reinterpret_cast<LPWSAOVERLAPPED>(completion.context);
    const auto error = static_cast<DWORD>(wsa_error(completion.status));
    overlapped->OffsetHigh = error;
    overlapped->Offset = 0;
    // The upcall sets it too; the real switch was seen reading it before.
    std::atomic_ref<ULONG_PTR>(overlapped->InternalHigh)
        .store(completion.bytes, std::memory_order_relaxed);
    INT upcall_error = 0;
    if (Provider::instance().upcalls().lpWPUCompleteOverlappedRequest(
            socket->switch_handle.load(std::memory_order_acquire), overlapped, error,
            completion.bytes, &upcall_error) == SOCKET_ERROR) {
        engine::log(engine::LogLevel::kWarn,
                    "the switch did not take a completion (WPUCompleteOverlappedRequest: error {})",
                    upcall_error);
    }
}

// Nothing of the endpoint will come any more. On its core, or on the notifier thread when there had been
// notifications. The record belongs to the closing thread as soon as `gone` is set.
void closed(void* owner) noexcept {
    auto* socket = static_cast<Socket*>(owner);
    if (socket->finish_on_notifier.load(std::memory_order_acquire)) {
        finish_close(*socket);
        Closing::end_late();
        return;
    }
    // Pairs with the acquire in wait_until_gone(). The record itself stays. Calls the system only if the closing
    // thread sleeps: the connection had to wait for a device or for the notifier.
    socket->gone.store(1, std::memory_order_release);
    socket->gone.notify_all();
}

}  // namespace

engine::Handlers completion_handlers() noexcept { return {completed, notify, closed}; }

}  // namespace sanpoll::provider
