// The verbs fabric's control plane: connections between hosts over InfiniBand, RoCE and iWARP.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/control_thread.hpp"
#include "engine/fabric/fabric.hpp"
#include "engine/fabric/on_core.hpp"
#include "engine/fabric/verbs/blocking_calls.hpp"
#include "engine/fabric/verbs/cm_channel.hpp"
#include "engine/fabric/verbs/devices.hpp"
#include "engine/fabric/verbs/listeners.hpp"
#include "engine/fabric/verbs/outgoing.hpp"
#include "engine/fabric/verbs/session.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"

namespace sanpoll::engine::verbs {

/// RDMA CM makes the connections, one reliable queue pair for each; its event channel and everything else
/// here is on the control thread. The data plane is VerbsPort's.
class VerbsFabric final : public Fabric {
public:
    VerbsFabric(const Api& api, const Config& config, Clock& clock, ControlThread& control,
                HostAddresses host_addresses = read_host_addresses);
    ~VerbsFabric() override;

    /// Before start(): the port of a core.
    void add_port(VerbsPort& port) { ports_.push_back(&port); }
    /// Written by ports that have finished with a connection.
    [[nodiscard]] int ended_fd() const noexcept { return ended_fd_; }
    /// Returns an empty string, or why there can be no RDMA connections, with the remedy.
    [[nodiscard]] std::string start();
    /// Ends all connections; those that were closed have a moment to say farewell. The control thread still
    /// runs, the cores too. Waits for calls that are in the kernel.
    void stop();

    [[nodiscard]] std::string_view name() const noexcept override { return "verbs"; }
    [[nodiscard]] std::vector<std::uint32_t> addresses() const override;
    [[nodiscard]] bool serves(std::uint32_t ip) const override;
    [[nodiscard]] bool reaches(std::uint32_t ip) const override;
    [[nodiscard]] Status listen(const Address& local, OnRequest on_request,
                                std::unique_ptr<Listening>& listening) override;
    [[nodiscard]] std::shared_ptr<OutgoingConnection> connect(const Address& local,
                                                              const Address& remote,
                                                              ConnectData caller_data,
                                                              const EndpointOwner& owner,
                                                              OnResult on_result) override;
    /// A queue pair belongs to the process that made it: sockets do not change process. kNotAllowed; nothing
    /// has changed.
    [[nodiscard]] Status export_connection(Endpoint& endpoint, std::uint32_t sequence, int process,
                                           std::vector<std::byte> passenger,
                                           std::uint32_t& token) override;
    [[nodiscard]] Status export_listening(Listening& listening, int process,
                                          std::vector<std::byte> passenger,
                                          std::uint32_t& token) override;
    [[nodiscard]] Status import_socket(std::uint32_t token,
                                       std::unique_ptr<Import>& import) override;
    void abandon_in_child() noexcept override;

    // ---- for sessions, outgoing and incoming connections: on the control thread -----------------------

    [[nodiscard]] const Api& api() const noexcept { return api_; }
    [[nodiscard]] const Config& config() const noexcept { return config_; }
    [[nodiscard]] ControlThread& control() noexcept { return control_; }
    [[nodiscard]] CmChannel& channel() noexcept { return channel_; }
    [[nodiscard]] Devices& devices() noexcept { return devices_; }
    /// Apart, so that nobody who waits for a silent host keeps an answer from another one.
    [[nodiscard]] BlockingCalls& connects() noexcept { return connects_; }
    [[nodiscard]] BlockingCalls& accepts() noexcept { return accepts_; }
    [[nodiscard]] std::uint64_t now_ns() noexcept { return clock_.now_ns(); }
    [[nodiscard]] VerbsPort& next_port() noexcept { return *ports_[next_port_++ % ports_.size()]; }

    [[nodiscard]] const std::shared_ptr<FabricPresence>& presence() const noexcept {
        return presence_;
    }
    [[nodiscard]] std::shared_ptr<Session> new_session();
    void forget(const std::shared_ptr<Session>& session) { sessions_.erase(session); }
    void know(Connection* connection, const std::shared_ptr<Session>& session);
    void unknow(Connection* connection) { by_connection_.erase(connection); }
    /// What is under way is kept alive.
    void keep(const std::shared_ptr<Outgoing>& outgoing) { outgoing_.insert(outgoing); }
    void keep(const std::shared_ptr<Incoming>& incoming) { incoming_.insert(incoming); }
    void forget(const std::shared_ptr<Outgoing>& outgoing) { outgoing_.erase(outgoing); }
    void forget(const std::shared_ptr<Incoming>& incoming) { incoming_.erase(incoming); }
    void expect_again(std::uint32_t ip, std::uint64_t attempt, std::weak_ptr<Incoming> incoming) {
        listeners_.expect_again(ip, attempt, std::move(incoming));
    }
    /// Until every listener has its device: looks now and then.
    void look_for_devices();
    /// Says it once.
    void complain(const std::string& error);

    /// Any thread.
    [[nodiscard]] std::uint64_t new_attempt() noexcept;

    // ---- for tests ------------------------------------------------------------------------------------

    struct Census {
        std::size_t sessions;
        std::size_t identifiers;
    };
    /// Any other thread.
    [[nodiscard]] Census census();

    /// Sees to the connections that the cores have ended or are done with. Control thread.
    void take_ended();

private:
    class ListeningImpl;

    template <typename Body>
    void on_control(Body body) const;
    void refresh_now() const;
    bool look_around() const;
    void probe_all();
    void end_all();

    const Api& api_;
    const Config& config_;
    Clock& clock_;
    ControlThread& control_;
    const std::shared_ptr<FabricPresence> presence_ = std::make_shared<FabricPresence>();
    std::vector<VerbsPort*> ports_;
    std::size_t next_port_ = 0;
    int ended_error_ = 0;  // why there is no ended_fd_
    int ended_fd_ = -1;
    std::atomic<std::uint64_t> next_attempt_;
    mutable std::atomic<std::uint64_t> refreshed_ns_{0};
    CmChannel channel_;
    mutable Devices devices_;
    mutable Listeners listeners_;
    BlockingCalls connects_;
    BlockingCalls accepts_;
    std::set<std::shared_ptr<Session>> sessions_;
    std::map<Connection*, std::shared_ptr<Session>> by_connection_;
    std::set<std::shared_ptr<Outgoing>> outgoing_;
    std::set<std::shared_ptr<Incoming>> incoming_;
    std::set<std::string> complaints_;
    std::uint64_t look_timer_ = 0;
    std::uint64_t probe_timer_ = 0;
    bool running_ = false;
};

}  // namespace sanpoll::engine::verbs
