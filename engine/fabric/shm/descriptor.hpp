// A file descriptor that is closed with its owner, and in a forked child.
#pragma once

#include <unistd.h>

#include <utility>

#include "engine/fork_guard.hpp"

namespace sanpoll::engine::shm {

/// Off the data path. Not for descriptors that others close.
class Descriptor {
public:
    Descriptor() noexcept = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {
        if (fd_ >= 0) {
            close_in_child(fd_);
        }
    }
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Descriptor() { reset(); }

    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
    /// The caller's from now on.
    [[nodiscard]] int release() noexcept {
        if (fd_ >= 0) {
            forget_in_child(fd_);
        }
        return std::exchange(fd_, -1);
    }
    void reset() noexcept {
        if (fd_ >= 0) {
            forget_in_child(fd_);
            ::close(fd_);
            fd_ = -1;
        }
    }

private:
    int fd_ = -1;
};

}  // namespace sanpoll::engine::shm
