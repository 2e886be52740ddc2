// What travels through the rings of a link.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "rings/slot.hpp"

namespace sanpoll::engine::shm {

/// A record is one or more slots; the head slot's payload begins with this header. Everything in it
/// comes from the peer's hand: it is read once (read_header) and checked before use.
///
///   kMessage       a whole message, its bytes in this record's slots
///   kStaged        a whole message, its bytes in the staging area
///   kAnnounce      a long message waits at the sender; `length` is its size
///   kInvite        answer to kAnnounce: a receive is reserved for it, send the pieces
///   kPiece         `length` bytes of the announced message, in the staging area
///   kCredit        nothing but the credit word
///   kStalled       the sender has messages and no credit; asks for credit as soon as there is any
///   kDisconnect    the sender has closed; nothing follows for this connection
///
/// The credit word of every record says how many messages, counted from the beginning of the
/// connection, the record's sender has had a receive for.
enum class RecordKind : std::uint8_t {
    kMessage = 1,
    kStaged,
    kAnnounce,
    kInvite,
    kPiece,
    kCredit,
    kStalled,
    kDisconnect,
};

struct RecordHeader {
    RecordKind kind;
    std::uint8_t slots = 1;  // of the whole record
    std::uint16_t reserved = 0;
    std::uint32_t connection;  // the receiver's id of it
    std::uint32_t length;
    std::uint32_t credit;
};
static_assert(sizeof(RecordHeader) == 16);

inline constexpr std::uint32_t kHeadBytes = rings::kSlotPayload - sizeof(RecordHeader);  // 44
inline constexpr std::uint32_t kNextBytes = rings::kSlotPayload;                         // 60

/// Messages up to this length travel inside the ring. The first message of a switch (256 bytes) does.
inline constexpr std::uint32_t kMaxInRing = kHeadBytes + 4 * kNextBytes;  // 284 in five slots
inline constexpr std::uint32_t kMaxRecordSlots = 5;

/// Messages that the receiver takes although no receive is posted, kept in private memory until one is.
/// Only those that travel in the ring, and announcements (which have no bytes yet).
inline constexpr std::uint32_t kUnasked = 16;

/// Slots that messages leave free, so that credit, invitations and farewells find room.
inline constexpr std::uint32_t kControlReserve = 32;

[[nodiscard]] constexpr std::uint32_t slots_for(std::uint32_t length) noexcept {
    return length <= kHeadBytes ? 1 : 1 + (length - kHeadBytes + kNextBytes - 1) / kNextBytes;
}
static_assert(slots_for(kMaxInRing) == kMaxRecordSlots);
static_assert(slots_for(64) == 2);

/// Writes a header, `slots` long in all. Two whole words: four small stores would make the reader's first
/// wide load wait for all of them.
inline void write_header(std::byte* to, const RecordHeader& header, std::uint32_t slots) noexcept {
    const std::uint64_t first = static_cast<std::uint64_t>(header.kind) | (slots << 8) |
                                (static_cast<std::uint64_t>(header.connection) << 32);
    const std::uint64_t second = header.length | (static_cast<std::uint64_t>(header.credit) << 32);
    std::memcpy(to, &first, sizeof(first));
    std::memcpy(to + sizeof(first), &second, sizeof(second));
}

/// Copies a header out of shared memory, each word read once.
[[nodiscard]] inline RecordHeader read_header(const std::byte* payload) noexcept {
    const auto* words = reinterpret_cast<const std::uint32_t*>(payload);
    const std::uint32_t first = rings::load_once(words[0]);
    RecordHeader header{};
    header.kind = static_cast<RecordKind>(first & 0xFF);
    header.slots = static_cast<std::uint8_t>(first >> 8);
    header.reserved = static_cast<std::uint16_t>(first >> 16);
    header.connection = rings::load_once(words[1]);
    header.length = rings::load_once(words[2]);
    header.credit = rings::load_once(words[3]);
    return header;
}

}  // namespace sanpoll::engine::shm
