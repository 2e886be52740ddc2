// What travels through the rings of a link.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "rings/slot.hpp"
#include "rings/turn_line.hpp"

namespace sanpoll::engine::shm {

/// A record is one or more slots; the head slot's payload begins with this header. Everything in it
/// comes from the peer's hand: it is read once (read_header) and checked before use.
///
///   kMessage       a whole message, its bytes in this record's slots
///   kStaged        a whole message, its bytes in the staging area
///   kAnnounce      a long message waits at the sender; `length` is its size
///   kInvite        answer to kAnnounce: a receive is reserved for it, send the pieces. Or the same for the oldest
///                  that was described, or the one behind it if the oldest is invited already
///   kPiece         `length` bytes of the message that was invited, in the staging area
///   kDescribed     a long message whose bytes lie in arenas that the receiver has mapped, or in memory that it may
///                  read: a Description and the pieces to copy from. It stays as it is until it is said to be copied
///   kCopied        the `length` oldest messages that were described have been copied
///   kConfirm       the oldest that was described has been copied; was it still what it was then?
///   kConfirmed     it was
///   kCredit        nothing but the credit word
///   kStalled       the sender has messages and no credit; asks for credit as soon as there is any
///   kDisconnect    the sender has closed; nothing follows for this connection
///   kFailed        the connection has failed at the sender; nothing follows for it
///
/// RDMA, see rdma_state.hpp. One operation of a connection and direction at a time:
///
///   kRdmaRequest   an RdmaRequest and the pieces to copy from, if any
///   kRdmaPiece     `length` bytes of the write that was asked for, in the staging area
///   kRdmaData      `length` bytes of the read that the receiver asked for, in the staging area
///   kRdmaGrant     RdmaAnswer: the receiver may read what it asked for at `address`, or in an arena; or, of a direct
///                  write: it cannot be copied out of the receiver's memory after all, send the pieces
///   kRdmaFetched   RdmaAnswer: it has been read
///   kRdmaDone      RdmaAnswer: the operation has ended well
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
    kFailed,
    kRdmaRequest,
    kRdmaPiece,
    kRdmaData,
    kRdmaGrant,
    kRdmaFetched,
    kRdmaDone,
    kDescribed,
    kCopied,
    kConfirm,
    kConfirmed,
};

struct RecordHeader {
    RecordKind kind;
    std::uint8_t slots = 1;  // of the whole record
    std::uint16_t turns =
        0;  // messages in the turn line before it, modulo 2^16: set as it is written
    std::uint32_t connection;  // the receiver's id of it
    std::uint32_t length;
    std::uint32_t credit;
};
static_assert(sizeof(RecordHeader) == 16);

/// What kRdmaRequest carries: `length` of its header is this and the pieces.
struct RdmaRequest {
    std::uint64_t nonce;  // of the descriptor, as `key`
    std::uint32_t key;
    std::uint32_t offset;
    std::uint32_t length;
    std::uint32_t operation;  // the asker counts them
    std::uint8_t read;        // 1: read, 0: write
    std::uint8_t direct;      // 1: by a copy between the processes, 0: through the staging area
    std::uint8_t arenas;      // 1: a write: its pieces lie in arenas; a read: may be granted in one
    std::uint8_t reserved;
    std::uint32_t padding;
};
static_assert(sizeof(RdmaRequest) == 32);

/// Where bytes are in the memory of the record's sender.
struct RemotePiece {
    std::uint64_t address;  // in an arena: from its start
    std::uint32_t length;
    std::uint32_t arena;  // 0: of the process
};
static_assert(sizeof(RemotePiece) == 16);

struct RdmaAnswer {
    std::uint64_t address;    // of kRdmaGrant; in an arena: from its start
    std::uint32_t operation;  // of the request
    std::uint32_t detail;     // of kRdmaGrant: the arena, 0: of the process
                              // of kRdmaFetched: 1: say kRdmaDone if the grant still holds
};
static_assert(sizeof(RdmaAnswer) == 16);

/// What kDescribed carries: `length` of its header is this and the pieces.
struct Description {
    std::uint32_t length;       // of the message: the sum of the pieces
    std::uint32_t revocations;  // LinkReceiver::revoked() of the sender when it described it
};
static_assert(sizeof(Description) == 8);

inline constexpr std::uint32_t kLineBytes = rings::kLinePayload - sizeof(RecordHeader);  // 44
inline constexpr std::uint32_t kHeadBytes = rings::kSlotPayload - sizeof(RecordHeader);  // 108
inline constexpr std::uint32_t kNextBytes = rings::kSlotPayload;                         // 124

/// Messages up to this length travel inside the ring. The first message of a switch (256 bytes) does.
inline constexpr std::uint32_t kMaxInRing = kHeadBytes + 2 * kNextBytes;  // 356 in three slots
inline constexpr std::uint32_t kMaxRecordSlots = 3;

/// Messages that the receiver takes although no receive is posted, kept in private memory until one is.
/// Only those that travel in the ring, and announcements (which have no bytes yet).
inline constexpr std::uint32_t kUnasked = 16;

/// Slots that messages leave free, so that credit, invitations and farewells find room.
inline constexpr std::uint32_t kControlReserve = 32;

[[nodiscard]] constexpr std::uint32_t slots_for(std::uint32_t length) noexcept {
    return length <= kHeadBytes ? 1 : 1 + (length - kHeadBytes + kNextBytes - 1) / kNextBytes;
}
static_assert(slots_for(kMaxInRing) == kMaxRecordSlots);
static_assert(slots_for(64) == 1);

/// A message of one piece and at most kTurnMost bytes that finds the turn to be its sender's goes into the link's turn line
/// (rings/turn_line.hpp) instead of the ring, without a record: an answer comes in the line that brought the
/// question. In one of two forms:
///
///   with credit  first word `to`, then the credit word, then 48 bytes, and the others in the lines behind; the note is
///                zero
///   whole        nothing but the bytes, which with the two words would not have fitted into the line and alone do; the
///                note holds `to` and stays as it is from one such message to the next. Such a message tells no
///                credit: a note may be older than what it would say
///
/// RecordHeader::turns keeps the order: a record is next if it has counted as many messages of the turn line as the
/// receiver has taken. So the receiver looks at the turn line first and at the ring then: what was
/// written before the message is to be seen with it.
struct TurnMessage {
    std::uint64_t to;      // the receiver's id of the connection; above it the length
    std::uint32_t credit;  // unless it is whole
    bool whole;

    [[nodiscard]] static constexpr std::uint64_t where(std::uint32_t connection,
                                                       std::uint32_t length) noexcept {
        return connection | (std::uint64_t{length} << 32);
    }
    [[nodiscard]] std::uint32_t connection() const noexcept {
        return static_cast<std::uint32_t>(to);
    }
    [[nodiscard]] std::uint32_t length() const noexcept {
        return static_cast<std::uint32_t>(to >> 32);
    }
};
/// In the line behind the two words; alone in the line; in all.
inline constexpr std::uint32_t kTurnShort = rings::TurnEnd::kRest - sizeof(std::uint64_t);  // 48
inline constexpr std::uint32_t kTurnWhole = rings::kCacheLine;
inline constexpr std::uint32_t kTurnMost = 4096;
static_assert(2 * sizeof(std::uint64_t) + kTurnMost <= rings::TurnEnd::kBytes);
/// Which of the two forms a message of `length` bytes has.
[[nodiscard]] constexpr bool goes_whole(std::uint32_t length) noexcept {
    return length > kTurnShort && length <= kTurnWhole;
}

/// Writes a header, `slots` long in all, of a record behind `turns` messages in the turn line. Two whole words: four small stores would make the reader's first
/// wide load wait for all of them.
inline void write_header(std::byte* to, const RecordHeader& header, std::uint32_t slots,
                         std::uint32_t turns = 0) noexcept {
    const std::uint64_t first = static_cast<std::uint64_t>(header.kind) | (slots << 8) |
                                (turns << 16) |
                                (static_cast<std::uint64_t>(header.connection) << 32);
    const std::uint64_t second = header.length | (static_cast<std::uint64_t>(header.credit) << 32);
    std::memcpy(to, &first, sizeof(first));
    std::memcpy(to + sizeof(first), &second, sizeof(second));
}

/// The first half of the first of these two words for a message in one slot; the other half is RecordHeader::connection. A
/// message in the turn line more is kOneTurn more, and the count wraps as `turns` does.
inline constexpr std::uint32_t kMessageInSlot =
    static_cast<std::uint32_t>(RecordKind::kMessage) | (1U << 8);
inline constexpr std::uint32_t kOneTurn = 1U << 16;

/// Its `turns` alone, for LinkReceiver::is_next. What read_header() finds there later may be something else.
[[nodiscard]] inline std::uint16_t read_turns(const std::byte* payload) noexcept {
    return static_cast<std::uint16_t>(
        rings::load_once(*reinterpret_cast<const std::uint32_t*>(payload)) >> 16);
}

/// Copies a header out of shared memory, each word read once.
[[nodiscard]] inline RecordHeader read_header(const std::byte* payload) noexcept {
    const auto* words = reinterpret_cast<const std::uint32_t*>(payload);
    const std::uint32_t first = rings::load_once(words[0]);
    RecordHeader header{};
    header.kind = static_cast<RecordKind>(first & 0xFF);
    header.slots = static_cast<std::uint8_t>(first >> 8);
    header.turns = static_cast<std::uint16_t>(first >> 16);
    header.connection = rings::load_once(words[1]);
    header.length = rings::load_once(words[2]);
    header.credit = rings::load_once(words[3]);
    return header;
}

}  // namespace sanpoll::engine::shm
