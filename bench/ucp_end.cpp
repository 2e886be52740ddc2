#include "bench/ucp_end.hpp"

#include <algorithm>

#include "bench/peer.hpp"

namespace sanpoll::bench {

void UcpEnd::fail(const char* step, ucs_status_t status) {
    throw ConnectionFault(std::string("UCX: ") + step + ": " + ucs_status_string(status));
}

UcpEnd::UcpEnd(std::uint64_t features, const ConnectionShape& shape, const SpinRule& rule)
    : rule_(rule),
      fresh_(shape.fresh),
      buffers_(shape.sends, std::max(shape.size, kAcknowledgementSize)),
      outstanding_(shape.sends, nullptr) {
    ucp_config_t* config = nullptr;
    ucs_status_t status = ucp_config_read(nullptr, nullptr, &config);
    if (status != UCS_OK) fail("reading its configuration", status);
    status = ucp_config_modify(config, "TLS", "posix,cma,self");
    if (status == UCS_OK) {
        ucp_params_t params{};
        params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_ESTIMATED_NUM_EPS;
        params.features = features;
        params.estimated_num_eps = 1;
        status = ucp_init(&params, config, &context_);
    }
    ucp_config_release(config);
    if (status != UCS_OK) fail("starting it with posix,cma,self", status);
    ucp_worker_params_t params{};
    params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
    params.thread_mode = UCS_THREAD_MODE_SINGLE;
    status = ucp_worker_create(context_, &params, &worker_);
    if (status != UCS_OK) {
        ucp_cleanup(context_);
        fail("making a worker", status);
    }
}

UcpEnd::~UcpEnd() {
    if (endpoint_ != nullptr) {
        ucp_request_param_t params{};
        params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
        params.flags = UCP_EP_CLOSE_FLAG_FORCE;
        void* request = ucp_ep_close_nbx(endpoint_, &params);
        if (UCS_PTR_IS_PTR(request)) {
            // Forced, it asks nothing of the other end: some turns are enough.
            for (int i = 0; i < 1000 && ucp_request_check_status(request) == UCS_INPROGRESS; ++i)
                progress();
            ucp_request_free(request);
        }
    }
    ucp_worker_destroy(worker_);
    ucp_cleanup(context_);
}

void UcpEnd::meet(const Descriptor& meeting) {
    ucp_address_t* address = nullptr;
    std::size_t length = 0;
    ucs_status_t status = ucp_worker_get_address(worker_, &address, &length);
    if (status != UCS_OK) fail("asking for its address", status);
    const auto* bytes = reinterpret_cast<const char*>(address);
    const std::vector<char> mine(bytes, bytes + length);
    ucp_worker_release_address(worker_, address);
    const std::vector<char> theirs = exchange_addresses(meeting, mine);
    ucp_ep_params_t params{};
    params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS;
    params.address = reinterpret_cast<const ucp_address_t*>(theirs.data());
    status = ucp_ep_create(worker_, &params, &endpoint_);
    if (status != UCS_OK) fail("making an endpoint", status);
}

void UcpEnd::await_send(std::size_t slot) {
    Spin spin(rule_, "the completion of a send over UCX");
    ucs_status_t status;
    while ((status = ucp_request_check_status(outstanding_[slot])) == UCS_INPROGRESS) {
        progress();
        spin.turn();
    }
    ucp_request_free(outstanding_[slot]);
    outstanding_[slot] = nullptr;
    if (status != UCS_OK) fail("a send", status);
}

void UcpEnd::drain() {
    for (std::size_t slot = 0; slot < outstanding_.size(); ++slot) {
        if (outstanding_[slot] != nullptr) await_send(slot);
    }
}

}  // namespace sanpoll::bench
