// An RDMA device made of memory: the same calls as a real one's, and whatever errors a test wants.
#pragma once

#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/fabric/verbs/api.hpp"

namespace sanpoll::tests {

/// Work requests are carried out at once when they are posted, or (hold) when the test says so. It checks
/// what a real device would: keys, domains, bounds, room in queues; a completion queue that runs over is
/// remembered. One thread, except for registrations.
class FakeDevice {
public:
    static constexpr std::uint32_t kSiwVendor = 0x626D74;

    struct Options {
        ibv_transport_type transport = IBV_TRANSPORT_IB;
        bool extended = false;           // has ibv_start_poll
        std::uint32_t max_inline = 220;  // of a queue pair; asking for more is refused
        int max_completions = 1 << 15;   // of a queue
        int max_queue_pairs = 1 << 16;
        int max_sges = 16;
        int max_read_sges = 16;
        std::uint32_t vendor = 0x15B3;
        std::uint32_t max_message = 1U << 30;
        int read_depth = 16;
    };

    FakeDevice();
    explicit FakeDevice(const Options& options);
    ~FakeDevice();
    FakeDevice(const FakeDevice&) = delete;
    FakeDevice& operator=(const FakeDevice&) = delete;

    [[nodiscard]] const engine::verbs::Api& api() const { return api_; }
    [[nodiscard]] ibv_context* context();

    /// As RDMA CM would have made it, without a queue pair. Lives as long as the device.
    [[nodiscard]] rdma_cm_id* make_id();
    /// The queue pairs of two ids become each other's peers.
    void join(rdma_cm_id* one, rdma_cm_id* other);

    // ---- what a test may do to a queue pair

    /// Work requests wait until deliver(); false: go on, with those that wait first.
    void hold(rdma_cm_id* id, bool held);
    /// Carries out up to `count` that wait.
    void deliver(rdma_cm_id* id, std::uint32_t count = UINT32_MAX);
    /// The next work request to be carried out ends with this error; all after it are flushed.
    void fail_next(rdma_cm_id* id, ibv_wc_status status);
    /// The last work request that waits ends with this error before those in front of it, which are flushed.
    void fail_last(rdma_cm_id* id, ibv_wc_status status);
    /// As if the device had found the queue pair broken: everything on it is flushed.
    void flush(rdma_cm_id* id);
    /// Puts a packet into the peer's next receive buffer as if `id` had sent it.
    void inject(rdma_cm_id* id, const void* bytes, std::uint32_t length);

    // ---- what a test may do to the device

    void refuse_registrations(int error) { registration_error_ = error; }
    void refuse_queue_pairs(int error) { queue_pair_error_ = error; }
    void refuse_completion_queues(bool refuse) { refuse_completion_queues_ = refuse; }
    void refuse_receives(bool refuse) { refuse_receives_ = refuse; }
    void refuse_sends(bool refuse) { refuse_sends_ = refuse; }
    /// Polling fails.
    void pull_out() { pulled_out_ = true; }

    // ---- what a test may know

    [[nodiscard]] bool overrun() const { return overrun_; }
    [[nodiscard]] std::uint32_t rnr() const { return rnr_; }  // sends that met no receive
    [[nodiscard]] std::uint32_t posted_sends() const { return posted_sends_; }
    [[nodiscard]] std::uint32_t doorbells() const { return doorbells_; }
    [[nodiscard]] std::uint32_t receive_calls() const { return receive_calls_; }
    [[nodiscard]] std::uint32_t fenced() const { return fenced_; }
    [[nodiscard]] std::uint32_t unacknowledged() const { return unacknowledged_; }
    [[nodiscard]] std::uint32_t domains() const { return domains_; }
    [[nodiscard]] std::uint32_t registrations() const;
    [[nodiscard]] std::uint32_t queue_pairs() const { return queue_pairs_; }
    [[nodiscard]] std::uint32_t completion_queues() const { return completion_queues_; }
    [[nodiscard]] std::uint32_t channels() const { return channels_; }

    struct Calls;  // the functions of the table

private:
    struct Context;
    struct Domain;
    struct Registration;
    struct Channel;
    struct Queue;
    struct Work;
    struct Pair;

    [[nodiscard]] static Pair& pair_of(rdma_cm_id* id);
    [[nodiscard]] Registration* find(const ibv_pd* pd, std::uint32_t key);
    [[nodiscard]] std::byte* reach(const ibv_pd* pd, std::uint64_t address, std::uint64_t length,
                                   std::uint32_t key, int access);
    void run(Pair& pair);
    [[nodiscard]] bool carry_out(Pair& pair);
    [[nodiscard]] ibv_wc_status send(Pair& pair, Work& work);
    [[nodiscard]] ibv_wc_status rdma(Pair& pair, Work& work);
    [[nodiscard]] ibv_wc_status gather(const Pair& pair, Work& work);
    void complete(Pair& pair, bool sending, std::uint64_t id, ibv_wc_status status,
                  std::uint32_t bytes);
    void put(ibv_cq* cq, const ibv_wc& completion);
    void break_pair(Pair& pair);
    void note_ended(const ibv_wc& completion);

    Options options_;
    engine::verbs::Api api_{};
    std::unique_ptr<Context> context_;
    std::deque<rdma_cm_id> ids_;
    std::vector<Pair*> pairs_;
    // Places in the send queue, by queue pair and work request id.
    std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t> numbers_;

    struct Shared;  // registrations, under a mutex
    std::unique_ptr<Shared> shared_;

    int registration_error_ = 0;
    int queue_pair_error_ = 0;
    bool refuse_completion_queues_ = false;
    bool refuse_receives_ = false;
    bool refuse_sends_ = false;
    bool pulled_out_ = false;
    bool overrun_ = false;
    std::uint32_t rnr_ = 0;
    std::uint32_t posted_sends_ = 0;
    std::uint32_t doorbells_ = 0;
    std::uint32_t receive_calls_ = 0;
    std::uint32_t fenced_ = 0;
    std::uint32_t unacknowledged_ = 0;
    std::uint32_t domains_ = 0;
    std::uint32_t queue_pairs_ = 0;
    std::uint32_t completion_queues_ = 0;
    std::uint32_t channels_ = 0;
    std::uint32_t next_number_ = 1;
};

}  // namespace sanpoll::tests
