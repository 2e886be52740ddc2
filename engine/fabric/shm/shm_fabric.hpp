// The shared-memory fabric's control plane: the embedded default, for connections inside one host.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "engine/control_thread.hpp"
#include "engine/fabric/fabric.hpp"
#include "engine/fabric/on_core.hpp"
#include "engine/fabric/shm/arrival.hpp"
#include "engine/fabric/shm/departure.hpp"
#include "engine/fabric/shm/export.hpp"
#include "engine/fabric/shm/peer.hpp"
#include "engine/fabric/shm/shm_port.hpp"
#include "engine/fabric/shm/suspension.hpp"

namespace sanpoll::engine::shm {

/// A connect on its way. State belongs to the control thread; cancelled may be set by any.
class Outgoing final : public OutgoingConnection, public std::enable_shared_from_this<Outgoing> {
public:
    Outgoing(ShmFabric& fabric, const Address& from, const Address& to, ConnectData data,
             const EndpointOwner& owner, Fabric::OnResult on_result)
        : fabric(fabric),
          local(from),
          remote(to),
          caller_data(std::move(data)),
          owner(owner),
          on_result(std::move(on_result)) {}

    void cancel() override;

    ShmFabric& fabric;
    const Address local;
    const Address remote;
    const ConnectData caller_data;
    const EndpointOwner owner;
    Fabric::OnResult on_result;
    std::atomic<bool> cancelled{false};
    bool finished = false;
    bool by_mail = false;         // the request, so what takes it back goes after it
    bool by_known_route = false;  // the peer was taken from memory and may have stopped listening
    std::uint64_t timer = 0;
    std::uint32_t moves = 0;  // how often the listener has sent us on
    std::weak_ptr<Peer> peer;
    Connection* connection = nullptr;
    std::unique_ptr<Resumption> resumption;  // no connect, but the arrival of another process's end
};

/// A request from a peer; see IncomingConnection.
class Incoming final : public IncomingConnection, public std::enable_shared_from_this<Incoming> {
public:
    Incoming(ShmFabric& fabric, std::weak_ptr<Peer> peer, const ControlMessage& message);

    [[nodiscard]] Address remote() const noexcept override { return remote_; }
    [[nodiscard]] Address local() const noexcept override { return local_; }
    [[nodiscard]] const ConnectData& caller_data() const noexcept override { return data_; }
    [[nodiscard]] bool withdrawn() const noexcept override {
        return withdrawn_.load(std::memory_order_acquire);
    }
    [[nodiscard]] Status accept(const EndpointOwner& owner,
                                const ConnectData& callee_data) override;
    void reject(Status reason) override;

    /// Control thread.
    void withdraw() noexcept { withdrawn_.store(true, std::memory_order_release); }

private:
    Status accept_here(const EndpointOwner& owner, const ConnectData& callee_data);

    ShmFabric& fabric_;
    std::weak_ptr<Peer> peer_;
    Address remote_;
    Address local_;
    ConnectData data_;
    std::uint32_t connector_id_;
    std::atomic<bool> withdrawn_{false};
    std::atomic<bool> answered_{false};
};

class ShmFabric final : public Fabric {
public:
    ShmFabric(const Config& config, ControlThread& control);
    ~ShmFabric() override;

    /// Before start(): the port of a core.
    void add_port(ShmPort& port) { ports_.push_back(&port); }
    [[nodiscard]] int trouble_fd() const noexcept { return trouble_fd_; }
    [[nodiscard]] std::string start();
    /// Ends all links. The control thread still runs, the cores too.
    void stop();

    [[nodiscard]] std::string_view name() const noexcept override { return "shm"; }
    [[nodiscard]] std::vector<std::uint32_t> addresses() const override;
    [[nodiscard]] bool serves(std::uint32_t ip) const override;
    [[nodiscard]] bool reaches(std::uint32_t ip) const override { return serves(ip); }
    [[nodiscard]] Status listen(const Address& local, OnRequest on_request,
                                std::unique_ptr<Listening>& listening) override;
    [[nodiscard]] std::shared_ptr<OutgoingConnection> connect(const Address& local,
                                                              const Address& remote,
                                                              ConnectData caller_data,
                                                              const EndpointOwner& owner,
                                                              OnResult on_result) override;
    [[nodiscard]] Status export_connection(Endpoint& endpoint, std::uint32_t sequence, int process,
                                           std::vector<std::byte> passenger,
                                           std::uint32_t& token) override;
    [[nodiscard]] Status export_listening(Listening& listening, int process,
                                          std::vector<std::byte> passenger,
                                          std::uint32_t& token) override;
    [[nodiscard]] Status import_socket(std::uint32_t token,
                                       std::unique_ptr<Import>& import) override;
    void progress() override;
    void abandon_in_child() noexcept override;

    // ---- for Peer, Incoming, Outgoing: on the control thread ----------------------------------------

    [[nodiscard]] const Config& config() const noexcept { return config_; }
    [[nodiscard]] ControlThread& control() noexcept { return control_; }
    [[nodiscard]] const std::uint64_t* engine_id() const noexcept { return engine_id_; }
    /// Who listens where `to` leads; nullptr if nobody.
    [[nodiscard]] const OnRequest* listener_for(const Address& to) const;
    /// Another initiator peer of the same engine and port that is linked or linking.
    [[nodiscard]] std::shared_ptr<Peer> twin_of(const Peer& peer, const std::uint64_t id[2]) const;
    void forget(const std::shared_ptr<Peer>& peer);
    // Memory that is lacking ends what it was for, with kNoMemory, and nothing else.

    /// Ends a connect, once. On success the connection belongs to its core.
    void finish(const std::shared_ptr<Outgoing>& outgoing, ConnectResult result);
    void retry_afresh(const std::shared_ptr<Outgoing>& outgoing);
    void remember_route(const Address& to, const std::shared_ptr<Peer>& peer) noexcept;
    /// A peer says that there are letters, and tells of no other until it is asked to.
    void mail_came(Peer& peer);

    // ---- for those who take part in a change of process ----------------------------------------------

    [[nodiscard]] Suspensions& suspensions() noexcept { return suspensions_; }
    [[nodiscard]] Departures& departures() noexcept { return departures_; }
    [[nodiscard]] Exports& exports() noexcept { return exports_; }
    [[nodiscard]] std::shared_ptr<Peer> peer_of(const Link* link) const;
    /// Watches a control socket by which somebody will come, or not. nullptr: no descriptors.
    [[nodiscard]] const Peer* expect_peer(int fd, ShmPort& port);
    void end_peer(const Peer& peer);
    [[nodiscard]] std::uint32_t index_of(const ShmPort& port) const noexcept;
    [[nodiscard]] ShmPort& any_port() noexcept { return *ports_[next_port_++ % ports_.size()]; }
    /// Any other thread: as listen(), with a socket that listens already.
    [[nodiscard]] Status listen_with(const Address& local, Descriptor socket, OnRequest on_request,
                                     std::unique_ptr<Listening>& listening);
    void begin_resumption(const std::shared_ptr<Outgoing>& outgoing);

private:
    friend class Outgoing;
    class ListeningImpl;
    struct Listener {
        int fd = -1;
        std::vector<std::pair<ListeningImpl*, OnRequest>> takers;  // the first gets the requests
    };

    enum class Introduction : std::uint8_t {
        kOurs,       // we speak first, and offer a link unless there is one
        kOursAlone,  // the same, but a link of its own in any case
        kTheirs
    };

    // Another process, known by a control socket: one of ours from now on. nullptr: no descriptors.
    [[nodiscard]] std::shared_ptr<Peer> meet(Descriptor socket, Introduction introduction,
                                             ShmPort& port);
    void begin(const std::shared_ptr<Outgoing>& outgoing);
    void dial(const std::shared_ptr<Outgoing>& outgoing);
    void dial_now(const std::shared_ptr<Outgoing>& outgoing);
    [[nodiscard]] Status open_listener(const Address& local, Listener& listener, Descriptor socket);
    void knock(int listener_fd);
    void stop_listening(ListeningImpl* taker, const Address& local);
    void withdraw(const std::shared_ptr<Outgoing>& outgoing);
    void look_for_trouble();
    [[nodiscard]] bool somebody_polls() noexcept;
    void check_whether_polled();
    void see_whether_polled();
    void offer_arenas_from_now_on();
    void stop_offering_arenas();

    const Config& config_;
    ControlThread& control_;
    std::vector<ShmPort*> ports_;
    std::atomic<std::size_t> next_port_{0};
    int trouble_fd_ = -1;
    int trouble_error_ = 0;  // why there is no trouble_fd_
    std::uint64_t arena_listener_ = 0;
    std::uint64_t engine_id_[2] = {};
    std::map<Address, Listener> listeners_;
    std::set<std::shared_ptr<Peer>> peers_;
    std::map<Address, std::weak_ptr<Peer>> routes_;  // where a connect went lately
    // Those that were not asked to tell of their next letter, since somebody polls.
    std::set<std::shared_ptr<Peer>> unasked_;
    // Calls of progress() that got the turn, and how many it were when somebody_polls() looked last.
    std::atomic<std::uint64_t> looks_{0};
    std::uint64_t looks_before_ = 0;
    std::uint64_t looked_at_ = 0;
    bool polled_ = false;    // there were many of them
    bool checking_ = false;  // a timer for see_whether_polled() runs
    Suspensions suspensions_{*this};
    Departures departures_{*this};
    Exports exports_{*this};
};

}  // namespace sanpoll::engine::shm
