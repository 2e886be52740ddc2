#include "engine/memory/thread_heaps.hpp"

#include <sched.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

namespace sanpoll::engine::memory {

namespace detail {
constinit std::atomic<bool> end_is_on{false};
constinit thread_local ThreadHeaps* thread_heaps = nullptr;
}  // namespace detail

namespace {

constinit thread_local bool thread_ended = false;

struct Registry {
    std::mutex mutex;
    std::vector<ThreadHeaps*> threads;
    // Of threads that have ended, and of those that free without heaps; may be negative, modulo 2^64.
    std::array<std::atomic<std::uint64_t>, kMaxArenas> rest{};
};

// Never destroyed: threads may end after the exit handlers.
Registry& registry() {
    static Registry* const made = new Registry;
    return *made;
}

// With the registry's lock, for which threads wait that come to free meanwhile.
void delete_heaps(const Registry& all, ThreadHeaps& heaps) noexcept {
    if (heaps.mimalloc == nullptr) {
        return;
    }
    detail::end_is_on.store(true, std::memory_order_seq_cst);
    for (const ThreadHeaps* const other : all.threads) {
        // Sequentially consistent, as the other's store and look at end_is_on.
        while (other->freeing.load(std::memory_order_seq_cst)) {
            ::sched_yield();
        }
    }
    for (mi_heap_t* const heap : heaps.heaps) {
        if (heap != nullptr) {
            heaps.mimalloc->heap_delete(heap);
        }
    }
    detail::end_is_on.store(false, std::memory_order_seq_cst);
}

// Ends the record with its thread.
struct End {
    ThreadHeaps* heaps = nullptr;
    End() = default;
    End(const End&) = delete;
    End& operator=(const End&) = delete;
    ~End() {
        detail::thread_heaps = nullptr;
        thread_ended = true;
        // In a forked child the lock may be held by a thread that is not there.
        if (heaps == nullptr || Arenas::abandoned()) {
            return;
        }
        Registry& all = registry();
        const std::lock_guard lock(all.mutex);
        delete_heaps(all, *heaps);
        for (std::uint32_t i = 0; i < kMaxArenas; ++i) {
            all.rest[i].fetch_add(heaps->taken[i].value() - heaps->given_back[i].value(),
                                  std::memory_order_relaxed);
        }
        std::erase(all.threads, heaps);
        delete heaps;
    }
};

thread_local End end;

}  // namespace

ThreadHeaps* ThreadHeaps::make() noexcept {
    if (thread_ended) {
        return nullptr;
    }
    auto* const made = new (std::nothrow) ThreadHeaps;
    if (made == nullptr) {
        return nullptr;
    }
    try {
        Registry& all = registry();
        const std::lock_guard lock(all.mutex);
        all.threads.push_back(made);
    } catch (...) {
        delete made;
        return nullptr;
    }
    end.heaps = made;
    detail::thread_heaps = made;
    return made;
}

void Freeing::wait_for_ends() noexcept { registry().mutex.lock(); }
void Freeing::let_ends_go_on() noexcept { registry().mutex.unlock(); }

bool ThreadHeaps::ended() noexcept { return thread_ended; }

void ThreadHeaps::give_back_late(std::uint32_t arena, std::uint64_t bytes) noexcept {
    registry().rest[arena].fetch_sub(bytes, std::memory_order_relaxed);
}

std::uint64_t ThreadHeaps::used(std::uint32_t arena) noexcept {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    // Given back before taken: a block counted as given back has been counted as taken. Counters of several
    // threads are not one moment's, so the sum may lag, but it is not negative for long.
    std::uint64_t given_back = 0;
    for (const ThreadHeaps* const heaps : all.threads) {
        given_back += heaps->given_back[arena].value();
    }
    std::uint64_t taken = all.rest[arena].load(std::memory_order_relaxed);
    for (const ThreadHeaps* const heaps : all.threads) {
        taken += heaps->taken[arena].value();
    }
    const auto used = static_cast<std::int64_t>(taken - given_back);
    return static_cast<std::uint64_t>(std::max<std::int64_t>(used, 0));
}

}  // namespace sanpoll::engine::memory
