#include "engine/fabric/shm/exposures.hpp"

#include <utility>

namespace sanpoll::engine::shm {

std::uint32_t ExposuresShown::show(const Exposure& what) noexcept {
    if (free_ == 0 && fresh_ == kExposureSlots) [[unlikely]] {
        forget_unused(left_);
    }
    std::uint32_t place = free_;
    if (place != 0) {
        free_ = mine_[place - 1].next;
    } else if (fresh_ != kExposureSlots) {
        place = ++fresh_;
    } else {
        return 0;
    }
    ++count_;
    ExposureSlot& slot = slots_[place - 1];
    slot.connection.store(what.connection, std::memory_order_release);
    slot.nonce.store(what.nonce, std::memory_order_release);
    slot.offset.store(what.offset, std::memory_order_release);
    slot.key.store(what.key, std::memory_order_release);
    slot.arena.store(what.arena, std::memory_order_release);
    slot.length.store(what.length, std::memory_order_release);
    slot.access.store(what.access | (fences_ ? ExposureSlot::kOwnerFences : 0),
                      std::memory_order_release);
    // Odd. Release pairs with the acquire in ExposuresSeen::look.
    slot.state.store(++mine_[place - 1].state, std::memory_order_release);
    return place;
}

// Whether looks at the uses come after all revocations by now, for users too that have no fence of their own.
// Where the fence fails, as it may if this process has been forbidden the call since, nobody can tell.
bool ExposuresShown::settled() noexcept {
    if (unsettled_ && (!fences_ || heavy_fence())) {
        unsettled_ = false;
    }
    return !unsettled_;
}

bool ExposuresShown::in_use(std::uint32_t place) noexcept {
    // Acquire, and more: pairs with begin() and end() of ExposuresSeen. Bytes of a use that has ended are there.
    return !settled() ||
           slots_[place - 1].uses.load(std::memory_order_seq_cst) != ExposureSlot::kUnused;
}

void ExposuresShown::revoke(std::uint32_t place) noexcept {
    Mine& mine = mine_[place - 1];
    if ((mine.state & 1U) != 0) {
        // An exchange, for the look at the uses must not come before it. Pairs with ExposuresSeen::begin, and
        // with settled() for users that announce themselves quickly.
        (void)slots_[place - 1].state.exchange(++mine.state, std::memory_order_seq_cst);
        unsettled_ = true;
    }
}

bool ExposuresShown::hide(std::uint32_t place) noexcept {
    Mine& mine = mine_[place - 1];
    const std::uint64_t before = mine.state;
    revoke(place);
    if (in_use(place)) {
        // As before: the user has seen that very state, or goes the other way if it looks just now.
        mine.state = before;
        slots_[place - 1].state.store(before, std::memory_order_release);
        return false;
    }
    give_away(place);
    return true;
}

bool ExposuresShown::drop(std::uint32_t place) noexcept {
    revoke(place);
    if (in_use(place)) {
        return false;
    }
    give_away(place);
    return true;
}

void ExposuresShown::forget_unused(std::uint32_t& list) noexcept {
    for (std::uint32_t* at = &list; *at != 0;) {
        const std::uint32_t place = *at;
        if (in_use(place)) {
            at = &mine_[place - 1].next;
        } else {
            *at = mine_[place - 1].next;
            give_away(place);
        }
    }
}

void ExposuresShown::abandon(std::uint32_t& list) noexcept {
    std::uint32_t* end = &list;
    while (*end != 0) {
        end = &mine_[*end - 1].next;
    }
    *end = left_;
    left_ = std::exchange(list, 0);
    forget_unused(left_);
}

bool ExposuresShown::copying_any(std::uint32_t list) noexcept {
    if (list != 0 && !settled()) {
        return true;
    }
    for (; list != 0; list = mine_[list - 1].next) {
        if (copying(list)) {
            return true;
        }
    }
    return false;
}

bool ExposuresShown::copying_any() const noexcept {
    // Not settled(), which is the token holder's.
    if (fences_ && !heavy_fence()) {
        return true;
    }
    for (std::uint32_t place = 1; place <= kExposureSlots; ++place) {
        if (copying(place)) {
            return true;
        }
    }
    return false;
}

bool ExposuresShown::copying(std::uint32_t place) const noexcept {
    // The user's word: what it does not say honestly harms nobody but the memory that it was given.
    // Sequentially consistent as in in_use(), for the same reason.
    const std::uint32_t uses = slots_[place - 1].uses.load(std::memory_order_seq_cst);
    return uses != ExposureSlot::kUnused && uses != ExposureSlot::kHeld;
}

void ExposuresShown::give_away(std::uint32_t place) noexcept {
    mine_[place - 1].next = free_;
    free_ = place;
    --count_;
}

}  // namespace sanpoll::engine::shm
