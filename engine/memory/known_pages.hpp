// Which pages of an arena are known to be there.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>

namespace sanpoll::engine::memory {

/// Of an arena on ordinary pages: its file has a page from when somebody first touches it, and that process pays for it, or
/// dies if there is none left. So a peer is asked to write only where this process has been before. A page that is there
/// stays: the file cannot shrink, and nobody who is honest makes holes in it.
///
/// Any thread, lock-free; no system call, no allocation but in the constructor.
class KnownPages {
public:
    static constexpr unsigned kPageBits = 12;

    /// Allocates; throws std::bad_alloc. `bytes`: of the arena.
    explicit KnownPages(std::uint64_t bytes)
        : words_(new std::atomic<std::uint64_t>[(bytes >> kPageBits) / 64 + 1]()) {}

    /// All of [offset, offset + length) of the arena was written to, or populated, by us. length > 0.
    void note(std::uint64_t offset, std::uint64_t length) noexcept {
        for_each_word(offset, length, [](std::atomic<std::uint64_t>& word, std::uint64_t bits) {
            // Pairs with the acquire in all(): who knows of a page comes to it after who made it.
            if ((word.load(std::memory_order_relaxed) & bits) != bits) {
                word.fetch_or(bits, std::memory_order_release);
            }
            return true;
        });
    }
    /// Whether every page of the range is known. length > 0.
    [[nodiscard]] bool all(std::uint64_t offset, std::uint64_t length) const noexcept {
        bool known = true;
        for_each_word(offset, length, [&](std::atomic<std::uint64_t>& word, std::uint64_t bits) {
            // Pairs with the release in note().
            known = (word.load(std::memory_order_acquire) & bits) == bits;
            return known;
        });
        return known;
    }

private:
    template <typename Visit>
    void for_each_word(std::uint64_t offset, std::uint64_t length, Visit visit) const noexcept {
        std::uint64_t page = offset >> kPageBits;
        const std::uint64_t last = (offset + length - 1) >> kPageBits;
        for (bool on = true; on && page <= last;) {
            const std::uint64_t bit = page % 64;
            const std::uint64_t count = last - page < 63 - bit ? last - page + 1 : 64 - bit;
            on = visit(words_[page / 64], (~std::uint64_t{0} >> (64 - count)) << bit);
            page += count;
        }
    }

    std::unique_ptr<std::atomic<std::uint64_t>[]> words_;
};

}  // namespace sanpoll::engine::memory
