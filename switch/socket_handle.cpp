#include "switch/socket_handle.hpp"

#include <mutex>
#include <utility>

namespace sanpoll_switch::detail {
namespace {

thread_local HandleCapture* innermost_capture = nullptr;

}  // namespace

bool SwitchSocket::associate(PortTable::Pin port, ULONG_PTR key) {
    const std::lock_guard lock(mutex_);
    if (associated_.load(std::memory_order_relaxed)) return false;
    port_ = std::move(port);
    key_ = key;
    // Release: partner is the acquire load in queue().
    associated_.store(true, std::memory_order_release);
    return true;
}

int SwitchSocket::queue(LPOVERLAPPED overlapped, DWORD error, DWORD bytes) {
    // Acquire: partner is the release store in associate().
    if (!associated_.load(std::memory_order_acquire) || port_.closed()) return 0;
    return port_->push({key_, overlapped, error, bytes}) ? 0 : WSA_NOT_ENOUGH_MEMORY;
}

void SwitchSocket::recycle() noexcept {
    context = 0;
    port_.release();
    key_ = 0;
    associated_.store(false, std::memory_order_relaxed);
}

SocketTable& sockets() {
    // Never destroyed, like the ports.
    static SocketTable& table = *new SocketTable;
    return table;
}

int associate_port(SOCKET switch_handle, HANDLE port, ULONG_PTR key) {
    auto port_pin = ports().pin(reinterpret_cast<std::uintptr_t>(port));
    const auto socket_pin = sockets().pin(switch_handle);
    if (!port_pin || !socket_pin) return WSA_INVALID_HANDLE;
    return socket_pin->associate(std::move(port_pin), key) ? 0 : WSA_INVALID_PARAMETER;
}

HandleCapture::HandleCapture() : outer_(innermost_capture) { innermost_capture = this; }

HandleCapture::~HandleCapture() { innermost_capture = outer_; }

void HandleCapture::offer(SOCKET handle) {
    if (innermost_capture != nullptr) innermost_capture->handle_ = handle;
}

}  // namespace sanpoll_switch::detail
