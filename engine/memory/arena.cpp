#include "engine/memory/arena.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "engine/log.hpp"
#include "engine/memory/arena_mapping.hpp"
#include "engine/memory/hugepages.hpp"

// Linux 5.14.
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace sanpoll::engine::memory {

Arenas& Arenas::of_process() {
    static Arenas* const arenas = [] {
        auto* const made = new Arenas;
        (void)::pthread_atfork(nullptr, nullptr, [] { of_process().abandon_in_child(); });
        return made;
    }();
    return *arenas;
}

Arenas::~Arenas() {
    for (std::uint32_t i = 0; i < count(); ++i) {
        unmap_arena(arenas_[i]);
    }
}

const Arena* Arenas::find(std::uint64_t address, std::uint64_t length) const noexcept {
    const Index* const index = index_.load(std::memory_order_acquire);  // pairs with publish()
    if (index == nullptr || address < index->base[0]) {
        return nullptr;
    }
    // The last one that begins at or below the address.
    std::uint32_t first = 0;
    for (std::uint32_t rest = index->count; rest > 1;) {
        const std::uint32_t half = rest / 2;
        first += index->base[first + half] <= address ? half : 0;
        rest -= half;
    }
    const Arena* const arena = index->arena[first];
    const std::uint64_t offset = address - arena->base;
    const std::uint64_t needed = length == 0 ? 1 : length;
    return offset < arena->size && needed <= arena->size - offset ? arena : nullptr;
}

bool Arenas::populate(std::uint64_t address, std::uint64_t length) const noexcept {
    const Arena* const arena = find(address, length);
    if (arena == nullptr || length == 0) {
        return false;
    }
    if (arena->pages == PageKind::kHuge) {
        return true;  // from the start
    }
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    const std::uint64_t first = address / page * page;
    const bool there = ::madvise(reinterpret_cast<void*>(first), address + length - first,
                                 MADV_POPULATE_WRITE) == 0;
    if (there && arena->known) {
        arena->known->note(address - arena->base, length);
    }
    return there;
}

void Arenas::set_rules(const ArenaRules& rules) {
    const std::lock_guard lock(mutex_);
    rules_ = rules;
}

ArenaRules Arenas::rules() const {
    const std::lock_guard lock(mutex_);
    return rules_;
}

std::uint64_t Arenas::bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
}

const Arena* Arenas::make(bool shareable, std::uint64_t bytes, Refusal& refusal) {
    if (abandoned()) {
        refusal = {Reason::kForked,
                   "a forked child cannot use the arenas of its parent; exec a program, or take "
                   "memory for the first time after the fork"};
        return nullptr;
    }
    const Arena* made = nullptr;
    {
        const std::lock_guard lock(mutex_);
        Arena arena;
        arena.id = count() + 1;
        arena.shareable = shareable;
        arena.peers_may_write = rules_.peers_may_write;
        arena.numa_node = rules_.numa_node;
        const std::uint64_t left = rules_.limit_bytes - std::min(rules_.limit_bytes, bytes_);
        const std::uint64_t units = bytes == 0 ? 1 : (bytes - 1) / rules_.arena_bytes + 1;
        if (count() == kMaxArenas) {
            refusal = {Reason::kLimit,
                       formatted("all {} arenas are in use, {} MiB together; raise arena_mb "
                                 "(SANPOLL_ARENA_MB), now {}",
                                 kMaxArenas, bytes_ >> 20, rules_.arena_bytes >> 20)};
            return nullptr;
        }
        if (units > left / rules_.arena_bytes) {
            refusal = {Reason::kLimit,
                       formatted("arena_limit_mb = {} does not allow {} arena{} of arena_mb = {} "
                                 "besides the {} MiB in use; raise it (SANPOLL_ARENA_LIMIT_MB) or "
                                 "free memory",
                                 rules_.limit_bytes >> 20, units, units == 1 ? "" : "s",
                                 rules_.arena_bytes >> 20, bytes_ >> 20)};
            return nullptr;
        }
        arena.size = units * rules_.arena_bytes;
        if (!map(arena, refusal)) {
            return nullptr;
        }
        if (shareable && arena.peers_may_write && arena.pages == PageKind::kOrdinary) {
            try {
                arena.known = std::make_shared<KnownPages>(arena.size);
            } catch (const std::bad_alloc&) {
                // Then none are known.
            }
        }
        made = publish(arena);
    }
    log(LogLevel::kInfo, "arena {}: {} MiB, {}, {} pages", made->id, made->size >> 20,
        made->shareable ? "shareable" : "private",
        made->pages == PageKind::kHuge ? "huge" : "ordinary");
    const std::lock_guard lock(listeners_mutex_);
    for (const auto& [token, grown] : listeners_) {
        grown();
    }
    return made;
}

// On hugepages if the rules want them and they are there; the host is looked at first, for what it has.
bool Arenas::map(Arena& arena, Refusal& refusal) const {
    if (rules_.hugepages != Hugepages::kOff) {
        const std::uint64_t wanted = arena.size / kHugepageBytes;
        const std::uint64_t free = free_hugepages();
        if (free >= wanted) {
            arena.pages = PageKind::kHuge;
            if (map_arena(arena, refusal)) {
                return true;
            }
        } else {
            refusal = {
                Reason::kNoHugepages,
                formatted("an arena of arena_mb = {} takes {} hugepages of 2 MiB, and {} are "
                          "free; reserve them (sysctl vm.nr_hugepages={}) or set "
                          "SANPOLL_HUGEPAGES=auto",
                          arena.size >> 20, wanted, free, wanted)};
        }
        if (rules_.hugepages == Hugepages::kRequired) {
            return false;
        }
        log(LogLevel::kInfo, "an arena on ordinary pages: {}", refusal.text);
        refusal = {};
        arena.pages = PageKind::kOrdinary;
        arena.numa_node = rules_.numa_node;
    }
    return map_arena(arena, refusal);
}

const Arena* Arenas::publish(const Arena& made) {
    const std::uint32_t old_count = count();
    auto next = std::make_unique<Index>();
    if (!indexes_.empty()) {
        *next = *indexes_.back();
    }
    arenas_[old_count] = made;
    std::uint32_t at = next->count++;
    for (; at > 0 && next->base[at - 1] > made.base; --at) {
        next->base[at] = next->base[at - 1];
        next->arena[at] = next->arena[at - 1];
    }
    next->base[at] = made.base;
    next->arena[at] = &arenas_[old_count];
    indexes_.push_back(std::move(next));
    bytes_ += made.size;
    index_.store(indexes_.back().get(), std::memory_order_release);  // pairs with find()
    count_.store(old_count + 1, std::memory_order_release);          // pairs with count()
    return &arenas_[old_count];
}

std::uint64_t Arenas::add_listener(std::function<void()> grown) {
    const std::lock_guard lock(listeners_mutex_);
    listeners_.emplace_back(++last_token_, std::move(grown));
    return last_token_;
}

void Arenas::remove_listener(std::uint64_t token) {
    const std::lock_guard lock(listeners_mutex_);
    std::erase_if(listeners_, [&](const auto& listener) { return listener.first == token; });
}

void Arenas::abandon_in_child() noexcept {
    if (count() == 0) {
        return;
    }
    abandoned_.store(true, std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < count(); ++i) {
        detach_arena(arenas_[i]);
        arenas_[i].fd = -1;
    }
}

}  // namespace sanpoll::engine::memory
