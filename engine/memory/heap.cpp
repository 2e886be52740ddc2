#include "engine/memory/heap.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>

#include "engine/log.hpp"
#include "engine/memory/mimalloc.hpp"
#include "engine/memory/thread_heaps.hpp"

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace sanpoll::engine::memory {

namespace {

// mimalloc is not instrumented, so ThreadSanitizer does not see what orders a block's last use by one thread
// before its first by the next.
void taken_after_release([[maybe_unused]] const Arena& arena) noexcept {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(const_cast<Arena*>(&arena));
#endif
}
void released_before_taken([[maybe_unused]] const Arena& arena) noexcept {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(const_cast<Arena*>(&arena));
#endif
}

constexpr int kNotManaged = 0;
constexpr int kUnmanageable = -1;

struct Shared {
    std::atomic<const Mimalloc*> mimalloc{nullptr};
    std::array<std::atomic<int>, kMaxArenas>
        managed{};       // mimalloc's number of an arena, or see above
    std::mutex growing;  // whoever makes an arena, or has mimalloc manage it
    std::mutex complaining;
    // Of the last complaint; the same at the same number of arenas is not worth a second line.
    Reason complaint = Reason::kNone;
    std::uint32_t complaint_at = 0;
};

Shared& shared() {
    static Shared* const made = new Shared;
    return *made;
}

// Large enough, and of a size class whose blocks lie at multiples of `alignment`. Classes are 4, 5, 6 or 7
// times a power of two, so that from four times the alignment on every one is a multiple of it.
std::size_t class_size(std::size_t size, std::size_t alignment) noexcept {
    return size < 4 * alignment ? (size + alignment - 1) & ~(alignment - 1) : size;
}

// In one heap; nullptr if it has no room and cannot get any.
void* take(const Mimalloc& mimalloc, mi_heap_t* heap, std::size_t size,
           std::size_t alignment) noexcept {
    // mi_heap_malloc_aligned adds the alignment to the size, except for small blocks. Where a page of blocks
    // begins at a multiple of the alignment anyway, that is waste. (Pages of blocks up to 1 KiB begin 384
    // bytes behind a multiple of 64 KiB, others at one.)
    const std::size_t rounded = class_size(size, alignment);
    if (alignment <= 128 || (alignment <= 4096 && rounded > 1024)) {
        void* const block = mimalloc.heap_malloc(heap, rounded);
        if ((reinterpret_cast<std::uintptr_t>(block) & (alignment - 1)) == 0) {
            return block;
        }
        mimalloc.free(block);
    }
    // Not for a size that is a power of two: of such up to 1 KiB it believes that they lie at multiples of
    // themselves, and forgets those 384 bytes.
    return mimalloc.heap_malloc_aligned(heap, std::has_single_bit(size) ? size + 1 : size,
                                        alignment);
}

// Accounts and returns the block that arena `i` gave.
void* taken(const Mimalloc& mimalloc, ThreadHeaps& mine, std::uint32_t i, void* block) noexcept {
    mine.taken[i].add(mimalloc.usable_size(block));
    taken_after_release(Arenas::of_process().arena(i));
    return block;
}

void complain(const Refusal& refusal) noexcept {
    try {
        Shared& all = shared();
        const std::lock_guard lock(all.complaining);
        const std::uint32_t count = Arenas::of_process().count();
        if (all.complaint != refusal.reason || all.complaint_at != count) {
            all.complaint = refusal.reason;
            all.complaint_at = count;
            log(LogLevel::kWarn, "no memory for a registered heap: {}", refusal.text);
        }
    } catch (...) {  // no memory for the message either
    }
}

// Has mimalloc manage arena `i`. With `growing` held.
void manage(const Mimalloc& mimalloc, std::uint32_t i) noexcept {
    const Arena& arena = Arenas::of_process().arena(i);
    int number = 0;
    // "Committed" keeps mimalloc from ever giving pages back to the kernel, which would be wrong under
    // registrations and peers' mappings. Not "large": those it leaves alone for a thread's first segment.
    const bool done = mimalloc.manage_os_memory_ex(reinterpret_cast<void*>(arena.base), arena.size,
                                                   true, false, true, -1, true, &number);
    // Pairs with the acquire in heap_in().
    shared().managed[i].store(done ? number : kUnmanageable, std::memory_order_release);
}

// The calling thread's heap in arena `i`, or nullptr.
mi_heap_t* heap_in(const Mimalloc& mimalloc, ThreadHeaps& mine, std::uint32_t i) noexcept {
    if (mine.heaps[i] == nullptr) {
        int number = shared().managed[i].load(std::memory_order_acquire);  // pairs with manage()
        if (number == kNotManaged) {
            const std::lock_guard lock(shared().growing);
            if (shared().managed[i].load(std::memory_order_relaxed) == kNotManaged) {
                manage(mimalloc, i);
            }
            number = shared().managed[i].load(std::memory_order_relaxed);
        }
        if (number != kUnmanageable) {
            mine.mimalloc = &mimalloc;
            mine.heaps[i] = mimalloc.heap_new_in_arena(number);
        }
    }
    return mine.heaps[i];
}

// From any of the first `count` arenas of the kind.
void* take_anywhere(const Mimalloc& mimalloc, ThreadHeaps& mine, std::uint32_t count,
                    std::size_t size, std::size_t alignment, bool shareable) noexcept {
    const Arenas& arenas = Arenas::of_process();
    for (std::uint32_t i = 0; i < count; ++i) {
        if (arenas.arena(i).shareable != shareable || arenas.arena(i).size < size) {
            continue;
        }
        mi_heap_t* const heap = heap_in(mimalloc, mine, i);
        if (heap == nullptr) {
            continue;
        }
        if (void* const block = take(mimalloc, heap, size, alignment); block != nullptr) {
            mine.current[shareable ? 1 : 0] = i;
            return taken(mimalloc, mine, i, block);
        }
    }
    return nullptr;
}

// What a block of its own takes of an arena: mimalloc's notes about it, and room to align it.
std::uint64_t arena_bytes_for(std::size_t size, std::size_t alignment) noexcept {
    constexpr std::uint64_t kNotes = 1U << 20;
    return size + alignment + kNotes;
}

void* allocate_with_room(std::size_t size, std::size_t alignment, bool shareable,
                         Refusal& refusal) {
    Shared& all = shared();
    const Mimalloc* const mimalloc = Mimalloc::load(refusal);
    if (mimalloc == nullptr) {
        return nullptr;
    }
    all.mimalloc.store(mimalloc,
                       std::memory_order_release);  // pairs with the acquire in allocate()
    ThreadHeaps* mine = ThreadHeaps::mine();
    if (mine == nullptr) {
        mine = ThreadHeaps::make();
    }
    if (mine == nullptr) {
        const Reason reason = ThreadHeaps::ended() ? Reason::kThreadEnds : Reason::kNoMemory;
        refusal = {reason, to_words(reason)};
        return nullptr;
    }
    Arenas& arenas = Arenas::of_process();
    const std::uint64_t needed = arena_bytes_for(size, alignment);
    // Each time round somebody has made an arena. Its room may have gone to others before we come to it; but
    // that mimalloc has another reason not to give memory must not cost all the arenas there can be.
    constexpr int kPatience = 4;
    for (int made_by_us = 0; made_by_us < kPatience;) {
        const std::uint32_t count = arenas.count();
        if (void* const block = take_anywhere(*mimalloc, *mine, count, size, alignment, shareable);
            block != nullptr) {
            return block;
        }
        const std::lock_guard lock(all.growing);
        if (arenas.count() == count) {
            const Arena* const made = arenas.make(shareable, needed, refusal);
            if (made == nullptr) {
                return nullptr;
            }
            ++made_by_us;
            manage(*mimalloc, made->id - 1);
            if (all.managed[made->id - 1].load(std::memory_order_relaxed) == kUnmanageable) {
                refusal = {
                    Reason::kLimit,
                    "libmimalloc manages no further arena, since this program uses it as well; "
                    "raise arena_mb (SANPOLL_ARENA_MB)"};
                return nullptr;
            }
        }
    }
    refusal = {Reason::kNoMemory, to_words(Reason::kNoMemory)};
    return nullptr;
}

}  // namespace

void* allocate(std::size_t size, std::size_t alignment, bool shareable, Reason& reason) noexcept {
    if (alignment == 0) {
        alignment = kDefaultAlignment;
    }
    if (size == 0 || !std::has_single_bit(alignment) || alignment > kMaxAlignment) [[unlikely]] {
        reason = Reason::kBadArgument;
        return nullptr;
    }
    if (Arenas::abandoned()) [[unlikely]] {
        reason = Reason::kForked;
        return nullptr;
    }
    reason = Reason::kNone;
    constexpr std::size_t kTooLarge = std::size_t{1} << 46;  // no sum of sizes overflows below
    if (ThreadHeaps* const mine = ThreadHeaps::mine(); mine != nullptr && size < kTooLarge)
        [[likely]] {
        const std::uint32_t i = mine->current[shareable ? 1 : 0];
        if (i != ThreadHeaps::kNone) [[likely]] {
            // Pairs with the release in allocate_with_room().
            const Mimalloc& mimalloc = *shared().mimalloc.load(std::memory_order_acquire);
            if (void* const block = take(mimalloc, mine->heaps[i], size, alignment);
                block != nullptr) [[likely]] {
                return taken(mimalloc, *mine, i, block);
            }
        }
    }
    try {
        Refusal refusal;
        void* const block =
            allocate_with_room(std::min(size, kTooLarge), alignment, shareable, refusal);
        if (block == nullptr) {
            reason = refusal.reason;
            complain(refusal);
        }
        return block;
    } catch (...) {  // std::bad_alloc, of a message or a list
        reason = Reason::kNoMemory;
        return nullptr;
    }
}

Reason release(void* block) noexcept {
    if (block == nullptr) {
        return Reason::kNone;
    }
    const Arena* const arena = Arenas::of_process().find(reinterpret_cast<std::uint64_t>(block), 1);
    if (Arenas::abandoned()) [[unlikely]] {
        return Reason::kForked;
    }
    const Mimalloc* const mimalloc = shared().mimalloc.load(std::memory_order_acquire);
    if (arena == nullptr || mimalloc == nullptr) [[unlikely]] {
        return Reason::kNotOurs;
    }
    ThreadHeaps* mine = ThreadHeaps::mine();
    if (mine == nullptr) [[unlikely]] {
        mine = ThreadHeaps::make();  // so that the next one takes no lock
    }
    const std::uint64_t bytes = mimalloc->usable_size(block);
    released_before_taken(*arena);
    {
        const Freeing freeing(mine);
        mimalloc->free(block);
    }
    if (mine != nullptr) [[likely]] {
        mine->given_back[arena->id - 1].add(bytes);
    } else {
        ThreadHeaps::give_back_late(arena->id - 1, bytes);
    }
    return Reason::kNone;
}

void* resize(void* block, std::size_t size, std::size_t alignment, Reason& reason) noexcept {
    const Arena* const arena =
        block == nullptr ? nullptr
                         : Arenas::of_process().find(reinterpret_cast<std::uint64_t>(block), 1);
    if (Arenas::abandoned()) [[unlikely]] {
        reason = Reason::kForked;
        return nullptr;
    }
    const Mimalloc* const mimalloc = shared().mimalloc.load(std::memory_order_acquire);
    if (arena == nullptr || mimalloc == nullptr) [[unlikely]] {
        reason = Reason::kNotOurs;
        return nullptr;
    }
    const std::size_t wanted = alignment == 0 ? kDefaultAlignment : alignment;
    const std::size_t usable = mimalloc->usable_size(block);
    if (size != 0 && size <= usable && size >= usable / 2 && std::has_single_bit(wanted) &&
        wanted <= kMaxAlignment && (reinterpret_cast<std::uintptr_t>(block) & (wanted - 1)) == 0) {
        reason = Reason::kNone;
        return block;
    }
    // Not mi_realloc(), which moves the block to mimalloc's default heap, outside the arenas.
    void* const other = allocate(size, alignment, arena->shareable, reason);
    if (other != nullptr) {
        std::memcpy(other, block, std::min(size, usable));
        (void)release(block);
    }
    return other;
}

std::uint64_t used_bytes(std::uint32_t arena_index) noexcept {
    return ThreadHeaps::used(arena_index);
}

const char* to_words(Reason reason) noexcept {
    switch (reason) {
        case Reason::kNone:
            return "nothing is wrong";
        case Reason::kNotStarted:
            return "the provider is not started; call WSPStartupEx first";
        case Reason::kForked:
            return "a forked child cannot use the heaps of its parent; exec a program, or take "
                   "memory "
                   "for the first time after the fork";
        case Reason::kBadArgument:
            return "a size of 0, an alignment that is not a power of two up to 4 MiB, or an "
                   "unknown flag";
        case Reason::kLimit:
            return "the arenas are full and may not grow; free memory, or raise arena_limit_mb "
                   "(SANPOLL_ARENA_LIMIT_MB)";
        case Reason::kNoHugepages:
            return "hugepages = required, and too few of them are free; raise vm.nr_hugepages, or "
                   "set "
                   "SANPOLL_HUGEPAGES=auto";
        case Reason::kNoMemory:
            return "the kernel gives no memory; see ulimit -v and the memory limit of the cgroup";
        case Reason::kNoDescriptor:
            return "the kernel gives no memory file; raise ulimit -n, or ask for private memory";
        case Reason::kNoLibrary:
            return "libmimalloc 2.0.9 cannot be opened; install the package libmimalloc2.0";
        case Reason::kNotOurs:
            return "not the address of a block that these functions gave out";
        case Reason::kThreadEnds:
            return "the thread is ending and has given its heaps back; take memory before its last "
                   "destructors run";
    }
    return "unknown";
}

}  // namespace sanpoll::engine::memory
