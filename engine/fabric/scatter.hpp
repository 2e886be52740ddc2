// Walks through the pieces of a queued request.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "engine/fabric/request_queue.hpp"

namespace sanpoll::engine {

/// Calls sink(address, length) for each run of bytes of a request's pieces within
/// [offset, offset + length).
template <typename Sink>
inline void for_each_piece(const RequestQueue& queue, RequestQueue::Position position,
                           std::uint32_t offset, std::uint32_t length, Sink sink) noexcept {
    const std::uint32_t count = queue.at(position).sge_count;
    for (std::uint32_t i = 0; i < count && length != 0; ++i) {
        const Sge& piece = queue.piece_at(position, i);
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

/// The same for the front request.
template <typename Sink>
inline void for_each_piece(const RequestQueue& queue, std::uint32_t offset, std::uint32_t length,
                           Sink sink) noexcept {
    for_each_piece(queue, queue.first(), offset, length, sink);
}

/// Writes bytes into a request's pieces, one after the other without holes.
class Scatter {
public:
    /// Into the front request.
    Scatter(const RequestQueue& queue, std::uint32_t offset) noexcept
        : Scatter(queue, queue.first(), offset) {}
    Scatter(const RequestQueue& queue, RequestQueue::Position position,
            std::uint32_t offset) noexcept
        : queue_(queue), position_(position), count_(queue.at(position).sge_count) {
        while (index_ < count_ && offset >= piece().length) {
            offset -= piece().length;
            ++index_;
        }
        within_ = offset;
    }

    template <void (*Copy)(void*, const void*, std::size_t) noexcept>
    void write(const std::byte* from, std::uint32_t length) noexcept {
        while (length != 0 && index_ < count_) {
            const Sge& to = piece();
            const std::uint32_t room = to.length - within_;
            const std::uint32_t step = length < room ? length : room;
            Copy(reinterpret_cast<void*>(to.address + within_), from, step);
            from += step;
            length -= step;
            within_ += step;
            if (within_ == to.length) {
                ++index_;
                within_ = 0;
            }
        }
    }

private:
    [[nodiscard]] const Sge& piece() const noexcept { return queue_.piece_at(position_, index_); }

    const RequestQueue& queue_;
    RequestQueue::Position position_;
    std::uint32_t count_;
    std::uint32_t index_ = 0;
    std::uint32_t within_ = 0;
};

}  // namespace sanpoll::engine
