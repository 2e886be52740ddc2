#include "engine/fabric/shm/link.hpp"

#include <sys/socket.h>
#include <unistd.h>

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint32_t lines_of(std::uint32_t length) noexcept {
    return (length + static_cast<std::uint32_t>(rings::kCacheLine) - 1) /
           static_cast<std::uint32_t>(rings::kCacheLine);
}

// Where a piece of `lines` begins when `position` lines were handed out before it: pieces do not wrap,
// so one that would is moved to the start of the area. Both ends compute this alike.
constexpr std::uint32_t start_of(std::uint32_t position, std::uint32_t lines,
                                 std::uint32_t area) noexcept {
    const std::uint32_t offset = position & (area - 1);
    return offset + lines > area ? position + (area - offset) : position;
}

}  // namespace

// ---- sender -----------------------------------------------------------------------------------------

std::byte* LinkSender::staging_for(std::uint32_t length) noexcept {
    const std::uint32_t lines = lines_of(length);
    const std::uint32_t start = start_of(staging_position_, lines, staging_lines_);
    staging_next_ = start + lines;
    const std::uint32_t needed = staging_next_ - staging_position_;
    if (staging_limit_ - staging_position_ < needed) {
        // Pairs with the release in LinkReceiver::release_staged.
        const std::uint32_t consumed = staging_consumed_->value.load(std::memory_order_acquire);
        const std::uint32_t previous = staging_limit_ - staging_lines_;
        if (consumed - previous > staging_position_ - previous) {
            corrupt_ = true;  // it consumed what we have not written
            return nullptr;
        }
        staging_limit_ = consumed + staging_lines_;
        if (staging_limit_ - staging_position_ < needed) {
            return nullptr;
        }
    }
    return staging_ + static_cast<std::size_t>(start & (staging_lines_ - 1)) * rings::kCacheLine;
}

void LinkSender::put_pieces(const RecordHeader& header, const Sge* pieces,
                            std::uint32_t count) noexcept {
    const std::uint32_t slots = slots_for(header.length);
    std::byte* to = ring_.payload();
    begin(to, header, slots);
    to += sizeof(header);
    std::uint32_t room = kHeadBytes;
    std::uint32_t slot = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const auto* from = reinterpret_cast<const std::byte*>(pieces[i].address);
        std::uint32_t left = pieces[i].length;
        while (left != 0) {
            if (room == 0) {
                to = ring_.payload(++slot);
                room = kNextBytes;
            }
            const std::uint32_t step = left < room ? left : room;
            copy_slot(to, from, step);
            to += step;
            from += step;
            room -= step;
            left -= step;
        }
    }
    ring_.publish_record(slots);
    ring_doorbell();
}

void LinkSender::put_staged(const RecordHeader& header) noexcept {
    staging_position_ = staging_next_;
    begin(ring_.payload(), header, 1);
    ring_.publish();  // its release also publishes the staged bytes
    ring_doorbell();
}

void LinkSender::knock() noexcept {
    if (armed_->exchange(0, std::memory_order_acq_rel) != 0) {
        // A full socket means that it is rung already.
        (void)!::send(doorbell_fd_, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

void LinkSender::knock_anyway() noexcept {
    armed_->store(0, std::memory_order_relaxed);  // one ring is enough; see disarm()
    (void)!::send(doorbell_fd_, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// ---- receiver ---------------------------------------------------------------------------------------

const std::byte* LinkReceiver::staged(std::uint32_t length) noexcept {
    const std::uint32_t lines = lines_of(length);
    if (lines > staging_lines_) {
        return nullptr;
    }
    const std::uint32_t start = start_of(staging_position_, lines, staging_lines_);
    staging_next_ = start + lines;
    return staging_ + static_cast<std::size_t>(start & (staging_lines_ - 1)) * rings::kCacheLine;
}

void LinkReceiver::release_staged() noexcept {
    staging_position_ = staging_next_;
    // Pairs with the acquire in LinkSender::staging_for.
    staging_consumed_->value.store(staging_position_, std::memory_order_release);
}

// ---- link -------------------------------------------------------------------------------------------

Link::Link(std::unique_ptr<Segment> segment, bool initiator, int own_doorbell, int peer_doorbell)
    : sender(segment->direction(initiator ? 0 : 1), segment->shape(), peer_doorbell),
      receiver(segment->direction(initiator ? 1 : 0), segment->shape()),
      turn(segment->turn_line(), initiator),
      shown(segment->direction(initiator ? 1 : 0).exposures),
      seen(segment->direction(initiator ? 0 : 1).exposures),
      job(segment->direction(initiator ? 1 : 0).job),
      peer_job(segment->direction(initiator ? 0 : 1).job),
      segment_(std::move(segment)),
      own_doorbell_(own_doorbell),
      peer_doorbell_(peer_doorbell) {}

void Link::wake_writer() noexcept {
    receiver.publish_progress();
    if (receiver.take_writer_waits()) {
        (void)!::send(peer_doorbell_, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

void Link::disarm() noexcept {
    const bool rung_for_room = sender.disarm_for_room();
    const bool rung = !receiver.disarm();
    // Whichever flag was taken, a ring has come or is on its way. What is left in the socket would add up
    // until there is room for no other, and a ring that finds no room is no edge and wakes nobody.
    if (rung || rung_for_room) {
        char rings[64];
        for (int i = 0; i < 16 && ::recv(own_doorbell_, rings, sizeof(rings), MSG_DONTWAIT) > 0;
             ++i) {
        }
    }
}

Link::~Link() {
    ::close(own_doorbell_);
    ::close(peer_doorbell_);
}

}  // namespace sanpoll::engine::shm
