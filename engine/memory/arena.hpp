// Arenas: large pieces of address space that registered heaps live in.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/memory/known_pages.hpp"
#include "engine/memory/reason.hpp"

namespace sanpoll::engine::memory {

enum class PageKind : std::uint8_t {
    kOrdinary,  // touched as they are used
    kHuge,      // 2 MiB each, all of them touched before the arena is published
};

/// Immutable once published, and there until the process ends.
///
/// A shareable arena is a memory file that a peer may map; it is shared whole or not at all. The file is
/// sealed against shrinking, growing and further seals, and against future writers as well on hugepages (so that
/// it can have no holes) and where peers may only read (ArenaRules). A private arena is anonymous memory.
///
/// Hugepages are taken from the kernel in both modes and not from DPDK's EAL, although that can do it in dedicated
/// mode: its memory files grow and shrink, so they cannot be sealed, and a peer that maps one may be made to die
/// of SIGBUS; it takes its memory once, of one size, before anybody has asked for any; and inline mode, which has
/// no EAL, would need this way all the same.
struct Arena {
    std::uint32_t id = 0;  // 1, 2, ...; unique in the process
    std::uint64_t base = 0;
    std::uint64_t size = 0;  // bytes; it and base are multiples of kArenaAlignment
    int fd = -1;             // of a shareable arena; close-on-exec, closed in a forked child
    std::uint64_t fd_offset = 0;
    bool shareable = false;       // may be mapped by a peer of the same user id
    bool peers_may_write = true;  // if that peer wants it, too: ArenaRules
    PageKind pages = PageKind::kOrdinary;
    int numa_node = -1;  // preferred node; -1: none
    // Of a shareable one on ordinary pages that peers may write to, if there was memory for it; the one thing that changes.
    std::shared_ptr<KnownPages> known;
};

/// What mimalloc's segments need: a heap in memory that is aligned less "works" and crashes later.
inline constexpr std::uint64_t kArenaAlignment = 32U << 20;
/// mimalloc manages no more in a process.
inline constexpr std::uint32_t kMaxArenas = 64;

struct ArenaRules {
    std::uint64_t arena_bytes = 128ULL << 20;   // size of one, a multiple of kArenaAlignment
    std::uint64_t limit_bytes = 4096ULL << 20;  // of all together
    Hugepages hugepages = Hugepages::kAuto;
    int numa_node = -1;  // preferred node; -1: wherever the thread runs that touches a page first
    bool peers_may_write =
        true;  // false: the files are sealed against writers other than this process
};

/// The arenas of a process. They belong to the process and not to an engine: mimalloc cannot give one
/// back, blocks of the caller may outlive WSPCleanup, and a provider may be started again.
///
/// find(), count() and arena(): any thread, lock-free, nothing that blocks or allocates; for data paths.
/// The others: off the data path; they lock, and make() maps memory.
class Arenas {
public:
    /// Of this process; never destroyed. It alone follows a fork (see abandon_in_child()).
    static Arenas& of_process();

    Arenas() = default;
    ~Arenas();  // for tests: unmaps
    Arenas(const Arenas&) = delete;
    Arenas& operator=(const Arenas&) = delete;

    /// The arena that contains [address, address + length) whole; nullptr if none does. A length of 0 is
    /// taken as 1. A few ns: a search in at most 64 sorted entries.
    [[nodiscard]] const Arena* find(std::uint64_t address, std::uint64_t length) const noexcept;

    /// Has every page of the range there, charged to us and on our node: for ranges that a peer will touch itself. False
    /// if not all can be had, or it lies in no arena. Calls the kernel, and blocks; before Linux 5.14 it cannot be done.
    [[nodiscard]] bool populate(std::uint64_t address, std::uint64_t length) const noexcept;

    /// How many there are; they only grow in number.
    [[nodiscard]] std::uint32_t count() const noexcept {
        return count_.load(std::memory_order_acquire);  // pairs with the release in publish()
    }
    /// In the order in which they were made; i < count().
    [[nodiscard]] const Arena& arena(std::uint32_t i) const noexcept { return arenas_[i]; }

    /// For arenas that are made from now on.
    void set_rules(const ArenaRules& rules);
    [[nodiscard]] ArenaRules rules() const;

    /// Makes one more, of the size that the rules say, or of as many times that size as `bytes` needs.
    /// nullptr and a refusal if that is not possible; then nothing has changed.
    [[nodiscard]] const Arena* make(bool shareable, std::uint64_t bytes, Refusal& refusal);

    /// Bytes of all arenas together.
    [[nodiscard]] std::uint64_t bytes() const;

    /// `grown` is called after each arena made from now on, by the thread that made it, which waits:
    /// it must not call anything here but find(), count() and arena(). Returns a token.
    [[nodiscard]] std::uint64_t add_listener(std::function<void()> grown);
    /// Afterwards it is not called any more, nor is a call still running.
    void remove_listener(std::uint64_t token);

    /// In a forked child, before anything else runs there: async-signal-safe. The child keeps the contents,
    /// but a copy of its own: what it writes must not reach the parent, whose heaps these are.
    void abandon_in_child() noexcept;
    /// Whether this is a forked child of a process that has arenas: it gets no memory of them, ever, and makes
    /// none of its own.
    [[nodiscard]] static bool abandoned() noexcept {
        return abandoned_.load(std::memory_order_relaxed);  // written before the child has threads
    }

private:
    // Immutable, sorted by base. Old ones are kept.
    struct Index {
        std::uint32_t count = 0;
        std::array<std::uint64_t, kMaxArenas> base;
        std::array<const Arena*, kMaxArenas> arena;
    };

    [[nodiscard]] bool map(Arena& arena, Refusal& refusal) const;
    [[nodiscard]] const Arena* publish(const Arena& made);

    static inline std::atomic<bool> abandoned_{false};

    std::array<Arena, kMaxArenas> arenas_;
    std::atomic<std::uint32_t> count_{0};
    std::atomic<const Index*> index_{nullptr};

    mutable std::mutex mutex_;  // makers
    ArenaRules rules_;
    std::uint64_t bytes_ = 0;
    std::vector<std::unique_ptr<Index>> indexes_;  // old ones too: a reader may be in one

    std::mutex listeners_mutex_;
    std::vector<std::pair<std::uint64_t, std::function<void()>>> listeners_;
    std::uint64_t last_token_ = 0;
};

}  // namespace sanpoll::engine::memory
