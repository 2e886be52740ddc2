#include "bench/control_channel.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <system_error>
#include <thread>

namespace sanpoll::bench {
namespace {

// A histogram of every bucket there is takes some 100 KiB; what is larger than this is no message of ours.
constexpr std::uint32_t kLongestMessage = 64U << 20;

constexpr std::chrono::milliseconds kTryAgain{100};

// A host that has gone without a word is noticed after half a minute.
constexpr int kIdleSeconds = 10;
constexpr int kProbeSeconds = 5;
constexpr int kProbes = 4;

struct TcpSocket {
    int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    TcpSocket() = default;
    TcpSocket(const TcpSocket&) = delete;
    TcpSocket& operator=(const TcpSocket&) = delete;
    ~TcpSocket() {
        if (fd >= 0) ::close(fd);
    }
    int release() { return std::exchange(fd, -1); }
};

sockaddr_in endpoint(const std::string& address, std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    inet_pton(AF_INET, address.c_str(), &where.sin_addr);  // checked when the options were read
    return where;
}

int set_up(int fd) {
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kIdleSeconds, sizeof kIdleSeconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kProbeSeconds, sizeof kProbeSeconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof kProbes);
    return fd;
}

std::runtime_error channel_fault(const std::string& what, const std::string& address,
                                 std::uint16_t port) {
    return std::runtime_error(what + " " + address + ":" + std::to_string(port) + ": " +
                              std::strerror(errno));
}

}  // namespace

ControlChannel& ControlChannel::operator=(ControlChannel&& other) noexcept {
    if (this != &other) {
        close();
        fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
}

ControlChannel::~ControlChannel() { close(); }

void ControlChannel::close() noexcept {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
}

std::pair<ControlChannel, ControlChannel> ControlChannel::pair() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        throw std::system_error(errno, std::generic_category(),
                                "no channel to a child process (socketpair)");
    }
    return {ControlChannel(fds[0]), ControlChannel(fds[1])};
}

ControlChannel ControlChannel::accept(const std::string& address, std::uint16_t port) {
    const TcpSocket listener;
    const sockaddr_in where = endpoint(address, port);
    const int on = 1;
    setsockopt(listener.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener.fd, reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0 ||
        listen(listener.fd, 1) != 0) {
        throw channel_fault("cannot listen at", address, port);
    }
    for (;;) {
        const int fd = accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd >= 0) return ControlChannel(set_up(fd));
        if (errno != EINTR && errno != ECONNABORTED)
            throw channel_fault("cannot accept at", address, port);
    }
}

ControlChannel ControlChannel::connect(const std::string& address, std::uint16_t port,
                                       std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    const sockaddr_in where = endpoint(address, port);
    for (;;) {
        TcpSocket socket;
        const timeval limit{std::chrono::duration_cast<std::chrono::seconds>(patience).count() + 1,
                            0};
        setsockopt(socket.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);  // of connect()
        if (::connect(socket.fd, reinterpret_cast<const sockaddr*>(&where), sizeof where) == 0)
            return ControlChannel(set_up(socket.release()));
        if (std::chrono::steady_clock::now() + kTryAgain >= deadline)
            throw channel_fault("no sanpoll-ping --listen answers at", address, port);
        std::this_thread::sleep_for(kTryAgain);
    }
}

void ControlChannel::send(const nlohmann::json& message) const {
    std::string frame(sizeof(std::uint32_t), '\0');
    frame += message.dump();
    const auto length = static_cast<std::uint32_t>(frame.size() - sizeof(std::uint32_t));
    std::memcpy(frame.data(), &length, sizeof length);
    for (std::size_t sent = 0; sent < frame.size();) {
        const ssize_t n = ::send(fd_, frame.data() + sent, frame.size() - sent, MSG_NOSIGNAL);
        if (n > 0) {
            sent += static_cast<std::size_t>(n);
        } else if (errno != EINTR) {
            throw ChannelClosed();
        }
    }
}

void ControlChannel::read_exactly(char* to, std::size_t bytes,
                                  std::chrono::steady_clock::time_point deadline) const {
    while (bytes > 0) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            deadline - std::chrono::steady_clock::now());
        pollfd waiting{fd_, POLLIN, 0};
        const int ready =
            poll(&waiting, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30)));
        if (ready < 0 && errno == EINTR) continue;
        if (ready == 0) throw ChannelTimeout();
        const ssize_t n = ::recv(fd_, to, bytes, 0);
        if (n > 0) {
            to += n;
            bytes -= static_cast<std::size_t>(n);
        } else if (n == 0 || errno != EINTR) {
            throw ChannelClosed();
        }
    }
}

nlohmann::json ControlChannel::receive(std::chrono::milliseconds patience) const {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    std::uint32_t length = 0;
    read_exactly(reinterpret_cast<char*>(&length), sizeof length, deadline);
    if (length > kLongestMessage) throw ChannelClosed();
    std::string text(length, '\0');
    read_exactly(text.data(), text.size(), deadline);
    return nlohmann::json::parse(text);
}

}  // namespace sanpoll::bench
