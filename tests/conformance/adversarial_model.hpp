// The model that the adversarial switch is checked against: what a provider must remember of each socket,
// each connection and each operation. Where the interface leaves the moment open at which something is
// seen (a refusal on its way, a peer that has just closed), the model holds what is possible and what is
// certain; everything else it knows exactly.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <memory_resource>
#include <string>
#include <vector>

#include "tests/conformance/adversarial_exposure.hpp"

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
    bool doomed = false;          // what was posted before it must be refused: it never arrives
};

/// Both directions of a connection: what was sent and not yet received, and what is exposed.
struct Connection {
    std::deque<Message> on_the_way[2];  // by side of the sender
    bool closed[2] = {false, false};
    ExposedMemory memory[2];  // by side of the owner
    Exposures exposures[2];
    std::deque<Operation*> rdma[2];  // pending, by side of the initiator
    // By side of the initiator: an operation has failed that was to be refused, or may have been.
    bool refused[2] = {false, false};

    /// It may have ended because RDMA was refused, of either side or of the one that initiated it.
    [[nodiscard]] bool may_have_failed() const;
    [[nodiscard]] bool may_have_failed(int initiator) const;
    /// Into which parts of a side's memory its peer may be writing.
    [[nodiscard]] std::vector<ExposedMemory::Range> being_written(int owner) const;
};

/// What is special about an RDMA operation.
struct RdmaPart {
    bool write = false;
    std::shared_ptr<Exposure> exposure;  // none: a descriptor that is good for nothing
    std::size_t offset = 0;              // in the exposure
    std::vector<std::size_t> blocks;  // local memory, kBlock bytes of each and the rest of the last
    bool doomed = false;              // it must be refused, or what is before it
    bool at_risk = false;             // it is refused if it has not begun before the deregistration

    [[nodiscard]] std::size_t remote_offset() const { return exposure->offset + offset; }
};

/// A transfer, from its start until its result has been seen.
struct Operation : WSAOVERLAPPED {
    Operation() : WSAOVERLAPPED{} {}

    bool is_send = false;  // it is among the sends, as RDMA is
    bool notified = false;
    std::size_t block = 0;  // of the socket's arena
    std::size_t length = 0;
    std::uint64_t message = 0;  // number of a send or RDMA
    std::unique_ptr<RdmaPart> rdma;

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
    std::pmr::vector<char> memory_;  // see AdversarialTest
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
    int broken = 0;               // the connection's error, once a call or a receive has told it
    bool send_failed = false;     // nothing that was posted later may succeed
    std::unique_ptr<Arena> arena;
    std::unique_ptr<Arena> read_only;
    std::unique_ptr<Arena> write_only;
    HANDLE region = nullptr;
    HANDLE read_only_region = nullptr;
    HANDLE write_only_region = nullptr;
    std::deque<std::unique_ptr<Operation>> sends;
    std::deque<std::unique_ptr<Operation>> receives;
    std::uint64_t last_upcall[2] = {0, 0};  // numbers of the receives' and the sends' latest

    [[nodiscard]] bool peer_closed() const { return connection->closed[1 - side]; }
    /// The errors that the connection may have ended with by now; none if it stands for certain.
    [[nodiscard]] std::vector<int> ends() const;
    /// Whether a refusal may look like the peer's end. An iWARP device that refuses the peer's RDMA closes the
    /// stream, and need not tell its own side why (Soft-iWARP does not where nothing is known of the memory). The
    /// initiator knows; what the other side's error is then is nowhere laid down.
    [[nodiscard]] bool may_look_reset() const;
    [[nodiscard]] bool stands() const { return ends().empty(); }
    /// What a call on a connected socket may answer: `code` if the connection stands, else its error.
    [[nodiscard]] std::vector<int> or_the_end(int code) const;
    /// The same for a call that says only that there is no connection any more.
    [[nodiscard]] std::vector<int> or_not_connected(int code) const;
    [[nodiscard]] std::deque<Message>& incoming() { return connection->on_the_way[1 - side]; }
    [[nodiscard]] std::deque<Message>& outgoing() { return connection->on_the_way[side]; }
};

}  // namespace sanpoll::conformance
