#include "engine/memory_region.hpp"

#include <algorithm>
#include <bit>
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
    const std::uint32_t chunk = static_cast<std::uint32_t>(std::bit_width(scaled)) - 1;
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
    for (;;) {
        // Pairs with the release in rebuild_index.
        const std::uint32_t version = version_.load(std::memory_order_acquire);
        if ((version & 1U) != 0) {
            __builtin_ia32_pause();  // a registration is being entered; it takes about a microsecond
            continue;
        }
        const std::uint32_t size = index_size_.load(std::memory_order_acquire);
        IndexItem* items = index_.load(std::memory_order_acquire);
        RegionRef found = 0;
        // The last item that starts at or before `address`, then backwards as long as some earlier
        // region reaches far enough.
        std::uint32_t low = 0;
        std::uint32_t high = size;
        while (low < high) {
            const std::uint32_t middle = low + (high - low) / 2;
            if (items[middle].base.load(std::memory_order_acquire) <= address) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        for (std::uint32_t i = low; i-- > 0;) {
            if (items[i].furthest_end.load(std::memory_order_acquire) < end) {
                break;
            }
            Entry* candidate = entry(items[i].entry.load(std::memory_order_acquire));
            found = candidate == nullptr ? 0 : matches(*candidate, address, end, access);
            if (found != 0) {
                hint_[access & 3U].store(candidate, std::memory_order_release);
                break;
            }
        }
        // The acquires above keep this load last.
        if (version_.load(std::memory_order_acquire) == version) {
            return found;
        }
    }
}

Status RegionTable::add(std::uint64_t address, std::uint64_t length, std::uint32_t access,
                        MemoryRegistrar* registrar, RegionRef& ref) {
    const std::lock_guard lock(mutex_);
    std::uint32_t index = 0;
    if (!free_.empty()) {
        index = free_.front();  // the longest unused: its old references stay stale longest
        free_.pop_front();
    } else {
        if (entry_count_ >= kMaxEntries) {
            return Status::kNoMemory;
        }
        index = entry_count_;
        const Place place = place_of(index, kFirstChunk);
        if (place.offset == 0) {
            try {
                chunk_storage_.emplace_back(kFirstChunk << place.chunk);
            } catch (const std::bad_alloc&) {
                return Status::kNoMemory;
            }
            // Pairs with the acquire in entry().
            chunks_[place.chunk].store(chunk_storage_.back().entries.get(),
                                       std::memory_order_release);
        }
        ++entry_count_;
    }
    Entry* slot = entry(index);
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
            free_.push_back(index);  // nobody has seen the reference
            return status;
        }
    }
    // Pairs with the acquires in matches() and names().
    slot->state.store(named | kLive | access, std::memory_order_release);
    try {
        std::vector<std::uint32_t> order = sorted_;
        const auto at = std::upper_bound(order.begin(), order.end(), address,
                                         [this](std::uint64_t value, std::uint32_t item) {
                                             return value < entry(item)->base.load();
                                         });
        order.insert(at, index);
        rebuild_index(std::move(order));
    } catch (const std::bad_alloc&) {
        slot->state.store(named, std::memory_order_release);
        if (registrar != nullptr) {
            registrar->remove_local(ref);
        }
        free_.push_back(index);
        return Status::kNoMemory;
    }
    return Status::kOk;
}

void RegionTable::rebuild_index(std::vector<std::uint32_t> order) {
    if (order.size() > index_capacity_) {
        const auto capacity = std::bit_ceil(static_cast<std::uint32_t>(order.size()) | 7U);
        index_storage_.push_back(std::make_unique<IndexItem[]>(capacity));
        index_capacity_ = capacity;
    }
    const std::uint32_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    // Release: a reader that meets any of the stores below sees the odd version in its last look. The
    // array goes first, so that a reader never pairs a larger size with a smaller array.
    IndexItem* items = index_storage_.empty() ? nullptr : index_storage_.back().get();
    index_.store(items, std::memory_order_release);
    index_size_.store(static_cast<std::uint32_t>(order.size()), std::memory_order_release);
    std::uint64_t furthest = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
        const Entry* item = entry(order[i]);
        furthest = std::max(furthest, item->end.load(std::memory_order_relaxed));
        items[i].base.store(item->base.load(std::memory_order_relaxed), std::memory_order_release);
        items[i].furthest_end.store(furthest, std::memory_order_release);
        items[i].entry.store(order[i], std::memory_order_release);
    }
    // Pairs with the acquire in find().
    version_.store(version + 2, std::memory_order_release);
    sorted_ = std::move(order);
}

bool RegionTable::retire(RegionRef ref) noexcept {
    Entry* found = resolve(ref);
    if (found == nullptr || found->holds->count != 0) {
        return false;
    }
    const std::uint64_t state = found->state.load(std::memory_order_relaxed);
    found->state.store(state & ~7ULL, std::memory_order_release);
    return true;
}

void RegionTable::remove_from_index(RegionRef ref) {
    const std::uint32_t index = index_of(ref);
    const std::lock_guard lock(mutex_);
    std::vector<std::uint32_t> order = sorted_;
    std::erase(order, index);
    if (order.size() == sorted_.size()) {
        return;
    }
    rebuild_index(std::move(order));
    free_.push_back(index);
}

void RegionTable::reset() {
    const std::lock_guard lock(mutex_);
    for (const std::uint32_t index : sorted_) {
        Entry* item = entry(index);
        const std::uint64_t state = item->state.load(std::memory_order_relaxed);
        item->state.store(state & ~7ULL, std::memory_order_release);
        item->holds->count = 0;
    }
    free_.insert(free_.end(), sorted_.begin(), sorted_.end());
    rebuild_index({});
}

std::size_t RegionTable::size() const {
    const std::lock_guard lock(mutex_);
    return sorted_.size();
}

}  // namespace sanpoll::engine
