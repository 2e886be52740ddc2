#include "tests/system/numbered.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

namespace sanpoll::system_test {
namespace {

// A message's length and bytes follow from its number.
std::uint32_t length_of(std::uint64_t number) noexcept {
    const std::uint64_t mixed = number * 0x9E3779B97F4A7C15ULL >> 32;
    switch (mixed % 16) {
        case 0:
            return 20000 + static_cast<std::uint32_t>(mixed / 16 % 20000);
        case 1:
        case 2:
            return 300 + static_cast<std::uint32_t>(mixed / 16 % 15000);
        default:
            return 8 + static_cast<std::uint32_t>(mixed / 16 % 270);
    }
}

void write_message(char* to, std::uint64_t number) noexcept {
    const std::uint32_t length = length_of(number);
    for (std::uint32_t i = 8; i < length; ++i) {
        to[i] = static_cast<char>(number * 31 + i * 7);
    }
    std::memcpy(to, &number, 8);
}

bool is_message(const char* bytes, std::uint32_t length, std::uint64_t number) noexcept {
    if (length != length_of(number) || std::memcmp(bytes, &number, 8) != 0) {
        return false;
    }
    for (std::uint32_t i = 8; i < length; ++i) {
        if (bytes[i] != static_cast<char>(number * 31 + i * 7)) {
            return false;
        }
    }
    return true;
}

}  // namespace

Numbered::Numbered(const Provider& provider, SOCKET socket, Position position)
    : provider_(provider),
      socket_(socket),
      position_(position),
      memory_((kReceives + kSends) * kLongest),
      receive_pool_(kReceives),
      send_pool_(kSends) {
    register_memory(provider_, socket_, memory_.data(), memory_.size(), MEM_READWRITE);
    char* at = memory_.data();
    for (auto* pool : {&receive_pool_, &send_pool_}) {
        for (Operation& operation : *pool) {
            operation.overlapped.hEvent = kPolled;
            operation.buffer = at;
            at += kLongest;
        }
    }
    post_receives();
}

void Numbered::post_receives() {
    while (receives_.size() < kReceives) {
        const std::size_t index = receives_posted_ % kReceives;
        WSABUF buffer{kLongest, receive_pool_[index].buffer};
        const int error =
            post_receive(provider_, socket_, &buffer, 1, &receive_pool_[index].overlapped);
        if (error == WSAEWOULDBLOCK) {
            return;
        }
        if (error != 0) {
            fail("WSPRecv", error);
        }
        receives_.push_back(index);
        ++receives_posted_;
    }
}

void Numbered::take(const Operation& operation, std::uint32_t bytes) {
    if (!is_message(operation.buffer, bytes, position_.received)) {
        std::uint64_t number = 0;
        std::memcpy(&number, operation.buffer, 8);
        throw std::runtime_error("message " + std::to_string(position_.received) + " is due, but " +
                                 std::to_string(bytes) + " bytes came as " +
                                 std::to_string(number));
    }
    ++position_.received;
}

bool Numbered::receive() {
    bool any = false;
    while (!receives_.empty()) {
        Operation& operation = receive_pool_[receives_.front()];
        const auto result = result_of(provider_, socket_, &operation.overlapped);
        if (!result) {
            break;
        }
        if (result->error != 0) {
            fail("a receive", result->error);
        }
        take(operation, result->bytes);
        receives_.pop_front();
        any = true;
    }
    post_receives();
    return any;
}

bool Numbered::send() {
    (void)collect_sends();
    if (sends_.size() == kSends) {
        return false;
    }
    const std::size_t index = position_.sent % kSends;
    Operation& operation = send_pool_[index];
    write_message(operation.buffer, position_.sent);
    WSABUF buffer{length_of(position_.sent), operation.buffer};
    const int error = post_send(provider_, socket_, &buffer, 1, &operation.overlapped);
    if (error == WSAEWOULDBLOCK) {
        return false;
    }
    if (error != 0) {
        fail("WSPSend", error);
    }
    sends_.push_back(index);
    ++position_.sent;
    return true;
}

bool Numbered::collect_sends() {
    while (!sends_.empty()) {
        const auto result = result_of(provider_, socket_, &send_pool_[sends_.front()].overlapped);
        if (!result) {
            return false;
        }
        if (result->error != 0) {
            fail("a send", result->error);
        }
        sends_.pop_front();
    }
    return true;
}

void Numbered::check_swapped_out() {
    bool nothing = false;
    for (; !receives_.empty(); receives_.pop_front()) {
        const Operation& operation = receive_pool_[receives_.front()];
        if (operation.overlapped.Internal == WSS_OPERATION_IN_PROGRESS) {
            throw std::runtime_error("a receive is still pending after WSPDuplicateSocket");
        }
        if (operation.overlapped.OffsetHigh != 0) {
            fail("a receive that WSPDuplicateSocket ended",
                 static_cast<int>(operation.overlapped.OffsetHigh));
        }
        if (operation.overlapped.InternalHigh == 0) {
            nothing = true;
        } else if (nothing) {
            throw std::runtime_error("a message came after a receive that ended with nothing");
        } else {
            take(operation, static_cast<std::uint32_t>(operation.overlapped.InternalHigh));
        }
    }
}

}  // namespace sanpoll::system_test
