#include "engine/lane_registry.hpp"

#include <atomic>
#include <mutex>
#include <new>

#include "engine/lane.hpp"
#include "engine/polling_core.hpp"

namespace sanpoll::engine {

namespace {

std::mutex registry_mutex;            // held while lanes are made, retired or forgotten
std::atomic<std::uint32_t> epoch{1};  // of the engine whose lanes threads may use

struct ThreadLanes {
    std::uint32_t seen_epoch = 0;
    Lane* lanes[kMaxCores] = {};

    ~ThreadLanes();
};

thread_local ThreadLanes thread_lanes;
std::atomic<bool> abandoned{false};      // we are a forked child; the mutex may be locked for ever
thread_local bool thread_ended = false;  // trivially destroyed, so still readable at the very end
// The destructor above makes every access to thread_lanes go through a guard; the hot path uses this
// plain pointer. (Not in the static TLS block: that model would pull the whole library's thread-local
// data into it, DPDK's too, and a dlopen finds no room for so much.)
thread_local ThreadLanes* current = nullptr;

ThreadLanes::~ThreadLanes() {
    current = nullptr;
    thread_ended = true;
    if (abandoned.load(std::memory_order_relaxed)) {
        return;
    }
    const std::lock_guard lock(registry_mutex);
    if (seen_epoch == epoch.load(std::memory_order_relaxed)) {
        for (Lane* lane : lanes) {
            if (lane != nullptr) {
                lane->retire();
            }
        }
    }
}

}  // namespace

Lane* LaneRegistry::find_or_make(PollingCore& core, std::uint32_t slots) noexcept {
    ThreadLanes* mine = current;
    if (mine != nullptr && mine->seen_epoch == epoch.load(std::memory_order_relaxed)) [[likely]] {
        if (Lane* lane = mine->lanes[core.index()]; lane != nullptr) [[likely]] {
            return lane;
        }
    }
    if (thread_ended) {  // a destructor of the caller's that runs after ours
        return nullptr;
    }
    try {
        const std::lock_guard lock(registry_mutex);
        core.free_dead_lanes();
        mine = &thread_lanes;
        current = mine;
        if (const std::uint32_t now = epoch.load(std::memory_order_relaxed);
            mine->seen_epoch != now) {
            mine->seen_epoch = now;
            for (Lane*& lane : mine->lanes) {
                lane = nullptr;
            }
        }
        Lane*& lane = mine->lanes[core.index()];
        if (lane == nullptr) {
            lane = new Lane(slots);
            lane->next = core.new_lanes_.load(std::memory_order_relaxed);
            // Release pairs with the acquire in PollingCore::adopt_lanes.
            while (!core.new_lanes_.compare_exchange_weak(
                lane->next, lane, std::memory_order_release, std::memory_order_relaxed)) {
            }
        }
        return lane;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void LaneRegistry::forget_all() noexcept {
    const std::lock_guard lock(registry_mutex);
    epoch.fetch_add(1, std::memory_order_relaxed);
}

void LaneRegistry::abandon_in_child() noexcept { abandoned.store(true, std::memory_order_relaxed); }

}  // namespace sanpoll::engine
