// What the two ends of a link have exposed in their arenas, in memory that both see: an RDMA operation on it
// needs no answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "engine/fence.hpp"
#include "rings/one_instruction.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine::shm {

/// One exposed range. All of it in one line, which in a steady flow of operations is its user's alone: the
/// owner touches it to expose and to revoke, and never believes anything in it but `uses`.
///
/// Revoking is Dekker's game. The user writes `uses` and then looks at `state`, the owner writes `state` and
/// then looks at `uses`, each with a fence in between: never do both go on. Revoking is rare and using is not, so the
/// owner pays for both where it can: it says in `access` that it calls heavy_fence() between the two, and a user
/// whose process is registered for that has no fence of its own (one that is not, or does not believe it, exchanges). That
/// the owner keeps its word is its own affair: it is its memory. `state` is odd while the range
/// stands, and no two ranges of a slot have the same one, so a user that finds the same odd state before and after its
/// announcement knows that what it read in between belongs to it: each word is stored with release after the state
/// before it was, and loaded with acquire.
///
/// What is copied in several parts is only held between them: before each part the user plays the game anew. So of
/// a range that is taken back nothing is touched but by the part that is being copied just then, and who owns the
/// memory waits for no more than that, whatever becomes of the user.
///
/// A hostile user may write any `uses` into any place. It keeps the owner from deregistering (RemoteRegions::Removal::kInUse)
/// until the link ends, delays each close for the time that ShmPort::lingers gives, and uses up places: then RDMA goes
/// by requests. It reaches nothing that it could not reach anyway, for it has mapped the arena.
struct alignas(rings::kCacheLine) ExposureSlot {
    // ---- the owner's
    std::atomic<std::uint64_t> state;
    std::atomic<std::uint64_t> nonce;
    std::atomic<std::uint64_t> offset;      // in the arena
    std::atomic<std::uint32_t> connection;  // the user's id of it
    std::atomic<std::uint32_t> key;
    std::atomic<std::uint32_t> arena;  // the owner's id of it
    std::atomic<std::uint32_t> length;
    std::atomic<std::uint32_t> access;
    // ---- the user's
    std::atomic<std::uint32_t> uses;  // one of the following; pairs with ExposuresShown::hide
    static constexpr std::uint32_t kUnused = 0;
    static constexpr std::uint32_t kCopying = 1;
    static constexpr std::uint32_t kHeld = 2;  // between two parts
    // In `access`, beside the rights: the owner calls heavy_fence() between revoking and looking at `uses`.
    static constexpr std::uint32_t kOwnerFences = 1U << 31;
};
static_assert(sizeof(ExposureSlot) == rings::kCacheLine);

/// Ranges of one end that a link has room for. What is exposed beyond is asked for.
inline constexpr std::uint32_t kExposureSlots = 1024;

/// What is exposed, as the owner shows it and as the user finds it.
struct Exposure {
    std::uint64_t state = 0;
    std::uint32_t connection = 0;
    std::uint64_t nonce = 0;
    std::uint64_t offset = 0;
    std::uint32_t key = 0;
    std::uint32_t arena = 0;
    std::uint32_t length = 0;
    std::uint32_t access = 0;
};

/// The owner's half. Token holder of the link's core only. Places are counted from 1; 0 is none.
class ExposuresShown {
public:
    /// Allocates; throws std::bad_alloc. The slots are fresh memory. Calls the system, to see whether heavy_fence() works.
    explicit ExposuresShown(ExposureSlot* slots)
        : slots_(slots), mine_(new Mine[kExposureSlots]()), fences_(heavy_fence()) {}

    /// Whether the peer may have operations under way that nobody here hears of.
    [[nodiscard]] bool empty() const noexcept { return rings::is_zero(&count_); }

    /// Returns the place, 0 when there is none left. `what.state` is of no account.
    [[nodiscard]] std::uint32_t show(const Exposure& what) noexcept;
    /// Takes it back and gives the place away again, unless the user is at it or holds it: then false, and it stands
    /// as before.
    [[nodiscard]] bool hide(std::uint32_t place) noexcept;
    /// Takes it back, whoever is at it; the place stays taken until hide() or drop(). The first of these looks at uses
    /// after any number of revocations pays for all: a heavy fence, some microseconds, which interrupts the user's CPU.
    void revoke(std::uint32_t place) noexcept;
    /// Revokes and gives up. False if the user is at it or holds it still: the place is not used again yet.
    [[nodiscard]] bool drop(std::uint32_t place) noexcept;
    /// Whether the user copies, or will go on to.
    [[nodiscard]] bool in_use(std::uint32_t place) noexcept;

    /// A place that drop() has refused: kept in a list of its connection's, whose head is `list`.
    void remember(std::uint32_t place, std::uint32_t& list) noexcept {
        mine_[place - 1].next = list;
        list = place;
    }
    /// Gives those places of the list away that nobody uses any more.
    void forget_unused(std::uint32_t& list) noexcept;
    /// The same for what is left of it when its connection goes, whenever there is need of places.
    void abandon(std::uint32_t& list) noexcept;
    /// Whether memory of a place in the list is being touched. One that is only held, and was taken back, is not any
    /// more.
    [[nodiscard]] bool copying_any(std::uint32_t list) noexcept;
    /// The same of all places. Any thread.
    [[nodiscard]] bool copying_any() const noexcept;

private:
    struct Mine {
        std::uint64_t state = 0;  // what we wrote last
        std::uint32_t next = 0;   // place, in the free list or in one of remember()
    };
    void give_away(std::uint32_t place) noexcept;
    [[nodiscard]] bool settled() noexcept;
    [[nodiscard]] bool copying(std::uint32_t place) const noexcept;

    ExposureSlot* slots_;
    std::unique_ptr<Mine[]> mine_;
    std::uint32_t free_ = 0;   // places given back
    std::uint32_t fresh_ = 0;  // of the places never used, the first; from 0
    std::uint32_t left_ = 0;   // list of abandon()
    std::uint32_t count_ = 0;  // that are taken
    const bool fences_;        // users may announce themselves without a fence of their own
    bool unsettled_ = false;   // something was revoked since the last heavy fence
};

/// The user's half. Token holder of the link's core only. Everything found is the owner's word: what lies
/// outside of the arenas that it has offered must not be touched.
class ExposuresSeen {
public:
    explicit ExposuresSeen(ExposureSlot* slots) noexcept
        : slots_(slots), registered_(heavy_fence_registered()) {}

    /// What stands at a place, which is anybody's word; false if nothing does. Good for nothing before begin().
    [[nodiscard]] bool look(std::uint32_t place, Exposure& seen) const noexcept {
        if (place - 1 >= kExposureSlots) [[unlikely]] {
            return false;
        }
        const ExposureSlot& slot = slots_[place - 1];
        // Acquire pairs with the release in show().
        seen.state = slot.state.load(std::memory_order_acquire);
        seen.connection = slot.connection.load(std::memory_order_acquire);
        seen.nonce = slot.nonce.load(std::memory_order_acquire);
        seen.offset = slot.offset.load(std::memory_order_acquire);
        seen.key = slot.key.load(std::memory_order_acquire);
        seen.arena = slot.arena.load(std::memory_order_acquire);
        seen.length = slot.length.load(std::memory_order_acquire);
        seen.access = slot.access.load(std::memory_order_acquire);
        return (seen.state & 1U) != 0;
    }
    /// Announces the use of what look() has found there. False if it does not stand any more; then there is no
    /// use. The exchange is the fence, and the line is ours anyway.
    [[nodiscard]] bool begin(std::uint32_t place, std::uint64_t state) noexcept {
        ExposureSlot& slot = slots_[place - 1];
        (void)slot.uses.exchange(ExposureSlot::kCopying,
                                 std::memory_order_seq_cst);  // pairs with hide()
        if (slot.state.load(std::memory_order_seq_cst) == state) [[likely]] {
            return true;
        }
        end(place);
        return false;
    }
    /// The same, quicker where the owner, by what look() has found, and this process are up to it.
    [[nodiscard]] bool begin(std::uint32_t place, const Exposure& seen) noexcept {
        ExposureSlot* const slot = quick_slot(place, seen);
        return slot != nullptr ? begin_again(*slot, seen.state) : begin(place, seen.state);
    }
    /// The place, for uses that follow: begin_again(), stands() and end() of it; nullptr where they need an exchange.
    [[nodiscard]] ExposureSlot* quick_slot(std::uint32_t place,
                                           const Exposure& seen) const noexcept {
        return registered_ && (seen.access & ExposureSlot::kOwnerFences) != 0 ? &slots_[place - 1]
                                                                              : nullptr;
    }
    /// begin() without a look before: as long as the state is the one that was seen, so is all the rest.
    [[nodiscard, gnu::always_inline]] static bool begin_again(ExposureSlot& slot,
                                                              std::uint64_t state) noexcept {
        // Relaxed: a place that has become another's since may be in use by another connection of ours, which is not to be
        // wiped out. Nobody but the token's holder announces a use.
        if (slot.state.load(std::memory_order_relaxed) != state) [[unlikely]] {
            return false;
        }
        // Relaxed, and ordered by the owner's heavy fence: either it sees this, or we see that it has revoked. Pairs with
        // the load in ExposuresShown::in_use.
        slot.uses.store(ExposureSlot::kCopying, std::memory_order_relaxed);
        light_fence();
        if (slot.state.load(std::memory_order_acquire) == state) [[likely]] {
            return true;
        }
        end(slot);
        return false;
    }
    /// Between two parts; begin() with the same state before the next one.
    void hold(std::uint32_t place) noexcept {
        // The bytes first: release pairs with the load in ExposuresShown::copying_any.
        slots_[place - 1].uses.store(ExposureSlot::kHeld, std::memory_order_release);
    }
    /// Whether it stands still. What was read before was read while it stood.
    [[nodiscard]] bool stands(std::uint32_t place, std::uint64_t state) const noexcept {
        return stands(slots_[place - 1], state);
    }
    [[nodiscard]] static bool stands(const ExposureSlot& slot, std::uint64_t state) noexcept {
        load_fence();  // the bytes were read by plain loads
        // Pairs with the exchange in hide() and revoke().
        return slot.state.load(std::memory_order_acquire) == state;
    }
    /// The bytes first, then the end of the use: release pairs with the load in hide().
    void end(std::uint32_t place) noexcept { end(slots_[place - 1]); }
    [[gnu::always_inline]] static void end(ExposureSlot& slot) noexcept {
        slot.uses.store(ExposureSlot::kUnused, std::memory_order_release);
    }

private:
    ExposureSlot* slots_;
    const bool registered_;
};

}  // namespace sanpoll::engine::shm
