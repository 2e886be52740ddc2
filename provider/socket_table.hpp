// From descriptor to record, without trusting the descriptor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "provider/socket.hpp"

namespace sanpoll::provider {

/// A descriptor is the record's generation (upper 32 bits, odd while live) and its index plus one. A
/// descriptor that was never issued, is forged, or was closed fits no live record.
class SocketTable {
public:
    static constexpr std::uint32_t kChunk = 256;
    static constexpr std::uint32_t kMaxSockets = 1U << 18;

    // Records are never unmapped: a stale descriptor may be tried until the process has ended.

    struct Found {
        Socket* socket = nullptr;  // nullptr: not a socket
        engine::PostGate::View view{};
    };

    /// Any thread, lock-free. The view's generation is that of the descriptor.
    [[nodiscard]] Found find(SOCKET descriptor) const noexcept {
        const std::uint32_t index = static_cast<std::uint32_t>(descriptor) - 1;
        if (index < kMaxSockets) [[likely]] {
            // Pairs with the release in allocate().
            if (Socket* chunk = chunks_[index / kChunk].load(std::memory_order_acquire);
                chunk != nullptr) [[likely]] {
                Socket* socket = chunk + index % kChunk;
                const engine::PostGate::View view = socket->gate.view();
                if (view.generation == descriptor >> 32 && (view.generation & 1U) != 0) [[likely]] {
                    return {socket, view};
                }
            }
        }
        return {};
    }

    /// The record, if its gate is open: generation and state in one comparison. Any thread, lock-free.
    [[nodiscard]] Socket* find_open(SOCKET descriptor) const noexcept {
        const std::uint32_t index = static_cast<std::uint32_t>(descriptor) - 1;
        if (index >= kMaxSockets) [[unlikely]] {
            return nullptr;
        }
        Socket* chunk = chunks_[index / kChunk].load(std::memory_order_acquire);
        if (chunk == nullptr) [[unlikely]] {
            return nullptr;
        }
        Socket* socket = chunk + index % kChunk;
        return socket->gate.open_for(static_cast<std::uint32_t>(descriptor >> 32)) ? socket
                                                                                   : nullptr;
    }

    /// A live record in state kCreated and its descriptor; nullptr when the table is full or memory is
    /// short. Control plane.
    [[nodiscard]] Socket* allocate(SOCKET& descriptor);
    /// Whether allocate() would find room.
    [[nodiscard]] bool has_room();
    /// Gives back a record whose gate was closed and which nothing refers to any more.
    void free(Socket& socket);
    /// Descriptors of all live sockets.
    [[nodiscard]] std::vector<SOCKET> live();

private:
    [[nodiscard]] static SOCKET descriptor_of(const Socket& socket,
                                              std::uint32_t generation) noexcept {
        return (static_cast<SOCKET>(generation) << 32) | (socket.index + 1U);
    }

    std::atomic<Socket*> chunks_[kMaxSockets / kChunk] = {};
    std::mutex mutex_;
    std::vector<std::uint32_t> free_;
    std::size_t free_head_ = 0;  // taken from the front: the longest unused first
    std::uint32_t made_ = 0;
};

}  // namespace sanpoll::provider
