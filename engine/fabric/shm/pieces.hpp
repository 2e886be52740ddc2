// Bytes between the pieces of a request and the records of a link.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/fabric/copy.hpp"
#include "engine/fabric/scatter.hpp"
#include "engine/fabric/shm/link.hpp"

namespace sanpoll::engine::shm {

/// The longest staged message or piece that an honest peer sends.
inline constexpr std::uint32_t kMaxStaged = 65536;
/// What long messages and RDMA are staged in, and how many of these a connection puts in one turn.
inline constexpr std::uint32_t kPieceBytes = 32768;
inline constexpr std::uint32_t kPiecesPerTurn = 4;
/// Of a message that has few pieces the receiver has little to do until the first one has come.
[[nodiscard]] constexpr std::uint32_t piece_bytes(std::uint32_t message) noexcept {
    return message <= kPieceBytes * kPiecesPerTurn ? kPieceBytes / 4 : kPieceBytes;
}

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

/// Calls visit(piece, skip, length) for each run of [from, from + length) in a list of pieces, which has as many bytes:
/// `length` bytes of `piece` from `skip` on.
template <typename Piece, typename Visit>
void for_each_run_of(const Piece* piece, std::uint64_t from, std::uint64_t length,
                     Visit visit) noexcept {
    for (; length != 0; ++piece) {
        if (from >= piece->length) {
            from -= piece->length;
            continue;
        }
        const std::uint64_t step = std::min<std::uint64_t>(length, piece->length - from);
        visit(*piece, from, step);
        length -= step;
        from = 0;
    }
}

/// The bytes of a message that lies in the slots of its record, into one contiguous place.
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
