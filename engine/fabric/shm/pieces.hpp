// Bytes between the pieces of a request and the records of a link.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/fabric/shm/copy.hpp"
#include "engine/fabric/shm/link.hpp"
#include "engine/fabric/shm/request_queue.hpp"

namespace sanpoll::engine::shm {

/// The longest staged message or piece that an honest peer sends.
inline constexpr std::uint32_t kMaxStaged = 65536;
/// What long messages and RDMA are staged in, and how many of these a connection puts in one turn.
inline constexpr std::uint32_t kPieceBytes = 32768;
inline constexpr std::uint32_t kPiecesPerTurn = 4;

/// Calls sink(address, length) for each run of bytes of the front request's pieces within
/// [offset, offset + length).
template <typename Sink>
inline void for_each_piece(const RequestQueue& queue, std::uint32_t offset, std::uint32_t length,
                           Sink sink) noexcept {
    const std::uint32_t count = queue.front().sge_count;
    for (std::uint32_t i = 0; i < count && length != 0; ++i) {
        const Sge& piece = queue.piece(i);
        if (offset >= piece.length) {
            offset -= piece.length;
            continue;
        }
        const std::uint32_t step = std::min(length, piece.length - offset);
        sink(piece.address + offset, step);
        length -= step;
        offset = 0;
    }
}

/// Writes bytes into the front request's pieces, one after the other without holes.
class Scatter {
public:
    Scatter(const RequestQueue& queue, std::uint32_t offset) noexcept
        : queue_(queue), count_(queue.front().sge_count) {
        while (index_ < count_ && offset >= queue_.piece(index_).length) {
            offset -= queue_.piece(index_++).length;
        }
        within_ = offset;
    }

    template <void (*Copy)(void*, const void*, std::size_t) noexcept>
    void write(const std::byte* from, std::uint32_t length) noexcept {
        while (length != 0 && index_ < count_) {
            const Sge& piece = queue_.piece(index_);
            const std::uint32_t room = piece.length - within_;
            const std::uint32_t step = length < room ? length : room;
            Copy(reinterpret_cast<void*>(piece.address + within_), from, step);
            from += step;
            length -= step;
            within_ += step;
            if (within_ == piece.length) {
                ++index_;
                within_ = 0;
            }
        }
    }

private:
    const RequestQueue& queue_;
    std::uint32_t count_;
    std::uint32_t index_ = 0;
    std::uint32_t within_ = 0;
};

/// Calls sink(bytes, length) for each run of a message that lies in the slots of its record.
template <typename Sink>
void for_each_run(const Link& link, const std::byte* head, std::uint32_t length,
                  Sink sink) noexcept {
    const std::uint32_t first = std::min(length, kHeadBytes);
    sink(head + sizeof(RecordHeader), first);
    length -= first;
    for (std::uint32_t slot = 1; length != 0; ++slot) {
        const std::uint32_t step = std::min(length, kNextBytes);
        sink(link.receiver.slot(slot), step);
        length -= step;
    }
}

/// The same into one contiguous place.
inline void copy_message(const Link& link, const std::byte* head, std::uint32_t length,
                         std::byte* to) noexcept {
    const std::byte* from = head + sizeof(RecordHeader);
    if (length <= kHeadBytes) [[likely]] {
        copy_slot(to, from, length);
        return;
    }
    copy_exactly<kHeadBytes>(to, from);
    to += kHeadBytes;
    length -= kHeadBytes;
    for (std::uint32_t slot = 1; length != 0; ++slot) {
        const std::uint32_t step = std::min(length, kNextBytes);
        copy_slot(to, link.receiver.slot(slot), step);
        to += step;
        length -= step;
    }
}

}  // namespace sanpoll::engine::shm
