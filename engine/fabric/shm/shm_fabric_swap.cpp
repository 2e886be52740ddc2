// The fabric's part in giving sockets to other processes and taking theirs.
#include <algorithm>
#include <future>
#include <new>
#include <tuple>

#include "engine/fabric/shm/shm_fabric.hpp"

namespace sanpoll::engine::shm {

// ---- any thread -------------------------------------------------------------------------------------

Status ShmFabric::export_connection(Endpoint& endpoint, std::uint32_t sequence, int process,
                                    std::vector<std::byte> passenger, std::uint32_t& token) {
    auto& connection = static_cast<Connection&>(endpoint);
    auto& port = static_cast<ShmPort&>(*endpoint.port);
    struct IdleOp final : ControlOp {
        IdleOp(ShmPort& port, Connection& connection) : port(port), connection(connection) {}
        void run() noexcept override {
            // Known here, where all admitted posts have been applied.
            // RDMA of ours is among the sends; RDMA of the peer's may be at work in our memory.
            if (!connection.broken && (!connection.sends.empty() || !connection.rdma_idle())) {
                status = Status::kPending;
                port.stay(connection);
            }
        }
        ShmPort& port;
        Connection& connection;
        Status status = Status::kOk;
    } op(port, connection);
    port.core().run(op, &endpoint, sequence);
    if (op.status != Status::kOk) {
        return op.status;
    }
    std::future<std::pair<Status, std::uint32_t>> result;
    try {
        // Shared: it must outlive set_value(), which the waiting thread does not wait for.
        const auto promise = std::make_shared<std::promise<std::pair<Status, std::uint32_t>>>();
        result = promise->get_future();
        // Not post(): what this thread posts may be left to the end of a call that it is in the middle of.
        control_.call([this, departure = Departure{&connection, process, std::move(passenger),
                                                   [promise](Status status, std::uint32_t issued) {
                                                       promise->set_value({status, issued});
                                                   }}] { departures_.begin(departure); });
    } catch (const std::bad_alloc&) {
        on_core(port, [&]() noexcept { port.stay(connection); });
        return Status::kNoMemory;
    }
    Status status = Status::kOk;
    std::tie(status, token) = result.get();
    return status;
}

Status ShmFabric::import_socket(std::uint32_t token, std::unique_ptr<Import>& import) {
    return Arrival::fetch(*this, token, import);
}

// ---- on the control thread --------------------------------------------------------------------------

void ShmFabric::begin_resumption(const std::shared_ptr<Outgoing>& outgoing) {
    outgoing->timer = control_.add_timer(config_.connect_timeout_ms, [this, outgoing] {
        outgoing->timer = 0;
        withdraw(outgoing);
        finish(outgoing, {Status::kTimedOut, {}});
    });
    Resumption& resumption = *outgoing->resumption;
    const ExportedState& state = resumption.state;
    // A link that we have already, if it leads to the core that has the connection.
    for (const std::shared_ptr<Peer>& peer : peers_) {
        if (peer->state() == Peer::State::kReady && peer->is_engine(state.engine_id) &&
            peer->their_port() == state.engine_port) {
            peer->request(outgoing);
            return;
        }
    }
    if (const std::shared_ptr<Peer> peer =
            meet(std::move(resumption.lifeline), Introduction::kOursAlone, any_port())) {
        peer->request(outgoing);
    } else {
        finish(outgoing, {Status::kNoDescriptors, {}});
    }
}

std::shared_ptr<Peer> ShmFabric::meet(Descriptor socket, Introduction introduction, ShmPort& port) {
    const auto peer =
        std::make_shared<Peer>(*this, socket.get(), introduction != Introduction::kTheirs, port);
    (void)socket.release();
    if (introduction == Introduction::kOursAlone) {
        peer->keep_to_itself();
    }
    peers_.insert(peer);
    bool begun = false;
    try {
        begun = peer->begin();
    } catch (const std::bad_alloc&) {
        peers_.erase(peer);
        throw;
    }
    if (!begun) {
        peers_.erase(peer);
        return nullptr;
    }
    return peer;
}

std::shared_ptr<Peer> ShmFabric::peer_of(const Link* link) const {
    for (const std::shared_ptr<Peer>& peer : peers_) {
        if (link != nullptr && peer->link() == link && peer->state() == Peer::State::kReady) {
            return peer;
        }
    }
    return nullptr;
}

const Peer* ShmFabric::expect_peer(int fd, ShmPort& port) {
    return meet(Descriptor(fd), Introduction::kTheirs, port).get();
}

void ShmFabric::end_peer(const Peer& peer) {
    const auto found =
        std::find_if(peers_.begin(), peers_.end(),
                     [&](const std::shared_ptr<Peer>& one) { return one.get() == &peer; });
    if (found != peers_.end()) {
        (*found)->end({});  // takes it out of the set, and keeps it until then
    }
}

std::uint32_t ShmFabric::index_of(const ShmPort& port) const noexcept {
    const auto found = std::find(ports_.begin(), ports_.end(), &port);
    return static_cast<std::uint32_t>(found - ports_.begin());
}

}  // namespace sanpoll::engine::shm
