// A channel between the program that leads a measurement and the processes that take part: JSON values, one at a
// time, over a stream socket pair or, between two hosts, kernel TCP; each with its length in front. Used between
// measurements only, never during one.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace sanpoll::bench {

// The other end is gone (its process ended, or it closed the channel).
struct ChannelClosed : std::runtime_error {
    ChannelClosed() : std::runtime_error("the other process has gone") {}
};

// Nothing came in time.
struct ChannelTimeout : std::runtime_error {
    ChannelTimeout() : std::runtime_error("no answer in time") {}
};

class ControlChannel {
public:
    ControlChannel() = default;
    explicit ControlChannel(int fd) noexcept : fd_(fd) {}  // owns fd from now on
    ControlChannel(ControlChannel&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    ControlChannel& operator=(ControlChannel&& other) noexcept;
    ~ControlChannel();

    // Two connected ends, both close-on-exec. Throws std::system_error.
    static std::pair<ControlChannel, ControlChannel> pair();

    // Between two hosts; whoever comes first is taken, so this is for networks whose hosts one trusts. Blocks until
    // somebody comes. Throws std::runtime_error with one line.
    static ControlChannel accept(const std::string& address, std::uint16_t port);
    // Tries for `patience`, as the other program may be starting. Throws std::runtime_error with one line.
    static ControlChannel connect(const std::string& address, std::uint16_t port,
                                  std::chrono::milliseconds patience);

    // Throws ChannelClosed. Blocks only if the other end has not read a great deal.
    void send(const nlohmann::json& message) const;

    // The next message; blocks up to `patience`. Throws ChannelClosed, ChannelTimeout.
    nlohmann::json receive(std::chrono::milliseconds patience) const;

    int fd() const noexcept { return fd_; }
    void close() noexcept;

private:
    void read_exactly(char* to, std::size_t bytes,
                      std::chrono::steady_clock::time_point deadline) const;

    int fd_ = -1;
};

}  // namespace sanpoll::bench
