// What the functions that post by the direct way (engine/direct.hpp) share.
#pragma once

#include <atomic>

#include "engine/direct.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {

/// What a direct way needs of a socket whose gate was found direct.
[[gnu::always_inline]] inline engine::direct::Way way_of(Socket& socket, SOCKET s) noexcept {
    return {*socket.token.load(std::memory_order_relaxed), socket.gate, s, socket.endpoint,
            socket.regions};
}

/// A function whose arguments stay where they are, whichever of them it uses: one that others end in by a jump.
#if defined(__clang__)
#define SANPOLL_AS_WRITTEN [[gnu::noinline]]
#else
#define SANPOLL_AS_WRITTEN [[gnu::noipa]]
#endif

/// Between two checks: compilers make a sum of several that end in the same place, in more instructions than their jumps.
[[gnu::always_inline]] inline void apart() noexcept {
    std::atomic_signal_fence(std::memory_order_acquire);
}

}  // namespace sanpoll::provider
