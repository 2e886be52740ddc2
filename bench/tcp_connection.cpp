#include "bench/tcp_connection.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sanpoll::bench {
namespace {

// A receiver of shorter messages reads up to so many bytes ahead.
constexpr std::size_t kReadAhead = 64 << 10;

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

void set_no_delay(const Descriptor& socket) noexcept {
    const int on = 1;
    setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

TcpConnection::TcpConnection(Descriptor socket, const ConnectionShape& shape, Waiting waiting,
                             const SpinRule& rule)
    : socket_(std::move(socket)), waiting_(waiting), rule_(rule), fresh_(shape.fresh) {
    const std::size_t largest = std::max(tcp_wire_size(shape.size), kAcknowledgementSize);
    outgoing_.assign(largest, 's');
    incoming_.assign(std::max(largest, kReadAhead), 'r');
    set_no_delay(socket_);
    if (waiting == Waiting::kBlock) {
        // The blocking variant keeps the patience of the spinning one.
        const timeval patience{kPatience.count(), 0};
        setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    } else {
        fcntl(socket_.get(), F_SETFL, fcntl(socket_.get(), F_GETFL) | O_NONBLOCK);
    }
    if (waiting == Waiting::kEpoll) {
        // Edges, so that one registration serves both directions and no wait needs another system call.
        epoll_ = Descriptor(epoll_create1(EPOLL_CLOEXEC));
        epoll_event interest{};
        interest.events = EPOLLIN | EPOLLOUT | EPOLLET;
        if (epoll_.get() < 0 ||
            epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket_.get(), &interest) != 0)
            throw fault("epoll", errno);
    }
}

// After EAGAIN: another turn, or sleep until something has changed.
void TcpConnection::await(Spin& spin, const char* awaited) {
    if (waiting_ == Waiting::kSpin) return spin.turn();
    epoll_event event;
    const auto patience = std::chrono::milliseconds(kPatience).count();
    const int ready = epoll_wait(epoll_.get(), &event, 1, static_cast<int>(patience));
    if (ready == 0)
        throw ConnectionFault(std::string(awaited) + " did not come for " +
                              std::to_string(kPatience.count()) + " s");
    if (ready < 0 && errno != EINTR) throw fault("epoll_wait", errno);
}

void TcpConnection::send(std::uint32_t size, std::uint64_t stamp) {
    constexpr const char* kAwaited = "room in the TCP send buffer";
    const std::size_t bytes = tcp_wire_size(size);
    write_message(outgoing_.data(), bytes, stamp, fresh_);
    Spin spin(rule_, kAwaited);
    for (std::size_t sent = 0; sent < bytes;) {
        const ssize_t n =
            ::send(socket_.get(), outgoing_.data() + sent, bytes - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += static_cast<std::size_t>(n);
        } else if (waiting_ != Waiting::kBlock && errno == EAGAIN) {
            await(spin, kAwaited);
        } else if (errno != EINTR) {
            throw fault("sending failed", errno);
        }
    }
}

std::uint64_t TcpConnection::receive(std::uint32_t size) {
    constexpr const char* kAwaited = "a TCP message";
    const std::size_t bytes = tcp_wire_size(size);
    Spin spin(rule_, kAwaited);
    if (taken_ == read_) taken_ = read_ = 0;
    if (incoming_.size() - taken_ < bytes) {
        std::memmove(incoming_.data(), incoming_.data() + taken_, read_ - taken_);
        read_ -= taken_;
        taken_ = 0;
    }
    while (read_ - taken_ < bytes) {
        // Of long messages no more than the message, which would have to be moved later.
        const std::size_t missing = bytes - (read_ - taken_);
        const std::size_t most = bytes < kReadAhead ? incoming_.size() - read_ : missing;
        const ssize_t n = ::recv(socket_.get(), incoming_.data() + read_, most, 0);
        if (n > 0) {
            read_ += static_cast<std::size_t>(n);
        } else if (n == 0) {
            throw ConnectionFault(
                "kernel TCP: the other end closed the connection in the middle of a measurement");
        } else if (waiting_ != Waiting::kBlock && errno == EAGAIN) {
            await(spin, kAwaited);
        } else if (errno != EINTR) {
            throw fault("receiving failed", errno);
        }
    }
    reader_.read(incoming_.data() + taken_, bytes);
    std::uint64_t stamp = 0;
    if (bytes >= sizeof stamp) std::memcpy(&stamp, incoming_.data() + taken_, sizeof stamp);
    taken_ += bytes;
    return stamp;
}

TcpListener::TcpListener(const std::string& address) : socket_(bound_socket(address, port_)) {
    if (listen(socket_.get(), 8) != 0) throw fault("cannot listen on " + address, errno);
}

Descriptor TcpListener::accept() const {
    pollfd waiting{socket_.get(), POLLIN, 0};
    const auto patience = std::chrono::milliseconds(kPatience).count();
    int ready;
    while ((ready = poll(&waiting, 1, static_cast<int>(patience))) < 0 && errno == EINTR) {
    }
    if (ready != 1) throw ConnectionFault("kernel TCP: nobody connected");
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
