#include "engine/fork_guard.hpp"

#include <unistd.h>

#include <atomic>

namespace sanpoll::engine {

namespace {
// fd + 1; 0 is free. A table of atomics and not a container: the child may be made at any moment.
std::atomic<int> table[4096];
}  // namespace

void close_in_child(int fd) noexcept {
    for (std::atomic<int>& entry : table) {
        int free = 0;
        if (entry.load(std::memory_order_relaxed) == 0 &&
            entry.compare_exchange_strong(free, fd + 1, std::memory_order_relaxed)) {
            return;
        }
    }
}

void forget_in_child(int fd) noexcept {
    for (std::atomic<int>& entry : table) {
        int mine = fd + 1;
        if (entry.compare_exchange_strong(mine, 0, std::memory_order_relaxed)) {
            return;
        }
    }
}

void close_all_in_child() noexcept {
    for (std::atomic<int>& entry : table) {
        if (const int fd = entry.exchange(0, std::memory_order_relaxed); fd != 0) {
            ::close(fd - 1);
        }
    }
}

}  // namespace sanpoll::engine
