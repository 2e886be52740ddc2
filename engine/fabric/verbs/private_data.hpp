// What two engines tell each other inside RDMA CM's messages, before there is a connection.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/fabric/fabric.hpp"
#include "engine/fabric/verbs/packet.hpp"

namespace sanpoll::engine::verbs {

/// RDMA CM gives its users few bytes: with the port space of TCP, 56 in a request, 196 in an acceptance and
/// 148 in a rejection on InfiniBand and RoCE. iWARP has more, but one layout serves all. The addresses of
/// both ends are in RDMA CM's own part; only the port that the originator's socket is bound to is not, because
/// RDMA CM has bound its end to one of its own.
///
/// Caller data that is too long for a request goes ahead in parts, each of them a connect of its own that the
/// acceptor answers with the rejection kMore and remembers under the attempt's number; the request proper
/// has the last part. Callee data that is too long for an acceptance sends its first part ahead in the
/// rejection kComeAgain; the same request, made once more, is answered with the rest:
///
///   originator                    acceptor
///   kPart, bytes 0 to 39     ->
///                            <-   kMore
///   kRequest, bytes 40 to n  ->   the user is asked
///                            <-   kComeAgain, the answer's bytes 0 to 131
///   kRequest, no bytes       ->
///                            <-   acceptance, the answer's bytes 132 to n
inline constexpr std::size_t kMaxRequestBytes = 56;
inline constexpr std::size_t kMaxAcceptanceBytes = 196;
inline constexpr std::size_t kMaxRejectionBytes = 148;

inline constexpr std::uint8_t kProtocolVersion = 2;

enum class PrivateKind : std::uint8_t {
    kPart = 1,        // in a request: caller data ahead of it
    kRequest = 2,     // in a request
    kAcceptance = 3,  // in an acceptance
    kRejection = 4,   // in a rejection
};

enum class RejectReason : std::uint8_t {
    kRefused = 1,     // the listener's side said no
    kNoListener = 2,  // it has just stopped listening
    kMoved = 3,       // ask once more, by yourself
    kNoMemory = 4,    // the acceptor lacks what a connection needs
    kMore = 5,        // the part has come; the next one, please
    kComeAgain = 6,   // accepted; make the request once more for the rest of the answer
    kVersion = 7,     // another version of this protocol
};

/// One message. `data` is this message's part of the caller's or callee's data.
struct PrivateData {
    PrivateKind kind = PrivateKind::kRequest;
    std::uint8_t version = kProtocolVersion;
    RejectReason reason = RejectReason::kRefused;  // kRejection
    std::uint16_t port = 0;                        // kRequest: the originator's
    std::uint64_t attempt = 0;  // kPart, kRequest: the same in all messages of one connect
    PeerTerms terms;            // kRequest, kAcceptance
    std::uint16_t before = 0;   // bytes of data that have gone ahead of this message
    ConnectData data;
};

/// How much data a message of that kind can carry, bytes.
[[nodiscard]] std::size_t room_for_data(PrivateKind kind) noexcept;

struct PrivateBytes {
    std::array<std::byte, kMaxAcceptanceBytes> bytes{};
    std::uint8_t length = 0;
};

/// `message.data` is at most room_for_data().
[[nodiscard]] PrivateBytes encode(const PrivateData& message) noexcept;

/// False if the bytes are not one of ours or contradict themselves; they are another host's and may be
/// anything, and longer than what was sent. Of a message of another version only kind and version are
/// valid. May throw std::bad_alloc.
[[nodiscard]] bool decode(std::span<const std::byte> bytes, PrivateData& message);

}  // namespace sanpoll::engine::verbs
