// Who may turn a polling core.
#pragma once

#include <atomic>
#include <cstdint>

#include "rings/slot.hpp"

namespace sanpoll::engine {

/// A lock that nobody waits for on the data path: threads that poll try it, and go without it if another has
/// it. Only control operations wait. Pollers that spin hold it most of the time, and when one of them loses its
/// processor, it loses it with the token in its hand more often than not; so where threads are more than
/// processors, a thread that waits would come in only by luck. Hence the word `wanted`: while it is
/// raised, pollers give way, that is they yield the processor a few times before each try. Then the token
/// is free nearly always, and whoever waits takes it as soon as it runs. Pollers are not starved: each of
/// their calls gives way a bounded number of times and then tries.
class alignas(rings::kCacheLine) PollToken {
public:
    /// How often a poller yields before one try, at most, while the token is wanted.
    static constexpr std::uint32_t kYields = 4;

    [[nodiscard]] bool try_acquire() noexcept {
        return held_.load(std::memory_order_relaxed) == 0 && try_at_once();
    }
    /// The same for who tries once and hardly ever in vain: without a look before, which spares the others the line only
    /// if it is taken again and again.
    [[nodiscard]] bool try_at_once() noexcept {
        // Acquire pairs with the release in release(): the new holder sees all that the last one did. Of the lowest
        // bit only, which compilers make one instruction that tests and sets.
        return (held_.fetch_or(1, std::memory_order_acquire) & 1U) == 0;
    }
    void release() noexcept { held_.store(0, std::memory_order_release); }

    /// What a poller calls before it tries. Costs a load from the line that it needs next anyway. Returns
    /// how often it has yielded; 0, without a system call, unless somebody waits.
    std::uint32_t give_way() noexcept { return wanted() ? yield_to_waiter() : 0; }

    /// Waits for the token, and meanwhile makes pollers give way. For control operations: blocks.
    void acquire_first() noexcept;
    /// Waits for the token without asking anybody to give way: whoever has it does the caller's work.
    void acquire_patiently() noexcept;

    /// Somebody waits in acquire_first().
    [[nodiscard]] bool wanted() const noexcept {
        // Relaxed, pairs with the relaxed additions in acquire_first(): a hint. Whoever misses it for a
        // while takes the token once more; nothing is ordered by it.
        return wanted_.load(std::memory_order_relaxed) != 0;
    }

private:
    std::uint32_t yield_to_waiter() noexcept;

    std::atomic<std::uint32_t> held_{0};
    std::atomic<std::uint32_t> wanted_{0};  // threads in acquire_first(); in the line of `held_`
};

static_assert(sizeof(PollToken) == rings::kCacheLine);

}  // namespace sanpoll::engine
