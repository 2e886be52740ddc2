// UCX's UCP layer as Connections: tag messages and active messages.
//
// Tag messages: all receives are posted ahead, with one tag, so that messages match in order and go straight into
// their buffers. Active messages: what arrives eagerly is read where UCX has it, inside the callback, and not
// copied; what arrives by rendezvous is fetched into a buffer of ours.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/connection.hpp"
#include "bench/message_slots.hpp"
#include "bench/ucp_end.hpp"

namespace sanpoll::bench {

class UcpTagConnection {
public:
    UcpTagConnection(const Descriptor& meeting, const ConnectionShape& shape, const SpinRule& rule);
    UcpTagConnection(const UcpTagConnection&) = delete;
    UcpTagConnection& operator=(const UcpTagConnection&) = delete;
    ~UcpTagConnection();

    void send(std::uint32_t size, std::uint64_t stamp);
    std::uint64_t receive(std::uint32_t size);
    void recycle();
    void drain() { end_.drain(); }

private:
    struct Receive {
        void* request = nullptr;
        std::size_t length = 0;
        ucs_status_t status = UCS_INPROGRESS;
    };
    static void received(void* request, ucs_status_t status, const ucp_tag_recv_info_t* info,
                         void* user);
    void post(std::size_t slot);

    MessageReader reader_;
    std::size_t slot_bytes_;
    MessageSlots buffers_;
    std::vector<Receive> receives_;
    std::size_t oldest_ = 0;
    std::size_t used_ = 0;  // the one that receive() answered last
    UcpEnd end_;            // last: it goes first, and nothing is received any more
};

class UcpAmConnection {
public:
    UcpAmConnection(const Descriptor& meeting, const ConnectionShape& shape, const SpinRule& rule);
    UcpAmConnection(const UcpAmConnection&) = delete;
    UcpAmConnection& operator=(const UcpAmConnection&) = delete;

    void send(std::uint32_t size, std::uint64_t stamp);
    std::uint64_t receive(std::uint32_t size);
    void recycle() noexcept {}  // the message was used in the callback
    void drain() { end_.drain(); }

private:
    struct Arrival {
        std::uint64_t stamp = 0;
        std::size_t length = 0;
        ucs_status_t status = UCS_INPROGRESS;
        bool fetched = false;  // the content is in our buffer
    };
    static ucs_status_t arrived(void* connection, const void* header, std::size_t header_length,
                                void* data, std::size_t length, const ucp_am_recv_param_t* param);
    static void fetched(void* request, ucs_status_t status, std::size_t length, void* user);
    void take(void* data, std::size_t length, bool rendezvous);

    MessageReader reader_;
    std::size_t slot_bytes_;
    MessageSlots buffers_;
    std::vector<Arrival> arrivals_;  // a ring, in the order in which they came
    std::size_t oldest_ = 0;
    std::size_t count_ = 0;
    bool overrun_ = false;  // more came than was allowed
    UcpEnd end_;
};

}  // namespace sanpoll::bench
