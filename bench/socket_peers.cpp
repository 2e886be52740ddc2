#include "bench/socket_peers.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace sanpoll::bench {
namespace {

using Waiting = TcpConnection::Waiting;

std::string always_there() { return {}; }

ConnectionFault unix_fault(const char* what) {
    return ConnectionFault(std::string("unix socket: ") + what + ": " + std::strerror(errno));
}

template <Waiting kWaiting>
std::unique_ptr<MeasuredEnds> open_tcp(Descriptor meeting, bool server,
                                       const ConnectionShape& shape, const SpinRule& rule) {
    return one_end(server,
                   std::make_unique<TcpConnection>(std::move(meeting), shape, kWaiting, rule));
}

template <Waiting kWaiting>
std::unique_ptr<MeasuredEnds> open_unix(Descriptor meeting, bool server,
                                        const ConnectionShape& shape, const SpinRule& rule) {
    return one_end(server, std::make_unique<TcpConnection>(unix_socket(meeting, server), shape,
                                                           kWaiting, rule));
}

}  // namespace

Descriptor unix_socket(const Descriptor& meeting, bool server) {
    Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (socket.get() < 0) throw unix_fault("none to be had");
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    if (!server) {
        const std::vector<char> name = exchange_addresses(meeting, {});
        if (name.empty() || name.size() > sizeof where)
            throw ConnectionFault("unix socket: the server told no address");
        std::memcpy(&where, name.data(), name.size());
        if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&where),
                    static_cast<socklen_t>(name.size())) != 0)
            throw unix_fault("connect failed");
        return socket;
    }
    // The kernel chooses an abstract name: nothing is left in a file system.
    socklen_t length = sizeof where.sun_family;
    if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), length) != 0 ||
        listen(socket.get(), 1) != 0)
        throw unix_fault("cannot listen");
    length = sizeof where;
    if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&where), &length) != 0)
        throw unix_fault("getsockname failed");
    const auto* name = reinterpret_cast<const char*>(&where);
    exchange_addresses(meeting, {name, name + length});
    const timeval patience{kPatience.count(), 0};
    setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    // A ring of io_uring that has just been closed may interrupt.
    int fd;
    while ((fd = accept4(socket.get(), nullptr, nullptr, SOCK_CLOEXEC)) < 0 && errno == EINTR) {
    }
    Descriptor accepted(fd);
    if (accepted.get() < 0) throw unix_fault("accept failed");
    return accepted;
}

Peers socket_peers() {
    constexpr std::uint32_t kAny = UINT32_MAX;
    return {
        {"tcp-spin",
         "kernel TCP, loopback, TCP_NODELAY, non-blocking, one send a message, both ends spin in "
         "recv",
         kAny, always_there, open_tcp<Waiting::kSpin>},
        {"tcp-epoll",
         "kernel TCP, loopback, TCP_NODELAY, non-blocking, recv first, then epoll_wait "
         "(edge-triggered)",
         kAny, always_there, open_tcp<Waiting::kEpoll>},
        {"tcp-block", "kernel TCP, loopback, TCP_NODELAY, blocking send and recv", kAny,
         always_there, open_tcp<Waiting::kBlock>},
        {"unix-spin",
         "unix stream sockets, non-blocking, one send a message, both ends spin in recv", kAny,
         always_there, open_unix<Waiting::kSpin>},
        {"unix-block", "unix stream sockets, blocking send and recv", kAny, always_there,
         open_unix<Waiting::kBlock>},
    };
}

}  // namespace sanpoll::bench
