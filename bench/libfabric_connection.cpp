#include "bench/libfabric_connection.hpp"

#include <rdma/fi_cm.h>
#include <rdma/fi_errno.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "bench/peer.hpp"

namespace sanpoll::bench {
namespace {

constexpr std::uint64_t kTag = 7;
constexpr std::size_t kBatch = 16;

ConnectionFault fault(const std::string& step, long error) {
    return ConnectionFault("libfabric: " + step + ": " + fi_strerror(static_cast<int>(-error)));
}

void check(const char* step, long error) {
    if (error != 0) throw fault(step, error);
}

// What is asked for; the answer is in *found.
int query(fi_info** found) {
    fi_info* hints = fi_allocinfo();
    if (hints == nullptr) return -FI_ENOMEM;
    hints->caps = FI_TAGGED;
    hints->mode = FI_CONTEXT | FI_CONTEXT2;
    hints->ep_attr->type = FI_EP_RDM;
    hints->fabric_attr->prov_name = strdup("shm");
    hints->domain_attr->threading = FI_THREAD_DOMAIN;
    hints->domain_attr->data_progress = FI_PROGRESS_MANUAL;
    hints->domain_attr->av_type = FI_AV_TABLE;
    const int error = fi_getinfo(FI_VERSION(1, 17), nullptr, nullptr, 0, hints, found);
    fi_freeinfo(hints);
    return error;
}

}  // namespace

std::string libfabric_missing() {
    fi_info* found = nullptr;
    const int error = query(&found);
    if (error != 0) return std::string("its shm provider: ") + fi_strerror(-error);
    fi_freeinfo(found);
    return {};
}

LibfabricConnection::LibfabricConnection(const Descriptor& meeting, const ConnectionShape& shape,
                                         const SpinRule& rule)
    : rule_(rule),
      fresh_(shape.fresh),
      slot_bytes_(std::max(shape.size, kAcknowledgementSize)),
      send_buffers_(shape.sends, slot_bytes_),
      receive_buffers_(shape.receives, slot_bytes_),
      sends_(shape.sends),
      receives_(shape.receives) {
    open(shape.sends, shape.receives);
    for (std::size_t slot = 0; slot < receives_.size(); ++slot)
        post(slot);
    meet(meeting);
}

void LibfabricConnection::open(std::size_t sends, std::size_t receives) {
    fi_info* info = nullptr;
    check("its shm provider", query(&info));
    info_.reset(info);
    info->tx_attr->size = std::max(info->tx_attr->size, sends);
    info->rx_attr->size = std::max(info->rx_attr->size, receives);
    fid_fabric* fabric = nullptr;
    check("a fabric", fi_fabric(info->fabric_attr, &fabric, nullptr));
    fabric_.reset(fabric);
    fid_domain* domain = nullptr;
    check("a domain", fi_domain(fabric, info, &domain, nullptr));
    domain_.reset(domain);
    fi_av_attr table{};
    table.type = FI_AV_TABLE;
    table.count = 1;
    fid_av* addresses = nullptr;
    check("a table of addresses", fi_av_open(domain, &table, &addresses, nullptr));
    addresses_.reset(addresses);
    fi_cq_attr attributes{};
    attributes.format = FI_CQ_FORMAT_MSG;
    attributes.wait_obj = FI_WAIT_NONE;
    attributes.size = std::max<std::size_t>(2 * (sends + receives), 128);
    fid_cq* queue = nullptr;
    check("a completion queue", fi_cq_open(domain, &attributes, &queue, nullptr));
    sent_.reset(queue);
    check("a completion queue", fi_cq_open(domain, &attributes, &queue, nullptr));
    received_.reset(queue);
    fid_ep* endpoint = nullptr;
    check("an endpoint", fi_endpoint(domain, info, &endpoint, nullptr));
    endpoint_.reset(endpoint);
    check("binding its addresses", fi_ep_bind(endpoint, &addresses->fid, 0));
    check("binding a queue",
          fi_ep_bind(endpoint, &sent_->fid, FI_TRANSMIT | FI_SELECTIVE_COMPLETION));
    check("binding a queue", fi_ep_bind(endpoint, &received_->fid, FI_RECV));
    check("enabling the endpoint", fi_enable(endpoint));
}

void LibfabricConnection::meet(const Descriptor& meeting) {
    std::array<char, 512> name{};
    std::size_t length = name.size();
    check("asking for its address", fi_getname(&endpoint_->fid, name.data(), &length));
    std::vector<char> theirs = exchange_addresses(meeting, {name.data(), name.data() + length});
    theirs.push_back(0);
    if (fi_av_insert(addresses_.get(), theirs.data(), 1, &other_, 0, nullptr) != 1)
        throw ConnectionFault("libfabric: the other end's address is not taken");
    // Neither may send before the other one knows it.
    exchange_addresses(meeting, {});
}

void LibfabricConnection::post(std::size_t slot) {
    Operation& receive = receives_[slot];
    receive.done = false;
    Spin spin(rule_, "room for a receive of libfabric");
    ssize_t error;
    while ((error = fi_trecv(endpoint_.get(), receive_buffers_[slot], slot_bytes_, nullptr,
                             FI_ADDR_UNSPEC, kTag, 0, &receive)) == -FI_EAGAIN) {
        progress(received_.get());
        spin.turn();
    }
    check("posting a receive", error);
}

void LibfabricConnection::progress(fid_cq* queue) {
    std::array<fi_cq_msg_entry, kBatch> entries;
    const ssize_t count = fi_cq_read(queue, entries.data(), entries.size());
    if (count == -FI_EAGAIN) return;
    if (count < 0) {
        fi_cq_err_entry error{};
        fi_cq_readerr(queue, &error, 0);
        throw fault("an operation failed", error.err != 0 ? -error.err : count);
    }
    for (ssize_t i = 0; i < count; ++i) {
        auto* operation = static_cast<Operation*>(entries[static_cast<std::size_t>(i)].op_context);
        operation->length = entries[static_cast<std::size_t>(i)].len;
        operation->done = true;
    }
}

void LibfabricConnection::send(std::uint32_t size, std::uint64_t stamp) {
    Operation& operation = sends_[next_send_];
    char* buffer = send_buffers_[next_send_];
    Spin spin(rule_, "a send of libfabric");
    while (!operation.done) {
        progress(sent_.get());
        spin.turn();
    }
    write_message(buffer, size, stamp, fresh_);
    ssize_t error;
    for (;;) {
        if (size <= info_->tx_attr->inject_size) {
            error = fi_tinject(endpoint_.get(), buffer, size, other_, kTag);
        } else {
            operation.done = false;
            iovec piece{buffer, size};
            fi_msg_tagged message{};
            message.msg_iov = &piece;
            message.iov_count = 1;
            message.addr = other_;
            message.tag = kTag;
            message.context = &operation;
            error = fi_tsendmsg(endpoint_.get(), &message, FI_COMPLETION);
        }
        if (error != -FI_EAGAIN) break;
        operation.done = true;
        progress(received_.get());
        progress(sent_.get());
        spin.turn();
    }
    check("sending", error);
    if (++next_send_ == sends_.size()) next_send_ = 0;
}

std::uint64_t LibfabricConnection::receive(std::uint32_t size) {
    const Operation& operation = receives_[oldest_];
    Spin spin(rule_, "a message over libfabric");
    while (!operation.done) {
        progress(received_.get());
        spin.turn();
    }
    if (operation.length != size)
        throw ConnectionFault("libfabric: a message of " + std::to_string(size) +
                              " bytes arrived with " + std::to_string(operation.length));
    reader_.read(receive_buffers_[oldest_], size);
    std::uint64_t stamp = 0;
    if (size >= sizeof stamp) std::memcpy(&stamp, receive_buffers_[oldest_], sizeof stamp);
    used_ = oldest_;
    if (++oldest_ == receives_.size()) oldest_ = 0;
    return stamp;
}

void LibfabricConnection::drain() {
    for (const Operation& send : sends_) {
        Spin spin(rule_, "the completion of a send over libfabric");
        while (!send.done) {
            progress(sent_.get());
            spin.turn();
        }
    }
}

}  // namespace sanpoll::bench
