#include "bench/uring_connection.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace sanpoll::bench {
namespace {

constexpr std::size_t kReadAhead = 64 << 10;  // as TcpConnection
constexpr std::size_t kBatch = 16;            // sends that go in together
constexpr unsigned kEntries = 64;
constexpr std::uint64_t kReceive = ~std::uint64_t{0};

ConnectionFault fault(const std::string& step, int error) {
    return ConnectionFault("io_uring: " + step + ": " + std::strerror(error));
}

int make_ring(io_uring& ring) {
    return io_uring_queue_init(kEntries, &ring,
                               IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
}

}  // namespace

std::string uring_missing() {
    io_uring ring{};
    const int error = make_ring(ring);
    if (error != 0)
        return std::string("the kernel gives no io_uring with deferred work: ") +
               std::strerror(-error);
    io_uring_queue_exit(&ring);
    return {};
}

UringConnection::UringConnection(Descriptor socket, const ConnectionShape& shape,
                                 const SpinRule& rule)
    : socket_(std::move(socket)),
      rule_(rule),
      fresh_(shape.fresh),
      outgoing_(shape.sends, std::max(tcp_wire_size(shape.size), kAcknowledgementSize)),
      incoming_(std::max<std::size_t>(tcp_wire_size(shape.size), kReadAhead), 'r'),
      bytes_(shape.sends) {
    const int error = make_ring(ring_);
    if (error != 0) throw fault("no ring", -error);
    const int fd = socket_.get();
    const int registered = io_uring_register_files(&ring_, &fd, 1);
    if (registered != 0) {
        io_uring_queue_exit(&ring_);
        throw fault("registering the socket", -registered);
    }
    io_uring_register_ring_fd(&ring_);  // cheaper system calls; without it things work as well
}

// The socket goes first, so that a receive that is still with the kernel ends.
UringConnection::~UringConnection() {
    shutdown(socket_.get(), SHUT_RDWR);
    io_uring_queue_exit(&ring_);
}

io_uring_sqe& UringConnection::next_entry() {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);  // there are more than a batch and a question
    if (entry == nullptr) throw ConnectionFault("io_uring: its submission queue stays full");
    return *entry;
}

void UringConnection::reap() {
    io_uring_cqe* entry = nullptr;
    while (io_uring_peek_cqe(&ring_, &entry) == 0) {
        const std::uint64_t who = entry->user_data;
        const int result = entry->res;
        io_uring_cqe_seen(&ring_, entry);
        if (result < 0) throw fault(who == kReceive ? "receiving" : "sending", -result);
        if (who == kReceive) {
            if (result == 0) throw ConnectionFault("io_uring: the other end closed the connection");
            read_ += static_cast<std::size_t>(result);
            asked_ = false;
        } else {
            if (static_cast<std::size_t>(result) != bytes_[who])
                throw ConnectionFault("io_uring: a message was sent only in part");
            --in_flight_;
        }
    }
}

// One turn of a wait: what is prepared goes in, what the kernel has deferred is done.
void UringConnection::enter(Spin& spin) {
    const int result = io_uring_submit_and_get_events(&ring_);
    if (result < 0 && result != -EINTR && result != -EAGAIN) throw fault("entering", -result);
    reap();
    spin.turn();
}

// Sends are linked within a batch, so the next batch must wait until this one is over.
void UringConnection::submit_sends() {
    if (queued_ == 0) return;
    reap();
    Spin spin(rule_, "room in the send buffer of an io_uring socket");
    // What is prepared must not go in with the turns of this wait, which it would not outlast in order.
    while (in_flight_ != 0) {
        io_uring_get_events(&ring_);
        reap();
        spin.turn();
    }
    in_flight_ = queued_;
    queued_ = 0;
    last_ = nullptr;
    const int result = io_uring_submit_and_get_events(&ring_);
    if (result < 0 && result != -EINTR && result != -EAGAIN) throw fault("submitting", -result);
}

void UringConnection::send(std::uint32_t size, std::uint64_t stamp) {
    const std::size_t bytes = tcp_wire_size(size);
    if (queued_ + in_flight_ == bytes_.size()) reap();
    if (queued_ + in_flight_ == bytes_.size()) {
        submit_sends();
        Spin spin(rule_, "the completion of a send through io_uring");
        while (in_flight_ == bytes_.size())
            enter(spin);
    }
    char* buffer = outgoing_[next_];
    write_message(buffer, bytes, stamp, fresh_);
    bytes_[next_] = bytes;
    if (last_ != nullptr) last_->flags |= IOSQE_IO_LINK;
    io_uring_sqe& entry = next_entry();
    io_uring_prep_send(&entry, 0, buffer, bytes, MSG_WAITALL | MSG_NOSIGNAL);
    entry.flags |= IOSQE_FIXED_FILE;
    entry.user_data = next_;
    last_ = &entry;
    if (++next_ == bytes_.size()) next_ = 0;
    if (++queued_ == kBatch) submit_sends();
}

void UringConnection::ask(std::size_t most, bool all) {
    io_uring_sqe& entry = next_entry();
    io_uring_prep_recv(&entry, 0, incoming_.data() + read_, most, all ? MSG_WAITALL : 0);
    entry.flags |= IOSQE_FIXED_FILE;
    entry.user_data = kReceive;
    asked_ = true;
}

std::uint64_t UringConnection::receive(std::uint32_t size) {
    const std::size_t bytes = tcp_wire_size(size);
    Spin spin(rule_, "a message through io_uring");
    if (taken_ == read_) taken_ = read_ = 0;
    if (incoming_.size() - taken_ < bytes) {
        std::memmove(incoming_.data(), incoming_.data() + taken_, read_ - taken_);
        read_ -= taken_;
        taken_ = 0;
    }
    if (in_flight_ != 0) submit_sends();
    while (read_ - taken_ < bytes) {
        if (!asked_) {
            // Of long messages no more than the message, which would have to be moved later.
            const bool longer = bytes >= kReadAhead;
            ask(longer ? bytes - (read_ - taken_) : incoming_.size() - read_, longer);
        }
        if (queued_ != 0) {  // they go in with the question
            in_flight_ += queued_;
            queued_ = 0;
            last_ = nullptr;
        }
        enter(spin);
    }
    reader_.read(incoming_.data() + taken_, bytes);
    std::uint64_t stamp = 0;
    if (bytes >= sizeof stamp) std::memcpy(&stamp, incoming_.data() + taken_, sizeof stamp);
    taken_ += bytes;
    return stamp;
}

void UringConnection::drain() {
    submit_sends();
    Spin spin(rule_, "the completion of a send through io_uring");
    while (in_flight_ != 0)
        enter(spin);
}

}  // namespace sanpoll::bench
