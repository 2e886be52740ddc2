#include "tests/system/allocation_counter.hpp"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>

#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

struct Count {
    std::atomic<pid_t> thread{0};
    std::atomic<std::uint64_t> calls{0};  // written by its thread only
};

// A fixed table, since this must not allocate; threads that find it full are counted in its last entry.
constexpr std::size_t kThreads = 1024;
Count counts[kThreads];
std::atomic<std::size_t> used{0};
thread_local Count* own = nullptr;

Count& own_count() noexcept {
    if (own == nullptr) {
        const std::size_t index = used.fetch_add(1, std::memory_order_relaxed);
        own = &counts[index < kThreads ? index : kThreads - 1];
        own->thread.store(::gettid(), std::memory_order_release);
    }
    return *own;
}

[[maybe_unused]] void note_call() noexcept {
    Count& count = own_count();
    count.calls.store(count.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

}  // namespace

std::uint64_t heap_calls_of(pid_t thread) noexcept {
    std::uint64_t sum = 0;
    for (const Count& count : counts) {
        if (count.thread.load(std::memory_order_acquire) == thread) {
            sum += count.calls.load(std::memory_order_relaxed);  // an id may have been used before
        }
    }
    return sum;
}

std::uint64_t heap_calls() noexcept { return own_count().calls.load(std::memory_order_relaxed); }

}  // namespace sanpoll::system_test

// The sanitizers have their own, and the test is skipped.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

#define SANPOLL_HEAP_FUNCTION __attribute__((visibility("default"), used))

extern "C" {

// What the C library's own functions come down to.
void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t count, std::size_t size) noexcept;
void* __libc_realloc(void* memory, std::size_t size) noexcept;
void* __libc_memalign(std::size_t alignment, std::size_t size) noexcept;
void __libc_free(void* memory) noexcept;

SANPOLL_HEAP_FUNCTION void* malloc(std::size_t size) noexcept {
    sanpoll::system_test::note_call();
    return __libc_malloc(size);
}

SANPOLL_HEAP_FUNCTION void* calloc(std::size_t count, std::size_t size) noexcept {
    sanpoll::system_test::note_call();
    return __libc_calloc(count, size);
}

SANPOLL_HEAP_FUNCTION void* realloc(void* memory, std::size_t size) noexcept {
    sanpoll::system_test::note_call();
    return __libc_realloc(memory, size);
}

SANPOLL_HEAP_FUNCTION void* memalign(std::size_t alignment, std::size_t size) noexcept {
    sanpoll::system_test::note_call();
    return __libc_memalign(alignment, size);
}

SANPOLL_HEAP_FUNCTION void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
    sanpoll::system_test::note_call();
    return __libc_memalign(alignment, size);
}

SANPOLL_HEAP_FUNCTION int posix_memalign(void** memory, std::size_t alignment,
                                         std::size_t size) noexcept {
    sanpoll::system_test::note_call();
    *memory = __libc_memalign(alignment, size);
    return *memory == nullptr ? ENOMEM : 0;
}

SANPOLL_HEAP_FUNCTION void free(void* memory) noexcept {
    if (memory != nullptr) {
        sanpoll::system_test::note_call();
    }
    __libc_free(memory);
}

}  // extern "C"

#endif
