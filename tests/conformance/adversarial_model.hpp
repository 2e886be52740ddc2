// The model that the adversarial switch is checked against: what a provider must remember of each socket,
// each connection and each operation. Where the interface leaves the moment open at which something is
// seen (a refusal on its way, a peer that has just closed), the model holds what is possible and what is
// certain; everything else it knows exactly.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {

/// The bytes of a message: tells its number, so that every mix-up and every stray byte shows.
void fill_pattern(char* at, std::size_t length, std::uint64_t message);
[[nodiscard]] bool has_pattern(const char* at, std::size_t length, std::uint64_t message);

struct Operation;

struct Message {
    std::uint64_t number = 0;
    std::size_t length = 0;
    bool send_completed = false;  // with success: it must not be lost
    Operation* send = nullptr;    // while that is pending
};

/// Both directions of a connection: what was sent and not yet received.
struct Connection {
    std::deque<Message> on_the_way[2];  // by side of the sender
    bool closed[2] = {false, false};
};

/// A send or receive, from its start until its result has been seen.
struct Operation : WSAOVERLAPPED {
    Operation() : WSAOVERLAPPED{} {}

    bool is_send = false;
    bool notified = false;
    std::size_t block = 0;  // of the socket's arena
    std::size_t length = 0;
    std::uint64_t message = 0;  // of a send

    // Written by the upcall.
    std::atomic<int> upcalls{0};
    DWORD upcall_error = 0;
    DWORD upcall_bytes = 0;
    SOCKET upcall_handle = INVALID_SOCKET;
    std::uint64_t upcall_number = 0;

    [[nodiscard]] bool done() {
        return notified ? upcalls.load(std::memory_order_acquire) != 0
                        : std::atomic_ref<ULONG_PTR>(Internal).load(std::memory_order_acquire) !=
                              kInProgress;
    }
    [[nodiscard]] int error() const {
        return static_cast<int>(notified ? upcall_error : OffsetHigh);
    }
    [[nodiscard]] std::size_t bytes() const { return notified ? upcall_bytes : InternalHigh; }
};

/// Memory of a socket, cut into blocks with canaries around each.
class Arena {
public:
    static constexpr std::size_t kBlock = 2048;
    static constexpr std::size_t kCanary = 64;
    static constexpr std::size_t kBlocks = 24;

    Arena();
    [[nodiscard]] char* begin() { return memory_.data(); }
    [[nodiscard]] std::size_t size() const { return memory_.size(); }
    [[nodiscard]] char* block(std::size_t index) {
        return memory_.data() + kCanary + index * (kBlock + kCanary);
    }
    /// A free block, or kBlocks.
    [[nodiscard]] std::size_t take();
    void give_back(std::size_t index) { used_[index] = false; }
    /// Of a block whose first `length` bytes may have been written.
    [[nodiscard]] bool intact(std::size_t index, std::size_t length);

private:
    std::vector<char> memory_;
    bool used_[kBlocks] = {};
};

enum class Phase { kNone, kCreated, kBound, kListening, kConnecting, kConnected };

struct ModelSocket {
    Phase phase = Phase::kNone;
    SOCKET s = INVALID_SOCKET;
    SOCKET handle = INVALID_SOCKET;
    sockaddr_in local{};

    WSAEVENT event = nullptr;
    LONG mask = 0;
    bool connect_unreported = false;

    // listening: slots that are on their way here, and addresses of those that have given up since
    int backlog = 0;
    std::vector<std::size_t> callers;
    std::vector<std::string> withdrawn;

    // connecting
    bool may_be_refused = false;
    bool may_be_reset = false;

    // connected
    std::shared_ptr<Connection> connection;
    int side = 0;
    std::size_t peer = SIZE_MAX;  // slot; SIZE_MAX: there is none (any more)
    bool broken = false;          // a call has been refused with the connection's error
    std::unique_ptr<Arena> arena;
    std::unique_ptr<Arena> read_only;
    std::unique_ptr<Arena> write_only;
    HANDLE region = nullptr;
    std::deque<std::unique_ptr<Operation>> sends;
    std::deque<std::unique_ptr<Operation>> receives;
    std::uint64_t last_upcall[2] = {0, 0};  // numbers of the receives' and the sends' latest

    [[nodiscard]] bool peer_closed() const { return connection->closed[1 - side]; }
    [[nodiscard]] std::deque<Message>& incoming() { return connection->on_the_way[1 - side]; }
    [[nodiscard]] std::deque<Message>& outgoing() { return connection->on_the_way[side]; }
};

}  // namespace sanpoll::conformance
