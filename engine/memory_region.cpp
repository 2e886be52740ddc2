#include "engine/memory_region.hpp"

#include <bit>
#include <mutex>
#include <new>

#include "engine/memory_registrar.hpp"

namespace sanpoll::engine {

namespace {

// Entries live in chunks of 8, 16, 32, … so that they never move.
struct Place {
    std::uint32_t chunk;
    std::uint32_t offset;
};

Place place_of(std::uint32_t index, std::uint32_t first) noexcept {
    const std::uint32_t scaled = index / first + 1;
    const std::uint32_t chunk =
        static_cast<std::uint32_t>(std::bit_width(scaled | 1U)) - 1;  // it is not 0
    return {chunk, index - first * ((1U << chunk) - 1)};
}

}  // namespace

RegionTable::~RegionTable() = default;

RegionTable::Entry* RegionTable::entry(std::uint32_t index) const noexcept {
    const Place place = place_of(index, kFirstChunk);
    if (place.chunk >= kChunks) {
        return nullptr;
    }
    // Pairs with the release in add().
    Entry* chunk = chunks_[place.chunk].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : chunk + place.offset;
}

RegionTable::Entry* RegionTable::resolve_slowly(RegionRef ref) const noexcept {
    const std::uint32_t index = index_of(ref);
    if (index >= kMaxEntries) {
        return nullptr;
    }
    Entry* found = entry(index);
    return found != nullptr && names(*found, ref) ? found : nullptr;
}

RegionRef RegionTable::search(std::uint64_t address, std::uint64_t end,
                              std::uint32_t access) noexcept {
    if (end < address) {
        return 0;
    }
    return index_.find(address, end, [&](std::uint32_t index) noexcept -> RegionRef {
        Entry* candidate = entry(index);
        const RegionRef found =
            candidate == nullptr ? 0 : matches(*candidate, address, end, access);
        if (found != 0) {
            hint_[access & 3U].store(candidate, std::memory_order_release);
        }
        return found;
    });
}

// An entry that nobody uses; nullptr if there is none.
RegionTable::Entry* RegionTable::take_entry(std::uint32_t& index) {
    if (first_free_ != kNone) {
        index = first_free_;
        Entry* taken = entry(index);
        first_free_ = taken->next_free;
        last_free_ = first_free_ == kNone ? kNone : last_free_;
        return taken;
    }
    if (entry_count_ >= kMaxEntries) {
        return nullptr;
    }
    index = entry_count_;
    const Place place = place_of(index, kFirstChunk);
    if (place.offset == 0) {
        try {
            chunk_storage_.emplace_back(kFirstChunk << place.chunk);
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
        // Pairs with the acquire in entry().
        chunks_[place.chunk].store(chunk_storage_.back().entries.get(), std::memory_order_release);
    }
    ++entry_count_;
    return entry(index);
}

void RegionTable::give_back(std::uint32_t index) noexcept {
    entry(index)->next_free = kNone;
    if (last_free_ == kNone) {
        first_free_ = index;
    } else {
        entry(last_free_)->next_free = index;
    }
    last_free_ = index;
}

Status RegionTable::add(std::uint64_t address, std::uint64_t length, std::uint32_t access,
                        MemoryRegistrar* registrar, RegionRef& ref) {
    const std::lock_guard lock(mutex_);
    return add_locked(address, length, access, registrar, ref);
}

Status RegionTable::add_for(const PostGate& gate, std::uint32_t generation, std::uint64_t address,
                            std::uint64_t length, std::uint32_t access, MemoryRegistrar* registrar,
                            RegionRef& ref) {
    const std::lock_guard lock(mutex_);
    // Found open, it is not shut before the reset() that is to come, which drops this region. Found shut, that reset()
    // may be over. A gate that was shut before reset() took the mutex is not seen open here behind it.
    if (!gate.open_for(generation)) {
        return Status::kNotOpen;
    }
    return add_locked(address, length, access, registrar, ref);
}

inline Status RegionTable::add_locked(std::uint64_t address, std::uint64_t length,
                                      std::uint32_t access, MemoryRegistrar* registrar,
                                      RegionRef& ref) {
    std::uint32_t index = 0;
    Entry* slot = take_entry(index);
    if (slot == nullptr) {
        return Status::kNoMemory;
    }
    const auto before = static_cast<RegionRef>(slot->state.load(std::memory_order_relaxed) >> 32);
    const std::uint32_t generation = ((before >> kIndexBits) + 1) & kRefGenerationMask;
    ref = (generation << kIndexBits) | (index + 1);
    const std::uint64_t named = static_cast<std::uint64_t>(ref) << 32;
    // The entry is not live here; a reader of base or end sees that in its second look at the state.
    slot->base.store(address, std::memory_order_release);
    slot->end.store(address + length, std::memory_order_release);
    slot->holds->count = 0;
    if (registrar != nullptr) {
        if (const Status status = registrar->add_local(ref, address, length, access);
            status != Status::kOk) {
            give_back(index);  // nobody has seen the reference
            return status;
        }
    }
    // Pairs with the acquires in matches() and names().
    slot->state.store(named | kLive | access, std::memory_order_release);
    if (!index_.insert(address, address + length, index)) {
        slot->state.store(named, std::memory_order_release);
        if (registrar != nullptr) {
            registrar->remove_local(ref);
        }
        give_back(index);
        return Status::kNoMemory;
    }
    return Status::kOk;
}

bool RegionTable::retire(RegionRef ref) noexcept {
    Entry* found = resolve(ref);
    if (found == nullptr || found->holds->count != 0) {
        return false;
    }
    const std::uint64_t state = found->state.load(std::memory_order_relaxed);
    found->state.store(state & ~7ULL, std::memory_order_release);
    for (Window& window : windows_) {
        if (window.holds == found->holds) {
            window = {};
        }
    }
    return true;
}

void RegionTable::remember_in(Window& window, RegionRef ref, Access access) noexcept {
    const Entry* found = resolve(ref);
    if (found == nullptr || (found->state.load(std::memory_order_relaxed) & access) == 0) {
        return;
    }
    const std::uint64_t base = found->base.load(std::memory_order_relaxed);
    window = {base, found->end.load(std::memory_order_relaxed) - base, found->holds, ref};
}

void RegionTable::remove_from_index(RegionRef ref) {
    const std::uint32_t index = index_of(ref);
    const std::lock_guard lock(mutex_);
    const Entry* found = index < entry_count_ ? entry(index) : nullptr;
    // A close may have been here in between, and the next connection have made another region of the entry.
    if (found != nullptr && found->state.load(std::memory_order_relaxed) >> 32 == ref &&
        index_.erase(found->base.load(std::memory_order_relaxed), index)) {
        give_back(index);
    }
}

void RegionTable::reset() {
    const std::lock_guard lock(mutex_);
    for (Window& window : windows_) {
        window = {};
    }
    index_.for_each([this](std::uint32_t index) {
        Entry* item = entry(index);
        const std::uint64_t state = item->state.load(std::memory_order_relaxed);
        item->state.store(state & ~7ULL, std::memory_order_release);
        item->holds->count = 0;
        give_back(index);
    });
    index_.clear();
}

std::size_t RegionTable::size() const {
    const std::lock_guard lock(mutex_);
    return index_.size();
}

}  // namespace sanpoll::engine
