// The heaps of one thread, and how much it has taken and given back.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "engine/counter.hpp"
#include "engine/memory/arena.hpp"
#include "engine/memory/mimalloc.hpp"

namespace sanpoll::engine::memory {

/// Written by its thread only; its counters are read by any. It ends before mimalloc hears of the thread's end,
/// because destructors of thread_local objects run before those of pthread keys. First its heaps are deleted, which
/// hands their pages to the thread's own mimalloc heap; then mimalloc abandons what is in use and frees what is
/// not. While heaps are deleted, nobody may free (Freeing).
struct ThreadHeaps {
    static constexpr std::uint32_t kNone = ~0U;

    std::array<mi_heap_t*, kMaxArenas> heaps{};
    std::array<Counter, kMaxArenas> taken;  // bytes
    std::array<Counter, kMaxArenas> given_back;
    // The arena that last had room, by [shareable].
    std::array<std::uint32_t, 2> current{kNone, kNone};
    const Mimalloc* mimalloc = nullptr;  // set with the first heap
    // Set while the thread frees. Pairs with a thread's end, each writing its own flag and then looking at the
    // other's, in one order for all (seq_cst).
    alignas(64) std::atomic<bool> freeing{false};

    /// The calling thread's; nullptr if it has none yet or any more.
    [[nodiscard]] static ThreadHeaps* mine() noexcept;
    /// Makes it, without any heap yet. nullptr: the thread is ending (ended()), or there is no memory.
    [[nodiscard]] static ThreadHeaps* make() noexcept;
    [[nodiscard]] static bool ended() noexcept;

    /// Accounts a block that was freed by a thread without heaps.
    static void give_back_late(std::uint32_t arena, std::uint64_t bytes) noexcept;
    /// Taken minus given back, of all threads that are or were.
    [[nodiscard]] static std::uint64_t used(std::uint32_t arena) noexcept;
};

/// While it lives, no thread's heaps are deleted. mimalloc 2.0.9 does not bear a block being freed at that moment: it
/// looks whether somebody is freeing into a page before its note of the page's new heap is visible, and the
/// block may be lost in the old one, or be written into it when it is gone. (mi_heap_delete, as it passes pages
/// on: a store and then a load of another word, which processors reorder.)
class Freeing {
public:
    explicit Freeing(ThreadHeaps* mine) noexcept : mine_(mine) {
        if (mine_ != nullptr) [[likely]] {
            mine_->freeing.store(true, std::memory_order_seq_cst);
            if (!an_end_is_on()) [[likely]] {
                return;
            }
            mine_->freeing.store(false, std::memory_order_release);
            mine_ = nullptr;
        }
        wait_for_ends();
    }
    ~Freeing() {
        if (mine_ != nullptr) [[likely]] {
            mine_->freeing.store(false,
                                 std::memory_order_release);  // pairs with the ending thread's look
        } else {
            let_ends_go_on();
        }
    }
    Freeing(const Freeing&) = delete;
    Freeing& operator=(const Freeing&) = delete;

private:
    [[nodiscard]] static bool an_end_is_on() noexcept;
    static void wait_for_ends() noexcept;
    static void let_ends_go_on() noexcept;

    ThreadHeaps* mine_;  // nullptr: holds the lock instead
};

namespace detail {
// A thread is deleting its heaps.
extern constinit std::atomic<bool> end_is_on;
// Plain, so that the common case is one load: an object with a destructor would be asked each time whether
// it is constructed.
extern constinit thread_local ThreadHeaps* thread_heaps;
}  // namespace detail

inline bool Freeing::an_end_is_on() noexcept {
    return detail::end_is_on.load(std::memory_order_seq_cst);
}

inline ThreadHeaps* ThreadHeaps::mine() noexcept { return detail::thread_heaps; }

}  // namespace sanpoll::engine::memory
