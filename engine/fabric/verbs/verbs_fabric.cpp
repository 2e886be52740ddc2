#include "engine/fabric/verbs/verbs_fabric.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "engine/fork_guard.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {
namespace {

constexpr std::uint64_t kRefreshMs = 500;    // an address that is unknown is looked for so often
constexpr std::uint64_t kLookAgainMs = 500;  // for a device that has gone
constexpr std::uint64_t kProbeMs = 5000;     // an idle connection's other end
constexpr int kFarewellMs = 2000;            // for connections that were closed just before the end

}  // namespace

// ---- life -------------------------------------------------------------------------------------------

VerbsFabric::VerbsFabric(const Api& api, const Config& config, Clock& clock, ControlThread& control,
                         HostAddresses host_addresses)
    : api_(api),
      config_(config),
      clock_(clock),
      control_(control),
      channel_(api, control),
      devices_(
          api, channel_, control,
          [this](DeviceEntry& entry) {
              const std::set<std::shared_ptr<Session>> sessions = sessions_;
              for (const std::shared_ptr<Session>& session : sessions) {
                  if (session->device().get() == &entry) {
                      session->device_lost();
                  }
              }
              look_for_devices();
          },
          [this](const ibv_qp* qp) {
              for (const auto& [connection, session] : by_connection_) {
                  if (session->id()->qp == qp) {
                      const std::shared_ptr<Session> kept = session;
                      kept->refused();  // may forget others
                      return;
                  }
              }
          },
          std::move(host_addresses)),
      listeners_(*this) {
    ended_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ended_error_ = errno;
    // Unguessable only so that two engines never have the same; it guards nothing.
    std::uint64_t seed = 0;
    if (::getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
        seed = clock.now_ns() ^ (static_cast<std::uint64_t>(::getpid()) << 40);
    }
    next_attempt_.store(seed, std::memory_order_relaxed);
}

VerbsFabric::~VerbsFabric() {
    if (ended_fd_ >= 0) {
        ::close(ended_fd_);
    }
}

std::string VerbsFabric::start() {
    if (ended_fd_ < 0) {
        return descriptor_error("RDMA", ended_error_);
    }
    std::string error;
    control_.call([&] {
        error = channel_.open();
        if (!error.empty()) {
            return;
        }
        if (!control_.watch(ended_fd_, EPOLLIN, [this](std::uint32_t) { take_ended(); })) {
            error = descriptor_error("RDMA", errno);
            channel_.close();
            return;
        }
        running_ = true;
        devices_.refresh();
        refreshed_ns_.store(clock_.now_ns(), std::memory_order_relaxed);
        probe_timer_ = control_.add_timer(kProbeMs, [this] { probe_all(); });
    });
    return error;
}

void VerbsFabric::stop() {
    if (!running_) {
        return;
    }
    bool idle = false;
    control_.call([&] {
        listeners_.close();
        end_all();
        idle = sessions_.empty();
    });
    // Their cores still send what was sent before the close, then report the connections.
    for (int waited = 0; !idle && waited < kFarewellMs; ++waited) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        control_.call([&] {
            take_ended();
            idle = by_connection_.empty();
        });
    }
    control_.call([&] {
        const std::set<std::shared_ptr<Session>> left = sessions_;
        for (const std::shared_ptr<Session>& session : left) {
            session->end(Status::kTransportFailed);
        }
        take_ended();
    });
    connects_.stop();
    accepts_.stop();
    control_.call([&] {
        running_ = false;
        {
            const std::lock_guard lock(presence_->mutex);
            presence_->there = false;
        }
        const std::set<std::shared_ptr<Session>> left = sessions_;
        for (const std::shared_ptr<Session>& session : left) {
            session->dispose();
        }
        for (std::uint64_t timer : {look_timer_, probe_timer_}) {
            if (timer != 0) {
                control_.cancel_timer(timer);
            }
        }
        control_.forget(ended_fd_);
        devices_.close();
        channel_.close();
    });
}

// What has not become a connection yet ends here.
void VerbsFabric::end_all() {
    const std::set<std::shared_ptr<Outgoing>> outgoing = outgoing_;
    for (const std::shared_ptr<Outgoing>& one : outgoing) {
        one->finish(Status::kAborted);
    }
    const std::set<std::shared_ptr<Incoming>> incoming = incoming_;
    for (const std::shared_ptr<Incoming>& one : incoming) {
        one->withdraw();
    }
    const std::set<std::shared_ptr<Session>> sessions = sessions_;
    for (const std::shared_ptr<Session>& session : sessions) {
        if (session->state() == Session::State::kNew) {
            // Requests that nobody has answered: who holds one finds it withdrawn, and this fabric gone.
            session->call_off();
            session->dispose();
        }
    }
}

std::shared_ptr<Session> VerbsFabric::new_session() {
    auto session = std::make_shared<Session>(*this);
    sessions_.insert(session);
    return session;
}

void VerbsFabric::know(Connection* connection, const std::shared_ptr<Session>& session) {
    by_connection_[connection] = session;
}

void VerbsFabric::take_ended() {
    std::uint64_t rings = 0;
    (void)!::read(ended_fd_, &rings, sizeof(rings));
    for (VerbsPort* port : ports_) {
        while (Connection* connection = port->take_ended()) {
            const Wish wish = connection->wish;
            if (const auto found = by_connection_.find(connection); found != by_connection_.end()) {
                const std::shared_ptr<Session> session = found->second;
                session->wished(wish);
            }
        }
    }
}

void VerbsFabric::probe_all() {
    const std::set<std::shared_ptr<Session>> sessions = sessions_;
    for (const std::shared_ptr<Session>& session : sessions) {
        session->probe();
    }
    (void)look_around();  // for addresses and devices that nobody has asked for
    probe_timer_ = control_.add_timer(kProbeMs, [this] { probe_all(); });
}

// True if a listener lacks its device.
bool VerbsFabric::look_around() const {
    devices_.refresh();
    refreshed_ns_.store(clock_.now_ns(), std::memory_order_relaxed);
    return listeners_.listen_again();
}

void VerbsFabric::look_for_devices() {
    if (look_timer_ != 0 || !running_) {
        return;
    }
    look_timer_ = control_.add_timer(kLookAgainMs, [this] {
        look_timer_ = 0;
        if (look_around() || devices_.empty()) {
            look_for_devices();
        }
    });
}

void VerbsFabric::complain(const std::string& error) {
    if (!error.empty() && complaints_.insert(error).second) {
        log(LogLevel::kError, "{}", error);
    }
}

std::uint64_t VerbsFabric::new_attempt() noexcept {
    return next_attempt_.fetch_add(1, std::memory_order_relaxed);
}

VerbsFabric::Census VerbsFabric::census() {
    Census census{};
    control_.call([&] { census = {sessions_.size(), channel_.identifiers()}; });
    return census;
}

// ---- addresses --------------------------------------------------------------------------------------

template <typename Body>
void VerbsFabric::on_control(Body body) const {
    if (control_.is_this_thread()) {
        body();
    } else {
        control_.call(body);
    }
}

void VerbsFabric::refresh_now() const {
    on_control([this] {
        if (running_) {
            (void)look_around();
        }
    });
}

std::vector<std::uint32_t> VerbsFabric::addresses() const {
    refresh_now();
    return devices_.addresses();
}

bool VerbsFabric::serves(std::uint32_t ip) const {
    if (!devices_.serves(ip) &&
        clock_.now_ns() - refreshed_ns_.load(std::memory_order_relaxed) > kRefreshMs * 1000000) {
        refresh_now();
    }
    return devices_.serves(ip);
}

bool VerbsFabric::reaches(std::uint32_t ip) const {
    if (!devices_.reaches(ip) &&
        clock_.now_ns() - refreshed_ns_.load(std::memory_order_relaxed) > kRefreshMs * 1000000) {
        refresh_now();
    }
    return devices_.reaches(ip);
}

// ---- listening and connecting -----------------------------------------------------------------------

class VerbsFabric::ListeningImpl final : public Listening {
public:
    ListeningImpl(VerbsFabric& fabric, const Address& local) : fabric_(fabric), local_(local) {}
    ~ListeningImpl() override {
        fabric_.on_control([this] { fabric_.listeners_.remove(local_, this); });
    }

private:
    VerbsFabric& fabric_;
    const Address local_;
};

Status VerbsFabric::listen(const Address& local, OnRequest on_request,
                           std::unique_ptr<Listening>& listening) {
    Status status = Status::kOk;
    auto taker = std::make_unique<ListeningImpl>(*this, local);
    on_control([&] { status = listeners_.add(local, taker.get(), std::move(on_request)); });
    if (status == Status::kOk) {
        listening = std::move(taker);
    }
    return status;
}

std::shared_ptr<OutgoingConnection> VerbsFabric::connect(const Address& local,
                                                         const Address& remote,
                                                         ConnectData caller_data,
                                                         const EndpointOwner& owner,
                                                         OnResult on_result) {
    auto outgoing = std::make_shared<Outgoing>(*this, local, remote, std::move(caller_data), owner,
                                               std::move(on_result));
    control_.post_apart([outgoing] { outgoing->begin(); });
    return outgoing;
}

// ---- from process to process ------------------------------------------------------------------------

Status VerbsFabric::export_connection(Endpoint& endpoint, std::uint32_t sequence, int /*process*/,
                                      std::vector<std::byte> /*passenger*/,
                                      std::uint32_t& /*token*/) {
    struct Stay final : ControlOp {
        explicit Stay(Connection& connection) : connection(connection) {}
        void run() noexcept override {
            if (connection.gate->resume(connection.Endpoint::generation) && connection.broken &&
                connection.early == nullptr) {
                // It has ended while the gate was shut.
                (void)connection.gate->break_off(connection.Endpoint::generation,
                                                 connection.reason == Status::kReset
                                                     ? PostGate::State::kReset
                                                     : PostGate::State::kFailed);
            }
        }
        Connection& connection;
    } stay(static_cast<Connection&>(endpoint));
    endpoint.core->run(stay, &endpoint, sequence);
    return Status::kNotAllowed;
}

Status VerbsFabric::export_listening(Listening& /*listening*/, int /*process*/,
                                     std::vector<std::byte> /*passenger*/,
                                     std::uint32_t& /*token*/) {
    return Status::kNotAllowed;
}

Status VerbsFabric::import_socket(std::uint32_t /*token*/, std::unique_ptr<Import>& /*import*/) {
    return Status::kUnknownToken;
}

void VerbsFabric::abandon_in_child() noexcept { close_all_in_child(); }

}  // namespace sanpoll::engine::verbs
