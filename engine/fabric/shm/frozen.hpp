// The state of a connection while it belongs to no process.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sanpoll::engine::shm {

/// How far a connection has come, as one end counts. When nothing is on its way, what one end has sent is
/// what the other has received.
struct Counts {
    std::uint32_t sent = 0;
    std::uint32_t arrived = 0;
};

/// What the next process needs to go on where the last one stopped.
struct Frozen {
    Counts counts;
    std::uint32_t credit = 0;                   // receives that the peer is known to have had
    std::vector<std::vector<std::byte>> early;  // arrived, and no receive has taken them yet

    /// Receives that the peer may count on: those that have taken a message. The pending ones are gone.
    [[nodiscard]] std::uint32_t granted() const noexcept {
        return counts.arrived - static_cast<std::uint32_t>(early.size());
    }
};

/// The longest message that can wait for its receive at the receiver.
inline constexpr std::uint32_t kMaxEarly = 65536;

/// What became of an attempt to suspend a connection, or to leave it.
enum class Hold : std::uint8_t {
    kHeld,       // nothing of it is on its way any more
    kFinishing,  // a long message is being finished first
    kBusy,       // the other end is changing process as well: try again
    kGone,       // there is no such connection, or it has ended
};

}  // namespace sanpoll::engine::shm
