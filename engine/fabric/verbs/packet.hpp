// What travels between the two ends of a connection over verbs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/work_request.hpp"

namespace sanpoll::engine::verbs {

/// A packet is one SEND and fills one private receive buffer, or a part of it. It begins with a header.
/// Everything in it comes from the peer's hand and is checked before use. Numbers are little-endian; the
/// connection's private data tell a host that counts otherwise apart.
///
///   kMessage      a whole message
///   kAnnounce     a long message waits at the sender as number `announce`; its length follows (four bytes),
///                 and `pieces` RemotePieces that say where it can be read from. None: it cannot
///   kInvite       answer to an announcement: a receive is reserved, send the message in pieces
///   kPiece        the next bytes of the message that was invited
///   kDone         answer to an announcement: the message has been read
///   kCredit       nothing but the credit words
///   kStalled      the sender has messages and no receive to send them to; asks for word of the next one
///   kDisconnect   the sender has closed; nothing follows
///
/// Two credit words are in every packet. `granted`: how many messages, counted from the beginning of the
/// connection, the packet's sender has had a receive for. `buffers`: how many packets it has had a private
/// receive buffer for, those at the start included. Of both, the low 16 bits: packets arrive in order, and none
/// is kMostNews or more ahead of the one before it. Every byte here is one that each message takes along.
enum class PacketKind : std::uint8_t {
    kMessage = 1,
    kAnnounce,
    kInvite,
    kPiece,
    kDone,
    kCredit,
    kStalled,
    kDisconnect,
};

struct PacketHeader {
    PacketKind kind;
    std::uint8_t pieces;
    std::uint16_t announce;
    std::uint16_t granted;
    std::uint16_t buffers;
};
static_assert(sizeof(PacketHeader) == 8);

/// What a credit word grows by in one packet, at most.
inline constexpr std::uint32_t kMostNews = 0x7FFF;

/// What `word`, the low bits of a counter that was at `known`, says that it has grown by. More than kMostNews: a lie.
[[nodiscard]] inline std::uint32_t news_of(std::uint16_t word, std::uint32_t known) noexcept {
    return (word - known) & 0xFFFF;
}

/// A part of an announced message, in its sender's memory.
struct RemotePiece {
    std::uint64_t address;
    std::uint32_t length;
    std::uint32_t key;
};
static_assert(sizeof(RemotePiece) == 16);

/// Bytes of an announcement's payload in front of its RemotePieces: the message's length.
inline constexpr std::uint32_t kAnnouncedLength = sizeof(std::uint32_t);

/// Private receive buffers of a connection, and the bytes of each: the longest packet.
inline constexpr std::uint32_t kReceiveBuffers = 16;
inline constexpr std::uint32_t kReceiveBufferBytes = 8192;

/// Buffers that have been taken in go back to the device so many at once, which saves most messages the call. Few, for
/// the peer has none of those that wait.
inline constexpr std::uint32_t kRefill = 4;

/// The longest message that is sent without an answer from the receiver, and the longest piece.
inline constexpr std::uint32_t kMaxPayload = kReceiveBufferBytes - sizeof(PacketHeader);

/// Packets up to this length have a slot of their own for each work request, so that short messages never
/// wait for one of the few long ones.
inline constexpr std::uint32_t kShortPacket = 256;
static_assert(kReceiveBuffers % kRefill == 0 && kRefill <= kReceiveBuffers / 4);
static_assert(sizeof(PacketHeader) + kAnnouncedLength + kMaxSges * sizeof(RemotePiece) <=
              kShortPacket);

/// Messages that the receiver takes although no receive is posted, kept in private memory until one is:
/// so many, and none longer than this. Announcements, which have no bytes yet, are among them.
inline constexpr std::uint32_t kUnasked = 16;
inline constexpr std::uint32_t kUnaskedBytes = 512;

/// Of the peer's buffers, messages and pieces leave these free, other packets one, and none only a kCredit
/// that tells of many new buffers. Whoever has used up the other's has made them new there when they have
/// been taken in, so that word of them is due and gets through: neither side waits for the other in a
/// circle.
inline constexpr std::uint32_t kBufferReserve = 2;
inline constexpr std::uint32_t kFewestBuffers = 4;

/// Announced messages of one direction that have not been answered, at most.
inline constexpr std::uint32_t kMaxAnnounced = 16;

/// What either side tells the other in its private data, before the first packet.
struct PeerTerms {
    std::uint32_t buffers = kReceiveBuffers;
    std::uint32_t buffer_bytes = kReceiveBufferBytes;
    // The peer has asked for the connection, on iWARP: whoever does must send first there, and what comes
    // sooner ends the connection. It does so at once.
    bool speaks_first = false;
};

inline void write_header(std::byte* to, const PacketHeader& header) noexcept {
    std::memcpy(to, &header, sizeof(header));
}
[[nodiscard]] inline PacketHeader read_header(const std::byte* from) noexcept {
    PacketHeader header;
    std::memcpy(&header, from, sizeof(header));
    return header;
}

}  // namespace sanpoll::engine::verbs
