// A socket with traffic that goes on until the connection ends, and an exact account of its operations.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/system/san.hpp"

namespace sanpoll::system_test {

enum class Told { kPolled, kByPort, kByEvent };

/// Keeps receives posted and, if it talks, sends pending. One thread at a time.
class Chatter {
public:
    static constexpr std::uint32_t kLongest = 256U << 10;
    static constexpr std::uint32_t kReceives = 8;
    static constexpr std::uint32_t kSends = 8;

    Chatter(const Provider& provider, ProviderSocket socket, Told told, bool talks);
    ~Chatter();  // closes the socket
    Chatter(const Chatter&) = delete;
    Chatter& operator=(const Chatter&) = delete;

    /// Posts what it keeps posted.
    void start();
    /// kPolled: collects what has ended and posts anew; true if there was anything.
    bool poll();
    /// Sleeps until the connection has ended or `deadline`; kPolled in WSPGetOverlappedResult, which
    /// knows no deadline.
    void sleep_until_end(std::chrono::steady_clock::time_point deadline);

    /// The connection is over and every operation has been accounted for.
    [[nodiscard]] bool ended() const noexcept { return broken_ && pending_ == 0; }
    /// Operations that ended with WSAECONNRESET; the others with success.
    [[nodiscard]] std::uint32_t resets() const noexcept { return resets_; }
    [[nodiscard]] std::uint64_t received() const noexcept { return received_; }
    [[nodiscard]] std::uint32_t pending() const noexcept { return pending_; }
    [[nodiscard]] Told told() const noexcept { return told_; }
    /// When the last one ended.
    [[nodiscard]] std::chrono::steady_clock::time_point end() const noexcept { return end_; }
    /// What must not have happened; empty if nothing.
    [[nodiscard]] const std::string& fault() const noexcept { return fault_; }
    /// Looks for completions after the last one, and for new posts that are not refused.
    void check_after_end();

private:
    struct Operation {
        WSAOVERLAPPED overlapped{};  // first: a completion port hands out its address
        char* buffer = nullptr;
        std::uint32_t length = 0;
        bool sends = false;
        bool pending = false;
    };

    [[nodiscard]] WSAEVENT event_of(std::size_t index) const;
    void post(Operation& operation);
    void take(Operation& operation, const Result& result);
    void take_from_port(DWORD milliseconds);
    void take_from_events(DWORD milliseconds);
    bool post_late(bool sends);
    void retire(Operation& operation) noexcept;
    [[nodiscard]] Operation& oldest_receive() noexcept;
    [[nodiscard]] Operation& oldest_send() noexcept;
    void accuse(const std::string& fault);

    const Provider& provider_;
    const ProviderSocket socket_;
    const Told told_;
    const bool talks_;
    std::vector<char> memory_;
    std::vector<Operation> operations_;
    std::vector<std::unique_ptr<Event>> events_;
    HANDLE port_ = nullptr;
    std::uint64_t sent_ = 0;
    std::uint64_t sends_taken_ = 0;
    std::uint64_t receives_taken_ = 0;
    std::uint64_t received_ = 0;
    std::uint32_t pending_ = 0;
    std::uint32_t resets_ = 0;
    bool broken_ = false;
    bool receive_was_reset_ = false;
    std::chrono::steady_clock::time_point end_{};
    std::string fault_;
};

}  // namespace sanpoll::system_test
