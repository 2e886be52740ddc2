// A growing circular buffer of completions, for what a port's ring has no room for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <sanpoll/switch.hpp>
#include <vector>

namespace sanpoll_switch::detail {

// Not for several threads at once: the queue's lock guards it. Memory is taken by push() only and
// given back by clear() only: a taker never frees, for the allocator may enter the kernel then.
class Backlog {
public:
    std::size_t size() const { return size_; }

    // Throws std::bad_alloc, and is unchanged then.
    void push(const OVERLAPPED_ENTRY& entry) {
        if (size_ == entries_.size()) grow();
        entries_[(first_ + size_) & (entries_.size() - 1)] = entry;
        ++size_;
    }

    // Takes up to `count` of the oldest entries, returns how many.
    std::size_t pop(OVERLAPPED_ENTRY* out, std::size_t count) {
        const std::size_t taken = std::min(count, size_);
        for (std::size_t i = 0; i < taken; ++i) {
            out[i] = entries_[(first_ + i) & (entries_.size() - 1)];
        }
        first_ += taken;
        size_ -= taken;
        return taken;
    }

    void clear() noexcept {
        std::vector<OVERLAPPED_ENTRY>().swap(entries_);
        first_ = 0;
        size_ = 0;
    }

private:
    static constexpr std::size_t kFirstCapacity = 512;  // a power of two, as all that follow

    void grow() {
        std::vector<OVERLAPPED_ENTRY> larger(std::max(entries_.size() * 2, kFirstCapacity));
        const std::size_t kept = size_;
        pop(larger.data(), kept);
        entries_.swap(larger);
        first_ = 0;
        size_ = kept;
    }

    std::vector<OVERLAPPED_ENTRY> entries_;
    std::size_t first_ = 0;  // counts on; its low bits are the index
    std::size_t size_ = 0;
};

}  // namespace sanpoll_switch::detail
