// One RDMA CM identifier and what hangs on it, from its first step to its last.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/fabric/verbs/blocking_calls.hpp"
#include "engine/fabric/verbs/connect_status.hpp"
#include "engine/fabric/verbs/devices.hpp"
#include "engine/fabric/verbs/private_data.hpp"

namespace sanpoll::engine::verbs {

class VerbsFabric;

/// Who opens a connection with a session, and hears of its events until it is established.
class Opening {
public:
    virtual ~Opening() = default;
    virtual void on_event(const CmEvent& event) = 0;
};

/// The control plane's half of a connection; the other half is the Connection of a VerbsPort. All functions
/// run on the control thread.
///
///   kNew          an identifier, perhaps bound to a device
///   kInstalled    a queue pair and a Connection that its core knows, the owner's gate shut
///   kEstablished  the gate is or was open
///   kOver         nobody's any more: the core, or a blocking call, has yet to let go of what is left
///
///   kNew -> kInstalled -> kEstablished -> kOver; dispose() leads to kOver from every state
///
/// A Connection ends when its core wishes it to (wished()), first its queue pair, then itself.
class Session final : public std::enable_shared_from_this<Session> {
public:
    enum class State : std::uint8_t { kNew, kInstalled, kEstablished, kOver };

    explicit Session(VerbsFabric& fabric) : fabric_(fabric) {}
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    [[nodiscard]] State state() const noexcept { return state_; }
    [[nodiscard]] rdma_cm_id* id() const noexcept { return id_; }
    [[nodiscard]] Connection* connection() const noexcept { return connection_; }
    [[nodiscard]] const std::shared_ptr<DeviceEntry>& device() const noexcept { return device_; }
    [[nodiscard]] VerbsPort* port() const noexcept { return port_; }

    /// An identifier of its own, or the one that a request has brought. False and errno.
    [[nodiscard]] bool begin(std::weak_ptr<Opening> opening);
    void begin_with(rdma_cm_id* id, std::weak_ptr<Opening> opening);
    void hand_to(std::weak_ptr<Opening> opening) { opening_ = std::move(opening); }

    /// Once RDMA CM has bound the identifier: takes a port, makes queue pair and Connection, installs it.
    [[nodiscard]] Status install(const EndpointOwner& owner);
    /// Starts rdma_connect or rdma_accept with our private data; `done` hears of it, perhaps before this
    /// returns, with 0 or an errno value. It is not called after dispose().
    void connect(const PrivateBytes& bytes, std::function<void(int)> done);
    void accept(const PrivateBytes& bytes, std::function<void(int)> done);
    /// Says no, and is over.
    void reject(const PrivateData& message);
    /// Opens the owner's gate. False if the owner has closed it meanwhile; to be disposed of then.
    [[nodiscard]] bool establish(const PeerTerms& peer);
    /// The connection has ended, for `reason`: what is pending completes with it. Lives on until its core
    /// has finished with it.
    void end(Status reason);
    /// Its device is lost; the port has ended its connections.
    void device_lost();
    /// Nothing will come of it, unless it is established: who opens it hears of an end, as if the device had been removed.
    void call_off();
    /// Its device has refused the peer something, and ends the connection for it.
    void refused();
    /// The core has ended the connection, or is done with it.
    void wished(Wish wish);
    /// Takes everything back, in whatever state. The owner's memory is not touched any more when this
    /// returns, unless the connection was established: then its core ends it as if its user had closed.
    void dispose();

    /// Looks whether the other end is there.
    void probe();

private:
    void on_event(const CmEvent& event);
    void call(BlockingCalls& threads, std::function<int(rdma_cm_id*)> blocking,
              std::function<void(int)> done);
    [[nodiscard]] rdma_conn_param parameters(const PrivateBytes& bytes) const noexcept;
    void stop();
    void release();

    VerbsFabric& fabric_;
    std::weak_ptr<Opening> opening_;
    State state_ = State::kNew;
    rdma_cm_id* id_ = nullptr;
    std::shared_ptr<DeviceEntry> device_;
    VerbsPort* port_ = nullptr;
    Connection* connection_ = nullptr;
    bool ended_ = false;  // the core has been told
    bool refused_ = false;
    bool stopped_ = false;   // the queue pair is gone
    bool stop_due_ = false;  // when the blocking call is back
    bool calling_ = false;   // a blocking call uses the identifier and the queue pair
};

}  // namespace sanpoll::engine::verbs
