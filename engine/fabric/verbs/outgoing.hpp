// A connect on its way.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/fabric/fabric.hpp"
#include "engine/fabric/verbs/session.hpp"

namespace sanpoll::engine::verbs {

/// One connect takes several sessions if its data is long (see private_data.hpp) or if the listener moves.
/// State belongs to the control thread.
class Outgoing final : public OutgoingConnection,
                       public Opening,
                       public std::enable_shared_from_this<Outgoing> {
public:
    Outgoing(VerbsFabric& fabric, const Address& local, const Address& remote, ConnectData data,
             const EndpointOwner& owner, Fabric::OnResult on_result);

    /// Any thread; waits for the control thread.
    void cancel() override;

    // ---- control thread ---------------------------------------------------------------------------

    // For lack of memory it ends with kNoMemory.

    void begin();
    void on_event(const CmEvent& event) override;
    /// Ends it with `status`, once.
    void finish(Status status, ConnectData callee_data = {});

private:
    void begin_now();
    void take(const CmEvent& event);
    void start();
    void address_resolved();
    void resolve_route();
    void ask();
    void asked(int error);
    void answered(const CmEvent& event);
    void rejected(const CmEvent& event);
    void again(std::uint64_t delay_ms);
    void drop_session();
    void fail(Status status, std::string_view why);
    [[nodiscard]] int step_limit_ms(std::uint64_t limit) const noexcept;

    VerbsFabric& fabric_;
    const Address local_;
    const Address remote_;
    const ConnectData data_;
    const EndpointOwner owner_;
    Fabric::OnResult on_result_;
    const std::uint64_t attempt_;
    std::atomic<bool> cancelled_{false};

    ConnectStep step_ = ConnectStep::kAddress;
    std::shared_ptr<Session> session_;
    std::size_t gone_ahead_ = 0;  // bytes of our data that the acceptor has
    std::size_t part_ = 0;        // and those of the request that is on its way
    ConnectData callee_data_;     // as far as it has come
    std::uint64_t started_ns_ = 0;
    std::uint64_t timer_ = 0;
    std::uint64_t pause_ = 0;  // timer of another try
    bool iwarp_ = false;       // which port it is asked at
    std::uint32_t moves_ = 0;
    bool finished_ = false;
};

}  // namespace sanpoll::engine::verbs
