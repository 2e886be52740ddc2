// What tag messages and active messages over UCX (its UCP layer) have in common: one worker, one endpoint, and the
// buffers of sends.
//
// Configuration: shared memory only (posix for short messages, cma for one copy of long ones, self), a
// single-threaded worker, progress by spinning; what is left is UCX's own choice, such as its protocol by length.
#pragma once

#include <ucp/api/ucp.h>

#include <cstdint>
#include <string>
#include <vector>

#include "bench/connection.hpp"
#include "bench/message_slots.hpp"
#include "bench/spin.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

// Contract: one thread. Everything but the destructor throws ConnectionFault.
class UcpEnd {
public:
    // `features`: UCP_FEATURE_*.
    UcpEnd(std::uint64_t features, const ConnectionShape& shape, const SpinRule& rule);
    UcpEnd(const UcpEnd&) = delete;
    UcpEnd& operator=(const UcpEnd&) = delete;
    ~UcpEnd();

    // Tells the other end of the meeting our address and makes an endpoint to its worker.
    void meet(const Descriptor& meeting);

    ucp_worker_h worker() const noexcept { return worker_; }
    ucp_ep_h endpoint() const noexcept { return endpoint_; }
    const SpinRule& rule() const noexcept { return rule_; }
    bool fresh() const noexcept { return fresh_; }

    void progress() { ucp_worker_progress(worker_); }

    // The buffer of the next send, free again; `sent` then takes what UCX answered.
    char* next_buffer() {
        if (outstanding_[next_] != nullptr) await_send(next_);
        return buffers_[next_];
    }
    void sent(ucs_status_ptr_t request) {
        if (UCS_PTR_IS_ERR(request)) fail("sending", UCS_PTR_STATUS(request));
        outstanding_[next_] = request;
        if (++next_ == outstanding_.size()) next_ = 0;
    }

    // Waits until no send is outstanding.
    void drain();

    [[noreturn]] static void fail(const char* step, ucs_status_t status);

private:
    void await_send(std::size_t slot);

    SpinRule rule_;
    bool fresh_;
    MessageSlots buffers_;
    std::vector<void*> outstanding_;  // by slot; nullptr: free
    std::size_t next_ = 0;
    ucp_context_h context_ = nullptr;
    ucp_worker_h worker_ = nullptr;
    ucp_ep_h endpoint_ = nullptr;
};

}  // namespace sanpoll::bench
