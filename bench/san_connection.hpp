// A connected socket of the provider as a Connection: registered memory, receives kept posted, sends collected
// lazily. The polled path is WSPSend, WSPGetOverlappedResult, WSPRecv and nothing else: no system call of ours, no
// allocation.
//
// Contract: one thread at a time. Two registrations as a switch makes them: one region for sends, one for receives,
// of which every operation uses a piece. send() and receive() throw ConnectionFault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <sanpoll/switch.hpp>
#include <vector>

#include "bench/connection.hpp"
#include "bench/ping_options.hpp"
#include "bench/rdma_end.hpp"
#include "bench/san_socket.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {

class SanConnection {
public:
    // Registers memory of the kind that is asked for and posts all receives of `shape`.
    SanConnection(SanSocket socket, const ConnectionShape& shape, Completion completion,
                  const SpinRule& rule, MemoryKind memory = MemoryKind::kOrdinary);
    SanConnection(const SanConnection&) = delete;
    SanConnection& operator=(const SanConnection&) = delete;
    ~SanConnection();

    const SanSocket& socket() const noexcept { return socket_; }

    void send(std::uint32_t size, std::uint64_t stamp);
    std::uint64_t receive(std::uint32_t size);
    // As receive(), but nothing if no message is there. Polled completion only.
    std::optional<std::uint64_t> try_receive(std::uint32_t size);
    void recycle();
    void drain();

private:
    // Each operation in a cache line of its own: the provider's core writes into it.
    struct alignas(64) Operation {
        WSAOVERLAPPED overlapped{};
        char* buffer = nullptr;
    };

    // A ring of operations that start and finish in order.
    struct Ring {
        std::vector<Operation> operations;
        std::size_t oldest = 0;  // index of the operation that finishes next
        std::size_t pending = 0;

        Operation& first() { return operations[oldest]; }
        Operation& next_free() {
            const std::size_t index = oldest + pending;
            return operations[index < operations.size() ? index : index - operations.size()];
        }
        void drop_first() {
            if (++oldest == operations.size()) oldest = 0;
            --pending;
        }
        bool full() const { return pending == operations.size(); }
    };

    // Memory cut into slots: the kernel's, populated, or out of an arena of the provider's.
    class Region {
    public:
        Region(const sanpoll_switch::Provider& provider, MemoryKind kind, std::size_t slots,
               std::size_t slot_bytes);
        Region(const Region&) = delete;
        Region& operator=(const Region&) = delete;
        ~Region();
        char* memory() const { return memory_; }
        DWORD bytes() const { return static_cast<DWORD>(bytes_); }
        char* slot(std::size_t index) const { return memory_ + index * stride_; }

    private:
        std::size_t stride_;
        std::size_t bytes_;
        std::optional<RdmaMemory> arena_;
        char* memory_;
    };

    // kPort: a completion port with an owner.
    struct Port {
        HANDLE handle = nullptr;
        ~Port();
    };

    HANDLE register_region(const Region& region, DWORD access);
    void post_receive();
    bool finished(Operation& operation, DWORD& bytes, const char* what);
    bool collect_oldest_send();
    void await_receive(DWORD& bytes);
    std::uint64_t take_received(std::uint32_t size, DWORD bytes);
    void await_notification();

    Completion completion_;
    SpinRule rule_;
    MessageReader reader_;
    bool fresh_;
    std::uint32_t slot_bytes_;
    Region send_region_;
    Region receive_region_;
    Ring sends_;
    Ring receives_;
    std::vector<SanEvent> events_;  // kEvent: one for each receive
    Port port_;
    std::size_t notified_ = 0;  // kPort: completions taken from the port and not yet used
    HANDLE send_registration_ = nullptr;

    // Last, so that it is closed first: closing completes what is pending, and only then may the records, buffers
    // and events above go.
    SanSocket socket_;
    const WSPPROC_TABLE& table_;  // of the provider, which outlives every connection
};

}  // namespace sanpoll::bench
