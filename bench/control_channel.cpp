#include "bench/control_channel.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <system_error>

namespace sanpoll::bench {
namespace {

// A histogram of every bucket there is takes some 100 KiB; what is larger than this is no message of ours.
constexpr std::uint32_t kLongestMessage = 64U << 20;

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
