#include "tests/system/steady_connection.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace sanpoll::system_test {
namespace {

constexpr std::size_t kWords = SteadyConnection::kBytes / sizeof(std::uint64_t);

void expect(std::uint64_t due, std::uint64_t found) {
    if (due != found) {
        throw std::runtime_error("message " + std::to_string(due) + " is message " +
                                 std::to_string(found));
    }
}

void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

}  // namespace

SteadyConnection::SteadyConnection(const Provider& provider, ProviderSocket socket,
                                   const std::atomic<std::uint32_t>& abandoned)
    : provider_(provider),
      socket_(socket),
      abandoned_(abandoned),
      memory_(2 * kDepth * kWords),
      sends_(kDepth),
      receives_(kDepth) {
    register_memory(provider_, socket_.descriptor, memory_.data(),
                    memory_.size() * sizeof(std::uint64_t), MEM_READWRITE);
    for (std::size_t i = 0; i < kDepth; ++i) {
        sends_[i].buffer = memory_.data() + i * kWords;
        sends_[i].overlapped.hEvent = kPolled;
        receives_[i].buffer = memory_.data() + (kDepth + i) * kWords;
        receives_[i].overlapped.hEvent = kPolled;
        post(receives_[i], false);
    }
}

SteadyConnection::~SteadyConnection() { provider_.close(socket_.descriptor); }

void SteadyConnection::post(Operation& operation, bool sends) {
    WSABUF buffer{kBytes, reinterpret_cast<CHAR*>(operation.buffer)};
    const int error =
        sends ? post_send(provider_, socket_.descriptor, &buffer, 1, &operation.overlapped)
              : post_receive(provider_, socket_.descriptor, &buffer, 1, &operation.overlapped);
    if (error != 0) {
        fail(sends ? "WSPSend" : "WSPRecv", error);
    }
}

void SteadyConnection::finish(Operation& operation) {
    for (;;) {
        if (const auto result = result_of(provider_, socket_.descriptor, &operation.overlapped)) {
            if (result->error != 0 || result->bytes != kBytes) {
                fail("an operation ended with " + std::to_string(result->bytes) + " bytes",
                     result->error);
            }
            return;
        }
        if (abandoned_.load(std::memory_order_relaxed) != 0) {
            throw std::runtime_error("abandoned");
        }
        pause();
    }
}

void SteadyConnection::send(std::uint64_t number) {
    Operation& operation = sends_[sent_ % kDepth];
    if (sent_ >= kDepth) {
        finish(operation);
    }
    *operation.buffer = number;
    post(operation, true);
    ++sent_;
}

void SteadyConnection::drain() {
    for (std::uint64_t i = sent_ < kDepth ? 0 : sent_ - kDepth; i < sent_; ++i) {
        finish(sends_[i % kDepth]);
    }
}

std::uint64_t SteadyConnection::receive() {
    Operation& operation = receives_[received_ % kDepth];
    finish(operation);
    const std::uint64_t number = *operation.buffer;
    post(operation, false);
    ++received_;
    return number;
}

void lead(Pattern pattern, SteadyConnection& connection, std::uint64_t messages) {
    for (std::uint64_t i = 0; i < messages; ++i) {
        connection.send(i);
        if (pattern == Pattern::kPingPong) {
            expect(~i, connection.receive());
        }
    }
    // The last message is answered in either pattern: all of them have arrived then.
    if (pattern == Pattern::kOneWay) {
        expect(~messages, connection.receive());
    }
}

void follow(Pattern pattern, SteadyConnection& connection, std::uint64_t messages) {
    for (std::uint64_t i = 0; i < messages; ++i) {
        expect(i, connection.receive());
        if (pattern == Pattern::kPingPong) {
            connection.send(~i);
        }
    }
    if (pattern == Pattern::kOneWay) {
        connection.send(~messages);
    }
}

void lead_and_follow(Pattern pattern, SteadyConnection& leader, SteadyConnection& follower,
                     std::uint64_t messages) {
    // One way, as many are under way as fit.
    const std::uint64_t ahead = pattern == Pattern::kPingPong ? 1 : SteadyConnection::kDepth;
    for (std::uint64_t sent = 0, received = 0; received < messages; ++received) {
        for (; sent < std::min(received + ahead, messages); ++sent) {
            leader.send(sent);
        }
        expect(received, follower.receive());
        if (pattern == Pattern::kPingPong) {
            follower.send(~received);
            expect(~received, leader.receive());
        }
    }
}

}  // namespace sanpoll::system_test
