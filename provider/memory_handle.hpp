// Handles of registered memory, and the check of a range that is to be registered.
#pragma once

#include <ws2san.h>

#include <cstdint>

#include "provider/socket_table.hpp"

namespace sanpoll::provider {

// A handle is the table's reference and, above it, the socket it belongs to: another socket's handle and
// a number picked at random are recognised.
[[nodiscard]] inline std::uint64_t owner_bits(const Socket& socket,
                                              std::uint32_t generation) noexcept {
    static_assert(SocketTable::kMaxSockets == 1U << 18);
    return static_cast<std::uint64_t>(((generation & 0x3FFFU) << 18) | socket.index) << 32;
}

[[nodiscard]] inline HANDLE to_handle(const Socket& socket, std::uint32_t generation,
                                      engine::RegionRef ref) noexcept {
    return reinterpret_cast<HANDLE>(owner_bits(socket, generation) | ref);
}

/// 0 if it is none of this socket.
[[nodiscard]] inline engine::RegionRef from_handle(const Socket& socket, std::uint32_t generation,
                                                   HANDLE handle) noexcept {
    const auto value = reinterpret_cast<std::uint64_t>(handle);
    return value >> 32 == owner_bits(socket, generation) >> 32
               ? static_cast<engine::RegionRef>(value)
               : 0;
}

/// Calls `use` with the registrar of the socket's connection if there is one. It is kept from ending
/// meanwhile; if it has ended, with a close, so has all that was registered. Returns whether it was called.
template <typename Use>
bool with_registrar(Socket& socket, std::uint32_t generation, Use use) {
    if (socket.registrar.load(std::memory_order_acquire) == nullptr) {
        return false;  // the usual case takes no lock
    }
    const std::lock_guard lock(socket.mutex);
    engine::MemoryRegistrar* registrar = socket.registrar.load(std::memory_order_relaxed);
    if (socket.gate.generation() != generation || registrar == nullptr ||
        socket.state == State::kSwappedOut) {
        return false;
    }
    use(*registrar);
    return true;
}

/// Whether the range may be registered for `access` (MEM_*): every page of it is there, and this process may
/// read or write it. What is wrong is an error here, and not a crash on the polling core, or of the peer, later.
/// Arenas are known to be good, and so is what the registration cache has asked about; else the kernel is asked. 0;
/// WSAEFAULT, or WSAENOBUFS if the pages are not to be had for want of memory: the log then says more. Off the data
/// path. May throw std::bad_alloc.
[[nodiscard]] int range_error(const void* buffer, DWORD length, DWORD access);

}  // namespace sanpoll::provider
