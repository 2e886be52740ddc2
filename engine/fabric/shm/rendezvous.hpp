// Where engines of one host find each other, and what they say before a link stands.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "engine/fabric/fabric.hpp"

namespace sanpoll::engine::shm {

enum class MessageKind : std::uint16_t {
    kHello =
        1,   // both ways, first: engine_id and where it is, port, shares_arenas; the acceptor's:
             // may_copy
    kOffer,  // initiator: may_copy, the segment's shape; descriptors: segment, initiator's doorbell
    kReady,  // acceptor: descriptor: acceptor's doorbell
    kConnect,   // a connection request: connector_id, addresses, caller data
    kAnswer,    // status; when 0 acceptor_id and callee data
    kWithdraw,  // the connector has changed its mind: connector_id
    kAbandon,   // the accepted connection was closed before the acceptance came: acceptor_id
    // ---- a connection's end changes process, see departure.hpp and suspension.hpp
    kSuspend,  // leaving end: acceptor_id (the receiver's), serial, leaver's engine_id
    kSuspended,  // staying end: serial, status (SuspendAnswer); when kHeld port, secret, sent, arrived;
                 // descriptor: a socket whose other end the sender watches
    kStay,       // leaving end: taken back, all goes on as before: acceptor_id, serial
    kLeft,       // leaving end: from now on the connection is not its any more: acceptor_id, serial
    kResume,  // the next process: connector_id, secret, sent, arrived, credit; kAnswer follows
    kExport,  // answer to who knows a token; descriptors: the exported state, what goes along
    // ---- between two that both share arenas, once the link stands
    kArena,  // an arena that may be mapped: arena_id, arena_size, arena_offset; descriptor: its file
    kArenaAnswer,  // arena_id, status: 0 it is mapped, 1 it is not
    // ----
    kMail,  // there is a letter in the link's mailbox, see mailbox.hpp
};

/// `status` of kSuspended.
enum class SuspendAnswer : std::uint32_t {
    kHeld = 0,
    kBusy = 1,
    kGone = 2,
    kNoMemory = 3,  // the staying end's process lacks something, and goes on as before
    kNoDescriptors = 4,
};

/// Every message has this size; a peer's message of another size or version ends the acquaintance.
struct ControlMessage {
    std::uint32_t magic = kMagic;
    std::uint16_t version = kVersion;
    MessageKind kind{};
    std::uint64_t engine_id[2] = {};
    std::uint64_t probe_address = 0;  // of engine_id in the sender's memory; 0: not to be read
    std::uint32_t may_copy = 0;       // 1: the sender has read the receiver's engine_id there
    std::uint32_t ring_slots = 0;
    std::uint32_t staging_bytes = 0;
    std::uint32_t connector_id = 0;
    std::uint32_t acceptor_id = 0;
    std::uint32_t status = 0;  // of kAnswer: 0 accepted, 1 refused, 2 nobody listens, 3 ask again
    std::uint32_t port = 0;    // kHello, kSuspended: which of the sender's ports the link is on
    std::uint32_t serial = 0;
    std::uint32_t sent = 0;           // messages begun by the sender of this
    std::uint32_t arrived = 0;        // messages that reached it
    std::uint32_t credit = 0;         // receives that it has had; also of the answer to kResume
    std::uint32_t shares_arenas = 0;  // ShareArenas
    std::uint64_t secret[2] = {};
    std::uint64_t arena_size = 0;
    std::uint64_t arena_offset = 0;  // in its file
    std::uint32_t arena_id = 0;      // of its owner
    std::uint32_t from_ip = 0;
    std::uint32_t to_ip = 0;
    std::uint16_t from_port = 0;
    std::uint16_t to_port = 0;
    std::uint32_t data_length = 0;
    std::byte data[kMaxConnectData] = {};

    static constexpr std::uint32_t kMagic = 0x6C6F7073;
    static constexpr std::uint16_t kVersion = 8;
};

/// Whether it is a message of ours at all. What it says is for the reader to check.
[[nodiscard]] inline bool is_sound(const ControlMessage& message) noexcept {
    return message.magic == ControlMessage::kMagic && message.version == ControlMessage::kVersion &&
           message.data_length <= kMaxConnectData;
}

[[nodiscard]] inline ControlMessage message_of(MessageKind kind) {
    ControlMessage message;
    message.kind = kind;
    return message;
}

/// The abstract socket address of a listener. Abstract names vanish with their last descriptor, so
/// nothing is left behind on disk; they have no permissions, so both sides check the other's user id,
/// which is also part of the name.
[[nodiscard]] int bind_rendezvous(const Address& address);     // listening socket, or -errno
[[nodiscard]] int connect_rendezvous(const Address& address);  // connected socket, or -errno

/// The same for a token of WSPDuplicateSocket, whose name is one of the whole system. A name can be bound
/// once, so tokens are unique.
[[nodiscard]] int bind_token(std::uint32_t token);
[[nodiscard]] int connect_token(std::uint32_t token);

/// Whether a descriptor from another process listens at `address`, as bind_rendezvous() makes it.
[[nodiscard]] bool listens_at(int fd, const Address& address) noexcept;
/// Whether it is an end of a connected socket of the kind that engines talk by.
[[nodiscard]] bool is_control_socket(int fd) noexcept;

/// The process at the other end of `fd`, if it runs under our user id; else 0.
[[nodiscard]] int peer_process(int fd) noexcept;

/// Whether the process at the other end of `fd` runs under our user id.
[[nodiscard]] bool same_user(int fd, std::uint32_t& their_uid) noexcept;

/// A datagram socket pair that serves as a doorbell; false when out of descriptors.
[[nodiscard]] bool make_doorbell(int ends[2]) noexcept;
/// Whether a descriptor from a peer can be rung without harm.
[[nodiscard]] bool is_doorbell(int fd) noexcept;

/// One message with up to two descriptors, in or out, without blocking. Returns 1 done, 0 would block,
/// -1 the peer is gone or talks nonsense, and of what is sent kRefusedNow: the system lacks something, as errno says, and
/// may have it again in a moment, of which nobody tells. Received descriptors are the caller's; a `fd_count` of kLostOne
/// says that one came with a kSuspended and that this process has no number left for it. `why`: what was read or
/// went wrong, and what helps, unless the peer has just gone.
inline constexpr int kRefusedNow = -2;
inline constexpr int kLostOne = -1;
[[nodiscard]] int send_message(int fd, const ControlMessage& message, const int* fds, int fd_count);
[[nodiscard]] int receive_message(int fd, ControlMessage& message, int fds[2], int& fd_count,
                                  std::string* why = nullptr);
/// What the system lacks for a message that it refuses with `error`, and what helps. Without memory for that, less.
[[nodiscard]] std::string refusal_text(int error) noexcept;
/// What makes a message none of ours.
[[nodiscard]] std::string unsound_text(const ControlMessage& message);

}  // namespace sanpoll::engine::shm
