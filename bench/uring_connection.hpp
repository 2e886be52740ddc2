// A stream socket driven through io_uring, as a Connection.
//
// Configuration: submit and spin. Sends of a batch and the next receive go in with one system call; both ends then
// spin on the completion queue, entering the kernel on each turn for its deferred work (DEFER_TASKRUN, SINGLE_ISSUER),
// which is the quickest way to learn of it. Registered file and ring; no registered buffers, since the kernel copies to
// and from ordinary sockets anyhow. No SQPOLL: its kernel thread would take a CPU from the two that
// spin. One send a message; several are linked, so that they keep their order.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/connection.hpp"
#include "bench/message_slots.hpp"
#include "bench/spin.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

// Why there is no io_uring here (an old kernel, a container that forbids it); empty: there is.
std::string uring_missing();

// Contract: one thread. Throws ConnectionFault.
class UringConnection {
public:
    UringConnection(Descriptor socket, const ConnectionShape& shape, const SpinRule& rule);
    UringConnection(const UringConnection&) = delete;
    UringConnection& operator=(const UringConnection&) = delete;
    ~UringConnection();

    void send(std::uint32_t size, std::uint64_t stamp);
    std::uint64_t receive(std::uint32_t size);
    void recycle() noexcept {}  // the next receive() asks for more
    void drain();

private:
    io_uring_sqe& next_entry();
    void submit_sends();
    void ask(std::size_t most, bool all);
    void enter(Spin& spin);
    void reap();

    Descriptor socket_;
    SpinRule rule_;
    MessageReader reader_;
    bool fresh_;
    io_uring ring_{};
    MessageSlots outgoing_;
    std::vector<char> incoming_;  // of which [taken_, read_) has come and was not received yet
    std::size_t taken_ = 0;
    std::size_t read_ = 0;
    bool asked_ = false;              // a receive is with the kernel
    std::vector<std::size_t> bytes_;  // of each slot's send
    std::size_t next_ = 0;
    std::size_t queued_ = 0;     // sends prepared and not submitted
    std::size_t in_flight_ = 0;  // sends submitted and not over
    io_uring_sqe* last_ = nullptr;
};

}  // namespace sanpoll::bench
