// One end of a connection between two programs, perhaps on two hosts: messages, RDMA, and how it ended.
// What must not fail throws std::runtime_error; the end of the connection is thrown as Ended.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <sanpoll/switch.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/san_socket.hpp"

namespace sanpoll::lab {

/// Soft devices on emulated processors, and time-outs of tens of seconds where a peer has vanished.
inline constexpr std::chrono::seconds kPatience{180};

inline constexpr std::uint32_t kLongest = 1U << 18;    // message, bytes
inline constexpr std::uint32_t kOutstanding = 6;       // receives, and sends
inline constexpr std::uint32_t kRdmaBytes = 1U << 20;  // of memory for RDMA
inline constexpr std::uint32_t kRdmaPiece = 1U << 16;

/// The connection is over; `error` is what an operation ended with, or was refused with.
struct Ended {
    int error;
};

class Session {
public:
    Session(const sanpoll_switch::Provider& provider, bench::SanSocket socket);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Copies the bytes; waits for a free place.
    void send(std::string_view bytes);
    /// The next message; valid until the next call.
    [[nodiscard]] std::string_view receive();
    /// Waits until no send is outstanding.
    void drain();

    /// This end's memory for RDMA, and what the peer needs to reach it.
    [[nodiscard]] std::span<char> rdma_memory() noexcept { return rdma_; }
    [[nodiscard]] std::string expose();
    void conceal(std::string descriptor);
    /// Transfers all of the memory in pieces that are under way at once.
    void rdma(bool writes, std::string descriptor);

    /// After Ended: waits until everything that was pending has ended too, and returns how many operations that
    /// were. Throws if one of them ended with something else than `error`, or nothing of it ends.
    [[nodiscard]] std::uint32_t await_rest(int error);

    /// Which device carries it.
    [[nodiscard]] std::string device() const { return socket_.fabric().device; }
    [[nodiscard]] std::string fabric() const { return socket_.fabric().name; }

private:
    struct Operation {
        WSAOVERLAPPED overlapped{};
        char* memory = nullptr;
        bool pending = false;
    };
    struct Ring {
        std::vector<Operation> operations{kOutstanding};
        std::size_t first = 0;
        std::size_t pending = 0;
    };

    void post_receive();
    /// Waits for the ring's first operation and returns its length.
    std::uint32_t finish_first(Ring& ring);
    std::uint32_t wait(WSAOVERLAPPED& overlapped);

    const sanpoll_switch::Provider& provider_;
    std::vector<char> memory_;
    std::vector<char> rdma_;
    Ring receives_;
    Ring sends_;
    bool taken_ = false;  // a received message is in the caller's hands
    HANDLE rdma_region_ = nullptr;
    // Last: closing it completes what is pending in the memory above.
    bench::SanSocket socket_;
};

/// `length` bytes that follow from `number`.
[[nodiscard]] std::string bytes_of(std::uint64_t number, std::size_t length);
/// Lengths that go through everything: nothing, one byte, a line, what is copied, what is not.
[[nodiscard]] std::size_t length_of(std::uint64_t number);

}  // namespace sanpoll::lab
