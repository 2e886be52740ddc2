// One end of a connection over a reliable queue pair.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "engine/counter.hpp"
#include "engine/fabric/endpoint.hpp"
#include "engine/fabric/request_queue.hpp"
#include "engine/fabric/verbs/memory_keys.hpp"
#include "engine/fabric/verbs/packet.hpp"
#include "engine/fabric/verbs/private_buffers.hpp"
#include "engine/fabric/verbs/send_ring.hpp"

namespace sanpoll::engine::verbs {

class CompletionQueue;

/// A message that arrived before its receive, or one that its receive was too short for. Of an announced
/// one, `bytes` are its RemotePieces.
struct EarlyMessage {
    EarlyMessage* next;
    std::uint32_t length;
    std::uint16_t announce;
    std::uint8_t pieces;
    bool announced;
    std::byte bytes[1];
};

/// QueuedRequest::state of a pending send or RDMA operation.
///
///   kWaiting --packet--> kFinished
///   kWaiting --announcement--> kAnnounced --kDone--> kFinished
///                              kAnnounced --kInvite--> kInvited --last piece--> kFinished
///   kWaiting --work requests--> kUnderWay --their completion--> kFinished         (RDMA)
///
/// A send that is finished before those in front of it waits for them: sends end in order.
enum class SendState : std::uint8_t { kWaiting, kAnnounced, kInvited, kUnderWay, kFinished };

/// QueuedRequest::state of a pending receive.
///
///   kWaiting --message--> kFinished
///   kWaiting --announcement that can be read--> kReading --completion, kDone is said--> kFinished
///   kWaiting --other announcement--> kInvited --last piece--> kFinished
///
/// Receives end in order, too.
enum class ReceiveState : std::uint8_t { kWaiting, kInvited, kReading, kFinished };

/// What the control thread is to do with a connection that take_ended() gave it.
enum class Wish : std::uint8_t {
    kNone,
    kAsk,   // VerbsPort::answer; nothing else is wished until then
    kStop,  // rdma_disconnect, then VerbsPort::stop; what waits for the queue pair's end ends then
    kDrop,  // VerbsPort::drop_connection, then rdma_destroy_id: nobody uses it any more
};

/// Flow control is of two kinds. Receives: as on shared memory, the sender sends its n-th message only
/// when the receiver has had n receives, or kUnasked more if it is short; so a slow receiver stalls nobody
/// but its own connection. Buffers: no packet is sent that the peer has no private buffer for, so that
/// transports which end a connection then (iWARP) do not, and others never wait for a retry.
///
/// The queue pair may still read or write the user's memory when the user closes or the connection breaks.
/// What that concerns ends only when the last such work request has, or the queue pair is gone (stopped).
struct Connection final : Endpoint {
    using Position = RequestQueue::Position;

    // ---- constant from make_connection on
    Device* device = nullptr;
    rdma_cm_id* id = nullptr;
    ibv_qp* qp = nullptr;
    CompletionQueue* queue = nullptr;
    std::uint32_t index = 0;
    std::uint16_t incarnation = 0;  // how many others had the index before
    std::uint32_t max_inline = 0;   // bytes of a packet that travel in the work request
    std::uint32_t max_sges = 1;     // pieces of a work request of the queue pair
    std::unique_ptr<MemoryKeys>
        keys;  // of the user's registered memory; its domain is also the others'
    PrivateBuffers buffers;

    // ---- life
    bool installed = false;
    bool established = false;
    bool closing = false;      // closed here; lives on until the farewell is sent
    bool user_gone = false;    // everything of the user's has ended: the owner's memory is not ours
    bool broken = false;       // nothing more comes or goes; `reason` says why
    bool failing = false;      // to be broken when what has arrived is taken in
    bool stopped = false;      // the queue pair is gone
    bool heard = false;        // a packet has come
    bool mute = false;         // nothing is sent until one has; see PeerTerms::speaks_first
    bool probing = false;      // a probe is under way
    bool keeps_awake = false;  // counted in PollingCore::keep_awake
    Status reason = Status::kOk;
    std::uint32_t error = 0;  // ibv_wc_status of the completion that it failed by; 0: none
    std::uint32_t vendor_error = 0;
    Wish wish = Wish::kNone;         // written before it is pushed for take_ended()
    std::uint64_t deadline_ns = 0;   // closing: when the farewell is given up
    std::uint32_t stuck_probes = 0;  // in a row during which no work request ended; iWARP
    std::uint32_t ended_at_probe = UINT32_MAX;  // SendRing::ended() then
    Connection* next_failing = nullptr;
    Connection* next_closing = nullptr;
    Connection* next_ended = nullptr;

    // ---- packets
    bool queued = false;        // in the port's list of connections with something to do
    bool in_doorbells = false;  // in the port's list of connections with a chain of work requests
    bool credit_due = false;
    bool stalled_due = false;
    bool invite_due = false;
    bool farewell_due = false;
    Connection* next_queued = nullptr;
    Connection* next_doorbell = nullptr;
    std::uint32_t packets_sent = 0;
    std::uint32_t buffers_allowed = 0;   // packets that the peer has had buffers for
    std::uint32_t peer_buffers = 0;      // at the start
    std::uint32_t peer_payload = 0;      // bytes of a message that one of them holds
    std::uint32_t buffers_given = 0;     // packets that we have had buffers for
    std::uint32_t buffers_reported = 0;  // of these, what the peer was told
    Counter packets_taken;               // that have come
    std::uint64_t packets_known = 0;  // of these, at the last fell_silent(); the control thread's
    std::uint16_t refill[kRefill] =
        {};  // buffers that have been taken in and not been posted again
    std::uint32_t refill_count = 0;
    SendRing ring;
    std::uint8_t free_long[kLongSlots] = {};
    std::uint32_t free_long_count = 0;

    // ---- sending
    RequestQueue sends;
    Position next_send = 0;       // the first that is kWaiting
    std::uint32_t sent = 0;       // messages begun
    std::uint32_t credit = 0;     // receives that the peer has had, as far as we know
    bool stalled = false;         // we have told the peer that we wait for credit
    std::uint16_t announced = 0;  // announcements made; the next one's number
    std::uint16_t answered = 0;   // all before this number are answered and over
    std::uint32_t exposed = 0;    // announced messages that the peer may be reading
    // By number modulo kMaxAnnounced: where an unanswered one is, and whether the peer can read it.
    enum class Announcement : std::uint8_t { kNone, kOpen, kExposed };
    Announcement announcements[kMaxAnnounced] = {};
    Position announced_at[kMaxAnnounced] = {};
    std::uint32_t rdma_reads =
        0;  // RDMA READs of the user's under way: what follows waits for them
    bool sending_pieces = false;
    Position invited_send = 0;
    std::uint32_t send_progress = 0;

    // ---- receiving
    RequestQueue receives;
    Position next_receive = 0;   // the first that is kWaiting
    std::uint32_t arrived = 0;   // messages begun by the peer
    std::uint32_t granted = 0;   // receives promised to the peer
    std::uint32_t reported = 0;  // of these, what the peer was told
    std::uint32_t debt = 0;      // receives that a too long message used up; they grant nothing
    bool peer_waits = false;     // the peer has asked for credit and we had none to give
    bool receiving_pieces = false;
    Position invited_receive = 0;
    std::uint16_t invited_number = 0;
    std::uint32_t receive_progress = 0;
    std::uint16_t dones[kMaxAnnounced] = {};  // numbers to say kDone for
    std::uint32_t done_head = 0;
    std::uint32_t done_tail = 0;
    EarlyMessage* early = nullptr;
    EarlyMessage* early_tail = nullptr;
    std::uint16_t announcements_taken = 0;  // of the peer's; the next one's number
    std::uint32_t announcements_open = 0;   // of these, unanswered

    /// Control thread: no packet has come since the last call. Does not disturb the core.
    [[nodiscard]] bool fell_silent() noexcept {
        const std::uint64_t taken = packets_taken.value();
        return taken == std::exchange(packets_known, taken);
    }
    [[nodiscard]] bool may_send(bool unasked) const noexcept {
        return static_cast<std::int32_t>(credit + (unasked ? kUnasked : 0) - sent) > 0;
    }
    /// Buffers of the peer's that are free, as far as we know.
    [[nodiscard]] std::uint32_t peer_room() const noexcept {
        return buffers_allowed - packets_sent;
    }
    /// Whether the queue pair, ours or the peer's, may touch memory of pending sends or receives.
    [[nodiscard]] bool sends_in_use() const noexcept {
        return !stopped && (exposed != 0 || ring.work_of(WorkKind::kRdma) != 0);
    }
    [[nodiscard]] bool receives_in_use() const noexcept {
        return !stopped && ring.work_of(WorkKind::kRead) != 0;
    }
};

}  // namespace sanpoll::engine::verbs
