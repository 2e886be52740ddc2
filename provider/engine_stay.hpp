// What keeps the engine while a post, a look, a wait or a registration uses it.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fence.hpp"
#include "provider/provider.hpp"
#include "rings/slot.hpp"

namespace sanpoll::provider {

/// While one lives that is up(), the engine stays: the last WSPCleanup waits for its end. For the data path, where an
/// EngineUse would be too dear: its counter is one for all threads. Each thread has a word of its own, which it raises and
/// lowers with plain stores; the last WSPCleanup, which has said that the provider is down, has every processor pass a
/// barrier (heavy_fence()) and then looks at all words. Either it sees one raised, or its thread, which looks at the
/// provider's life after that, sees that it is down.
///
/// The direct way (engine/direct.hpp) needs none: what it touches before it has the core's token is never freed, and the end
/// of a core keeps the token (PollingCore::end_for_good).
///
/// Any thread; they nest. Blocks nothing, no system call. A thread's first one allocates its word; where there is no
/// memory for that, and while the thread ends, a counter that all share takes its place.
class EngineStay {
public:
    EngineStay() noexcept : word_(my_word != nullptr ? my_word : find_word()) {
        if (word_ == nullptr) [[unlikely]] {
            enter_without_word();
            return;
        }
        const std::uint32_t depth = word_->depth.load(std::memory_order_relaxed);
        word_->depth.store(depth + 1, std::memory_order_relaxed);
        engine::
            light_fence();  // the look comes after the store: pairs with the heavy fence in wait_for_all()
        life_ = common().life.load(std::memory_order_acquire);
    }
    ~EngineStay() {
        if (word_ == nullptr) [[unlikely]] {
            leave_without_word();
            return;
        }
        // Release pairs with the acquire in wait_for_all(): what was done here comes before the engine's end.
        word_->depth.store(word_->depth.load(std::memory_order_relaxed) - 1,
                           std::memory_order_release);
    }
    EngineStay(const EngineStay&) = delete;
    EngineStay& operator=(const EngineStay&) = delete;

    /// False: the provider does not run, or is about to end; the engine must not be touched, and error() is the answer.
    [[nodiscard]] bool up() const noexcept { return life_ == Life::kUp; }
    [[nodiscard]] int error() const noexcept { return error_of(life_); }
    /// Whether one lives in this thread: the last WSPCleanup would wait for its own caller.
    [[nodiscard]] static bool here() noexcept;
    /// In a forked child, which is this thread alone: the others' have ended.
    static void abandon_in_child() noexcept;

    /// For the last WSPCleanup, after it has said that the provider is down, and with none in this thread: blocks until
    /// none is left that was up().
    static void wait_for_all() noexcept;

private:
    struct alignas(rings::kCacheLine) Word {
        std::atomic<std::uint32_t> depth{0};  // written by its thread only
        std::atomic<bool> taken{true};        // by a thread that lives
        Word* next = nullptr;                 // constant once it is in the list
    };
    struct Giver;  // gives a thread's word back when the thread ends

    [[nodiscard]] static Word* find_word() noexcept;
    void enter_without_word() noexcept;
    static void leave_without_word() noexcept;

    static thread_local constinit Word* my_word;
    static std::atomic<Word*> words;             // all there ever were; never freed
    static std::atomic<std::uint32_t> wordless;  // those without one

    Word* const word_;
    Life life_ = Life::kDown;
};

}  // namespace sanpoll::provider
