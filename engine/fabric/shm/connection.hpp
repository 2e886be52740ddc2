// One end of a connection over a shared-memory link.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "engine/fabric/endpoint.hpp"
#include "engine/fabric/request_queue.hpp"
#include "engine/fabric/shm/link.hpp"
#include "engine/fabric/shm/rdma_state.hpp"
#include "engine/remote_regions.hpp"

namespace sanpoll::engine::shm {

/// A message that arrived before its receive, or one that its receive was too short for.
struct EarlyMessage {
    EarlyMessage* next;
    std::uint32_t length;
    bool announced;             // a long one that still waits at its sender; no bytes here
    bool described;             // it also is announced; where it waits is in `bytes`: MappedPieces
    bool decided;               // described: whether it is taken in pieces
    bool in_pieces;             // is what was decided
    std::uint32_t revocations;  // Description::revocations
    std::uint32_t number;       // described: which of the connection's messages
    alignas(8) std::byte bytes[1];
};

/// A described message: where its bytes are, checked; or, if they are in memory of the peer's process, the peer's word,
/// good for nothing but reading that memory.
struct MappedPieces {
    struct Piece {
        const std::byte* from;
        std::uint32_t length;
    };
    std::uint32_t count = 0;
    bool of_process = false;
    Piece pieces[kMaxSges];
};

/// What keeps messages of a connection from the direct way (direct_messages.hpp): four bytes that are looked at together.
struct alignas(4) Stops {
    bool receiving_long = false;  // the front receive is reserved
    bool suspended = false;       // the peer's end changes process: nothing new is sent meanwhile
    bool broken = false;          // nothing more comes or goes; `reason` says why
    bool unusual = false;         // there is debt, or Saturation::receives is said

    [[nodiscard]] bool stop_send() const noexcept { return (word() & 0x00FFFF00U) != 0; }
    [[nodiscard]] bool stop_receive() const noexcept { return (word() & 0xFFFFFF00U) != 0; }
    [[nodiscard]] bool stop_take() const noexcept { return !rings::is_zero(this); }

private:
    [[nodiscard]] std::uint32_t word() const noexcept {
        return std::bit_cast<std::uint32_t>(*this);
    }
};
static_assert(sizeof(Stops) == 4 && std::endian::native == std::endian::little);

/// A connection's id as the upper half of a record's first word, to which the lower half only has to be added.
class UpperHalf {
public:
    UpperHalf& operator=(std::uint32_t value) noexcept {
        word_ = std::uint64_t{value} << 32;
        return *this;
    }
    operator std::uint32_t() const noexcept { return static_cast<std::uint32_t>(word_ >> 32); }
    [[nodiscard]] std::uint64_t word() const noexcept { return word_; }

private:
    std::uint64_t word_ = 0;
};

/// Flow control. The receiver counts the receives it was given (`granted`); the sender learns of the
/// count by the credit word of any record and sends its n-th message only if n < granted, so every
/// message finds its receive waiting. Messages that travel in the ring, and announcements, may run
/// ahead by kUnasked: the receiver keeps those in private memory. So a slow receiver stalls nobody but
/// its own connection, and what it must keep is bounded whatever the peer does.
///
/// Long messages (over eager_max) are announced; when a receive that is long enough is first in line it
/// is reserved and the sender invited, which then sends the message in pieces. One at a time.
///
///   sender:    idle --announce--> kAnnounced --invite--> kSending --last piece--> idle
///   receiver:  idle --announce--> (EarlyMessage) --receive--> invited --last piece--> idle
///
/// A long message whose bytes all lie in arenas that the receiver has mapped, or that it may read in the sender's
/// process (ProcessCopy), is described instead, and copied by the receiver's core straight to where it belongs, a
/// part a turn. Several may be described, one after the other; only described ones follow a described one, so the
/// sender's queue begins with them. They are the sender's until it hears that they are copied.
///
///   sender:    --describe--> described --copied--> send completes
///   receiver:  --described--> (EarlyMessage) --receive--> copying --all copied--> receive completes, copied is said
///
/// Of a message in arenas that is copied into one place in an arena which the sender may write to, the sender's core copies a
/// part if it comes by in time (joint_copy.hpp). Until that has ended the receive is not completed, whatever happens to the
/// connection: its memory is in use.
///
///   receiver:  copying --all taken--> waits for the sender's last chunk --finished--> receive completes
///              copying --broken, closed--> receives held --finished, or too late: the link ends--> receives complete
///
/// What lies in the sender's process the receiver may also invite, as if it had been announced: because two processors
/// that copy by way of the staging area are quicker (MessageChoice), or because the memory cannot be read after all.
/// Then the sender's core touches it, as it touches what is announced. While one flows the one behind it may be
/// invited too, if the receive behind is long enough for it: else the sender's core would wait for the invitation
/// while the receiver's copies the last piece, and the receiver's for the first piece of the next.
///
///   sender:    described --invite--> kSending --last piece--> send completes
///   receiver:  (EarlyMessage) --receive, not to be copied--> invited --last piece--> receive completes
///              copying --cannot be read--> invited
///
/// A sender that gives one up (close, abort) frees memory that may be being copied. It takes back what it
/// described first (LinkReceiver::revoke); a receiver that finds anything taken back on the link since then
/// asks the sender whether it was this message, before the receive completes:
///
///   receiver:  copying --all copied, something was taken back--> confirming --confirmed--> receive completes
///   sender:    described --confirm--> send completes, confirmed is said
struct Connection final : Endpoint, ExposureBoard, Stops {
    enum class Long : std::uint8_t { kIdle, kAnnounced, kSending };

    // ---- both directions
    Link* link = nullptr;      // nullptr once the link is gone
    UpperHalf id;              // ours: the peer puts it into its records
    UpperHalf peer_id;         // the peer's
    bool established = false;  // the acceptor has accepted: peer_id is valid
    bool closing = false;      // closed here; lives on until the farewell is sent
    Status reason = Status::kOk;
    bool queued = false;  // in the port's list of connections with something to send
    bool credit_due = false;
    bool stall_due = false;
    bool invite_due = false;
    bool farewell_due = false;
    bool failure_due = false;
    bool keeps_awake = false;  // counted in PollingCore::keep_awake
    bool finished = false;     // to be buried as soon as it is out of the list
    bool leaving = false;      // our end does: nothing described is copied meanwhile
    bool confirm_due = false;
    bool confirmed_due = false;
    std::uint32_t copied_due = 0;  // described messages that are copied; not said yet
    Connection* next_queued = nullptr;
    std::uint32_t copied_in_turn = 0;  // the last one in which it copied out of the peer's memory
    std::atomic<Sharing> sharing{Sharing::kOffHere};  // of its link; any thread may ask

    // ---- sending
    std::uint32_t sent = 0;    // messages begun
    std::uint32_t credit = 0;  // receives that the peer has had, as far as we know
    // What `sent` has to be below for a message to go directly: nothing else has to be looked at then. Credit only grows;
    // whatever else may stop one calls stop_direct_sends().
    std::uint32_t sends_directly_until = 0;
    Long long_state = Long::kIdle;
    bool stalled = false;                  // we have told the peer that we wait for credit
    bool wanted_ahead = false;             // kSending: the one behind is invited as well
    std::uint32_t progress = 0;            // bytes of the long message that are sent
    std::uint32_t described = 0;           // sends that are described, the first of the queue
    RequestQueue::Position undescribed{};  // the one behind them; while there are any
    std::uint64_t helped = 0;  // bytes of the first that this core has placed at the peer
    RequestQueue sends;

    // ---- receiving
    std::uint32_t arrived = 0;   // messages begun by the peer
    std::uint32_t granted = 0;   // receives promised to the peer
    std::uint32_t reported = 0;  // of these, what the peer was told
    std::uint32_t debt = 0;      // receives that a too long message used up; they grant nothing
    std::uint32_t report_every = kUnasked / 2;
    // What is unreported when a report is made: report_every, or 1 if the peer has asked and we had none to give. With
    // many receives waiting, more: a peer with small messages has kUnasked beyond what it was told.
    std::uint32_t report_after = kUnasked / 2;
    bool long_described = false;  // receiving_long: for a message that was described
    bool invited_ahead =
        false;  // receiving_long: `early`, for which the receive behind waits, is invited
    std::uint32_t long_length = 0;
    std::uint32_t long_progress = 0;
    std::uint64_t long_began_ns = 0;  // 0: not timed
    bool long_shared = false;         // it goes the way that JointChoice wants to know of
    bool long_on_new_pages = false;   // it is received where nobody is known to have been
    std::uint32_t long_change = 0;    // long_shared: JointChoice::changes() at its beginning
    std::uint64_t long_ended_ns = 0;  // when the last one of these had, if the one behind was there
    EarlyMessage* copying = nullptr;  // receiving_long: what is copied, if it was described
    bool confirming = false;          // it is copied
    bool receives_held =
        false;  // they end with `held_status` as soon as the peer is off their memory
    Status held_status = Status::kOk;
    RequestQueue receives;
    EarlyMessage* early = nullptr;
    EarlyMessage* early_tail = nullptr;

    // ---- RDMA: what we ask of the peer, what it asks of us
    RdmaInitiator rdma_out;
    RdmaTarget rdma_in;

    // ---- RDMA that needs no answer (shm_store.cpp)
    std::uint32_t taken = 0;        // `sent` when the peer was found to have taken all of it
    std::uint32_t sent_before = 0;  // `sent` when `last_record` was taken
    std::uint32_t last_record = 0;  // the link's position then
    StoreTarget written;            // where the last write went
    StoreTarget read;               // and the last read
    void forget_targets() noexcept { written.length = read.length = 0; }
    std::uint32_t still_used =
        0;  // places in the link's table where the peer is at work although we ended it
    bool closed_due = false;         // the owner waits for that to end
    std::uint64_t linger_until = 0;  // and no longer than that; so with held receives
    [[nodiscard]] std::uint32_t show(std::uint64_t base, std::uint32_t length, std::uint32_t access,
                                     std::uint32_t key, std::uint64_t nonce) noexcept override;
    [[nodiscard]] bool hide(std::uint32_t place) noexcept override;
    void revoke(std::uint32_t place) noexcept override;
    void drop(std::uint32_t place) noexcept override;

    // ---- the link's list
    Connection* previous = nullptr;
    Connection* next = nullptr;

    Connection* next_dead = nullptr;

    [[nodiscard]] bool sends_directly() const noexcept {
        return static_cast<std::int32_t>(sent - sends_directly_until) < 0;
    }
    void stop_direct_sends() noexcept { sends_directly_until = sent; }
    void allow_direct_sends() noexcept {
        if (!stop_send() && sends.empty()) {
            sends_directly_until = credit + kUnasked;
        }
    }
    /// The same of receives: RequestQueue::takes_directly().
    void allow_direct_receives(std::uint32_t depth) noexcept {
        if (!stop_receive() && early == nullptr) {
            (void)receives.look_for_room(depth);
        }
    }
    /// Neither, from here on.
    void stop_direct() noexcept {
        stop_direct_sends();
        receives.stop_directly();
    }
    [[nodiscard]] bool may_send(bool small) const noexcept {
        return static_cast<std::int32_t>(credit + (small ? kUnasked : 0) - sent) > 0 && !suspended;
    }
    /// While it is suspended, only a long message that has begun to flow goes on, and RDMA that is under way.
    [[nodiscard]] bool held_back() const noexcept {
        return suspended && !(long_state == Long::kSending && progress != 0) &&
               rdma_out.phase == RdmaInitiator::Phase::kIdle;
    }
    /// In the middle of the pieces of one.
    [[nodiscard]] bool long_flows() const noexcept {
        return receiving_long && copying == nullptr && long_progress != 0;
    }
    /// Whether a long message of the peer is the next to be received, or waits for a receive.
    [[nodiscard]] bool long_is_last() const noexcept {
        return receiving_long || (early != nullptr && early_tail->announced);
    }
    [[nodiscard]] bool described_is_last() const noexcept {
        return early != nullptr && early_tail->announced ? early_tail->described
                                                         : receiving_long && long_described;
    }
    [[nodiscard]] bool rdma_idle() const noexcept {
        return rdma_out.phase == RdmaInitiator::Phase::kIdle &&
               rdma_in.phase == RdmaTarget::Phase::kIdle;
    }
};

}  // namespace sanpoll::engine::shm
