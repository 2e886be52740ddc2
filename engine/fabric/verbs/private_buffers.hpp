// A connection's own registered memory: receive buffers, and slots that packets are sent from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/fabric/verbs/device.hpp"
#include "engine/fabric/verbs/packet.hpp"

namespace sanpoll::engine::verbs {

/// Work requests in a send queue, and long slots.
inline constexpr std::uint32_t kSendDepth = 32;
inline constexpr std::uint32_t kLongSlots = 8;

/// One mapping, one registration without remote access. Made and destroyed on the control thread.
class PrivateBuffers {
public:
    PrivateBuffers() = default;
    ~PrivateBuffers();
    PrivateBuffers(const PrivateBuffers&) = delete;
    PrivateBuffers& operator=(const PrivateBuffers&) = delete;

    /// False: `error` says why. Blocks.
    [[nodiscard]] bool make(const Device& device, ibv_pd* pd, std::string& error);

    [[nodiscard]] std::uint32_t lkey() const noexcept { return registration_.lkey(); }
    [[nodiscard]] std::byte* receive(std::uint32_t index) const noexcept {
        return base_ + static_cast<std::size_t>(index) * kReceiveBufferBytes;
    }
    /// kReceiveBufferBytes each.
    [[nodiscard]] std::byte* long_slot(std::uint32_t index) const noexcept {
        return receive(kReceiveBuffers + index);
    }
    /// kShortPacket each.
    [[nodiscard]] std::byte* short_slot(std::uint32_t index) const noexcept {
        return receive(kReceiveBuffers + kLongSlots) +
               static_cast<std::size_t>(index) * kShortPacket;
    }

private:
    static constexpr std::size_t kBytes =
        static_cast<std::size_t>(kReceiveBuffers + kLongSlots) * kReceiveBufferBytes +
        static_cast<std::size_t>(kSendDepth) * kShortPacket;

    std::byte* base_ = nullptr;
    Registration registration_;
};

}  // namespace sanpoll::engine::verbs
