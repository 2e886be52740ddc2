// Described messages that both ends copy (joint_copy.hpp), and receives that the peer is still writing to.
#include <algorithm>
#include <utility>

#include "engine/fabric/copy.hpp"
#include "engine/fabric/shm/shm_port.hpp"

namespace sanpoll::engine::shm {

namespace {

// A sender's processor copies what it takes in microseconds. One that needs longer was taken off its processor, or stopped.
constexpr std::uint64_t kLateNs = 1'000'000;
// Messages that are not offered after that.
constexpr std::uint32_t kAloneAfterALate = 1024;

}  // namespace

// ---- the receiver -----------------------------------------------------------------------------------

// Begins to receive a message that lies in arenas. The sender may begin at once, even if there is nothing left to copy in this
// turn here.
void ShmPort::begin_shared(Connection& connection, const EarlyMessage& message,
                           const MappedPieces& mapped) noexcept {
    Link& link = *connection.link;
    const QueuedRequest& receive = connection.receives.front();
    // kStores: neither end has forbidden that the other one writes.
    if (config_.joint_copy == JointCopy::kOff || message.length < JointChoices::kFrom ||
        message.length > JobChunks::kLongest || link.sharing != Sharing::kStores ||
        mapped.count != 1 || receive.sge_count != 1) {
        return;
    }
    const LentArenas::Place place = link.lent.place_of(receive.sge[0].address, message.length);
    if (place.arena == 0 || place.known == nullptr) {
        return;
    }
    JointChoice& choice = link.joint_choices.of(message.length);
    const bool wanted = choice.joint();
    // The peer must not be the first who comes to a page: it would pay for it, or die of it.
    connection.long_on_new_pages = !place.known->all(place.offset, message.length);
    const bool may = !connection.long_on_new_pages && link.alone_for == 0 && link.job.idle() &&
                     !connection.leaving;
    link.alone_for -= link.alone_for != 0 ? 1 : 0;
    if (wanted && may) {
        link.job.offer(connection, {place.offset, place.arena, connection.peer_id, message.number,
                                    message.length});
    }
    connection.long_shared = wanted ? may : !connection.long_on_new_pages;
    connection.long_change = choice.changes();
    if (connection.long_shared && connection.long_ended_ns == 0 && choice.timed()) {
        connection.long_began_ns = core_.clock().now_ns();
    }
}

// It has come whole, and went the way that was asked for.
void ShmPort::note_shared_time(Connection& connection) noexcept {
    JointChoice& choice = connection.link->joint_choices.of(connection.long_length);
    const std::uint64_t since =
        connection.long_ended_ns != 0 ? connection.long_ended_ns : connection.long_began_ns;
    connection.long_ended_ns = 0;
    if (connection.long_change != choice.changes()) {
        return;  // messages of others have ended the run to which it belongs
    }
    if (!choice.timed()) {
        choice.took(0);
        return;
    }
    const std::uint64_t now = core_.clock().now_ns();
    if (since != 0) {
        choice.took(now - since);
    }
    // If what is behind it is here already, and has its receive: its time begins now.
    if (connection.early != nullptr && connection.early->described &&
        connection.receives.size() > 1) {
        connection.long_ended_ns = now;
    }
}

// This core has written all of the receive.
void ShmPort::note_new_pages(Connection& connection) noexcept {
    const LentArenas::Place place = connection.link->lent.place_of(
        connection.receives.front().sge[0].address, connection.long_length);
    if (place.known != nullptr) {
        place.known->note(place.offset, connection.long_length);
    }
}

// Copies what the peer does not, as far as this turn goes. True when all of the message is there. False: service() comes
// again, or the link has failed.
bool ShmPort::copy_jointly(Connection& connection, const MappedPieces& mapped) noexcept {
    Link& link = *connection.link;
    JobOffered& job = link.job;
    auto* to = reinterpret_cast<std::byte*>(connection.receives.front().sge[0].address);
    for (;;) {
        const JobChunks::Run run = job.claim(copy_left_);
        if (run.length == 0) {
            break;
        }
        copy_fetching(to + run.offset, mapped.pieces[0].from + run.offset, run.length);
        copy_left_ -= std::min(run.length, copy_left_);
        counters_.bytes_from_arenas.add(run.length);
        ++moved_;
        if (copy_left_ == 0) {
            come_back_to(connection);
            return false;
        }
    }
    switch (job.rest()) {
        case JobOffered::Rest::kNone:
            break;
        case JobOffered::Rest::kCopying:
            wait_for_peer(link);
            return false;
        case JobOffered::Rest::kImpossible:
            fail_link(link, "it copies of a message what it cannot have taken");
            return false;
    }
    // As if we had copied them: so much that came in one turn has driven what came before out of the caches.
    copy_left_ -= std::min(job.placed(), copy_left_);
    counters_.bytes_placed_by_peers.add(job.placed());
    connection.long_progress = connection.long_length;
    end_job(link);
    return true;
}

// Looks in each turn whether the peer has finished, rather than serve the connection in each: a peer that is stopped must not
// keep this core from sleeping, nor its waiters from short turns. If it sleeps, the peer rings (help_receiver).
void ShmPort::wait_for_peer(Link& link) noexcept {
    if (!waiting_.has(link)) {
        link.waits_since = core_.clock().now_ns();
        waiting_.add(link);
    }
    core_.look_round_next();
}

[[gnu::noinline]] void ShmPort::look_at_waiting() noexcept {
    const std::uint64_t now = core_.clock().now_ns();
    Link* next = waiting_.first();
    for (const Link* const last = waiting_.last(); next != nullptr;) {
        Link& link = *next;
        next = &link == last ? nullptr : waiting_.after(link);
        Connection& connection = *link.job.owner();
        if (link.job.rest() != JobOffered::Rest::kCopying ||
            (connection.receives_held && now >= connection.linger_until)) {
            waiting_.remove(link);
            queue(connection);
        } else if (now - link.waits_since < kLateNs) {
            core_.look_round_next();
        } else if (link.alone_for == 0) {
            link.alone_for = kAloneAfterALate;
        }
        if (connection.receives_held && armed_) [[unlikely]] {
            core_.wake();  // nobody rings when its time is over
        }
    }
}

void ShmPort::end_job(Link& link) noexcept {
    link.job.end();
    waiting_.remove(link);
}

// ---- the sender -------------------------------------------------------------------------------------

// One more of `connection` is described. `alone`: in one piece, in an arena that the peer reads.
void ShmPort::note_described(Connection& connection, bool alone, std::uint32_t length) noexcept {
    Link& link = *connection.link;
    ++connection.described;
    ++link.described;
    if (alone && length >= JointChoices::kFrom && length <= JobChunks::kLongest &&
        link.sharing == Sharing::kStores && config_.joint_copy != JointCopy::kOff) {
        describers_.add(link);
    }
}

// The first `count` of them are not any more.
void ShmPort::forget_described(Connection& connection, std::uint32_t count) noexcept {
    if (count == 0) {
        return;
    }
    Link& link = *connection.link;
    connection.described -= count;
    connection.helped = 0;
    link.described -= count;
    if (link.described == 0) {
        describers_.remove(link);
    }
}

// Behind all that this core has to copy for itself, and only if nobody had to be put off for want of bytes. What is copied here
// is not taken from the turn's: an operation that is posted before the next turn wants them. `busy`: something has arrived, or
// this core's threads look for what they wait for themselves: then the next look must not be long in coming. A few links a turn, each
// turn others: most have nothing, and as long as their peers have no receive for what was described that stays so.
[[gnu::noinline]] void ShmPort::help_receivers(bool busy) noexcept {
    std::uint32_t left = std::min(busy ? kHelpBesideWork : kHelpInATurn, copy_left_);
    const Link* const last = describers_.last();
    for (std::uint32_t looks = kHelpLooks; looks != 0 && left != 0; --looks) {
        Link& link = *describers_.first();
        describers_.rotate();
        if (link.peer_job.look() && !link.failed.load(std::memory_order_relaxed)) {
            help_receiver(link, left);
        }
        if (&link == last) {
            return;
        }
    }
}

// Copies a part of the oldest message that a connection has described on this link to where the peer wants it. What cannot
// be is not believed and not done. It is no proof of a liar: a job may be of a message whose end we have not heard of yet, or
// of a connection that is closed here. Nor is a message copied a second time for one that claims to begin again and again.
//
// A claim lives only in here. So under the core's token nothing of ours is ever being copied: a send that ends otherwise
// (close, broken connection) and a connection that is suspended or moves need not think of it, and the memory of a send is
// registered as long as it is queued.
void ShmPort::help_receiver(Link& link, std::uint32_t& left) noexcept {
    const JobTarget target = link.peer_job.target();
    Connection* const connection = find(target.connection, link);
    if (connection == nullptr || connection->closing || connection->broken ||
        connection->suspended || connection->described == 0 ||
        connection->long_state != Connection::Long::kIdle ||
        connection->sent - connection->described != target.message) {
        return;
    }
    const QueuedRequest& send = connection->sends.front();
    if (send.length != target.length || send.length > JobChunks::kLongest || send.sge_count != 1) {
        return;
    }
    std::byte* const to = link.arenas.find_to_write(target.arena, target.offset, target.length);
    if (to == nullptr) {
        return;
    }
    const auto* from = reinterpret_cast<const std::byte*>(send.sge[0].address);
    while (left != 0 && connection->helped < send.length) {
        const JobChunks::Run run = link.peer_job.claim(send.length, left);
        if (run.length == 0) {
            return;
        }
        std::uint32_t done = 0;
        while (done != run.length && !link.peer_job.given_up()) {
            const std::uint32_t step = std::min(run.length - done, JobChunks::kStep);
            copy_fetching(to + run.offset + done, from + run.offset + done, step);
            done += step;
        }
        link.peer_job.finish();
        // The receiver may sleep until it is there: pairs with LinkReceiver::arm, as a record does.
        link.sender.ring_doorbell();
        left -= std::min(run.length, left);
        connection->helped += run.length;
        counters_.bytes_placed_at_peers.add(done);
        ++moved_;
    }
    core_.look_round_next();
}

// ---- receives that the peer is at -------------------------------------------------------------------

// All receives of a connection that has come to an end. Whoever learns that its receive has ended may use the memory for
// something else; so where the peer is copying a chunk just now they end when that has, or as a close does that waits for an
// RDMA operation (lingers), after a while: then the link ends with them.
void ShmPort::end_receives(Connection& connection, Status status) noexcept {
    if (connection.link != nullptr && connection.link->job.is_of(connection)) [[unlikely]] {
        connection.held_status = status;
        if (!std::exchange(connection.receives_held, true)) {
            connection.linger_until = core_.clock().now_ns() + kLingerNs;
        }
        if (!std::exchange(connection.keeps_awake, true)) {
            core_.keep_awake();
        }
        wait_for_peer(*connection.link);
        return;
    }
    while (!connection.receives.empty()) {
        complete_receive(connection, status, 0);
    }
}

// Whether they are held still; look_at_waiting() comes back to them then. If not any more they have ended.
bool ShmPort::holds_receives(Connection& connection) noexcept {
    if (!connection.receives_held) [[likely]] {
        return false;
    }
    Link& link = *connection.link;
    const bool copying = link.job.rest() == JobOffered::Rest::kCopying;
    if (copying && core_.clock().now_ns() < connection.linger_until) {
        waiting_.add(link);
        return true;
    }
    let_receives_go(connection);
    if (copying) {
        counters_.abandoned_uses.add();
        counters_.late_peers.add();
        end_link(link,
                 "it was stopped, or claims to be, in the middle of a receive that it copies a "
                 "part of: what it had begun "
                 "to write it may finish when it goes on");
    }
    return false;
}

// Whatever the peer does to their memory: it is gone, or had its time.
void ShmPort::let_receives_go(Connection& connection) noexcept {
    if (connection.link != nullptr && connection.link->job.is_of(connection)) {
        end_job(*connection.link);
    }
    if (!std::exchange(connection.receives_held, false)) {
        return;
    }
    while (!connection.receives.empty()) {
        complete_receive(connection, connection.held_status, 0);
    }
    if (connection.closing) {
        forget_owner(connection);
    } else if (std::exchange(connection.keeps_awake, false)) {
        core_.let_sleep();
    }
}

}  // namespace sanpoll::engine::shm
