// The memory of a link: an anonymous file that two engines map.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "engine/fabric/shm/exposures.hpp"
#include "engine/fabric/shm/joint_copy.hpp"
#include "engine/fabric/shm/mailbox.hpp"
#include "rings/slot.hpp"
#include "rings/turn_line.hpp"

struct stat;

namespace sanpoll::engine::shm {

/// One direction of a link. The reader writes the first three lines and records_taken, both write the job, the writer all
/// others but the exposures.
struct Direction {
    rings::ConsumedWord* slots_consumed;
    rings::ConsumedWord* staging_consumed;  // in units of one line, counted from the beginning
    std::atomic<std::uint32_t>* armed;      // nonzero: the reader sleeps, ring its doorbell
    std::atomic<std::uint32_t>*
        revocations;  // the reader's: grants of its memory that it took back
    std::atomic<std::uint32_t>* writer_waits;  // nonzero: the writer sleeps for want of room
    std::atomic<std::uint32_t>*
        records_taken;  // by the reader, of the ring and the turn line; told while it has exposures
    CopyJob* job;       // what the reader offers to the writer
    rings::Slot* slots;
    std::byte* staging;
    ExposureSlot* exposures;  // kExposureSlots: what the reader has exposed to the writer
};

struct SegmentShape {
    std::uint32_t ring_slots = 0;     // a power of two
    std::uint32_t staging_bytes = 0;  // a power of two
    [[nodiscard]] bool sane() const noexcept;
    [[nodiscard]] std::size_t bytes() const noexcept;
};

/// Layout: the turn line in whole pages, two mailboxes, then direction 0 (initiator to acceptor), then direction 1, then the
/// exposures of either. Only offsets, no pointers. The file has no name, so nothing is left behind whoever dies; it is sealed against
/// shrinking, so that a peer cannot turn an access into SIGBUS; it is not inherited by fork().
class Segment {
public:
    ~Segment();
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    /// Makes one. nullptr and a message on failure.
    [[nodiscard]] static std::unique_ptr<Segment> create(const SegmentShape& shape,
                                                         std::string& error);
    /// Maps the one behind `fd` (borrowed), which came from a peer: checks size, seals and shape.
    [[nodiscard]] static std::unique_ptr<Segment> open(int fd, const SegmentShape& shape,
                                                       std::string& error);

    [[nodiscard]] int fd() const noexcept { return fd_; }  // only after create()
    void close_fd() noexcept;
    /// Whether the other one maps the same file, which one of the two was created here for: two ends of one link, both ours.
    [[nodiscard]] bool is_other_end_of(const Segment& other) const noexcept {
        return file_ == other.file_ && device_ == other.device_ && created_ != other.created_;
    }
    [[nodiscard]] const SegmentShape& shape() const noexcept { return shape_; }
    [[nodiscard]] Direction direction(int index) const noexcept;
    /// The letters of the same direction.
    [[nodiscard]] MailboxMemory& mailbox(int index) const noexcept;
    /// Of both directions; the initiator's end is the first.
    [[nodiscard]] rings::TurnLine& turn_line() const noexcept;

private:
    Segment(int fd, std::byte* base, const SegmentShape& shape, const struct stat& about,
            bool created) noexcept;

    int fd_;
    std::byte* base_;
    SegmentShape shape_;
    // No two files that there are have both numbers in common, and a mapped one is there; but old kernels count memory files with
    // 32 bits, so there a process of our user that makes some billions of them can have one that is taken for this one.
    std::uint64_t file_;
    std::uint64_t device_;
    bool created_;
};

}  // namespace sanpoll::engine::shm
