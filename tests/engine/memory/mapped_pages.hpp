// Pages of anonymous memory for tests that unmap and remap them.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sanpoll::tests {

/// [0, count) pages in one piece of address space far from all others, so that what is unmapped in it
/// is a hole that only place() fills.
class MappedPages {
public:
    explicit MappedPages(std::size_t count) : count_(count) {
        // One more on either side, so that nothing of ours merges with something of the program's.
        void* all = ::mmap(far_from_others(), (count + 2) * size(), PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        EXPECT_NE(all, MAP_FAILED);
        base_ = static_cast<char*>(all) + size();
        place(0, count);
    }
    ~MappedPages() { ::munmap(base_ - size(), (count_ + 2) * size()); }
    MappedPages(const MappedPages&) = delete;
    MappedPages& operator=(const MappedPages&) = delete;

    [[nodiscard]] static std::size_t size() {
        return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    }
    [[nodiscard]] char* at(std::size_t page) const { return base_ + page * size(); }
    [[nodiscard]] std::uint64_t address(std::size_t page) const {
        return reinterpret_cast<std::uint64_t>(at(page));
    }

    /// New pages in place of whatever is there.
    void place(std::size_t first, std::size_t count) {
        EXPECT_NE(::mmap(at(first), count * size(), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                  MAP_FAILED);
    }
    void unmap(std::size_t first, std::size_t count) {
        EXPECT_EQ(::munmap(at(first), count * size()), 0);
    }
    void discard(std::size_t first, std::size_t count, int how = MADV_DONTNEED) {
        EXPECT_EQ(::madvise(at(first), count * size(), how), 0);
    }
    /// Moves pages onto others, which go; where they were is a hole.
    void move(std::size_t from, std::size_t to, std::size_t count) {
        EXPECT_EQ(::mremap(at(from), count * size(), count * size(), MREMAP_MAYMOVE | MREMAP_FIXED,
                           at(to)),
                  at(to));
    }

private:
    // Where the kernel, which maps from the top, puts nothing by itself: it would fill the holes that a test makes, and the
    // next page of ours there would lie on a sanitizer's or another thread's. A wish; within what the sanitizers allow.
    [[nodiscard]] static void* far_from_others() {
        static std::atomic<std::uintptr_t> next{0x7E90'0000'0000};
        return reinterpret_cast<void*>(next.fetch_add(std::uintptr_t{64} << 20));
    }

    std::size_t count_;
    char* base_ = nullptr;
};

}  // namespace sanpoll::tests
