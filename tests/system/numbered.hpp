// Numbered messages over one end of a connection that may change process: what was lost, doubled,
// reordered or changed on the way shows.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "tests/system/san.hpp"

namespace sanpoll::system_test {

/// How far one end has come; goes along when the end changes process.
struct Position {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
};

/// One thread at a time. Throws when something is wrong.
class Numbered {
public:
    static constexpr std::uint32_t kLongest =
        40000;  // some are longer than goes without an invitation
    static constexpr std::size_t kReceives = 12;
    static constexpr std::size_t kSends = 8;

    Numbered(const Provider& provider, SOCKET socket, Position position = {});
    Numbered(const Numbered&) = delete;
    Numbered& operator=(const Numbered&) = delete;

    /// Keeps receives posted and checks what has arrived. True if there was anything.
    bool receive();
    /// Posts the next message unless kSends are pending.
    bool send();
    /// Collects sends that have completed; true when none is pending.
    bool collect_sends();
    /// After WSPDuplicateSocket: every pending receive has ended, with a message or with nothing.
    void check_swapped_out();
    /// Checks that no receive has ended otherwise than with the message that is due.
    [[nodiscard]] const Position& position() const noexcept { return position_; }
    [[nodiscard]] std::size_t receives_pending() const noexcept { return receives_.size(); }

private:
    struct Operation {
        WSAOVERLAPPED overlapped{};
        char* buffer = nullptr;
    };

    void take(const Operation& operation, std::uint32_t bytes);
    void post_receives();

    const Provider& provider_;
    const SOCKET socket_;
    Position position_;
    std::vector<char> memory_;
    std::vector<Operation> receive_pool_;
    std::vector<Operation> send_pool_;
    std::deque<std::size_t> receives_;  // pending, by index
    std::deque<std::size_t> sends_;
    std::uint64_t receives_posted_ = 0;
};

}  // namespace sanpoll::system_test
