// One end of a link: a ring and a staging area in each direction.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "engine/fabric/copy.hpp"
#include "engine/fabric/shm/copy_choice.hpp"
#include "engine/fabric/shm/joint_choice.hpp"
#include "engine/fabric/shm/joint_copy.hpp"
#include "engine/fabric/shm/linked_ring.hpp"
#include "engine/fabric/shm/message_choice.hpp"
#include "engine/fabric/shm/peer_arenas.hpp"
#include "engine/fabric/shm/process_copy.hpp"
#include "engine/fabric/shm/record.hpp"
#include "engine/fabric/shm/segment.hpp"
#include "engine/fence.hpp"
#include "engine/work_request.hpp"
#include "rings/one_instruction.hpp"
#include "rings/patience.hpp"
#include "rings/spsc_ring.hpp"

namespace sanpoll::engine::shm {

struct Connection;

/// The writing half. Token holder of the link's core only.
class LinkSender {
public:
    LinkSender(const Direction& direction, const SegmentShape& shape, int doorbell_fd) noexcept
        : ring_(direction.slots, shape.ring_slots, direction.slots_consumed),
          staging_(direction.staging),
          staging_consumed_(direction.staging_consumed),
          staging_lines_(shape.staging_bytes / rings::kCacheLine),
          staging_limit_(staging_lines_),
          armed_(direction.armed),
          waits_(direction.writer_waits),
          slots_consumed_(direction.slots_consumed),
          revocations_(direction.revocations),
          records_taken_(direction.records_taken),
          doorbell_fd_(doorbell_fd) {}

    /// Room for `slots` of a message, leaving the reserve; or of a control record, using it.
    [[nodiscard]] bool room_for_message(std::uint32_t slots) noexcept {
        return ring_.has_room(slots + kControlReserve);
    }
    [[nodiscard]] bool room_for_control() noexcept { return ring_.has_room(1); }
    /// Room for one slot of a message that is known without a look at the reader's progress.
    [[nodiscard]] bool room_is_known() const noexcept {
        return ring_.knows_room(1 + kControlReserve);
    }

    /// A contiguous piece of staging for `length` bytes, or nullptr. Taken only by the commit.
    [[nodiscard]] std::byte* staging_for(std::uint32_t length) noexcept;

    /// Writes a record without message bytes.
    void put_control(const RecordHeader& header) noexcept {
        begin(ring_.payload(), header, 1);
        ring_.publish();
        ring_doorbell();
    }

    /// The same with a value behind the header, `header.length` bytes.
    template <typename T>
    void put_control(const RecordHeader& header, const T& value) noexcept {
        static_assert(sizeof(T) <= kHeadBytes);
        begin(ring_.payload(), header, 1);
        copy_exactly<sizeof(T)>(ring_.payload() + sizeof(RecordHeader), &value);
        ring_.publish();
        ring_doorbell();
    }

    /// Writes a message that travels in the ring, gathered from `pieces`.
    void put_message(const RecordHeader& header, const Sge* pieces, std::uint32_t count) noexcept {
        if (count == 1) [[likely]] {
            put_one_piece(header, reinterpret_cast<const std::byte*>(pieces->address));
        } else {
            put_pieces(header, pieces, count);
        }
    }

    /// The same for at most kHeadBytes that lie at `from`.
    void put_short(const RecordHeader& header, const std::byte* from) noexcept {
        put_short_quietly(header, from);
        ring_doorbell();
    }
    /// The same for who looks itself whether the reader sleeps, and then rings.
    void put_short_quietly(const RecordHeader& header, const std::byte* from) noexcept {
        std::byte* head = ring_.payload();
        // The head's first line last and in one go: the reader polls it and would take it away in between.
        if (header.length <= kLineBytes) {
            begin(head, header, 1);
            copy_narrow(head + sizeof(RecordHeader), from, header.length);
        } else {
            copy_narrow(head + rings::kLinePayload, from + kLineBytes, header.length - kLineBytes);
            begin(head, header, 1);
            copy_exactly<kLineBytes>(head + sizeof(RecordHeader), from);
        }
        ring_.publish(head);
    }
    /// The same for at most kTurnWhole bytes of a message, in the fewest steps. `to` is the peer's id in the upper half, and
    /// `credit` the credit there.
    [[gnu::always_inline]] void put_message_quietly(std::uint64_t to, std::uint64_t credit,
                                                    const std::byte* from,
                                                    std::uint64_t length) noexcept {
        const std::uint32_t position = ring_.position();
        std::byte* head = ring_.payload_at(position);
        std::byte* bytes = head + sizeof(RecordHeader);
        if (length >= 32) [[likely]] {
            // What is, or may be, in the second line goes first, as in put_short_quietly(). Two copies that overlap cover
            // all of it; one of them may lie in both lines.
            copy_exactly<16>(bytes + length - 16, from + length - 16);
            copy_exactly<16>(bytes + length - 32, from + length - 32);
            put_message_head(head, to, credit | length);
            copy_exactly<16>(bytes, from);
            copy_exactly<16>(bytes + 16, from + 16);
        } else {
            put_message_head(head, to, credit | length);
            detail::copy_below_32(bytes, from, length);
        }
        ring_.publish(head, position);
    }
    [[nodiscard]] bool reader_sleeps() const noexcept {
        // A plain load after the publishing store; the sleeper's heavy fence orders them. Pairs with
        // LinkReceiver::arm. The line is written only at the reader's sleep edges.
        light_fence();
        return !rings::is_now(*armed_, 0);
    }
    void ring_doorbell() noexcept {
        if (reader_sleeps()) [[unlikely]] {
            knock();
        }
    }

    /// A message was published in the turn line. The reader is not rung for.
    void count_turn() noexcept {
        ++turned_;
        message_head_ += kOneTurn;
    }

    /// Publishes a record whose `header.length` bytes were written to staging_for().
    void put_staged(const RecordHeader& header) noexcept;

    /// We are about to sleep and have something that found no room. Pairs with the load in
    /// LinkReceiver::writer_waits, ordered by the sleeper's heavy fence.
    void arm_for_room() noexcept {
        waiting_ = true;
        waits_->store(1, std::memory_order_relaxed);
    }
    /// True if the peer has taken the flag, and so has rung.
    [[nodiscard]] bool disarm_for_room() noexcept {
        return std::exchange(waiting_, false) &&
               waits_->exchange(0, std::memory_order_relaxed) == 0;
    }

    /// Wakes the peer's core even if it has not asked to be woken.
    void knock_anyway() noexcept;
    /// How far the peer says that it has come with what we wrote into the ring, and whether that is all of it. Its word
    /// only, and an eighth of a ring behind at times: a hint whether it is at work.
    [[nodiscard]] std::uint32_t taken() const noexcept {
        return slots_consumed_->value.load(std::memory_order_relaxed);
    }
    [[nodiscard]] bool is_all(std::uint32_t taken) const noexcept {
        return taken == ring_.position();
    }
    /// How far we have written, slots and messages in the turn line, for has_taken().
    [[nodiscard]] std::uint32_t position() const noexcept { return ring_.position() + turned_; }
    /// Whether the peer says that it has come to `position`. Acquire pairs with the release in
    /// LinkReceiver::publish_taken: what it did with them is done.
    [[nodiscard]] bool has_taken(std::uint32_t position) const noexcept {
        const std::uint32_t taken = records_taken_->load(std::memory_order_acquire);
        return static_cast<std::int32_t>(taken - position) >= 0;
    }
    /// How often the peer has taken back a grant to read its memory. Acquire pairs with the store in
    /// LinkReceiver::revoke: bytes that were read before an unchanged count were read under the grant.
    [[nodiscard]] std::uint32_t revocations() const noexcept {
        return revocations_->load(std::memory_order_acquire);
    }

    /// The peer claims what cannot be.
    [[nodiscard]] bool corrupt() const noexcept { return ring_.corrupt() || corrupt_; }

private:
    // Writes the header, with what keeps it behind the messages of the turn line.
    void begin(std::byte* to, const RecordHeader& header, std::uint32_t slots) const noexcept {
        write_header(to, header, slots, turned_);
    }
    void put_one_piece(const RecordHeader& header, const std::byte* from) noexcept {
        std::uint32_t left = header.length;
        const std::uint32_t slots = slots_for(left);
        if (slots == 1) {
            put_short(header, from);
            return;
        }
        std::byte* head = ring_.payload();
        const std::byte* next = from + kHeadBytes;
        left -= kHeadBytes;
        for (std::uint32_t slot = 1; slot < slots; ++slot) {
            const std::uint32_t step = left < kNextBytes ? left : kNextBytes;
            copy_slot(ring_.payload(slot), next, step);
            next += step;
            left -= step;
        }
        copy_exactly<kHeadBytes - kLineBytes>(head + rings::kLinePayload, from + kLineBytes);
        begin(head, header, slots);
        copy_exactly<kLineBytes>(head + sizeof(RecordHeader), from);
        ring_.publish_record(slots);
        ring_doorbell();
    }
    void put_pieces(const RecordHeader& header, const Sge* pieces, std::uint32_t count) noexcept;
    // As write_header(). The words apart, since compilers make a vector of both, in twice as many instructions.
    [[gnu::always_inline]] void put_message_head(std::byte* to, std::uint64_t connection,
                                                 std::uint64_t second) const noexcept {
        const std::uint64_t first = message_head_ | connection;
        std::memcpy(to, &first, sizeof(first));
        light_fence();
        std::memcpy(to + sizeof(first), &second, sizeof(second));
    }

    void knock() noexcept;

    rings::SpscProducer ring_;
    std::byte* staging_;
    rings::ConsumedWord* staging_consumed_;
    std::uint32_t staging_lines_;         // size of the area
    std::uint32_t staging_position_ = 0;  // lines handed out since the beginning
    std::uint32_t staging_limit_;
    std::uint32_t staging_next_ = 0;  // what the commit will make of staging_position_
    std::uint32_t message_head_ =
        kMessageInSlot;  // behind `turned_`, away from it: compilers would make a vector of both
    std::atomic<std::uint32_t>* armed_;
    std::atomic<std::uint32_t>* waits_;
    const rings::ConsumedWord* slots_consumed_;
    const std::atomic<std::uint32_t>* revocations_;
    const std::atomic<std::uint32_t>* records_taken_;
    std::uint32_t turned_ = 0;  // messages that went into the turn line
    int doorbell_fd_;           // a datagram socket to the peer; owned by the Link
    bool corrupt_ = false;
    bool waiting_ = false;  // armed for room
};

/// The reading half. Token holder only. Whatever the peer writes, no access leaves the segment: slots
/// are masked, staged bytes are found by our own count of what was consumed, not by the peer's word.
class LinkReceiver {
public:
    LinkReceiver(const Direction& direction, const SegmentShape& shape) noexcept
        : ring_(direction.slots, shape.ring_slots, direction.slots_consumed),
          staging_(direction.staging),
          staging_consumed_(direction.staging_consumed),
          staging_lines_(shape.staging_bytes / rings::kCacheLine),
          armed_(direction.armed),
          waits_(direction.writer_waits),
          revocations_(direction.revocations),
          records_taken_(direction.records_taken) {}

    [[nodiscard]] const std::byte* front() const noexcept { return ring_.front_with_second_line(); }
    [[nodiscard]] const std::byte* slot(std::uint32_t index) const noexcept {
        return ring_.payload(index);
    }
    void release(std::uint32_t slots) noexcept { ring_.release(slots); }
    /// Whether the writer was told of it.
    bool release_one() noexcept { return ring_.release_one(); }

    /// Where the next `length` staged bytes are, or nullptr if no honest peer would say so.
    [[nodiscard]] const std::byte* staged(std::uint32_t length) noexcept;
    /// They have been copied out.
    void release_staged() noexcept;

    /// How far we have taken what was sent, as LinkSender::position.
    [[nodiscard]] std::uint32_t position() const noexcept { return ring_.position() + turned_; }

    /// Whether the record at `head` comes before whatever the turn line holds, or will hold: RecordHeader::turns.
    [[nodiscard]] bool is_next(const std::byte* head) const noexcept {
        return read_turns(head) == static_cast<std::uint16_t>(turned_);
    }
    /// The same of a message in one slot for the connection whose id is the upper half of `to`: in one comparison.
    [[nodiscard]] bool is_next_message(const std::byte* head, std::uint64_t to) const noexcept {
        return rings::is_once(head, message_head_ | to);
    }
    /// A message of the turn line was taken.
    void count_turn() noexcept {
        ++turned_;
        message_head_ += kOneTurn;
    }

    void publish_progress() noexcept {
        ring_.publish_progress();
        publish_taken();
    }
    /// What the initiator of a store waits for, which needs no room.
    void publish_taken() noexcept {
        // Pairs with the acquire in LinkSender::has_taken.
        records_taken_->store(ring_.position() + turned_, std::memory_order_release);
    }

    /// The writer sleeps until it is told of room. Look here after giving slots back.
    [[nodiscard]] bool writer_waits() const noexcept {
        return waits_->load(std::memory_order_relaxed) != 0;
    }
    [[nodiscard]] bool take_writer_waits() noexcept {
        return waits_->exchange(0, std::memory_order_acq_rel) != 0;
    }

    /// The peer was granted to read memory of ours and may not any more. Sequentially consistent: what
    /// the memory's owner writes there from now on comes after it. Pairs with LinkSender::revocations.
    void revoke() noexcept { revocations_->store(++revoked_, std::memory_order_seq_cst); }
    [[nodiscard]] std::uint32_t revoked() const noexcept { return revoked_; }

    // Pair with LinkSender::ring_doorbell.
    void arm() noexcept { armed_->store(1, std::memory_order_relaxed); }
    /// False if the peer has taken the flag, and so has rung.
    [[nodiscard]] bool disarm() noexcept {
        return armed_->exchange(0, std::memory_order_relaxed) != 0;
    }

private:
    rings::SpscConsumer ring_;
    std::byte* staging_;
    rings::ConsumedWord* staging_consumed_;
    std::uint32_t staging_lines_;
    std::uint32_t staging_position_ = 0;
    std::uint32_t staging_next_ = 0;
    std::uint32_t message_head_ =
        kMessageInSlot;  // behind `turned_`, away from it: compilers would make a vector of both
    std::atomic<std::uint32_t>* armed_;
    std::atomic<std::uint32_t>* waits_;
    std::atomic<std::uint32_t>* revocations_;
    std::atomic<std::uint32_t>* records_taken_;
    std::uint32_t turned_ = 0;  // messages that came in the turn line
    std::uint32_t revoked_ = 0;
};

/// Both halves and the connections that live on them. Made and ended by the control thread, used by its
/// core between PollingCore control operations that install and remove it.
class Link {
public:
    /// Takes the segment and both doorbells, ends of datagram socket pairs: what the peer sends arrives
    /// at `own_doorbell`, what we send into `peer_doorbell` wakes the peer. Sockets and not eventfds,
    /// because a send can be told not to block whatever flags the peer sets on the shared description.
    Link(std::unique_ptr<Segment> segment, bool initiator, int own_doorbell, int peer_doorbell);
    ~Link();
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    LinkSender sender;
    LinkReceiver receiver;
    rings::TurnEnd turn;  // of the line that both directions share
    rings::Patience patience;
    Connection* connections = nullptr;  // head of the list of those on this link
    Link* other_end = nullptr;          // if that is on the same core too; while both are
    std::string_view failure;           // why the peer was found lying; empty while all is well
    std::atomic<bool> failed{false};    // release after `failure`; read by the control thread

    Sharing sharing = Sharing::kOffHere;  // set before the core has the link; then its core's
    PeerArenas arenas;                    // the peer's, mapped here
    LentArenas lent;                      // ours, mapped there
    ExposuresShown shown;                 // what is exposed in ours
    ExposuresSeen seen;                   // what the peer has exposed in its
    JobOffered job;                  // what the peer may copy of a message that it has described
    JobSeen peer_job;                // what we may, of one of ours
    JointChoices joint_choices;      // of messages that arrive out of arenas
    InRing<Link> waits;              // ShmPort::waiting_: `job` for the peer's last chunk
    std::uint64_t waits_since = 0;   // while it does
    std::uint32_t alone_for = 0;     // messages that are offered to nobody: a chunk was late
    InRing<Link> describes;          // ShmPort::describers_: `peer_job` is looked at
    std::uint32_t described = 0;     // messages of ours on it that are, not copied yet
    ProcessCopy copy;                // set before the core has the link, constant then
    CopyChoice copy_choice[2];       // of writes and of reads, if Config::copy leaves it open
    MessageChoices message_choices;  // of messages that arrive, likewise
    bool unreadable = false;         // the peer's memory, in spite of `copy`: all comes in pieces
    bool unreadable_there = false;   // ours, as the peer has found out: writes go in pieces
    std::uint32_t awaiting = 0;  // RDMA operations of ours that the peer has to do something for
    std::uint64_t knock_at = 0;  // when to knock if it stays silent; while awaiting
    std::uint64_t knock_every = 0;
    bool knocked = false;          // since it was last heard of
    std::uint32_t seen_taken = 0;  // what it had taken when we looked last

    [[nodiscard]] bool is_other_end_of(const Link& other) const noexcept {
        return segment_->is_other_end_of(*other.segment_);
    }
    /// Whether nothing that was sent to the other end is still on its way there. Only where that is on the same core.
    [[nodiscard]] bool nothing_under_way() const noexcept {
        return sender.position() == other_end->receiver.position();
    }

    /// Whether a message is in the turn line. A look may be put off for a moment (rings/patience.hpp) unless
    /// patience.give_up() was said.
    [[nodiscard]] bool look_at_turn() noexcept {
        if (turn.mine()) {
            return false;
        }
        if (patience.waiting() && !patience.over(__builtin_ia32_rdtsc())) {
            return false;
        }
        if (turn.look()) {
            return true;
        }
        patience.looked_in_vain();
        return false;
    }
    /// The same for who would only come again at once: stays until the moment has come, but not for long, and looks a
    /// few times then. Comes back for what is in the ring.
    [[nodiscard]] bool wait_for_turn() noexcept {
        if (turn.mine()) {
            return false;
        }
        std::uint64_t now = __builtin_ia32_rdtsc();
        if (patience.waiting()) {
            if (!patience.settled()) {
                __builtin_ia32_mfence();  // our message is out when this has ended
                now = __builtin_ia32_rdtsc();
                patience.settle(now);
            }
            for (const std::uint64_t began = now; !patience.over(now);
                 now = __builtin_ia32_rdtsc()) {
                if (receiver.front() != nullptr || now - began >= kWaitMost) {
                    return false;
                }
            }
        }
        // When a look in vain has taken the line, others behind it cost nobody anything until the peer writes.
        const std::uint64_t began = now;
        while (!turn.look()) {
            patience.looked_in_vain();
            now = __builtin_ia32_rdtsc();
            if (receiver.front() != nullptr || now - began >= kLookOn) {
                return false;
            }
        }
        return true;
    }
    /// The message that is in it has been read.
    void take_turn() noexcept {
        if (patience.looked_early()) [[unlikely]] {
            patience.found_late(__builtin_ia32_rdtsc());
        } else {
            patience.found();
        }
        turn.take();
        receiver.count_turn();
    }
    /// What we wrote into it is to be seen: a message of `length` bytes. The reader is not rung for.
    void give_turn(std::uint64_t first, std::uint32_t length) noexcept {
        turn.publish(first);
        sender.count_turn();
        patience.begin(__builtin_ia32_rdtsc(), length);
    }

    /// The peer may sleep for want of room: after a batch was taken, tells it.
    void tell_writer() noexcept {
        light_fence();
        if (receiver.writer_waits()) [[unlikely]] {
            wake_writer();
        }
    }

    /// The peer may ring no more; takes what it has rung, so that the next ring is an edge again.
    void disarm() noexcept;

    [[nodiscard]] int own_doorbell() const noexcept { return own_doorbell_; }
    [[nodiscard]] int peer_doorbell() const noexcept { return peer_doorbell_; }

private:
    // Ticks, of one look: together they bound how long it keeps the core from its other links.
    static constexpr std::uint64_t kWaitMost = 1024;
    static constexpr std::uint64_t kLookOn = 256;

    void wake_writer() noexcept;

    std::unique_ptr<Segment> segment_;
    int own_doorbell_;
    int peer_doorbell_;
};

}  // namespace sanpoll::engine::shm
