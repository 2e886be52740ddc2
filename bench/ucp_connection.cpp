#include "bench/ucp_connection.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace sanpoll::bench {
namespace {

constexpr ucp_tag_t kTag = 7;
constexpr ucp_tag_t kWholeTag = ~ucp_tag_t{0};
constexpr unsigned kAmId = 1;

void check_length(std::uint32_t size, std::size_t length) {
    if (length != size)
        throw ConnectionFault("UCX: a message of " + std::to_string(size) + " bytes arrived with " +
                              std::to_string(length));
}

}  // namespace

// ---------------------------------------------------------------------------------------------- tag messages --

UcpTagConnection::UcpTagConnection(const Descriptor& meeting, const ConnectionShape& shape,
                                   const SpinRule& rule)
    : slot_bytes_(std::max(shape.size, kAcknowledgementSize)),
      buffers_(shape.receives, slot_bytes_),
      receives_(shape.receives),
      end_(UCP_FEATURE_TAG, shape, rule) {
    for (std::size_t slot = 0; slot < receives_.size(); ++slot)
        post(slot);
    end_.meet(meeting);
}

UcpTagConnection::~UcpTagConnection() {
    for (Receive& receive : receives_) {
        if (receive.request == nullptr) continue;
        ucp_request_cancel(end_.worker(), receive.request);
        ucp_request_free(receive.request);
    }
}

void UcpTagConnection::received(void*, ucs_status_t status, const ucp_tag_recv_info_t* info,
                                void* user) {
    auto* receive = static_cast<Receive*>(user);
    receive->length = info->length;
    receive->status = status;
}

void UcpTagConnection::post(std::size_t slot) {
    Receive& receive = receives_[slot];
    receive.status = UCS_INPROGRESS;
    ucp_tag_recv_info_t info{};
    ucp_request_param_t params{};
    params.op_attr_mask =
        UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_RECV_INFO;
    params.cb.recv = received;
    params.user_data = &receive;
    params.recv_info.tag_info = &info;
    receive.request =
        ucp_tag_recv_nbx(end_.worker(), buffers_[slot], slot_bytes_, kTag, kWholeTag, &params);
    if (receive.request == nullptr) {  // it was there already
        receive.length = info.length;
        receive.status = UCS_OK;
    } else if (UCS_PTR_IS_ERR(receive.request)) {
        const ucs_status_t status = UCS_PTR_STATUS(receive.request);
        receive.request = nullptr;
        UcpEnd::fail("posting a receive", status);
    }
}

void UcpTagConnection::send(std::uint32_t size, std::uint64_t stamp) {
    char* buffer = end_.next_buffer();
    write_message(buffer, size, stamp, end_.fresh());
    ucp_request_param_t params{};
    end_.sent(ucp_tag_send_nbx(end_.endpoint(), buffer, size, kTag, &params));
}

std::uint64_t UcpTagConnection::receive(std::uint32_t size) {
    Receive& receive = receives_[oldest_];
    Spin spin(end_.rule(), "a message over UCX");
    while (receive.status == UCS_INPROGRESS) {
        end_.progress();
        spin.turn();
    }
    if (receive.request != nullptr) {
        ucp_request_free(receive.request);
        receive.request = nullptr;
    }
    if (receive.status != UCS_OK) UcpEnd::fail("a receive", receive.status);
    check_length(size, receive.length);
    reader_.read(buffers_[oldest_], size);
    std::uint64_t stamp = 0;
    if (size >= sizeof stamp) std::memcpy(&stamp, buffers_[oldest_], sizeof stamp);
    used_ = oldest_;
    if (++oldest_ == receives_.size()) oldest_ = 0;
    return stamp;
}

void UcpTagConnection::recycle() { post(used_); }

// ------------------------------------------------------------------------------------------- active messages --

// Of acknowledgements and replies no more can be under way than the sender knows to have receives.
UcpAmConnection::UcpAmConnection(const Descriptor& meeting, const ConnectionShape& shape,
                                 const SpinRule& rule)
    : slot_bytes_(std::max(shape.size, kAcknowledgementSize)),
      buffers_(shape.receives, slot_bytes_),
      arrivals_(shape.receives),
      end_(UCP_FEATURE_AM, shape, rule) {
    ucp_am_handler_param_t params{};
    params.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB |
                        UCP_AM_HANDLER_PARAM_FIELD_ARG;
    params.id = kAmId;
    params.cb = arrived;
    params.arg = this;
    const ucs_status_t status = ucp_worker_set_am_recv_handler(end_.worker(), &params);
    if (status != UCS_OK) UcpEnd::fail("setting the handler of active messages", status);
    end_.meet(meeting);
}

ucs_status_t UcpAmConnection::arrived(void* connection, const void*, std::size_t, void* data,
                                      std::size_t length, const ucp_am_recv_param_t* param) {
    static_cast<UcpAmConnection*>(connection)
        ->take(data, length, (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0);
    return UCS_OK;
}

void UcpAmConnection::fetched(void* request, ucs_status_t status, std::size_t, void* user) {
    static_cast<Arrival*>(user)->status = status;
    ucp_request_free(request);
}

// Called inside progress(), so a fault is kept for receive() to throw.
void UcpAmConnection::take(void* data, std::size_t length, bool rendezvous) {
    if (count_ == arrivals_.size() || length > slot_bytes_) {
        overrun_ = true;
        return;
    }
    std::size_t slot = oldest_ + count_;
    if (slot >= arrivals_.size()) slot -= arrivals_.size();
    ++count_;
    Arrival& arrival = arrivals_[slot];
    arrival = {0, length, UCS_OK, rendezvous};
    if (!rendezvous) {
        reader_.read(static_cast<const char*>(data), length);
        if (length >= sizeof arrival.stamp) std::memcpy(&arrival.stamp, data, sizeof arrival.stamp);
        return;
    }
    arrival.status = UCS_INPROGRESS;
    ucp_request_param_t params{};
    params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
    params.cb.recv_am = fetched;
    params.user_data = &arrival;
    void* request = ucp_am_recv_data_nbx(end_.worker(), data, buffers_[slot], length, &params);
    if (request == nullptr) {
        arrival.status = UCS_OK;
    } else if (UCS_PTR_IS_ERR(request)) {
        arrival.status = UCS_PTR_STATUS(request);
    }
}

void UcpAmConnection::send(std::uint32_t size, std::uint64_t stamp) {
    char* buffer = end_.next_buffer();
    write_message(buffer, size, stamp, end_.fresh());
    ucp_request_param_t params{};
    end_.sent(ucp_am_send_nbx(end_.endpoint(), kAmId, nullptr, 0, buffer, size, &params));
}

std::uint64_t UcpAmConnection::receive(std::uint32_t size) {
    const Arrival& arrival = arrivals_[oldest_];
    Spin spin(end_.rule(), "a message over UCX");
    while (count_ == 0 || arrival.status == UCS_INPROGRESS) {
        if (overrun_) throw ConnectionFault("UCX: more active messages came than may be under way");
        end_.progress();
        spin.turn();
    }
    if (arrival.status != UCS_OK) UcpEnd::fail("a receive", arrival.status);
    check_length(size, arrival.length);
    std::uint64_t stamp = arrival.stamp;
    if (arrival.fetched) {
        reader_.read(buffers_[oldest_], size);
        if (size >= sizeof stamp) std::memcpy(&stamp, buffers_[oldest_], sizeof stamp);
    }
    if (++oldest_ == arrivals_.size()) oldest_ = 0;
    --count_;
    return stamp;
}

}  // namespace sanpoll::bench
