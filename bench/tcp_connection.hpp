// Kernel TCP as a Connection: the yardstick that everybody has. TCP_NODELAY; spinning on non-blocking sockets,
// sleeping in epoll_wait, or blocking. Any other connected stream socket, such as a unix one, does as well.
//
// TCP knows bytes, not messages: both ends know the size, a message of 0 bytes is sent as one byte. Each message is
// one send; a receiver takes what has come of short messages with one system call, as a server of many would.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/clock.hpp"
#include "bench/connection.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {

// Bytes on the wire of a message of `size`.
inline constexpr std::uint32_t tcp_wire_size(std::uint32_t size) noexcept {
    return size == 0 ? 1 : size;
}

// A file descriptor with an owner.
class Descriptor {
public:
    explicit Descriptor(int fd = -1) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&& other) noexcept;
    ~Descriptor();
    int get() const noexcept { return fd_; }

private:
    int fd_;
};

// TCP_NODELAY; of another kind of socket, nothing.
void set_no_delay(const Descriptor& socket) noexcept;

class TcpConnection {
public:
    enum class Waiting { kSpin, kBlock, kEpoll };

    // Takes a connected socket.
    TcpConnection(Descriptor socket, const ConnectionShape& shape, Waiting waiting,
                  const SpinRule& rule);

    void send(std::uint32_t size, std::uint64_t stamp);
    std::uint64_t receive(std::uint32_t size);
    void recycle() noexcept {}  // the kernel keeps its own buffers
    void drain() noexcept {}    // a send is over when send() returns

private:
    void await(Spin& spin, const char* awaited);

    Descriptor socket_;
    Descriptor epoll_;
    Waiting waiting_;
    SpinRule rule_;
    MessageReader reader_;
    bool fresh_;
    std::vector<char> outgoing_;
    std::vector<char> incoming_;  // of which [taken_, read_) has come and was not received yet
    std::size_t taken_ = 0;
    std::size_t read_ = 0;
};

class TcpListener {
public:
    explicit TcpListener(const std::string& address);  // any free port; throws ConnectionFault
    std::uint16_t port() const noexcept { return port_; }
    Descriptor accept() const;  // waits up to kPatience; throws ConnectionFault

private:
    std::uint16_t port_ = 0;  // before socket_, whose initialisation fills it in
    Descriptor socket_;
};

Descriptor tcp_connect(const std::string& address, std::uint16_t port);  // throws ConnectionFault

// A TCP port of `address` that nobody else gets while the answer lives: bound, not listening. A caller of a SAN
// provider has such a companion for each of its sockets, since TCP/IP owns the port numbers.
struct ReservedPort {
    Descriptor socket;
    std::uint16_t port = 0;
};
ReservedPort reserve_port(const std::string& address);  // throws ConnectionFault

}  // namespace sanpoll::bench
