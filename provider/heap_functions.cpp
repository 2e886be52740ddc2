#include "provider/heap_functions.hpp"

#include "engine/memory/heap.hpp"
#include "engine/memory/hugepages.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

namespace memory = engine::memory;
using memory::Reason;

static_assert(static_cast<std::uint32_t>(Reason::kNone) == SANPOLL_MEMORY_OK);
static_assert(static_cast<std::uint32_t>(Reason::kNotStarted) == SANPOLL_MEMORY_NOT_STARTED);
static_assert(static_cast<std::uint32_t>(Reason::kForked) == SANPOLL_MEMORY_FORKED);
static_assert(static_cast<std::uint32_t>(Reason::kBadArgument) == SANPOLL_MEMORY_BAD_ARGUMENT);
static_assert(static_cast<std::uint32_t>(Reason::kLimit) == SANPOLL_MEMORY_LIMIT);
static_assert(static_cast<std::uint32_t>(Reason::kNoHugepages) == SANPOLL_MEMORY_NO_HUGEPAGES);
static_assert(static_cast<std::uint32_t>(Reason::kNoMemory) == SANPOLL_MEMORY_NO_MEMORY);
static_assert(static_cast<std::uint32_t>(Reason::kNoDescriptor) == SANPOLL_MEMORY_NO_DESCRIPTOR);
static_assert(static_cast<std::uint32_t>(Reason::kNoLibrary) == SANPOLL_MEMORY_NO_LIBRARY);
static_assert(static_cast<std::uint32_t>(Reason::kNotOurs) == SANPOLL_MEMORY_NOT_OURS);
static_assert(static_cast<std::uint32_t>(Reason::kThreadEnds) == SANPOLL_MEMORY_THREAD_ENDS);

constexpr std::uint32_t kOrdinaryPageBytes = 4096;

void set_reason(LPDWORD to, Reason reason) noexcept {
    if (to != nullptr) {
        *to = static_cast<DWORD>(reason);
    }
}

// Whether memory may be taken.
Reason life_reason() noexcept {
    switch (common().life.load(std::memory_order_relaxed)) {
        case Life::kUp:
            return Reason::kNone;
        case Life::kForked:
            return Reason::kForked;
        case Life::kDown:
            break;
    }
    // A child of a process that had memory and then called WSPCleanup is one all the same.
    return memory::Arenas::abandoned() ? Reason::kForked : Reason::kNotStarted;
}

PVOID WSPAPI allocate(SIZE_T size, SIZE_T alignment, DWORD flags, LPDWORD reason) {
    Reason why = life_reason();
    PVOID buffer = nullptr;
    if (why == Reason::kNone) [[likely]] {
        if ((flags & ~SANPOLL_MEMORY_PRIVATE) != 0) {
            why = Reason::kBadArgument;
        } else {
            buffer = memory::allocate(size, alignment, flags == 0, why);
        }
    }
    set_reason(reason, why);
    return buffer;
}

BOOL WSPAPI give_back(PVOID buffer, LPDWORD reason) {
    const Reason why = memory::release(buffer);
    set_reason(reason, why);
    return why == Reason::kNone ? 1 : 0;
}

PVOID WSPAPI resize(PVOID buffer, SIZE_T size, SIZE_T alignment, LPDWORD reason) {
    Reason why = life_reason();
    PVOID resized = nullptr;
    if (why == Reason::kNone) {
        resized = memory::resize(buffer, size, alignment, why);
    }
    set_reason(reason, why);
    return resized;
}

Reason describe(const void* address, SANPOLL_ARENA* to) {
    if (const Reason why = life_reason(); why != Reason::kNone) {
        return why;
    }
    if (to == nullptr) {
        return Reason::kBadArgument;
    }
    memory::Arenas& arenas = memory::Arenas::of_process();
    const memory::Arena* const arena = arenas.find(reinterpret_cast<std::uint64_t>(address), 1);
    if (arena == nullptr) {
        return Reason::kNotOurs;
    }
    *to = {};
    to->base = reinterpret_cast<PVOID>(arena->base);
    to->size = arena->size;
    to->used = memory::used_bytes(arena->id - 1);
    to->all_sizes = arenas.bytes();
    to->limit = arenas.rules().limit_bytes;
    to->id = arena->id;
    to->shareable = arena->shareable ? 1 : 0;
    to->page_size = arena->pages == memory::PageKind::kHuge
                        ? static_cast<DWORD>(memory::kHugepageBytes)
                        : kOrdinaryPageBytes;
    to->numa_node = arena->numa_node;
    return Reason::kNone;
}

BOOL WSPAPI query(const void* address, SANPOLL_ARENA* arena, LPDWORD reason) {
    const Reason why = describe(address, arena);
    set_reason(reason, why);
    return why == Reason::kNone ? 1 : 0;
}

const CHAR* WSPAPI reason_text(DWORD reason) {
    return memory::to_words(static_cast<Reason>(reason));
}

}  // namespace

SANPOLL_MEMORY_FUNCTIONS heap_functions() noexcept {
    SANPOLL_MEMORY_FUNCTIONS functions{};
    functions.cbSize = sizeof(functions);
    functions.lpAllocate = &allocate;
    functions.lpFree = &give_back;
    functions.lpResize = &resize;
    functions.lpQuery = &query;
    functions.lpReasonText = &reason_text;
    return functions;
}

}  // namespace sanpoll::provider
