// The data plane of the verbs fabric on one polling core.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/config.hpp"
#include "engine/counter.hpp"
#include "engine/fabric/fabric_port.hpp"
#include "engine/fabric/verbs/completion_queue.hpp"
#include "engine/fabric/verbs/connection.hpp"
#include "engine/fabric/verbs/work_completion.hpp"
#include "engine/polling_core.hpp"

namespace sanpoll::engine::verbs {

struct VerbsCounters {
    Counter messages_sent;
    Counter messages_received;
    Counter bytes_sent;
    Counter bytes_received;
    Counter inline_packets;     // sent within the work request
    Counter packets;            // all that were sent
    Counter doorbells;          // calls of ibv_post_send; each may bring a chain
    Counter early_messages;     // kept in private memory until a receive came
    Counter stalls;             // the peer had no receive for a message of ours
    Counter full_queues;        // no buffer at the peer, or no room in the send queue
    Counter messages_read;      // long ones, straight into the posted receive
    Counter messages_pieced;    // long ones that came through private buffers
    Counter lying_peers;        // connections ended because the peer broke the protocol
    Counter stale_completions;  // of connections that are gone
    Counter
        errors[kWorkStatuses + 1];  // completions with an error, by status; the last: unknown ones
    Counter rdma_operations;        // of ours that have ended well
    Counter rdma_bytes;

    /// Times that a peer had no buffer for a message until the device gave up.
    [[nodiscard]] std::uint64_t rnr_errors() const noexcept {
        return errors[IBV_WC_RNR_RETRY_EXC_ERR].value();
    }
};

class VerbsPort final : public FabricPort {
public:
    /// `ended_fd`: an eventfd that tells the control thread to call take_ended().
    VerbsPort(const Config& config, PollingCore& core, int ended_fd);
    /// Nothing is attached any more, and the core has stopped.
    ~VerbsPort() override;

    // ---- control thread; may block ----------------------------------------------------------------

    /// Connections of the device may be made from now on. kNoMemory, kNoDescriptors: said in the log.
    [[nodiscard]] Status attach(Device& device);
    /// Ends the device's connections with kTransportFailed. Its completion queues go with the last of them
    /// (drop_connection); attached() says whether that has happened.
    void detach(Device& device);
    [[nodiscard]] bool attached(const Device& device) const;

    /// A queue pair on `id`, with its receive buffers posted. nullptr: `status` says why (kNoMemory,
    /// kFull: more connections than the knob or the device allows, kWithdrawn: the other end has gone, kTransportFailed: the device is lost),
    /// the log how to mend it. To be installed before the first packet can come, that is, before
    /// rdma_connect or rdma_accept.
    [[nodiscard]] Connection* make_connection(Device& device, rdma_cm_id* id,
                                              const EndpointOwner& owner, Status& status);
    /// Gives back one that was never installed, or whose Wish is kDrop. The id stays.
    void drop_connection(Connection* connection);
    /// A connection that the core has no more use for, or whose queue pair has to end; see Wish. nullptr:
    /// none at the moment. Lock-free.
    [[nodiscard]] Connection* take_ended() noexcept;
    /// For Wish::kStop, after rdma_disconnect: destroys the queue pair, then lets the core end what waited
    /// for that. The connection comes once more, with kDrop, when the user has closed it.
    void stop(Connection& connection);

    [[nodiscard]] PollingCore& core() noexcept { return core_; }
    [[nodiscard]] const VerbsCounters& counters() const noexcept { return counters_; }

    // ---- token holder, as PollingCore control operations --------------------------------------------

    /// Packets find it from here on; its gate is still shut.
    void install(Connection& connection) noexcept;
    /// The connection is up: opens the owner's gate. `terms`: what the peer said of itself. False: the
    /// owner has closed in the meantime, or the terms make no sense; it is then to be abandoned.
    [[nodiscard]] bool establish(Connection& connection, const PeerTerms& terms) noexcept;
    /// The connection has ended (the peer has disconnected, the device has gone): takes in what has
    /// arrived, then breaks it with `reason`. Its Wish will be kStop.
    void fail(Connection& connection, Status reason) noexcept;
    /// For Wish::kAsk: `reason` is why the connection's stream has ended, as far as is known.
    void answer(Connection& connection, Status reason) noexcept;
    /// Ends one that was installed and will never be established. Its Wish will be kStop, then kDrop.
    void abandon(Connection& connection) noexcept;
    /// Finds out whether the peer is there, without its core's help: if it is not, the connection fails in the
    /// device's own time, or over iWARP when two more calls have found nothing to have ended.
    void probe(Connection& connection) noexcept;

    // ---- FabricPort ------------------------------------------------------------------------------------

    [[nodiscard]] std::string_view fabric() const noexcept override { return "verbs"; }
    [[nodiscard]] std::string_view device(const Endpoint& endpoint) const noexcept override {
        return static_cast<const Connection&>(endpoint).device->name();
    }
    void post(Endpoint& endpoint, const WorkRequest& request) noexcept override;
    void close(Endpoint& endpoint) noexcept override;
    std::uint32_t poll(std::uint32_t budget) noexcept override;
    void arm() noexcept override;
    void disarm() noexcept override;
    [[nodiscard]] bool may_miss_wake() const noexcept override { return soft_queues_ != 0; }

private:
    using Position = RequestQueue::Position;
    enum class Start : std::uint8_t {
        kStarted,
        kNoRoom,  // in the send ring, now
        kNoKey,   // memory that the device does not know
    };

    // packets (verbs_packets.cpp)
    [[nodiscard]] static bool many_new_buffers(const Connection& connection) noexcept {
        return connection.buffers_given - connection.buffers_reported >= kReceiveBuffers / 2;
    }
    [[nodiscard]] bool room_for_packet(const Connection& connection,
                                       std::uint32_t reserve) const noexcept;
    [[nodiscard]] std::byte* start_packet(Connection& connection, const PacketHeader& wanted,
                                          std::uint32_t payload, WorkKind kind) noexcept;
    [[nodiscard]] bool put_control(Connection& connection, PacketKind kind,
                                   std::uint16_t announce = 0) noexcept;
    [[nodiscard]] bool flush_control(Connection& connection) noexcept;
    void give_back(Connection& connection, std::uint16_t slot) noexcept;
    void post_buffers(Connection& connection) noexcept;
    void ring_later(Connection& connection) noexcept;
    void ring_doorbells() noexcept {
        while (doorbells_ != nullptr) {
            ring_doorbell();
        }
    }
    void ring_doorbell() noexcept;

    // sending (verbs_send.cpp)
    void post_send(Connection& connection, const WorkRequest& request) noexcept;
    [[nodiscard]] bool send_message(Connection& connection, const Sge* pieces, std::uint32_t count,
                                    std::uint32_t length) noexcept;
    [[nodiscard]] bool start_next(Connection& connection) noexcept;
    [[nodiscard]] bool announce(Connection& connection) noexcept;
    void send_pieces(Connection& connection) noexcept;
    void progress_sends(Connection& connection) noexcept;
    void wait_for_credit(Connection& connection) noexcept;
    [[nodiscard]] bool take_credit(Connection& connection, const PacketHeader& header) noexcept;
    void take_answer(Connection& connection, const PacketHeader& header) noexcept;
    void refuse_send(Connection& connection, const WorkRequest& request) noexcept;
    [[nodiscard]] bool queue_send(Connection& connection, const WorkRequest& request) noexcept;
    [[nodiscard]] static bool may_start(const Connection& connection) noexcept;
    void finish_send(Connection& connection, Position position, Status status,
                     std::uint32_t bytes) noexcept;
    void complete_sends(Connection& connection) noexcept;
    void service(Connection& connection) noexcept;
    [[nodiscard]] static bool has_work(const Connection& connection) noexcept;
    void queue(Connection& connection) noexcept;

    // RDMA that the user asks for, and reading announced messages (verbs_rdma.cpp)
    void post_rdma(Connection& connection, const WorkRequest& request) noexcept;
    // The request at `position` of the sends is the first that is kWaiting: makes it kUnderWay, or ends it
    // by finish_send. False: no room in the ring now.
    [[nodiscard]] bool start_rdma(Connection& connection, Position position) noexcept;
    // A work request of kind kRdma has ended well. Its tag: the position.
    void end_rdma(Connection& connection, const SendRing::Entry& entry) noexcept;
    // Where the peer can read the message at `position`: up to kMaxSges pieces, none if it cannot.
    [[nodiscard]] std::uint32_t describe_pieces(Connection& connection, Position position,
                                                RemotePiece* pieces) noexcept;
    // Reads them into the receive, with work requests of kind kRead, tag: the position of the receive;
    // `last` is the last one's. Nothing has been added to the ring unless it is kStarted.
    [[nodiscard]] Start read_remote(Connection& connection, Position receive,
                                    const RemotePiece* pieces, std::uint32_t count) noexcept;

    // receiving (verbs_receive.cpp)
    void post_receive(Connection& connection, const WorkRequest& request) noexcept;
    void take_packet(Connection& connection, std::uint16_t slot, std::uint32_t bytes) noexcept;
    void take_message(Connection& connection, const std::byte* bytes,
                      std::uint32_t length) noexcept;
    void take_announcement(Connection& connection, const PacketHeader& header,
                           const std::byte* bytes) noexcept;
    void take_piece(Connection& connection, const std::byte* bytes, std::uint32_t length) noexcept;
    void take_other(Connection& connection, const PacketHeader& header, const std::byte* payload,
                    std::uint32_t bytes) noexcept;
    [[nodiscard]] static bool admits(const Connection& connection, bool unasked) noexcept;
    void match_early(Connection& connection) noexcept;
    [[nodiscard]] bool begin_long(Connection& connection, const EarlyMessage& message) noexcept;
    void end_read(Connection& connection, const SendRing::Entry& entry) noexcept;
    void end_long(Connection& connection, Position position, std::uint32_t length) noexcept;
    [[nodiscard]] EarlyMessage* keep(Connection& connection, std::uint32_t bytes) noexcept;
    void free_early(EarlyMessage* message) noexcept;
    void fill_early_pool() noexcept;
    void drop_early(Connection& connection) noexcept;
    void consider_credit(Connection& connection) noexcept;
    void finish_receive(Connection& connection, Position position, Status status,
                        std::uint32_t bytes) noexcept;
    void complete_receives(Connection& connection) noexcept;

    // completions (verbs_port.cpp) and life (verbs_life.cpp)
    [[nodiscard]] static bool usable(const Connection& connection) noexcept {
        return !connection.broken && !connection.failing && connection.wish != Wish::kAsk;
    }
    [[nodiscard]] static std::uint64_t id_of(const Connection& connection, WorkKind kind) noexcept {
        return WorkRequestId::pack(connection.index, connection.incarnation, kind, 0);
    }
    [[nodiscard]] Connection* find(const WorkRequestId& id) noexcept;
    std::uint32_t poll_queue(CompletionQueue& queue, std::uint32_t budget) noexcept;
    void take_completion(const WorkCompletion& completion) noexcept;
    void after_completion(Connection& connection) noexcept;
    void take_error(Connection& connection, const WorkRequestId& id,
                    const WorkCompletion& completion) noexcept;
    void end_work(Connection& connection, const SendRing::Entry& entry) noexcept;
    void fail_later(Connection& connection, Status reason) noexcept;
    void ended_unexplained(Connection& connection) noexcept;
    void lie(Connection& connection) noexcept;
    void break_failing() noexcept;
    void break_connection(Connection& connection, Status reason) noexcept;
    void shut_gate(Connection& connection) noexcept;
    void settle(Connection& connection) noexcept;
    void finish_user(Connection& connection) noexcept;
    void wish(Connection& connection, Wish wish) noexcept;
    void let_go(Connection& connection) noexcept;
    void leave_closing(Connection& connection) noexcept;
    void give_up_farewells() noexcept;
    void drain(CompletionQueue& queue) noexcept;
    void queue_failed(CompletionQueue& queue) noexcept;
    void stopped(Connection& connection) noexcept;

    const Config& config_;
    PollingCore& core_;
    int ended_fd_;
    VerbsCounters counters_;

    std::vector<CompletionQueue*> queues_;  // under the token
    std::vector<Connection*> table_;        // by index; under the token
    std::uint32_t soft_queues_ = 0;
    bool armed_ = false;  // the core sleeps or is about to
    Connection* queued_head_ = nullptr;
    Connection* queued_tail_ = nullptr;
    Connection* doorbells_ = nullptr;
    Connection* failing_ = nullptr;
    Connection* closing_ = nullptr;
    EarlyMessage* early_pool_ = nullptr;
    std::uint32_t early_pooled_ = 0;
    std::uint32_t moved_ = 0;  // packets sent since the last poll

    std::atomic<Connection*> ended_{nullptr};

    // Control thread only.
    struct Attachment {
        Device* device;
        bool detached;
        std::vector<std::unique_ptr<CompletionQueue>> queues;  // the next is made when all are full
    };
    [[nodiscard]] Status add_queue(Attachment& attachment);
    [[nodiscard]] CompletionQueue* reserve_queue(Device& device, Status& status);
    void remove_queue(CompletionQueue& queue);
    void forget_empty_queues();

    Connection* taken_ended_ = nullptr;  // not given out yet
    std::uint32_t told_ = 0;             // errors that the log has had a warning of, a bit each
    static_assert(kWorkStatuses < 32);
    std::vector<Attachment> attachments_;
    std::vector<std::uint32_t> free_indexes_;
    std::vector<std::uint16_t> generations_;  // by index, the next one
    std::uint32_t next_index_ = 0;
};

}  // namespace sanpoll::engine::verbs
