// The data plane of the shared-memory fabric on one polling core.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/config.hpp"
#include "engine/counter.hpp"
#include "engine/fabric/fabric_port.hpp"
#include "engine/fabric/shm/connection.hpp"
#include "engine/fabric/shm/frozen.hpp"
#include "engine/polling_core.hpp"

namespace sanpoll::engine::shm {

struct ShmCounters {
    /// `direct`: what is counted there is counted here as well.
    explicit ShmCounters(const DirectCounters& direct) noexcept
        : messages_sent(direct.sends),
          messages_received(direct.received),
          bytes_sent(direct.bytes_sent),
          bytes_received(direct.bytes_received) {}

    CounterWith messages_sent;
    CounterWith messages_received;
    CounterWith bytes_sent;
    CounterWith bytes_received;
    Counter early_messages;      // kept in private memory until a receive came
    Counter stalls;              // the peer had no receive for a message of ours
    Counter full_rings;          // the ring had no room; tried again in a later turn
    Counter stale_records;       // for a connection that is gone: normal after a close
    Counter lying_peers;         // links ended because the peer broke the protocol
    Counter rdma_operations;     // of ours that have ended well
    Counter rdma_bytes_copied;   // between the processes, by this side
    Counter rdma_bytes_staged;   // put into the staging area by this side
    Counter rdma_refused;        // the peer asked for what it may not have
    Counter knocks;              // at a peer that seemed to sleep
    Counter messages_described;  // sent by saying where they are, in an arena or in our process
    Counter bytes_from_arenas;   // copied by this side out of arenas of the peer
    Counter
        bytes_placed_at_peers;  // of messages that we have described: copied by this side into their receives
    Counter bytes_placed_by_peers;  // the same, by the peer into ours
    Counter bytes_from_process;     // of messages, copied by this side out of the peer's process
    Counter rdma_stores;            // operations of ours that asked the peer nothing
    Counter rdma_bytes_stored;      // by this side, of such writes
    Counter rdma_bytes_loaded;      // of such reads
    Counter abandoned_uses;  // closes that did not wait for a peer in the middle of one any longer
    Counter late_peers;  // links ended because the peer was in the middle of a receive for too long
};

class ShmPort final : public FabricPort {
public:
    /// `trouble_fd`: an eventfd that tells the control thread to look for failed links.
    ShmPort(const Config& config, PollingCore& core, int trouble_fd);
    ~ShmPort() override;

    // ---- control plane -------------------------------------------------------------------------

    /// A connection with an id of its own, not yet installed. nullptr: no memory or no free id.
    [[nodiscard]] Connection* make_connection(const EndpointOwner& owner);
    /// Gives back one that was never installed.
    void drop_connection(Connection* connection);

    [[nodiscard]] PollingCore& core() noexcept { return core_; }
    [[nodiscard]] const ShmCounters& counters() const noexcept { return counters_; }

    // ---- token holder, as PollingCore control operations ------------------------------------------

    void add_link(Link& link);
    /// The peer's arena is mapped here: what it describes there may come. / Ours is mapped there.
    void add_peer_arena(Link& link, std::uint32_t id, ArenaMapping& mapping) noexcept;
    void lend_arena(Link& link, std::uint32_t id) noexcept;
    /// Takes in what has arrived, then breaks the link's connections with `reason`. What was exposed on it stays in use
    /// as long as the peer is at it.
    void break_link(Link& link, Status reason) noexcept;
    /// The same, and lets go of it, and of what the peer may be doing: its end must have been closed, or have had time.
    void remove_link(Link& link, Status reason) noexcept;
    /// From now on records for it are accepted.
    void install(Connection& connection, Link& link) noexcept;
    /// The acceptor said yes: opens the owner's gate. False if the owner has closed in the meantime;
    /// the connection is then to be abandoned.
    [[nodiscard]] bool establish(Connection& connection, std::uint32_t peer_id) noexcept;
    /// Removes a connection that was never established.
    void abandon(Connection& connection) noexcept;
    /// The peer took back a connection that it never used (record-less kDisconnect).
    void peer_abandoned(std::uint32_t id, const Link& link) noexcept;

    // ---- a connection's end changes process (shm_swap.cpp), token holder -----------------------------

    // At the end that leaves. The owner's gate is shut with PostGate::suspend before.

    /// Before the peer is asked. kBusy: the peer's end is on its way itself. Tells where the peer is.
    [[nodiscard]] Hold start_leaving(Connection& connection, Link*& link,
                                     std::uint32_t& peer_id) noexcept;
    /// The peer has stopped sending and says how far it got. Takes in the rest and fills `frozen`;
    /// nothing is changed for good yet. kReset: the connection has ended, kTransportFailed: the two ends
    /// do not agree, kNoMemory.
    [[nodiscard]] Status freeze(Connection& connection, const Counts& peer,
                                Frozen& frozen) noexcept;
    /// Completes the pending receives with kOk and no bytes, ends the endpoint, tells the peer nothing.
    void take_out(Connection& connection) noexcept;
    /// The end does not leave after all: opens the owner's gate again, or breaks it off.
    void stay(Connection& connection) noexcept;

    // At the other end, whose owner notices nothing.

    /// Takes in what has come over `link` and sends nothing new from now on. `they_win`: of two ends that
    /// leave at once, the peer's goes first.
    [[nodiscard]] Hold suspend(std::uint32_t id, Link& link, bool they_win) noexcept;
    /// How it stands: kHeld with the counts, kFinishing or kGone.
    [[nodiscard]] Hold suspended(std::uint32_t id, const Link& link, Counts& counts) noexcept;
    /// Goes on as if nothing had been.
    void go_on(std::uint32_t id, const Link& link) noexcept;
    /// The peer's process has left: the connection survives the end of `link`.
    void let_go(std::uint32_t id, Link& link) noexcept;
    /// The next process is at the end of `link`. False if the connection is gone or the counts do not
    /// fit ours; it is reset then.
    [[nodiscard]] bool go_on_with(std::uint32_t id, Link& link, std::uint32_t peer_id,
                                  const Counts& peer, std::uint32_t credit,
                                  std::uint32_t& granted) noexcept;
    /// Nobody will come for it any more.
    void reset_suspended(std::uint32_t id) noexcept;

    // In the next process.

    /// Before install(): what had arrived and how far the last process got. False: no memory.
    [[nodiscard]] bool stock(Connection& connection, const Frozen& frozen) noexcept;
    /// establish(), knowing the peer's receives.
    [[nodiscard]] bool establish_with(Connection& connection, std::uint32_t peer_id,
                                      std::uint32_t credit) noexcept;
    /// establish() without a peer, which has ended: what had arrived is there, then the end.
    [[nodiscard]] bool establish_ended(Connection& connection) noexcept;

    // ---- FabricPort -----------------------------------------------------------------------------

    [[nodiscard]] std::string_view fabric() const noexcept override { return "shm"; }
    [[nodiscard]] std::string_view arenas(const Endpoint& endpoint) const noexcept override;
    void post(Endpoint& endpoint, const WorkRequest& request) noexcept override;
    [[nodiscard]] bool rdma_one(Endpoint& endpoint, const RdmaOne& operation) noexcept override;
    void close(Endpoint& endpoint) noexcept override;
    std::uint32_t poll(std::uint32_t budget) noexcept override;
    void arm() noexcept override;
    void disarm() noexcept override;

    // ---- the direct way (direct_messages.hpp), token holder ----------------------------------------------
    // Of a connection that is not closed.

    // Nothing in the first group calls anything: what is not straightforward is left to who called, so that it keeps no
    // register for what hardly ever comes.

    /// A send of kTurnWhole bytes at most, which are in the ring when this returns true; only if the connection
    /// sends_directly() and the turn line is not ours; its memory is registered. False: nothing was done. The reader is not
    /// rung for. `sender`: of the connection's link.
    [[nodiscard]] static bool send_directly(Connection& connection, LinkSender& sender,
                                            std::uint64_t address, std::uint64_t length) noexcept;
    /// The same if the turn line is ours, into which they go.
    [[nodiscard]] static bool send_in_turn(Connection& connection, Link& link,
                                           std::uint64_t address, std::uint64_t length) noexcept;
    /// The same of any length, for what goes into one slot or the turn line.
    [[nodiscard]] static bool send_longer(Connection& connection, std::uint64_t address,
                                          std::uint32_t length) noexcept;
    /// A receive of one byte at least, polled for; only if may_receive_directly(). The credit is not considered.
    [[nodiscard]] static bool may_receive_directly(const Connection& connection) noexcept;
    static void receive_directly(Connection& connection, std::uint64_t context,
                                 std::uint64_t address, std::uint64_t length,
                                 RegionTable::Holds& holds) noexcept;
    [[nodiscard]] static bool credit_is_due(const Connection& connection) noexcept {
        return connection.granted - connection.reported >= connection.report_after;
    }
    enum class Taken { kNothing, kOne, kOneAndMore };
    /// Takes the message that waits first, if it is the connection's and ends a receive that was posted directly: calls
    /// `ended(context, bytes)`, and not Handlers::completed. kOneAndMore: end_look() is to be called. Only if nothing stops it
    /// and the turn line is ours.
    template <typename Ended>
    [[nodiscard]] static Taken take_directly(Connection& connection, Ended ended) noexcept;
    /// After a look that found nothing: waits for a moment, if this is where the last look was too. True: take_directly()
    /// may find something now.
    [[nodiscard]] bool wait_for_record(const Connection& connection) noexcept;

    /// An RDMA operation of the kind and on the exposure of the last one (direct_rdma.hpp), done when this returns true; the
    /// local memory is registered, and kDirectRdma bytes at most. False: nothing was done.
    [[nodiscard]] static bool rdma_directly(Connection& connection, bool write, const void* name,
                                            std::uint32_t offset, std::uint64_t address,
                                            std::uint32_t length) noexcept;
    static constexpr std::uint32_t kDirectRdma = 128;
    /// The same of any length that may be copied at once.
    [[nodiscard]] bool rdma_again(Connection& connection, bool write, const void* name,
                                  std::uint32_t offset, std::uint64_t address,
                                  std::uint32_t length) noexcept;

    /// Any send or receive of one piece in a live region, polled for, as by post(); only if may_post(): it is not
    /// too long and neither are the queues.
    [[nodiscard]] bool may_post(const Connection& connection, Opcode opcode,
                                std::uint32_t length) const noexcept;
    void post_whole(Connection& connection, Opcode opcode, std::uint64_t context,
                    Sge piece) noexcept;
    /// Looks again whether the next posts may go without a look at anything but how many they are.
    void allow_direct(Connection& connection) noexcept {
        connection.allow_direct_sends();
        connection.allow_direct_receives(config_.queue_depth);
    }
    void report_credit(Connection& connection) noexcept;
    /// Takes whatever has come on the connection's link. Whether there was anything.
    [[nodiscard]] bool look_at_link(Connection& connection) noexcept;
    void end_look(Connection& connection) noexcept;
    /// The next poll() looks at each link once only, for where it is waited for has been looked at often enough.
    void look_once() noexcept { one_look_ = true; }

private:
    static constexpr std::uint32_t kGenerationShift = 20;
    static constexpr std::uint32_t kLookBatch =
        64;  // arrivals taken along with the one that was looked for
    // Inline; a core of its own comes round by itself, and has lanes to look at.
    static constexpr std::uint32_t kIdleLooks = 8;
    static constexpr std::uint32_t kWaitingLooks = 4;  // at the connection that a thread waits for
    // What all connections together may copy out of arenas in one turn: some 25 us. Once more if that was quicker than
    // memory is, as it is where the caches hold the buffers: 8 to 16 us, by the clock rates that there are.
    static constexpr std::uint32_t kArenaBytesPerTurn = 256U << 10;
    static constexpr std::uint64_t kQuickCopiesTicks = 32768;
    // What is copied beside that for peers (help_receivers), and at how many links it is looked: little, for it is their
    // messages' time that is saved, and ours that is spent.
    static constexpr std::uint32_t kHelpInATurn = 64U << 10;
    static constexpr std::uint32_t kHelpBesideWork = 16U << 10;
    static constexpr std::uint32_t kHelpLooks = 4;
    // A peer that loses its processor in the middle of what it writes here has it again by then. One that is stopped may not.
    static constexpr std::uint64_t kLingerNs = 200'000'000;

    // the direct way
    [[nodiscard]] static bool take_credit_directly(Connection& connection,
                                                   std::uint32_t credit) noexcept;

    // sending (shm_send.cpp)
    [[nodiscard]] bool send_common(Connection& connection, std::uint64_t address,
                                   std::uint32_t length) noexcept;
    [[nodiscard]] static bool write_turn_line(Connection& connection, rings::TurnEnd& turn,
                                              const std::byte* from, std::uint32_t length,
                                              std::uint64_t& first) noexcept;
    void fetch_lines_beside(const Connection& connection) const noexcept;
    [[nodiscard]] bool deliver_beside(Connection& connection, std::uint64_t address,
                                      std::uint32_t length) noexcept;
    [[nodiscard]] static bool write_turn(Connection& connection, const std::byte* from,
                                         std::uint32_t length) noexcept;
    void post_send(Connection& connection, const WorkRequest& request) noexcept;
    [[nodiscard]] bool try_send(Connection& connection, const Sge* pieces, std::uint32_t count,
                                std::uint32_t length) noexcept;
    [[nodiscard]] bool send_front(Connection& connection) noexcept;
    [[nodiscard]] bool send_pieces(Connection& connection) noexcept;
    void progress_sends(Connection& connection) noexcept;
    void wait_for_credit(Connection& connection) noexcept;
    [[nodiscard]] bool flush_control(Connection& connection) noexcept;
    void service(Connection& connection) noexcept;
    void service_queue() noexcept;
    void queue(Connection& connection) noexcept;
    void take_credit(Connection& connection, std::uint32_t credit) noexcept;
    [[nodiscard]] static RecordHeader header_for(Connection& connection, RecordKind kind,
                                                 std::uint32_t length) noexcept {
        connection.reported = connection.granted;
        connection.credit_due = false;
        return {kind, 1, 0, connection.peer_id, length, connection.granted};
    }
    void complete_send(Connection& connection, Status status, std::uint32_t bytes) noexcept;

    // messages that are copied where they lie (shm_described.cpp)
    [[nodiscard]] std::uint32_t describe_pieces(const Connection& connection,
                                                RequestQueue::Position position,
                                                RemotePiece (&pieces)[kMaxSges]) const noexcept;
    [[nodiscard]] bool describe_next(Connection& connection, bool& able) noexcept;
    void describe_behind(Connection& connection) noexcept;
    [[nodiscard]] bool take_invitation(Connection& connection, Link& link) noexcept;
    [[nodiscard]] bool take_copied(Connection* connection, Link& link, RecordKind kind,
                                   std::uint32_t count) noexcept;
    [[nodiscard]] bool take_described(Connection* connection, Link& link,
                                      const RecordHeader& header, const std::byte* head,
                                      std::uint32_t& slots) noexcept;
    void begin_long(Connection& connection, EarlyMessage* message) noexcept;
    [[nodiscard]] bool in_pieces(const Connection& connection, EarlyMessage& message) noexcept;
    void invite_ahead(Connection& connection) noexcept;
    void invite(Connection& connection) noexcept;
    void copy_described(Connection& connection) noexcept;
    void copy_mapped(Connection& connection, const MappedPieces& mapped,
                     std::uint32_t step) noexcept;
    [[nodiscard]] std::int64_t copy_from_peer(Connection& connection, const MappedPieces& mapped,
                                              std::uint32_t step) noexcept;
    void note_time(Connection& connection, bool direct) noexcept;
    void conclude_described(Connection& connection) noexcept;
    void give_up_described(Connection& connection) noexcept;

    // ... by both ends (shm_joint_copy.cpp)
    void begin_shared(Connection& connection, const EarlyMessage& message,
                      const MappedPieces& mapped) noexcept;
    void note_shared_time(Connection& connection) noexcept;
    [[nodiscard]] bool copy_jointly(Connection& connection, const MappedPieces& mapped) noexcept;
    void note_new_pages(Connection& connection) noexcept;
    void wait_for_peer(Link& link) noexcept;
    void look_at_waiting() noexcept;
    void end_job(Link& link) noexcept;
    void note_described(Connection& connection, bool alone, std::uint32_t length) noexcept;
    void forget_described(Connection& connection, std::uint32_t count) noexcept;
    void help_receivers(bool busy) noexcept;
    void help_receiver(Link& link, std::uint32_t& left) noexcept;
    void end_receives(Connection& connection, Status status) noexcept;
    [[nodiscard]] bool holds_receives(Connection& connection) noexcept;
    void let_receives_go(Connection& connection) noexcept;
    static void forget_owner(Connection& connection) noexcept;
    void come_back_to(Connection& connection) noexcept;
    [[nodiscard]] bool may_copy(Connection& connection) noexcept;
    [[nodiscard]] bool may_copy_on() noexcept;
    void begin_copies() noexcept {
        copy_left_ = kArenaBytesPerTurn;
        copies_ = Copies::kNone;
    }
    void put_starved_first() noexcept;
    void note_shared(Link& link) noexcept;

    // What one copy between the processes may take of a turn, bytes: other connections want their turn, and a
    // MiB takes some 80 us. Alone, a connection keeps nobody waiting, and fewer calls are quicker by a tenth.
    [[nodiscard]] std::uint32_t copy_per_turn(const Connection& connection) const noexcept {
        return is_alone(connection) ? 1U << 20 : 256U << 10;
    }
    [[nodiscard]] bool is_alone(const Connection& connection) const noexcept {
        return links_.size() == 1 && connection.next == nullptr && connection.previous == nullptr;
    }

    // RDMA that asks the peer nothing (shm_store.cpp)
    [[nodiscard]] bool may_store(Connection& connection, const RemotePlace& place,
                                 std::uint32_t length, std::uint32_t limit) noexcept;
    void count_store(bool write, std::uint32_t length) noexcept;
    // Of two long ones in a row the second begins where the first has ended: if it is between the same two ranges, the
    // caches still hold those parts of both.
    void copy_any(void* to, const void* from, std::uint32_t length) noexcept;
    [[nodiscard]] bool store_common(Connection& connection, const WorkRequest& request) noexcept;
    [[nodiscard]] std::byte* announce_use(Connection& connection, const RemotePlace& place,
                                          std::uint32_t length, bool write,
                                          Exposure& seen) noexcept;
    [[nodiscard]] std::uint32_t limit_at_once(const Connection& connection,
                                              std::uint32_t length) const noexcept;
    template <typename Copy>
    [[nodiscard]] static bool move_again(Connection& connection, bool write, const void* name,
                                         std::uint32_t offset, std::uint64_t address,
                                         std::uint32_t length, Copy copy) noexcept;
    void remember_target(Connection& connection, const RdmaOne& one, const Exposure& seen) noexcept;
    [[nodiscard]] bool peer_has_taken_all(Connection& connection) noexcept;
    [[nodiscard]] bool begin_store(Connection& connection) noexcept;
    [[nodiscard]] bool store_part(Connection& connection) noexcept;
    void hold_store(Connection& connection) noexcept;
    void ask_instead(Connection& connection) noexcept;
    void end_store(Connection& connection) noexcept;
    [[nodiscard]] bool lingers(Connection& connection) noexcept;
    void say_closed(Connection& connection) noexcept;

    // RDMA that this side asks for (shm_rdma.cpp)
    void post_rdma(Connection& connection, const WorkRequest& request) noexcept;
    [[nodiscard]] bool progress_rdma(Connection& connection) noexcept;
    [[nodiscard]] bool ask_rdma(Connection& connection) noexcept;
    void put_rdma_pieces(Connection& connection) noexcept;
    [[nodiscard]] bool fetch_rdma(Connection& connection) noexcept;
    [[nodiscard]] bool take_rdma_bytes(Connection* connection, Link& link,
                                       const RecordHeader& header) noexcept;
    [[nodiscard]] bool take_rdma_answer(Connection* connection, Link& link,
                                        const RecordHeader& header, const std::byte* head) noexcept;
    void enter(Connection& connection, RdmaInitiator::Phase phase) noexcept;
    void give_grant_back(Connection& connection) noexcept;
    void finish_rdma(Connection& connection) noexcept;
    void expect_answer(Link& link, std::uint32_t bytes) noexcept;
    void knock_at_silent_peers(bool now) noexcept;
    [[nodiscard]] static bool is_right_lost(Link& link, std::int64_t result) noexcept;
    void fail_connection(Connection& connection) noexcept;
    void end_rdma(Connection& connection) noexcept;

    // RDMA that the peer asks for (shm_rdma_target.cpp)
    [[nodiscard]] bool take_rdma_request(Connection* connection, Link& link,
                                         const RecordHeader& header, const std::byte* head,
                                         std::uint32_t& slots) noexcept;
    [[nodiscard]] bool take_rdma_piece(Connection& connection, Link& link,
                                       std::uint32_t length) noexcept;
    [[nodiscard]] bool take_rdma_fetched(Connection& connection, Link& link,
                                         const RdmaAnswer& answer) noexcept;
    void serve_rdma(Connection& connection) noexcept;
    void pull_rdma(Connection& connection) noexcept;
    void put_rdma_data(Connection& connection) noexcept;
    void answer_rdma(Connection& connection, RecordKind kind) noexcept;
    [[nodiscard]] bool put_rdma_answer(Connection& connection) noexcept;
    void release_region(Connection& connection) noexcept;

    // receiving (shm_receive.cpp)
    void post_receive(Connection& connection, const WorkRequest& request) noexcept;
    // Nearly always there is nothing: that much is said without a call.
    std::uint32_t poll_link(Link& link, std::uint32_t budget) noexcept {
        const bool turn = link.look_at_turn();  // before the ring: see TurnMessage
        const std::byte* head = link.receiver.front();
        return !turn && head == nullptr ? 0 : take_records(link, turn, head, budget);
    }
    std::uint32_t take_records(Link& link, bool turn, const std::byte* head,
                               std::uint32_t budget) noexcept;
    void take_rest(Link& link, bool turn, const std::byte* head) noexcept;
    static void note_unusual(Connection& connection) noexcept;
    static void say_full(Connection& connection, bool full) noexcept;
    static void release_hold(Connection& connection, const QueuedRequest& request) noexcept;
    [[nodiscard]] bool take_and_release(Link& link, const std::byte* head) noexcept;
    [[nodiscard]] bool take_common(Link& link, const std::byte* head) noexcept;
    [[nodiscard]] bool take_turn(Link& link) noexcept;
    [[nodiscard]] bool take_turn_slowly(Link& link, const TurnMessage& message) noexcept;
    template <typename Copy>
    [[nodiscard]] bool take_plain(Link& link, std::uint32_t id, std::uint32_t length,
                                  const std::uint32_t* credit, const Copy& copy) noexcept;
    [[nodiscard]] bool take_record(Link& link, const std::byte* head,
                                   std::uint32_t& slots) noexcept;
    [[nodiscard]] bool take_message(Connection& connection, Link& link, std::uint32_t length,
                                    const std::byte* head, const std::byte* whole,
                                    bool unasked) noexcept;
    [[nodiscard]] bool take_announcement(Connection& connection, std::uint32_t length) noexcept;
    [[nodiscard]] bool take_piece(Connection& connection, Link& link,
                                  std::uint32_t length) noexcept;
    void consider_credit(Connection& connection) noexcept {
        if (credit_is_due(connection)) [[unlikely]] {
            report_credit(connection);
        }
        // Else the next message of ours will carry it.
    }
    void complete_receive(Connection& connection, Status status, std::uint32_t bytes) noexcept;

    // messages without a receive (shm_early.cpp)
    void match_early(Connection& connection) noexcept;
    void fail_short_receive(Connection& connection) noexcept;
    [[nodiscard]] EarlyMessage* keep(Connection& connection, std::uint32_t length,
                                     bool announced) noexcept;
    void free_early(EarlyMessage* message) noexcept;
    void fill_early_pool() noexcept;

    // life (shm_port.cpp)
    [[nodiscard]] std::uint32_t place_of(std::uint32_t id) const noexcept {
        return id & table_mask_ & ((1U << kGenerationShift) - 1);
    }
    [[nodiscard]] Connection* find(std::uint32_t id, const Link& link) noexcept {
        Connection* connection = table_[place_of(id)];
        if (connection == nullptr || connection->id != id || connection->link != &link)
            [[unlikely]] {
            return nullptr;
        }
        return connection;
    }
    [[nodiscard]] Connection* find_suspended(std::uint32_t id) noexcept;
    void drain(Link& link) noexcept;
    void end_long_of_leaver(Connection& connection) noexcept;
    void leave_link(Connection& connection) noexcept;
    void break_connection(Connection& connection, Status reason) noexcept;
    void abort_pending(Connection& connection, Status status) noexcept;
    void finish(Connection& connection) noexcept;
    void unlink(Connection& connection) noexcept;
    void bury(Connection& connection) noexcept;
    void reap();
    void fail_link(Link& link, std::string_view why) noexcept;
    void end_link(Link& link, std::string_view why) noexcept;

    const Config& config_;
    PollingCore& core_;
    int trouble_fd_;
    ShmCounters counters_;

    std::vector<Link*> links_;
    bool armed_ = false;                    // the core sleeps or is about to
    std::uint32_t awaiting_ = 0;            // answers to RDMA of ours, on all links
    std::unique_ptr<Connection*[]> table_;  // by the index in an id; under the token
    std::uint32_t table_mask_;
    std::uint32_t looks_;            // at idle links in one poll
    const std::uint32_t turn_most_;  // the longest message for the turn line
    bool one_look_ = false;
    const void* waited_for_ = nullptr;  // the connection that was looked at last, in vain
    LinkedRing<Link, &Link::describes>
        describers_;  // with a message of ours that the peer may want help for
    LinkedRing<Link, &Link::waits> waiting_;  // whose job waits for the peer's last chunk
    Connection* queued_head_ = nullptr;
    Connection* queued_tail_ = nullptr;
    Connection* starved_head_ =
        nullptr;  // that found no bytes left to copy in their turn; queued as well
    Connection* starved_tail_ = nullptr;
    bool try_all_ = false;  // the core goes to sleep: the next pass leaves nobody out
    EarlyMessage* early_pool_ =
        nullptr;  // blocks of kMaxInRing bytes: some from the start, and reused
    std::uint32_t early_pooled_ = 0;
    std::uint32_t copy_left_ = 0;  // bytes that may be copied out of arenas in this turn
    // What was copied in this turn, as may_copy() was asked for it. kMore: copies go on, once.
    enum class Copies : std::uint8_t { kNone, kBegun, kMore };
    Copies copies_ = Copies::kNone;
    std::uint32_t copying_turn_ = 0;  // those with any, counted: Connection::copied_in_turn
    std::uint64_t copies_began_ = 0;  // ticks
    bool backwards_ = false;          // which way the last long RDMA was copied
    std::uint32_t moved_ = 0;         // since the last poll: work that no arrival stands for
    bool armed_for_room_ = false;     // while armed_: the peers ring for room too

    std::atomic<Connection*> dead_{nullptr};  // freed by the control plane, off the core

    std::mutex ids_mutex_;                 // guards what follows; control plane only
    std::vector<std::uint32_t> free_ids_;  // queue: the longest unused first
    std::size_t free_head_ = 0;
    std::uint32_t next_index_ = 0;
    alignas(rings::kCacheLine) std::byte turn_copy_[kTurnMost];  // take_turn_slowly
};

}  // namespace sanpoll::engine::shm
