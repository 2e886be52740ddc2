// One word per socket that admits posts: it checks the handle's generation, the connection's state and
// assigns the post's sequence number in one compare-and-swap.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>

#include "engine/status.hpp"
#include "rings/one_instruction.hpp"

namespace sanpoll::engine {

/// Why one word. A post has to know three things at one instant: that the handle is still the one it
/// was issued for, that the connection takes requests, and its place among the posts of this socket.
/// Taken apart, a close could slip in between them, and a request accepted after the close would never
/// complete. Taken together, close() learns the exact number of accepted posts, so each of them can be
/// waited for and completed, and every later one is refused. No reference count is needed on the way.
///
/// The gate must live in memory that is never unmapped while stale handles may be tried (the provider's
/// socket table is type-stable). Word: sequence (32 bits, on top, so that counting on wraps by itself),
/// generation (30 bits), state (2 bits).
/// A live gate's generation is odd, a free one's even, so that a guessed handle never fits a free one.
class PostGate {
public:
    enum class State : std::uint32_t { kShut = 0, kOpen = 1, kReset = 2, kFailed = 3 };

    static constexpr std::uint32_t kGenerationMask = (1U << 30) - 1;

    struct View {
        std::uint32_t generation;
        State state;
        std::uint32_t sequence;
    };

    /// Any thread; a snapshot.
    [[nodiscard]] View view() const noexcept {
        // Pairs with the releases below: who sees a state sees what led to it.
        return unpack(word_.load(std::memory_order_acquire));
    }

    [[nodiscard]] std::uint32_t generation() const noexcept { return view().generation; }

    /// What enter() starts from; an opaque word. Any thread; a snapshot.
    [[nodiscard]] std::uint64_t look() const noexcept {
        // Pairs with the releases below, as in view().
        return word_.load(std::memory_order_acquire);
    }
    /// What it says of `generation`: whether it is the gate's, in whatever state; whether it is and the gate
    /// is open.
    [[nodiscard]] static bool is_of(std::uint64_t word, std::uint32_t generation) noexcept {
        return lower(word) >> 2 == generation;
    }
    [[nodiscard]] static bool is_open_for(std::uint64_t word, std::uint32_t generation) noexcept {
        return lower(word) == pack(generation, State::kOpen, 0);
    }
    [[nodiscard]] static bool is_open(std::uint64_t word) noexcept {
        return (word & 3U) == static_cast<std::uint64_t>(State::kOpen);
    }
    [[nodiscard]] static View view_of(std::uint64_t word) noexcept { return unpack(word); }
    [[nodiscard]] static constexpr std::uint32_t sequence_of(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word >> 32);
    }

    /// Whether posts of this generation are admitted now. Any thread; a snapshot.
    [[nodiscard]] bool open_for(std::uint32_t generation) const noexcept {
        return is_open_for(look(), generation);
    }

    /// Takes the next sequence number. Empty when `generation` is not the gate's or the gate is not
    /// open. Any thread, lock-free.
    [[nodiscard]] std::optional<std::uint32_t> enter(std::uint32_t generation) noexcept {
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        while (is_open_for(word, generation))
            [[likely]] {
                // Acquire pairs with the release in open(): the endpoint that open() published is visible.
                // Release orders this post before a later close() that counts it. The total order is that of
                // let_direct().
                if (word_.compare_exchange_strong(word, word + kOnePost, std::memory_order_seq_cst,
                                                  std::memory_order_relaxed)) [[likely]] {
                    return sequence_of(word);
                }
            }
        return std::nullopt;
    }
    /// The same for what does not take effect at once, under the token: nothing may overtake it directly.
    [[nodiscard]] std::optional<std::uint32_t> enter_behind(std::uint32_t generation) noexcept {
        const std::optional<std::uint32_t> sequence = enter(generation);
        stop_direct();
        return sequence;
    }

    // ---- the direct way: under the token of the core that owns the connection, without a number

    /// A post that is made and takes effect under the token needs no place among the others as long as all of those
    /// have taken effect, nor does a close have to count it: the close takes effect under the token too,
    /// behind its change of the word here. While that is so, and the gate open, the gate is direct for `handle`,
    /// which names its owner and generation, is not 0 and never comes again. Token holder.
    ///
    /// Who finds it direct with the token in its hand may use the endpoint until the token is given back: the
    /// endpoint ends under that token, behind a close() or break_off() that has made the gate not direct. Who finds
    /// it so without the token knows that the handle was good just now.
    [[nodiscard]] bool is_direct(std::uint64_t handle) const noexcept {
        // Acquire pairs with the store in let_direct(): the connection and its core are there.
        return rings::is_now(direct_, handle);
    }

    /// Makes it so if the gate is open and has admitted nothing beyond `sequence` posts, which have taken effect.
    /// Token holder.
    void let_direct(std::uint64_t handle, std::uint32_t generation,
                    std::uint32_t sequence) noexcept {
        // All four accesses are in one total order: this store, this look, and elsewhere the change of the word
        // and then stop_direct(). If the change is not seen here, it comes later, and so does what follows it.
        direct_.store(handle, std::memory_order_seq_cst);
        if (word_.load(std::memory_order_seq_cst) != pack(generation, State::kOpen, sequence)) {
            direct_.store(0, std::memory_order_seq_cst);
        }
    }

    /// Of a gate that is nobody's and stays so: is_direct(handle), and for nothing else.
    void pretend_direct(std::uint64_t handle) noexcept {
        direct_.store(handle, std::memory_order_release);
    }

    /// What comes from now on goes by its number. After a change of the word; any thread.
    void stop_direct() noexcept {
        // The look first: nearly always there is nothing to do. Pairs with let_direct().
        if (direct_.load(std::memory_order_seq_cst) != 0) {
            direct_.store(0, std::memory_order_seq_cst);
        }
    }

    /// Makes a free gate live and shut, sequence 0. Returns its generation (odd).
    std::uint32_t revive() noexcept {
        const std::uint32_t generation = (view().generation + 1) & kGenerationMask;
        word_.store(pack(generation, State::kShut, 0), std::memory_order_release);
        return generation;
    }

    /// Shut -> open; false if the gate is no longer of that generation or not shut. Release pairs with
    /// the acquire in enter().
    bool open(std::uint32_t generation) noexcept {
        std::uint64_t expected = pack(generation, State::kShut, 0);
        return word_.compare_exchange_strong(expected, pack(generation, State::kOpen, 0),
                                             std::memory_order_acq_rel, std::memory_order_relaxed);
    }

    /// Open -> kReset or kFailed, keeping the sequence. False if it was not open.
    bool break_off(std::uint32_t generation, State state) noexcept {
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        while (is_open_for(word, generation)) {
            const std::uint64_t next = pack(generation, state, sequence_of(word));
            if (word_.compare_exchange_weak(word, next, std::memory_order_seq_cst,
                                            std::memory_order_relaxed)) {
                stop_direct();
                return true;
            }
        }
        return false;
    }

    /// Open -> shut, keeping the generation and taking one more sequence number, which is returned: that of
    /// the control operation that runs behind all posts admitted before. Empty if it was not open.
    std::optional<std::uint32_t> suspend(std::uint32_t generation) noexcept {
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        while (is_open_for(word, generation)) {
            const std::uint32_t sequence = sequence_of(word);
            const std::uint64_t next = pack(generation, State::kShut, sequence + 1U);
            // Acquire pairs with the release in enter(): the posts counted here are visible.
            if (word_.compare_exchange_weak(word, next, std::memory_order_seq_cst,
                                            std::memory_order_relaxed)) {
                stop_direct();
                return sequence;
            }
        }
        return std::nullopt;
    }

    /// Takes suspend() back. False if the generation has ended meanwhile.
    bool resume(std::uint32_t generation) noexcept {
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        while (lower(word) == pack(generation, State::kShut, 0)) {
            const std::uint64_t next = pack(generation, State::kOpen, sequence_of(word));
            // Release pairs with the acquire in enter().
            if (word_.compare_exchange_weak(word, next, std::memory_order_acq_rel,
                                            std::memory_order_relaxed)) {
                return true;
            }
        }
        return false;
    }

    /// Ends this generation. Returns what it was at that instant: `sequence` is then the number of
    /// posts ever admitted. Empty if it is not of that generation (somebody closed it before).
    std::optional<View> close(std::uint32_t generation) noexcept {
        std::uint64_t word = word_.load(std::memory_order_relaxed);
        for (;;) {
            const View seen = unpack(word);
            if (seen.generation != generation) {
                return std::nullopt;
            }
            const std::uint64_t next = pack((generation + 1) & kGenerationMask, State::kShut, 0);
            // Acquire pairs with the release in enter().
            if (word_.compare_exchange_weak(word, next, std::memory_order_seq_cst,
                                            std::memory_order_relaxed)) {
                stop_direct();
                return seen;
            }
        }
    }

private:
    static constexpr std::uint64_t kOnePost = 1ULL << 32;

    static constexpr std::uint64_t lower(std::uint64_t word) noexcept {
        return static_cast<std::uint32_t>(word);
    }
    // A generation of more than 30 bits is no gate's: it must not be cut to fit.
    static constexpr std::uint64_t pack(std::uint64_t generation, State state,
                                        std::uint64_t sequence) noexcept {
        return sequence << 32 | generation << 2 | static_cast<std::uint64_t>(state);
    }
    static constexpr View unpack(std::uint64_t word) noexcept {
        return {static_cast<std::uint32_t>(lower(word) >> 2), static_cast<State>(word & 3U),
                sequence_of(word)};
    }

    std::atomic<std::uint64_t> word_{0};
    std::atomic<std::uint64_t> direct_{0};  // the handle, or 0
};

/// Whether the core holds as many operations of a socket as it may, by direction. Written by the core
/// at the edges only, read by the front end before each post: a count would change with every
/// operation, and its line would travel between the two every time. Posts that are still in a lane are
/// not counted yet, so the limit may be passed by as many as a lane holds; it bounds memory, it is not a
/// promise about exact counts.
struct Saturation {
    std::atomic<bool> sends{false};
    std::atomic<bool> receives{false};
};

}  // namespace sanpoll::engine
