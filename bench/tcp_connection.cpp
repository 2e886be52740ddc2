#include "bench/tcp_connection.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sanpoll::bench {
namespace {

ConnectionFault fault(const std::string& what, int error) {
    return ConnectionFault("kernel TCP: " + what + ": " + std::strerror(error));
}

sockaddr_in endpoint(const std::string& address, std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    if (inet_pton(AF_INET, address.c_str(), &where.sin_addr) != 1) {
        throw ConnectionFault("'" + address + "' is not an IPv4 address");
    }
    return where;
}

Descriptor bound_socket(const std::string& address, std::uint16_t& port) {
    Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in where = endpoint(address, 0);
    socklen_t length = sizeof where;
    if (socket.get() < 0 || bind(socket.get(), reinterpret_cast<sockaddr*>(&where), length) != 0 ||
        getsockname(socket.get(), reinterpret_cast<sockaddr*>(&where), &length) != 0) {
        throw fault("no port on " + address + " (is it an address of this host?)", errno);
    }
    port = ntohs(where.sin_port);
    return socket;
}

}  // namespace

Descriptor::Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
    if (this != &other) {
        if (fd_ >= 0) close(fd_);
        fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
}

Descriptor::~Descriptor() {
    if (fd_ >= 0) close(fd_);
}

TcpConnection::TcpConnection(Descriptor socket, const ConnectionShape& shape, Waiting waiting,
                             const SpinRule& rule)
    : socket_(std::move(socket)), spin_(waiting == Waiting::kSpin), rule_(rule) {
    const std::size_t largest = std::max(tcp_wire_size(shape.size), kAcknowledgementSize);
    outgoing_.assign(largest, 's');
    incoming_.assign(largest, 'r');
    const int on = 1;
    setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (spin_) {
        fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
    } else {
        // The blocking variant keeps the patience of the spinning one.
        const timeval patience{kPatience.count(), 0};
        setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    }
}

void TcpConnection::send(std::uint32_t size, std::uint64_t stamp) {
    const std::size_t bytes = tcp_wire_size(size);
    if (bytes >= sizeof stamp) std::memcpy(outgoing_.data(), &stamp, sizeof stamp);
    Spin spin(rule_, "room in the TCP send buffer");
    for (std::size_t sent = 0; sent < bytes;) {
        const ssize_t n =
            ::send(socket_.get(), outgoing_.data() + sent, bytes - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += static_cast<std::size_t>(n);
        } else if (spin_ && errno == EAGAIN) {
            spin.turn();
        } else if (errno != EINTR) {
            throw fault("sending failed", errno);
        }
    }
}

std::uint64_t TcpConnection::receive(std::uint32_t size) {
    const std::size_t bytes = tcp_wire_size(size);
    Spin spin(rule_, "a TCP message");
    for (std::size_t got = 0; got < bytes;) {
        const ssize_t n = ::recv(socket_.get(), incoming_.data() + got, bytes - got, 0);
        if (n > 0) {
            got += static_cast<std::size_t>(n);
        } else if (n == 0) {
            throw ConnectionFault(
                "kernel TCP: the other end closed the connection in the middle of a measurement");
        } else if (spin_ && errno == EAGAIN) {
            spin.turn();
        } else if (errno != EINTR) {
            throw fault("receiving failed", errno);
        }
    }
    std::uint64_t stamp = 0;
    if (bytes >= sizeof stamp) std::memcpy(&stamp, incoming_.data(), sizeof stamp);
    return stamp;
}

TcpListener::TcpListener(const std::string& address) : socket_(bound_socket(address, port_)) {
    if (listen(socket_.get(), 8) != 0) throw fault("cannot listen on " + address, errno);
}

Descriptor TcpListener::accept() const {
    pollfd waiting{socket_.get(), POLLIN, 0};
    const auto patience = std::chrono::milliseconds(kPatience).count();
    if (poll(&waiting, 1, static_cast<int>(patience)) != 1)
        throw ConnectionFault("kernel TCP: nobody connected");
    Descriptor accepted(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (accepted.get() < 0) throw fault("accept failed", errno);
    return accepted;
}

Descriptor tcp_connect(const std::string& address, std::uint16_t port) {
    Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in where = endpoint(address, port);
    if (socket.get() < 0 ||
        connect(socket.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) {
        throw fault("connect to " + address + ":" + std::to_string(port) + " failed", errno);
    }
    return socket;
}

ReservedPort reserve_port(const std::string& address) {
    ReservedPort reserved;
    reserved.socket = bound_socket(address, reserved.port);
    return reserved;
}

}  // namespace sanpoll::bench
