// The data plane's part in giving one end of a connection to another process.
#include <cstdlib>
#include <new>

#include "engine/fabric/shm/shm_port.hpp"
#include "engine/remote_regions.hpp"

namespace sanpoll::engine::shm {

namespace {

// Long messages that were announced and have not begun to flow, or were described and are not copied. They
// stay their sender's: once the receiver has left, it is as if they had never been announced.
std::uint32_t waiting_long(const Connection& connection) noexcept {
    std::uint32_t count = connection.receiving_long && !connection.long_flows() ? 1 : 0;
    for (const EarlyMessage* message = connection.early; message != nullptr;
         message = message->next) {
        count += message->announced ? 1 : 0;
    }
    return count;
}

}  // namespace

// ---- the end that leaves ----------------------------------------------------------------------------

Hold ShmPort::start_leaving(Connection& connection, Link*& link, std::uint32_t& peer_id) noexcept {
    if (connection.broken) {
        return Hold::kGone;
    }
    if (connection.suspended || connection.link == nullptr) {
        return Hold::kBusy;
    }
    connection.leaving = true;
    if (connection.link->job.is_of(connection)) {
        connection.link->job
            .close();  // the peer's core has ended what it took before it lets us go
    }
    link = connection.link;
    peer_id = connection.peer_id;
    return Hold::kHeld;
}

Status ShmPort::freeze(Connection& connection, const Counts& peer, Frozen& frozen) noexcept {
    if (connection.link != nullptr) {
        drain(*connection.link);
    }
    if (connection.broken) {
        return Status::kReset;
    }
    const std::uint32_t long_waits = waiting_long(connection);
    // What was copied has to be said before: the peer takes it in before it lets us go.
    if (connection.link == nullptr || !connection.rdma_idle() || connection.confirming ||
        !flush_control(connection) || connection.long_flows() ||
        (connection.link->job.is_of(connection) &&
         connection.link->job.rest() != JobOffered::Rest::kNone) ||
        peer.sent != connection.arrived || peer.arrived != connection.sent) {
        return Status::kTransportFailed;
    }
    try {
        frozen.counts = {connection.sent, connection.arrived - long_waits};
        frozen.credit = connection.credit;
        frozen.early.clear();
        for (const EarlyMessage* message = connection.early; message != nullptr;
             message = message->next) {
            if (!message->announced) {
                frozen.early.emplace_back(message->bytes, message->bytes + message->length);
            }
        }
    } catch (const std::bad_alloc&) {
        return Status::kNoMemory;
    }
    return Status::kOk;
}

void ShmPort::take_out(Connection& connection) noexcept {
    connection.closing = true;
    end_rdma(connection);
    give_up_described(connection);
    connection.receiving_long = connection.invited_ahead = false;
    while (!connection.receives.empty()) {
        complete_receive(connection, Status::kOk, 0);
    }
    while (EarlyMessage* message = connection.early) {
        connection.early = message->next;
        free_early(message);
    }
    connection.credit_due = connection.stall_due = connection.invite_due = false;
    connection.farewell_due = false;
    if (connection.remote != nullptr) {
        connection.remote->clear();  // what was exposed was exposed by this process
        connection.remote = nullptr;
    }
    // Who hears of it may use the memory for something else.
    core_.endpoint_closed(connection);
    forget_owner(connection);
    leave_link(connection);
    finish(connection);
}

void ShmPort::stay(Connection& connection) noexcept {
    connection.leaving = false;
    if (connection.copying != nullptr) {
        come_back_to(connection);
    }
    if (!connection.gate->resume(connection.generation)) {
        return;  // its owner closes it
    }
    // It may have ended while the gate was shut; then as in break_connection.
    if (connection.broken && connection.early == nullptr) {
        (void)connection.gate->break_off(connection.generation, connection.reason == Status::kReset
                                                                    ? PostGate::State::kReset
                                                                    : PostGate::State::kFailed);
    }
}

// ---- the end that stays -----------------------------------------------------------------------------

Hold ShmPort::suspend(std::uint32_t id, Link& link, bool they_win) noexcept {
    drain(link);
    Connection* connection = find(id, link);
    // An honest peer has no sends pending, so no long message of its own is under way.
    if (connection == nullptr || connection->closing || connection->broken ||
        !connection->established || connection->suspended || connection->long_is_last()) {
        return Hold::kGone;
    }
    if (connection->leaving) {
        if (!they_win) {
            return Hold::kBusy;
        }
        connection->leaving = false;  // its own departure tries again later
        // Nothing is being copied: no long message is under way.
    }
    connection->suspended = true;
    connection->stop_direct();
    Counts counts;
    return suspended(id, link, counts);
}

Hold ShmPort::suspended(std::uint32_t id, const Link& link, Counts& counts) noexcept {
    Connection* connection = find(id, link);
    if (connection == nullptr || !connection->suspended || connection->closing ||
        connection->broken) {
        return Hold::kGone;
    }
    counts = {connection->sent, connection->arrived};
    return connection->held_back() ? Hold::kHeld : Hold::kFinishing;
}

void ShmPort::go_on(std::uint32_t id, const Link& link) noexcept {
    if (Connection* connection = find(id, link); connection != nullptr && connection->suspended) {
        connection->suspended = false;
        queue(*connection);
    }
}

void ShmPort::let_go(std::uint32_t id, Link& link) noexcept {
    drain(link);  // what it had copied before it left
    if (Connection* connection = find(id, link); connection != nullptr && connection->suspended) {
        end_long_of_leaver(*connection);
        leave_link(*connection);
    }
}

// A process does not leave while a message of its own is under way. One that says so has lied: what is left of the
// message is in memory that goes with the link.
void ShmPort::end_long_of_leaver(Connection& connection) noexcept {
    if (connection.long_is_last()) [[unlikely]] {
        break_connection(connection, Status::kReset);
    }
}

// What is between the two ends and no message ends with the link.
void ShmPort::leave_link(Connection& connection) noexcept {
    end_rdma(connection);  // an honest peer has waited for it
    if (connection.remote != nullptr) {
        connection.remote->take_off_board();
    }
    if (connection.long_state != Connection::Long::kIdle) {
        connection.long_state = Connection::Long::kIdle;  // to be announced again
        connection.wanted_ahead = false;
        connection.progress = 0;
        connection.sent -= connection.described == 0 ? 1 : 0;
    }
    connection.sent -= connection.described;  // to be described again
    forget_described(connection, connection.described);
    connection.credit_due = connection.stall_due = connection.invite_due = false;
    connection.confirm_due = connection.confirmed_due = false;
    connection.copied_due = 0;
    connection.stalled = false;
    connection.report_after = connection.report_every;
    connection.stop_direct();            // `sent` may be less than it was
    connection.taken = connection.sent;  // the peer has taken in all, as it said at its leave
    unlink(connection);
}

Connection* ShmPort::find_suspended(std::uint32_t id) noexcept {
    Connection* connection = table_[id & table_mask_ & ((1U << kGenerationShift) - 1)];
    return connection != nullptr && connection->id == id && connection->suspended &&
                   !connection->closing && !connection->broken
               ? connection
               : nullptr;
}

bool ShmPort::go_on_with(std::uint32_t id, Link& link, std::uint32_t peer_id, const Counts& peer,
                         std::uint32_t credit, std::uint32_t& granted) noexcept {
    // The last process may have used this very link: what it left there is not the next one's.
    drain(link);
    Connection* connection = find_suspended(id);
    if (connection != nullptr && connection->link != nullptr && connection->link != &link) {
        drain(*connection->link);
        connection = find_suspended(id);  // unless the last process lied
    }
    if (connection == nullptr) {
        return false;
    }
    end_long_of_leaver(*connection);
    leave_link(*connection);  // the next process may be faster than the last one's farewell
    if (connection->broken || peer.sent != connection->arrived ||
        peer.arrived != connection->sent ||
        static_cast<std::int32_t>(connection->sent - credit) < 0) {
        reset_suspended(id);
        return false;
    }
    connection->suspended = false;
    connection->peer_id = peer_id;
    connection->credit = credit;
    connection->reported = granted = connection->granted;
    install(*connection, link);
    queue(*connection);
    return true;
}

void ShmPort::reset_suspended(std::uint32_t id) noexcept {
    if (Connection* connection = find_suspended(id); connection != nullptr) {
        connection->suspended = false;
        break_connection(*connection, Status::kReset);
    }
}

// ---- the next process -------------------------------------------------------------------------------

bool ShmPort::stock(Connection& connection, const Frozen& frozen) noexcept {
    for (const std::vector<std::byte>& bytes : frozen.early) {
        EarlyMessage* message = keep(connection, static_cast<std::uint32_t>(bytes.size()), false);
        if (message == nullptr) {
            return false;
        }
        copy_long(message->bytes, bytes.data(), bytes.size());
    }
    connection.sent = frozen.counts.sent;
    connection.arrived = frozen.counts.arrived;
    connection.credit = frozen.credit;
    connection.granted = connection.reported = frozen.granted();
    connection.stop_direct();  // whatever `sent` is: as yet nobody has looked at the credit
    return true;
}

bool ShmPort::establish_with(Connection& connection, std::uint32_t peer_id,
                             std::uint32_t credit) noexcept {
    if (!establish(connection, peer_id)) {
        return false;
    }
    take_credit(connection, credit);
    return true;
}

bool ShmPort::establish_ended(Connection& connection) noexcept {
    table_[connection.id & table_mask_] = &connection;
    break_connection(connection, Status::kReset);
    return establish(connection, 0);
}

}  // namespace sanpoll::engine::shm
