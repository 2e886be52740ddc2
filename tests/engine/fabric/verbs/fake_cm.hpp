// RDMA CM without RDMA: two or more engines of this process connect by it.
#pragma once

#include <rdma/rdma_cma.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "engine/fabric/verbs/api.hpp"

namespace sanpoll::tests {

/// What becomes of connects to an address. Errors are positive errno values.
struct Fate {
    int address_error = 0;
    int route_error = 0;
    int connect_error = 0;  // rdma_connect fails
    int unreachable = 0;    // the answer is RDMA_CM_EVENT_UNREACHABLE
    int reject_status = 0;  // rejected by somebody who knows nothing of us
    bool silent_address = false;
    bool silent_route = false;
    bool silent_connect = false;
};

/// One at a time: RDMA CM's functions have no place for a context. Functions may be called from any thread.
/// Queue pairs come from whoever fills make_queue_pair; the two of a connection are joined on acceptance.
class FakeCm {
public:
    FakeCm();
    ~FakeCm();
    FakeCm(const FakeCm&) = delete;
    FakeCm& operator=(const FakeCm&) = delete;

    /// Puts this CM's functions into `calls`.
    static void fill(engine::verbs::CmCalls& calls);

    std::function<int(rdma_cm_id&, ibv_pd*, ibv_qp_init_attr&)> make_queue_pair;
    std::function<void(rdma_cm_id&)> destroy_queue_pair;
    std::function<void(rdma_cm_id&, rdma_cm_id&)> join_queue_pairs;

    /// Connects and binds to `ip` use the device; host byte order.
    void add_address(std::uint32_t ip, ibv_context* device);
    /// Its identifiers hear of it; nothing can be bound to it any more.
    void remove_device(ibv_context* device);
    void set_fate(std::uint32_t ip, const Fate& fate);
    /// rdma_create_event_channel fails with this errno value; 0: it does not.
    void refuse_channel(int error);
    /// While held, rdma_connect and rdma_accept wait, as an iWARP driver's may.
    void hold_calls(bool held);
    /// How many are waiting.
    [[nodiscard]] std::size_t held_calls();
    /// The originator's confirmation of the next acceptances is lost.
    void lose_confirmations(bool lost);
    /// All connections of established identifiers end without a word, as when a cable is cut, then RDMA CM
    /// says so.
    void disconnect_all();
    /// What RDMA CM says of all connections when the peers' link-layer addresses are forgotten or change.
    void lose_neighbours();

    [[nodiscard]] std::size_t identifiers();
    [[nodiscard]] std::size_t queue_pairs();
    /// Private data of all requests so far: how many, and the longest.
    [[nodiscard]] std::size_t requests();
    [[nodiscard]] std::size_t longest_request();

    struct Id;
    struct Event;
    struct Channel;

private:
    struct Calls;

    Id* listener_at(std::uint32_t ip, std::uint16_t port);
    void queue(Id& id, rdma_cm_event_type type, int status, const void* data = nullptr,
               std::size_t length = 0, std::size_t padded = 0, Id* listener = nullptr);
    void hang_up(Id& id);
    void wait_while_held(std::unique_lock<std::mutex>& lock);

    std::mutex mutex_;  // guards all that follows
    std::condition_variable released_;
    std::set<Id*> ids_;
    std::map<std::uint32_t, ibv_context*> addresses_;
    std::map<std::uint32_t, Fate> fates_;
    std::set<ibv_qp*> queue_pairs_;
    std::uint16_t next_port_ = 40000;
    int channel_error_ = 0;
    bool held_ = false;
    bool lose_confirmations_ = false;
    std::size_t waiting_ = 0;
    std::size_t requests_ = 0;
    std::size_t longest_request_ = 0;
};

}  // namespace sanpoll::tests
