#include "engine/region_index.hpp"

#include <algorithm>
#include <new>

namespace sanpoll::engine {

namespace {

// All stores to what readers see are releases: with the version, which is stored before them, they tell a
// reader that it has read a mixture.
template <typename T>
void put(std::atomic<T>& to, T value) noexcept {
    to.store(value, std::memory_order_release);
}
template <typename T>
[[nodiscard]] T get(const std::atomic<T>& from) noexcept {
    return from.load(std::memory_order_relaxed);  // only writers write
}
template <typename T>
void copy(std::atomic<T>& to, const std::atomic<T>& from) noexcept {
    put(to, get(from));
}

template <typename Item>
void copy_item(Item& to, const Item& from) noexcept {
    copy(to.base, from.base);
    copy(to.end, from.end);
    copy(to.value, from.value);
}

template <typename Slot>
void copy_slot(Slot& to, const Slot& from) noexcept {
    copy(to.first, from.first);
    copy(to.reach, from.reach);
    copy(to.furthest, from.furthest);
    copy(to.items, from.items);
    copy(to.count, from.count);
}

}  // namespace

void RegionIndex::begin_change() noexcept {
    version_.store(get(version_) + 1, std::memory_order_relaxed);
}

void RegionIndex::end_change() noexcept {
    // Pairs with the acquire in undisturbed().
    put(version_, get(version_) + 1);
}

// Where [base, ...) with this number is, or where it would have to be put.
RegionIndex::Place RegionIndex::place_of(std::uint64_t base, std::uint32_t value) const noexcept {
    const Slot* slots = get(slots_);
    const std::uint32_t count = get(slot_count_);
    // Mostly no two have the same base. Then a search whose steps the processor cannot guess wrong will do.
    if (const std::uint32_t last = not_above(slots, count, &Slot::first, base);
        last == 0 || get(slots[last - 1].first) != base) {
        const std::uint32_t slot = last == 0 ? 0 : last - 1;
        const Item* items = get(slots[slot].items);
        const std::uint32_t item = not_above(items, get(slots[slot].count), &Item::base, base);
        if (item == 0 || get(items[item - 1].base) != base) {
            return {slot, item};
        }
        // The latest of some with the same base mostly has the highest number.
        if (get(items[item - 1].value) < value) {
            return {slot, item};
        }
        if (get(items[item - 1].value) == value &&
            (item == 1 || get(items[item - 2].base) != base)) {
            return {slot, item - 1};
        }
    }
    const auto before = [&](const Item& item) {
        const std::uint64_t there = get(item.base);
        return there != base ? there < base : get(item.value) < value;
    };
    const auto begins_after = [&](const Slot& slot) {
        const std::uint64_t there = get(slot.first);
        return there != base ? there > base : get(get(slot.items)->value) > value;
    };
    const std::uint32_t slot = static_cast<std::uint32_t>(
        std::partition_point(slots, slots + count,
                             [&](const Slot& one) { return !begins_after(one); }) -
        slots);
    const std::uint32_t chosen = slot == 0 ? 0 : slot - 1;
    const Item* items = get(slots[chosen].items);
    const auto item = static_cast<std::uint32_t>(
        std::partition_point(items, items + get(slots[chosen].count), before) - items);
    return {chosen, item};
}

RegionIndex::Item* RegionIndex::new_chunk(std::uint32_t capacity) noexcept {
    if (capacity == kChunk && !free_chunks_.empty()) {
        Item* chunk = free_chunks_.back();
        free_chunks_.pop_back();
        return chunk;
    }
    try {
        free_chunks_.reserve(item_storage_.size() + 1);
        item_storage_.push_back(std::make_unique<Item[]>(capacity));
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
    return item_storage_.back().get();
}

// One more slot in the directory than there are.
bool RegionIndex::room_for_slot() noexcept {
    const std::uint32_t count = get(slot_count_);
    if (count < slot_capacity_) {
        return true;
    }
    const std::uint32_t capacity = std::max(1U, slot_capacity_ * 2);
    try {
        slot_storage_.push_back(std::make_unique<Slot[]>(capacity));
    } catch (const std::bad_alloc&) {
        return false;
    }
    Slot* larger = slot_storage_.back().get();
    for (std::uint32_t i = 0; i < count; ++i) {
        copy_slot(larger[i], get(slots_)[i]);
    }
    begin_change();
    put(slots_, larger);
    end_change();
    slot_capacity_ = capacity;
    return true;
}

// The only chunk, into a larger one.
bool RegionIndex::grow_first() noexcept {
    Item* larger = new_chunk(first_capacity_ * 2);
    if (larger == nullptr) {
        return false;
    }
    Slot& slot = get(slots_)[0];
    const Item* items = get(slot.items);
    for (std::uint32_t i = 0; i < get(slot.count); ++i) {
        copy_item(larger[i], items[i]);
    }
    begin_change();
    put(slot.items, larger);  // what it had stays for late readers and is not used again
    end_change();
    first_capacity_ *= 2;
    return true;
}

// What a full chunk has from `at` on, into a chunk of its own behind it.
bool RegionIndex::split(std::uint32_t slot, std::uint32_t at) noexcept {
    Item* right = new_chunk(kChunk);
    if (right == nullptr) {
        return false;
    }
    if (!room_for_slot()) {
        free_chunks_.push_back(right);
        return false;
    }
    Slot* slots = get(slots_);
    const Item* items = get(slots[slot].items);
    const std::uint32_t count = get(slots[slot].count);
    const std::uint32_t slot_count = get(slot_count_);
    begin_change();
    for (std::uint32_t i = at; i < count; ++i) {
        copy_item(right[i - at], items[i]);
    }
    for (std::uint32_t i = slot_count; i > slot + 1; --i) {
        copy_slot(slots[i], slots[i - 1]);
    }
    put(slots[slot].count, at);
    put(slots[slot + 1].items, right);
    put(slots[slot + 1].count, count - at);
    put(slot_count_, slot_count + 1);
    measure(slot);
    measure(slot + 1);
    carry_furthest(slot);
    end_change();
    return true;
}

// Reach and first base of a chunk, from what it has.
void RegionIndex::measure(std::uint32_t slot) noexcept {
    Slot& measured = get(slots_)[slot];
    const Item* items = get(measured.items);
    std::uint64_t reach = 0;
    for (std::uint32_t i = 0; i < get(measured.count); ++i) {
        reach = std::max(reach, get(items[i].end));
    }
    put(measured.first, get(items[0].base));
    put(measured.reach, reach);
}

// The sums of reaches, from a chunk that has changed on, as far as they do change.
void RegionIndex::carry_furthest(std::uint32_t from) noexcept {
    Slot* slots = get(slots_);
    std::uint64_t furthest = from == 0 ? 0 : get(slots[from - 1].furthest);
    for (std::uint32_t i = from; i < get(slot_count_); ++i) {
        furthest = std::max(furthest, get(slots[i].reach));
        // A split changes two.
        if (get(slots[i].furthest) == furthest && i > from + 1) {
            return;
        }
        put(slots[i].furthest, furthest);
    }
}

bool RegionIndex::insert(std::uint64_t base, std::uint64_t end, std::uint32_t value) noexcept {
    if (get(slot_count_) == 0) {
        Item* chunk = only_ != nullptr ? only_ : new_chunk(kFirst);
        if (chunk == nullptr) {
            return false;
        }
        if (only_ == nullptr) {
            first_capacity_ = kFirst;
            only_ = chunk;
        }
        if (!room_for_slot()) {
            return false;
        }
        Slot& slot = get(slots_)[0];
        begin_change();
        put(chunk[0].base, base);
        put(chunk[0].end, end);
        put(chunk[0].value, value);
        put(slot.items, chunk);
        put(slot.count, 1U);
        put(slot.first, base);
        put(slot.reach, end);
        put(slot.furthest, end);
        put(slot_count_, 1U);
        end_change();
        size_ = 1;
        return true;
    }
    Place place = place_of(base, value);
    const std::uint32_t capacity = get(slot_count_) == 1 ? first_capacity_ : kChunk;
    if (get(get(slots_)[place.slot].count) == capacity) {
        // What comes in order fills its chunks.
        const bool at_the_end = place.slot + 1 == get(slot_count_) && place.item == capacity;
        const bool done = capacity < kChunk
                              ? grow_first()
                              : split(place.slot, at_the_end ? kChunk - 1 : kChunk / 2);
        if (!done) {
            return false;
        }
        place = place_of(base, value);
    }
    Slot& slot = get(slots_)[place.slot];
    Item* items = get(slot.items);
    const std::uint32_t count = get(slot.count);
    begin_change();
    for (std::uint32_t i = count; i > place.item; --i) {
        copy_item(items[i], items[i - 1]);
    }
    put(items[place.item].base, base);
    put(items[place.item].end, end);
    put(items[place.item].value, value);
    put(slot.count, count + 1);
    put(slot.first, get(items[0].base));
    if (end > get(slot.reach)) {
        put(slot.reach, end);
        carry_furthest(place.slot);
    }
    end_change();
    ++size_;
    return true;
}

bool RegionIndex::erase(std::uint64_t base, std::uint32_t value) noexcept {
    if (get(slot_count_) == 0) {
        return false;
    }
    const Place place = place_of(base, value);
    Slot& slot = get(slots_)[place.slot];
    Item* items = get(slot.items);
    const std::uint32_t count = get(slot.count);
    if (place.item == count || get(items[place.item].base) != base ||
        get(items[place.item].value) != value) {
        return false;
    }
    --size_;
    begin_change();
    if (count == 1) {
        remove_slot(place.slot);
        end_change();
        return true;
    }
    const bool furthest = get(items[place.item].end) == get(slot.reach);
    for (std::uint32_t i = place.item; i + 1 < count; ++i) {
        copy_item(items[i], items[i + 1]);
    }
    put(slot.count, count - 1);
    put(slot.first, get(items[0].base));
    if (furthest) {
        measure(place.slot);
        carry_furthest(place.slot);
    }
    if (count - 1 < kChunk / 4) {
        join_neighbour(place.slot);
    }
    end_change();
    return true;
}

// A chunk that has become nearly empty, and the one behind it (or before, if it is the last), if both fit into
// one with room to spare.
void RegionIndex::join_neighbour(std::uint32_t slot) noexcept {
    if (get(slot_count_) < 2) {
        return;
    }
    const std::uint32_t left = slot + 1 < get(slot_count_) ? slot : slot - 1;
    Slot* slots = get(slots_);
    const std::uint32_t count = get(slots[left].count);
    const std::uint32_t more = get(slots[left + 1].count);
    if (count + more > kChunk * 3 / 4) {
        return;
    }
    Item* items = get(slots[left].items);
    const Item* others = get(slots[left + 1].items);
    for (std::uint32_t i = 0; i < more; ++i) {
        copy_item(items[count + i], others[i]);
    }
    put(slots[left].count, count + more);
    put(slots[left].reach, std::max(get(slots[left].reach), get(slots[left + 1].reach)));
    put(slots[left].furthest, get(slots[left + 1].furthest));
    remove_slot(left + 1);
}

// Within a change. The other chunks keep what they have.
void RegionIndex::remove_slot(std::uint32_t slot) noexcept {
    Slot* slots = get(slots_);
    const std::uint32_t count = get(slot_count_);
    Item* chunk = get(slots[slot].items);
    if (count == 1) {
        only_ = chunk;
    } else {
        free_chunks_.push_back(chunk);  // room was made with the chunk
    }
    for (std::uint32_t i = slot; i + 1 < count; ++i) {
        copy_slot(slots[i], slots[i + 1]);
    }
    put(slot_count_, count - 1);
    if (slot < count - 1) {
        carry_furthest(slot);
    }
}

void RegionIndex::clear() noexcept {
    while (get(slot_count_) != 0) {
        begin_change();
        remove_slot(get(slot_count_) - 1);
        end_change();
    }
    size_ = 0;
}

}  // namespace sanpoll::engine
