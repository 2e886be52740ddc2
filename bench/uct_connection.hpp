// UCX's lower layer (UCT) as a Connection: active messages over its `posix` transport, which is what UCX can do at its
// fastest between two processes of a host.
//
// Configuration: am_short as long as the message fits one (its first 8 bytes travel as the header), am_bcopy beyond;
// the receiver reads a message in the callback, where it lies, and does not copy it; progress by spinning. A message
// of less than 8 bytes is sent as 8, since am_short has a header of that size. Nothing longer than a segment.
#pragma once

#include <uct/api/uct.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/connection.hpp"
#include "bench/message_slots.hpp"
#include "bench/spin.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

// What every iface of this process's transport has: context, worker, memory domain and iface, opened and closed together.
class UctIface {
public:
    UctIface();  // throws ConnectionFault
    UctIface(const UctIface&) = delete;
    UctIface& operator=(const UctIface&) = delete;
    ~UctIface() { close(); }

    uct_worker_h worker() const noexcept { return worker_; }
    uct_iface_h iface() const noexcept { return iface_; }
    const uct_iface_attr_t& attributes() const noexcept { return attributes_; }

private:
    bool open(std::string& why);
    void close() noexcept;

    ucs_async_context_t* async_ = nullptr;
    uct_worker_h worker_ = nullptr;
    uct_md_h md_ = nullptr;
    uct_iface_h iface_ = nullptr;
    uct_iface_attr_t attributes_{};
};

class UctConnection {
public:
    UctConnection(const Descriptor& meeting, const ConnectionShape& shape, const SpinRule& rule);
    UctConnection(const UctConnection&) = delete;
    UctConnection& operator=(const UctConnection&) = delete;
    ~UctConnection();

    void send(std::uint32_t size, std::uint64_t stamp);
    std::uint64_t receive(std::uint32_t size);
    void recycle() noexcept {}  // the message was used in the callback
    void drain() noexcept {}    // a send is over when send() returns: the bytes are in the segment

private:
    struct Arrival {
        std::uint64_t stamp;
        std::size_t length;
    };
    struct Outgoing {
        const char* data;
        std::size_t length;
    };
    static ucs_status_t arrived(void* connection, void* data, std::size_t length, unsigned flags);
    static std::size_t pack(void* into, void* outgoing);

    SpinRule rule_;
    MessageReader reader_;
    bool fresh_;
    MessageSlots buffer_;
    std::vector<Arrival> arrivals_;
    std::size_t oldest_ = 0;
    std::size_t count_ = 0;
    bool overrun_ = false;
    UctIface iface_;
    uct_ep_h endpoint_ = nullptr;
};

}  // namespace sanpoll::bench
