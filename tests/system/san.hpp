// The provider as the tests use it: from nothing to connected sockets, operations and their results.
// Whatever must not fail throws std::runtime_error with the step and the error's name.
// Addresses are 127.0.0.1, or SANPOLL_TEST_ADDRESS: this host's on an RDMA device, with SANPOLL_FABRIC=verbs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <sanpoll/switch.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/system/scale.hpp"

namespace sanpoll::system_test {

using sanpoll_switch::Provider;
using sanpoll_switch::ProviderSocket;

/// hEvent of an operation whose result is polled for.
inline const WSAEVENT kPolled = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});

[[nodiscard]] std::unique_ptr<Provider> load_provider();
/// The same with knobs in this process' environment while it loads.
[[nodiscard]] std::unique_ptr<Provider> load_provider(
    const std::vector<std::pair<std::string, std::string>>& knobs);

[[noreturn]] void fail(const std::string& step, int error);

class Event {
public:
    Event();
    ~Event();
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    [[nodiscard]] WSAEVENT handle() const noexcept { return handle_; }
    /// False when patience ends.
    [[nodiscard]] bool wait() const;
    [[nodiscard]] bool is_set() const;

private:
    WSAEVENT handle_;
};

/// Listens on a port of this host that no other program has, because a TCP socket keeps it.
class Listener {
public:
    explicit Listener(const Provider& provider);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    [[nodiscard]] SOCKET descriptor() const noexcept { return descriptor_; }
    [[nodiscard]] ProviderSocket accept() const;

private:
    const Provider& provider_;
    Event event_;
    int tcp_ = -1;
    std::uint16_t port_ = 0;
    SOCKET descriptor_ = INVALID_SOCKET;
};

/// A connect that has begun, so that one thread can accept in between.
class Connecting {
public:
    Connecting(const Provider& provider, std::uint16_t port);
    ~Connecting();
    Connecting(const Connecting&) = delete;
    Connecting& operator=(const Connecting&) = delete;

    /// Whether answer() would not wait.
    [[nodiscard]] bool answered() const;
    /// Waits for the answer: 0 or the error. Throws when none comes.
    [[nodiscard]] int answer();
    /// After the answer 0: as finish().
    [[nodiscard]] ProviderSocket release() { return std::exchange(socket_, ProviderSocket{}); }
    /// The connected socket, the caller's from then on.
    [[nodiscard]] ProviderSocket finish();

private:
    const Provider& provider_;
    Event event_;
    ProviderSocket socket_;
};

[[nodiscard]] ProviderSocket connect_to(const Provider& provider, std::uint16_t port);
/// Both ends in this process: connector, acceptor.
[[nodiscard]] std::pair<ProviderSocket, ProviderSocket> connected_pair(const Provider& provider,
                                                                       const Listener& listener);

/// `access` is MEM_READ, MEM_WRITE or both.
HANDLE register_memory(const Provider& provider, SOCKET socket, void* memory, std::size_t bytes,
                       DWORD access);

/// 0 when the operation is pending, else the error with which nothing was started.
[[nodiscard]] inline int post_send(const Provider& provider, SOCKET socket, WSABUF* buffers,
                                   DWORD count, WSAOVERLAPPED* overlapped) noexcept {
    int error = 0;
    DWORD bytes = 0;
    provider.table().lpWSPSend(socket, buffers, count, &bytes, 0, overlapped, nullptr, nullptr,
                               &error);
    return error == WSA_IO_PENDING ? 0 : error;
}

[[nodiscard]] inline int post_receive(const Provider& provider, SOCKET socket, WSABUF* buffers,
                                      DWORD count, WSAOVERLAPPED* overlapped) noexcept {
    int error = 0;
    DWORD bytes = 0;
    DWORD flags = 0;
    provider.table().lpWSPRecv(socket, buffers, count, &bytes, &flags, overlapped, nullptr, nullptr,
                               &error);
    return error == WSA_IO_PENDING ? 0 : error;
}

/// Makes the post again while the provider has no room for it: so it is when whoever turns the core, the control thread
/// perhaps, has lost its CPU, and hundreds of posts are made meanwhile.
template <typename Post>
[[nodiscard]] int patiently(Post post) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    int error = post();
    while (error == WSAEWOULDBLOCK && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
        error = post();
    }
    return error;
}

struct Result {
    int error = 0;
    DWORD bytes = 0;
};

/// Nothing while the operation is pending.
[[nodiscard]] inline std::optional<Result> result_of(const Provider& provider, SOCKET socket,
                                                     WSAOVERLAPPED* overlapped,
                                                     bool wait = false) noexcept {
    Result result;
    DWORD flags = 0;
    if (!provider.table().lpWSPGetOverlappedResult(socket, overlapped, &result.bytes,
                                                   wait ? TRUE : FALSE, &flags, &result.error)) {
        if (result.error == WSA_IO_INCOMPLETE) {
            return std::nullopt;
        }
        result.bytes = 0;
    }
    return result;
}

}  // namespace sanpoll::system_test
