// What a work request's id says. It is all that an error completion leaves to find the request by.
#pragma once

#include <cstdint>

namespace sanpoll::engine::verbs {

enum class WorkKind : std::uint8_t {
    kReceive = 1,  // a private receive buffer; slot: which one
    kPacket,       // a packet that nobody waits for
    kFarewell,     // the last packet of a connection
    kProbe,        // a write of no bytes, to find out whether the peer is there
    kRead,         // reads (a part of) an announced message into a posted receive
    kRdma,         // (a part of) an RDMA operation that the user asked for
};

/// Index and generation of the connection, the kind, and a slot: a receive buffer's number or a place in
/// the send ring. A completion that comes late, for a connection that is gone, does not fit the next one
/// of that index.
struct WorkRequestId {
    std::uint32_t index;  // 24 bits
    std::uint16_t generation;
    WorkKind kind;
    std::uint16_t slot;

    [[nodiscard]] static constexpr std::uint64_t pack(std::uint32_t index, std::uint16_t generation,
                                                      WorkKind kind, std::uint16_t slot) noexcept {
        return static_cast<std::uint64_t>(index) << 40 |
               static_cast<std::uint64_t>(generation) << 24 |
               static_cast<std::uint64_t>(kind) << 16 | slot;
    }
    [[nodiscard]] static constexpr WorkRequestId unpack(std::uint64_t id) noexcept {
        return {static_cast<std::uint32_t>(id >> 40), static_cast<std::uint16_t>(id >> 24),
                static_cast<WorkKind>(id >> 16 & 0xFF), static_cast<std::uint16_t>(id)};
    }
};

inline constexpr std::uint32_t kMaxIndex = (1U << 24) - 1;

}  // namespace sanpoll::engine::verbs
