// A connection request that waits for its answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>

#include "engine/fabric/fabric.hpp"
#include "engine/fabric/verbs/session.hpp"

namespace sanpoll::engine::verbs {

/// Whether a fabric is there yet, for requests that are kept beyond its end: whoever was asked about one may take its
/// time, and drop it when it likes. The fabric clears it on its control thread; others hold the mutex while they use
/// what is there.
struct FabricPresence {
    std::mutex mutex;
    bool there = true;
};

/// See IncomingConnection. Withdrawn when its fabric stops; after that the fabric is not touched. accept() waits until the
/// originator has confirmed.
class Incoming final : public IncomingConnection,
                       public Opening,
                       public std::enable_shared_from_this<Incoming> {
public:
    Incoming(VerbsFabric& fabric, const Address& remote, const Address& local,
             const PrivateData& request, ConnectData caller_data);
    /// Unanswered: the originator learns that it was refused.
    ~Incoming() override;

    [[nodiscard]] Address remote() const noexcept override { return remote_; }
    [[nodiscard]] Address local() const noexcept override { return local_; }
    [[nodiscard]] const ConnectData& caller_data() const noexcept override { return caller_data_; }
    [[nodiscard]] bool withdrawn() const noexcept override {
        // Pairs with the release in withdraw(): an order of what is seen, no data goes along.
        return withdrawn_.load(std::memory_order_acquire);
    }
    [[nodiscard]] Status accept(const EndpointOwner& owner,
                                const ConnectData& callee_data) override;
    void reject(Status reason) override;

    // ---- control thread ---------------------------------------------------------------------------

    /// The session that the request has come by.
    void begin(std::shared_ptr<Session> session) { session_ = std::move(session); }
    /// The originator has come again for the rest of the answer.
    void come_again(std::shared_ptr<Session> session);
    void on_event(const CmEvent& event) override;
    /// Nobody can answer it any more.
    void withdraw();

private:
    using Promise = std::shared_ptr<std::promise<Status>>;

    void begin_accept(const EndpointOwner& owner, const ConnectData& callee_data, Promise promise);
    void say_or_accept();
    void give_up_for_memory();
    void accept_session();
    void confirmed(bool ended_already);
    void finish(Status status);
    void drop_session();

    VerbsFabric& fabric_;
    const std::shared_ptr<FabricPresence> presence_;
    const Address remote_;
    const Address local_;
    const std::uint64_t attempt_;
    const PeerTerms peer_terms_;
    const ConnectData caller_data_;
    std::atomic<bool> withdrawn_{false};
    std::atomic<bool> answered_{false};

    std::shared_ptr<Session> session_;
    EndpointOwner owner_;  // while promise_ is there
    ConnectData callee_data_;
    std::size_t gone_ahead_ = 0;  // bytes of it that the originator has
    Promise promise_;
    std::uint64_t timer_ = 0;
};

}  // namespace sanpoll::engine::verbs
