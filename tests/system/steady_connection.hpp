// A connection in its steady state: 64-byte messages, polled for, receives kept posted. From the end of
// the constructor on it calls nothing but WSPSend, WSPRecv and WSPGetOverlappedResult.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "tests/system/san.hpp"

namespace sanpoll::system_test {

class SteadyConnection {
public:
    static constexpr std::uint32_t kBytes = 64;
    static constexpr std::size_t kDepth = 32;

    /// Waiting ends with an exception when `abandoned` becomes other than 0: no clock is looked at.
    SteadyConnection(const Provider& provider, ProviderSocket socket,
                     const std::atomic<std::uint32_t>& abandoned);
    ~SteadyConnection();  // closes the socket
    SteadyConnection(const SteadyConnection&) = delete;
    SteadyConnection& operator=(const SteadyConnection&) = delete;

    /// Waits while kDepth are pending.
    void send(std::uint64_t number);
    /// Waits until no send is pending. Inline, they get no further unless somebody polls.
    void drain();
    /// Waits for a message, answers its number and posts the receive again.
    std::uint64_t receive();

private:
    struct alignas(64) Operation {
        WSAOVERLAPPED overlapped{};
        std::uint64_t* buffer = nullptr;
    };

    void post(Operation& operation, bool sends);
    void finish(Operation& operation);

    const Provider& provider_;
    const ProviderSocket socket_;
    const std::atomic<std::uint32_t>& abandoned_;
    std::vector<std::uint64_t> memory_;
    std::vector<Operation> sends_;
    std::vector<Operation> receives_;
    std::uint64_t sent_ = 0;
    std::uint64_t received_ = 0;
};

enum class Pattern { kPingPong, kOneWay };

// The two sides of a pattern. Throw when a message is not the one that is due.
void lead(Pattern pattern, SteadyConnection& connection, std::uint64_t messages);
void follow(Pattern pattern, SteadyConnection& connection, std::uint64_t messages);
/// Both sides in one thread.
void lead_and_follow(Pattern pattern, SteadyConnection& leader, SteadyConnection& follower,
                     std::uint64_t messages);

}  // namespace sanpoll::system_test
