// Links and the life of connections.
#include "engine/fabric/shm/shm_port.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#include "engine/remote_regions.hpp"

namespace sanpoll::engine::shm {

namespace {
constexpr std::uint32_t kServicedInATurn = 64;
constexpr std::size_t kIdsPassed =
    4096;  // that free_ids_ keeps in front of its head before it moves up

}  // namespace

ShmPort::ShmPort(const Config& config, PollingCore& core, int trouble_fd)
    : config_(config),
      core_(core),
      trouble_fd_(trouble_fd),
      counters_(core.direct_counters()),
      table_(new Connection*[config.max_connections]()),
      table_mask_(config.max_connections - 1),
      looks_(config.mode == Mode::kInline ? kIdleLooks : 1),
      turn_most_(std::min(kTurnMost, std::max(config.eager_max, kMaxInRing))) {
    links_.reserve(64);
    // All that can ever wait to be used again, so that an end needs no memory. Only what is used is ever touched.
    free_ids_.reserve(std::max<std::size_t>(config.max_connections, kIdsPassed) +
                      config.max_connections + 1);
    fill_early_pool();
}

ShmPort::~ShmPort() {
    for (std::uint32_t i = 0; i <= table_mask_; ++i) {
        if (Connection* connection = table_[i]; connection != nullptr) {
            while (EarlyMessage* message = connection->early) {
                connection->early = message->next;
                std::free(message);
            }
            std::free(connection->copying);
            delete connection;
        }
    }
    reap();
    while (EarlyMessage* message = early_pool_) {
        early_pool_ = message->next;
        std::free(message);
    }
}

// ---- control plane ----------------------------------------------------------------------------------

Connection* ShmPort::make_connection(const EndpointOwner& owner) {
    const std::lock_guard lock(ids_mutex_);
    reap();
    std::uint32_t id = 0;
    if (free_head_ < free_ids_.size()) {
        id = free_ids_[free_head_++];
        if (free_head_ > kIdsPassed && free_head_ * 2 > free_ids_.size()) {
            free_ids_.erase(free_ids_.begin(),
                            free_ids_.begin() + static_cast<std::ptrdiff_t>(free_head_));
            free_head_ = 0;
        }
    } else if (next_index_ <= table_mask_) {
        id = next_index_++;
    } else {
        return nullptr;
    }
    auto* connection = new (std::nothrow) Connection;
    if (connection == nullptr || !connection->sends.prepare() || !connection->receives.prepare()) {
        delete connection;
        free_ids_.push_back(id);
        return nullptr;
    }
    static_cast<EndpointOwner&>(*connection) = owner;
    connection->id = id;
    connection->port = this;
    connection->core = &core_;
    connection->direct = true;
    return connection;
}

void ShmPort::drop_connection(Connection* connection) {
    bury(*connection);
    const std::lock_guard lock(ids_mutex_);
    reap();
}

// Frees what the core has buried. An id comes back with its next generation, so that a record on its way
// to the old connection does not fit the new one.
void ShmPort::reap() {
    // Pairs with the release in bury().
    Connection* connection = dead_.exchange(nullptr, std::memory_order_acquire);
    while (connection != nullptr) {
        Connection* next = connection->next_dead;
        free_ids_.push_back(connection->id + (1U << kGenerationShift));
        delete connection;
        connection = next;
    }
}

// ---- links ------------------------------------------------------------------------------------------

void ShmPort::add_link(Link& link) {
    for (Link* other : links_) {
        // One of each: a peer may offer a file of ours again and again.
        if (link.other_end == nullptr && other->other_end == nullptr &&
            link.is_other_end_of(*other)) {
            link.other_end = other;
            other->other_end = &link;
        }
    }
    links_.push_back(&link);
    if (armed_) {
        link.receiver.arm();  // the peer does not know of the link yet, so nothing can be missed
    }
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    (void)::epoll_ctl(core_.epoll_fd(), EPOLL_CTL_ADD, link.own_doorbell(), &event);
}

// At most a ring full: the peer may go on writing.
void ShmPort::drain(Link& link) noexcept {
    if (!link.failed.load(std::memory_order_relaxed)) {
        link.patience.give_up();
        std::uint32_t left = config_.shm_ring_slots + 1;  // and what is in the turn line
        while (left != 0) {
            const std::uint32_t taken = poll_link(link, std::min(left, 64U));
            if (taken == 0) {
                break;
            }
            left -= std::min(taken, left);
        }
    }
}

void ShmPort::remove_link(Link& link, Status reason) noexcept {
    drain(link);  // what the peer wrote before it died is delivered
    std::erase(links_, &link);
    if (link.other_end != nullptr) {
        link.other_end->other_end = nullptr;
        link.other_end = nullptr;
    }
    (void)::epoll_ctl(core_.epoll_fd(), EPOLL_CTL_DEL, link.own_doorbell(), nullptr);
    while (Connection* connection = link.connections) {
        break_connection(*connection, reason);
        unlink(*connection);
        if (connection->closing) {
            connection->farewell_due = false;
            finish(*connection);
        }
    }
    waiting_.remove(link);
    describers_.remove(link);
}

void ShmPort::break_link(Link& link, Status reason) noexcept {
    drain(link);
    for (Connection* connection = link.connections; connection != nullptr;
         connection = connection->next) {
        break_connection(*connection, reason);
    }
}

void ShmPort::fail_link(Link& link, std::string_view why) noexcept {
    if (!link.failed.load(std::memory_order_relaxed)) {
        counters_.lying_peers.add();
        end_link(link, why);
    }
}

void ShmPort::end_link(Link& link, std::string_view why) noexcept {
    if (link.failed.load(std::memory_order_relaxed)) {
        return;
    }
    link.failure = why;
    // Pairs with the acquire in ShmFabric::look_for_trouble.
    link.failed.store(true, std::memory_order_release);
    for (Connection* connection = link.connections; connection != nullptr;
         connection = connection->next) {
        break_connection(*connection, Status::kReset);
    }
    const std::uint64_t one = 1;
    (void)!::write(trouble_fd_, &one, sizeof(one));
}

// ---- life of a connection ---------------------------------------------------------------------------

void ShmPort::install(Connection& connection, Link& link) noexcept {
    table_[connection.id & table_mask_] = &connection;
    connection.link = &link;
    connection.sharing.store(link.sharing, std::memory_order_relaxed);
    connection.next = link.connections;
    if (link.connections != nullptr) {
        link.connections->previous = &connection;
    }
    link.connections = &connection;
    if (link.failed.load(std::memory_order_relaxed)) {
        break_connection(connection, Status::kReset);
    }
}

bool ShmPort::establish(Connection& connection, std::uint32_t peer_id) noexcept {
    connection.peer_id = peer_id;
    connection.established = true;
    // Before the gate opens: a post reads the slot after the gate has let it in.
    core_.introduce(connection);
    if (!connection.gate->open(connection.generation)) {
        return false;
    }
    if (connection.broken && connection.early == nullptr) {
        (void)connection.gate->break_off(connection.generation,
                                         connection.reason == Status::kTransportFailed
                                             ? PostGate::State::kFailed
                                             : PostGate::State::kReset);
    }
    if (connection.failure_due && !flush_control(connection)) {
        queue(connection);
    }
    if (connection.remote != nullptr) {
        connection.remote->set_board(&connection);
    }
    return true;
}

void ShmPort::abandon(Connection& connection) noexcept {
    connection.closing = true;
    connection.broken = true;
    connection.stop_direct();
    while (EarlyMessage* message = connection.early) {
        connection.early = message->next;
        free_early(message);
    }
    finish(connection);
}

void ShmPort::peer_abandoned(std::uint32_t id, const Link& link) noexcept {
    if (Connection* connection = find(id, link); connection != nullptr) {
        break_connection(*connection, Status::kReset);
    }
}

void ShmPort::close(Endpoint& endpoint) noexcept {
    auto& connection = static_cast<Connection&>(endpoint);
    connection.closing = true;
    abort_pending(connection, Status::kAborted);
    while (EarlyMessage* message = connection.early) {
        connection.early = message->next;
        free_early(message);
    }
    connection.credit_due = connection.stall_due = connection.invite_due = false;
    connection.farewell_due = connection.link != nullptr && !connection.broken;
    if (connection.remote != nullptr) {
        connection.remote->clear();
        connection.remote = nullptr;
    }
    // Who hears that it is closed may use the memory for something else.
    connection.closed_due = true;
    connection.linger_until = core_.clock().now_ns() + kLingerNs;
    const bool waits = lingers(connection);
    if (!connection.receives_held) {
        forget_owner(connection);
    }
    if (!flush_control(connection) || waits) {
        if (!std::exchange(connection.keeps_awake, true)) {
            core_.keep_awake();
        }
        queue(connection);
        return;
    }
    finish(connection);
}

// The owner's memory is not ours any more.
void ShmPort::forget_owner(Connection& connection) noexcept {
    connection.slot = nullptr;
    connection.gate = nullptr;
    connection.saturation = nullptr;
    connection.regions = nullptr;
}

void ShmPort::break_connection(Connection& connection, Status reason) noexcept {
    if (connection.broken) {
        return;
    }
    connection.broken = true;
    connection.stop_direct();
    connection.reason = reason;
    connection.credit_due = connection.stall_due = connection.invite_due = false;
    connection.confirm_due = connection.confirmed_due = false;
    connection.farewell_due = false;
    if (connection.closing) {
        queue(connection);  // service() finishes it
        return;
    }
    if (connection.remote != nullptr) {
        connection.remote->revoke_on_board();
    }
    // An announced message will never come; it can only be the last one.
    EarlyMessage** at = &connection.early;
    connection.early_tail = nullptr;
    while (*at != nullptr) {
        if ((*at)->announced) {
            EarlyMessage* message = *at;
            *at = message->next;
            free_early(message);
        } else {
            connection.early_tail = *at;
            at = &(*at)->next;
        }
    }
    // Messages that are here already are delivered first: the gate stays open until they are. It is shut
    // before anybody learns of the end: who does finds it shut.
    if (connection.established && connection.early == nullptr) {
        (void)connection.gate->break_off(connection.generation, reason == Status::kReset
                                                                    ? PostGate::State::kReset
                                                                    : PostGate::State::kFailed);
    }
    abort_pending(connection, reason);
}

void ShmPort::abort_pending(Connection& connection, Status status) noexcept {
    end_rdma(connection);
    give_up_described(connection);
    connection.receiving_long = connection.invited_ahead = false;
    connection.long_state = Connection::Long::kIdle;
    connection.wanted_ahead = false;
    while (!connection.sends.empty()) {
        complete_send(connection, status, 0);
    }
    end_receives(connection, status);
}

void ShmPort::finish(Connection& connection) noexcept {
    say_closed(connection);
    if (connection.queued) {
        connection.finished = true;  // service() comes back here
        return;
    }
    unlink(connection);
    if (connection.keeps_awake) {
        core_.let_sleep();
    }
    table_[connection.id & table_mask_] = nullptr;
    bury(connection);
}

void ShmPort::unlink(Connection& connection) noexcept {
    if (connection.link == nullptr) {
        return;
    }
    let_receives_go(connection);
    if (connection.previous != nullptr) {
        connection.previous->next = connection.next;
    } else {
        connection.link->connections = connection.next;
    }
    if (connection.next != nullptr) {
        connection.next->previous = connection.previous;
    }
    connection.link->shown.abandon(connection.still_used);
    connection.forget_targets();  // they are in the link's table and in what it has mapped
    connection.previous = connection.next = nullptr;
    connection.link = nullptr;
}

void ShmPort::bury(Connection& connection) noexcept {
    connection.next_dead = dead_.load(std::memory_order_relaxed);
    // Pairs with the acquire in reap().
    while (!dead_.compare_exchange_weak(connection.next_dead, &connection,
                                        std::memory_order_release, std::memory_order_relaxed)) {
    }
}

// ---- FabricPort -------------------------------------------------------------------------------------

std::uint32_t ShmPort::poll(std::uint32_t budget) noexcept {
    std::uint32_t work = 0;
    begin_copies();
    // Nothing there: looks again, for the way in and out of here takes longer than several looks, and what
    // arrives during that way waits for the next.
    for (std::uint32_t looks = std::exchange(one_look_, false) ? 1 : looks_;
         looks != 0 && work == 0; --looks) {
        for (Link* link : links_) {
            work += poll_link(*link, budget);
        }
    }
    if (!waiting_.empty()) [[unlikely]] {
        look_at_waiting();
    }
    if (starved_head_ != nullptr) [[unlikely]] {
        put_starved_first();
    }
    if (queued_head_ != nullptr) [[unlikely]] {
        service_queue();
    }
    if (!describers_.empty() && starved_head_ == nullptr) [[unlikely]] {
        help_receivers(work != 0 || waited_for_ != nullptr);
    }
    if (awaiting_ != 0) [[unlikely]] {
        knock_at_silent_peers(false);
    }
    // A core that sends is not idle, although nothing arrives.
    return work + std::exchange(moved_, 0);
}

// A bounded part of what is queued now, the longest waiting first; what queues itself again waits for its next
// turn. Ten thousand that wait for room on one link must not make the turns of everybody else long.
void ShmPort::service_queue() noexcept {
    std::uint32_t left = std::exchange(try_all_, false) ? UINT32_MAX : kServicedInATurn;
    const Connection* const last = queued_tail_;
    for (const Connection* tried = nullptr; tried != last && left != 0; --left) {
        Connection& connection = *queued_head_;
        tried = &connection;
        queued_head_ = connection.next_queued;
        if (queued_head_ == nullptr) {
            queued_tail_ = nullptr;
        }
        connection.queued = false;
        connection.next_queued = nullptr;
        service(connection);
    }
    if (queued_head_ != nullptr) {
        core_.look_round_next();
    }
}

void ShmPort::arm() noexcept {
    armed_ = true;
    if (awaiting_ != 0) {
        knock_at_silent_peers(true);  // nobody will look at the clock
    }
    put_starved_first();
    armed_for_room_ = queued_head_ != nullptr;
    try_all_ = armed_for_room_;  // nobody rings for room that is there already
    for (Link* link : links_) {
        link->patience.give_up();  // the look before the sleep must not be put off
        link->receiver.arm();
        if (armed_for_room_) {
            link->sender.arm_for_room();
        }
    }
}

void ShmPort::disarm() noexcept {
    armed_ = armed_for_room_ = false;
    for (Link* link : links_) {
        link->disarm();
    }
}

}  // namespace sanpoll::engine::shm
