// The registered memory of one socket: found by address on the posting thread, held by pending
// requests on the polling core, registered and deregistered on the control plane.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/light_mutex.hpp"
#include "engine/post_gate.hpp"
#include "engine/region_index.hpp"
#include "engine/status.hpp"

namespace sanpoll::engine {

class MemoryRegistrar;

enum Access : std::uint32_t { kRead = 1, kWrite = 2 };

/// Names a region inside its table: index and generation. 0 is none. A stale reference is refused, not
/// followed.
using RegionRef = std::uint32_t;

/// Who may call what:
///   add, add_for, remove_from_index, reset: any thread, off the data path (they take a mutex and allocate)
///   find, live, covers:            any thread, at any time, without a lock or a system call; they look again
///                                  while a writer is at work, so threads of different real-time priority
///                                  that register and post must not share a CPU
///   hold, release, retire:         the core that owns the socket's connection
/// Memory that find() may be reading is never given back before the table is destroyed, so it needs no
/// protection against a concurrent close; its answer may then be out of date, and hold() refuses it.
class RegionTable {
    static constexpr std::uint32_t kIndexBits = 18;
    static constexpr std::uint32_t kNone = 0xFFFFFFFF;

public:
    RegionTable() = default;
    ~RegionTable();
    RegionTable(const RegionTable&) = delete;
    RegionTable& operator=(const RegionTable&) = delete;

    /// Registers [address, address + length). Ranges may overlap and repeat; every call makes a region
    /// of its own. Returns 0 when out of memory or of table entries. length > 0, no wrap: the caller
    /// has checked.
    [[nodiscard]] RegionRef add(std::uint64_t address, std::uint64_t length, std::uint32_t access) {
        RegionRef ref = 0;
        return add(address, length, access, nullptr, ref) == Status::kOk ? ref : 0;
    }
    /// The same for a connection whose device has to know the region, if `registrar` is not nullptr: it does
    /// before find() answers with `ref`. kNoMemory, or what MemoryRegistrar::add_local says.
    [[nodiscard]] Status add(std::uint64_t address, std::uint64_t length, std::uint32_t access,
                             MemoryRegistrar* registrar, RegionRef& ref);
    /// The same for the connection behind `gate`, while that is open for `generation`; else kNotOpen. Who ends the
    /// connection shuts the gate and then calls reset(), so nothing is left behind, and nothing is added to the
    /// table of the next one: the gate is looked at where reset() is kept out.
    [[nodiscard]] Status add_for(const PostGate& gate, std::uint32_t generation,
                                 std::uint64_t address, std::uint64_t length, std::uint32_t access,
                                 MemoryRegistrar* registrar, RegionRef& ref);

    /// A region that contains [address, address + length) and allows `access`; 0 if there is none. The
    /// range must lie in one region. Zero-length ranges match a region that contains `address`, its end
    /// included.
    [[nodiscard]] RegionRef find(std::uint64_t address, std::uint32_t length,
                                 std::uint32_t access) noexcept {
        const std::uint64_t end = address + length;
        // Most posts use the region of the post before.
        const Entry* hint = hint_[access & 3U].load(std::memory_order_acquire);
        if (hint != nullptr && end >= address) [[likely]] {
            if (const RegionRef ref = matches(*hint, address, end, access); ref != 0) [[likely]] {
                return ref;
            }
        }
        return search(address, end, access);
    }

    /// The pending requests of one region.
    struct Holds {
        std::uint32_t count = 0;
    };

    /// A live region, or none: of length 0, and without holds.
    struct Window {
        std::uint64_t base = 0;
        std::uint64_t length = 0;
        Holds* holds = nullptr;
        RegionRef ref = 0;

        [[nodiscard]] bool contains(std::uint64_t from, std::uint64_t bytes) const noexcept {
            // Two steps, since what is above the start may be less than `bytes`.
            std::uint64_t room = 0;
            if (__builtin_sub_overflow(length, bytes, &room)) [[unlikely]] {
                return false;
            }
            return from - base <= room;
        }
    };
    /// The region of the post before, by access: for who holds the token of the core that owns the connection while
    /// its gate is direct, in the fewest steps. It stays live until the token is given back, and longer if a hold
    /// is counted. What it does not contain find() may know. Of RDMA, which names its region, it is another one.
    [[nodiscard]] const Window& last(Access access) const noexcept { return windows_[access - 1]; }
    [[nodiscard]] const Window& last_of_rdma(Access access) const noexcept {
        return windows_[kRdmaWindows + access - 1];
    }
    /// Makes a live region that one. The core that owns the connection.
    void remember(RegionRef ref, Access access) noexcept {
        remember_in(windows_[access - 1], ref, access);
    }
    void remember_for_rdma(RegionRef ref, Access access) noexcept {
        remember_in(windows_[kRdmaWindows + access - 1], ref, access);
    }

    /// Whether `ref` names a live region.
    [[nodiscard]] bool live(RegionRef ref) const noexcept { return resolve(ref) != nullptr; }

    /// Whether `ref` names a live region that contains [address, address + length) and allows `access`.
    [[nodiscard]] bool covers(RegionRef ref, std::uint64_t address, std::uint32_t length,
                              std::uint32_t access) const noexcept {
        const Entry* found = resolve(ref);
        const std::uint64_t end = address + length;
        return found != nullptr && end >= address && matches(*found, address, end, access) == ref;
    }

    /// The same, quicker for the region that was asked for last in this way.
    [[nodiscard]] bool covers_again(RegionRef ref, std::uint64_t address, std::uint32_t length,
                                    std::uint32_t access) noexcept {
        // A hint of its own: that of who asks for both rights, which nobody on the data path does.
        const Entry* named = hint_[kRead | kWrite].load(std::memory_order_acquire);
        if (named == nullptr || !names(*named, ref)) [[unlikely]] {
            Entry* const found = resolve(ref);
            if (found == nullptr) {
                return false;
            }
            hint_[kRead | kWrite].store(found, std::memory_order_release);
            named = found;
        }
        // As matches(), where the pairing is explained; without a sum that might wrap.
        const std::uint64_t state = named->state.load(std::memory_order_acquire);
        const std::uint64_t base = named->base.load(std::memory_order_acquire);
        const std::uint64_t limit = named->end.load(std::memory_order_acquire);
        return static_cast<RegionRef>(state >> 32) == ref &&
               (state & (kLive | access)) == (kLive | access) && address >= base &&
               address <= limit && length <= limit - address &&
               named->state.load(std::memory_order_acquire) == state;
    }

    /// Counts one pending request on the region. False if the reference is stale.
    [[nodiscard]] bool hold(RegionRef ref) noexcept {
        Entry* found = resolve(ref);
        if (found == nullptr) [[unlikely]] {
            return false;
        }
        ++found->holds->count;
        return true;
    }
    /// release(), quicker where `ref` was found last to be written to.
    void release_written(RegionRef ref) noexcept {
        Entry* hint = hint_[kWrite].load(std::memory_order_acquire);
        if (hint == nullptr || !names(*hint, ref)) [[unlikely]] {
            release(ref);
            return;
        }
        --hint->holds->count;
    }
    void release(RegionRef ref) noexcept {
        // The holder kept it from being retired, so the entry is still the same one.
        if (Entry* found = resolve(ref); found != nullptr) [[likely]] {
            --found->holds->count;
        }
    }

    /// Makes the reference stale unless requests hold it. Returns whether it did.
    [[nodiscard]] bool retire(RegionRef ref) noexcept;

    /// After retire(): takes the entry out of the index, for reuse.
    void remove_from_index(RegionRef ref);

    /// Drops all regions, held or not; the socket is gone.
    void reset();

    [[nodiscard]] std::size_t size() const;

    /// A reference's place in its table, below kMaxEntries and used again when the region is gone: for
    /// tables that go along with this one. Of 0: above.
    [[nodiscard]] static constexpr std::uint32_t index_of(RegionRef ref) noexcept {
        return (ref & ((1U << kIndexBits) - 1)) - 1;
    }

private:
    // state: reference << 32 | live << 2 | access. A reader takes state, base, end and state again; the
    // writer makes the state "not live" first and "live" last, so a mixed reading shows.
    struct Entry {
        std::atomic<std::uint64_t> state{0};
        std::atomic<std::uint64_t> base{0};
        std::atomic<std::uint64_t> end{0};
        Holds* holds = nullptr;  // set once; elsewhere, since the core writes it with every request
        std::uint32_t next_free = kNone;  // under the mutex
    };
    // Entries and their holds are made together and lie apart, so that the core's counting does not take
    // away the lines that posting threads read.
    struct Chunk {
        explicit Chunk(std::uint32_t size)
            : entries(new Entry[size]), holds(new PaddedHolds[size]) {
            for (std::uint32_t i = 0; i < size; ++i) {
                entries[i].holds = &holds[i].value;
            }
        }
        struct alignas(64) PaddedHolds {
            Holds value;
        };
        std::unique_ptr<Entry[]> entries;
        std::unique_ptr<PaddedHolds[]> holds;
    };
    static constexpr std::uint32_t kLive = 4;
    static constexpr std::uint32_t kMaxEntries = (1U << kIndexBits) - 2;
    static constexpr std::uint32_t kFirstChunk = 8;
    static constexpr std::uint32_t kChunks = 16;  // 8 * (2^16 - 1) entries, more than kMaxEntries
    static constexpr std::uint32_t kRefGenerationMask = (1U << (32 - kIndexBits)) - 1;

    // Of the core that owns the connection, as the counts of holds are; reset() comes when no core does.
    static constexpr std::size_t kRdmaWindows = 2;
    Window windows_[2 * kRdmaWindows];

    void remember_in(Window& window, RegionRef ref, Access access) noexcept;
    [[nodiscard]] Entry* entry(std::uint32_t index) const noexcept;

    [[nodiscard]] static RegionRef matches(const Entry& candidate, std::uint64_t address,
                                           std::uint64_t end, std::uint32_t access) noexcept {
        // The three acquires keep the second look at the state last; they pair with the releases in
        // add().
        const std::uint64_t state = candidate.state.load(std::memory_order_acquire);
        const std::uint64_t base = candidate.base.load(std::memory_order_acquire);
        const std::uint64_t limit = candidate.end.load(std::memory_order_acquire);
        if ((state & (kLive | access)) != (kLive | access) || address < base || end > limit ||
            candidate.state.load(std::memory_order_acquire) != state) {
            return 0;
        }
        return static_cast<RegionRef>(state >> 32);
    }

    [[nodiscard]] Entry* resolve(RegionRef ref) const noexcept {
        // The core mostly sees the reference that the poster found last.
        if (Entry* hint = hint_[kRead].load(std::memory_order_acquire);
            hint != nullptr && names(*hint, ref)) [[likely]] {
            return hint;
        }
        if (Entry* hint = hint_[kWrite].load(std::memory_order_acquire);
            hint != nullptr && names(*hint, ref)) {
            return hint;
        }
        return resolve_slowly(ref);
    }
    [[nodiscard]] static bool names(const Entry& entry, RegionRef ref) noexcept {
        const std::uint64_t state = entry.state.load(std::memory_order_acquire);
        return static_cast<RegionRef>(state >> 32) == ref && (state & kLive) != 0;
    }
    [[nodiscard]] Entry* resolve_slowly(RegionRef ref) const noexcept;
    [[nodiscard]] RegionRef search(std::uint64_t address, std::uint64_t end,
                                   std::uint32_t access) noexcept;
    [[nodiscard]] Status add_locked(std::uint64_t address, std::uint64_t length,
                                    std::uint32_t access, MemoryRegistrar* registrar,
                                    RegionRef& ref);
    [[nodiscard]] Entry* take_entry(std::uint32_t& index);
    void give_back(std::uint32_t index) noexcept;

    std::atomic<Entry*> chunks_[kChunks] = {};
    std::vector<Chunk> chunk_storage_;  // what chunks_ points into
    std::atomic<Entry*> hint_[4] = {};  // by access asked for: the entry that matched last

    RegionIndex index_;  // of the entries, by address

    mutable LightMutex mutex_;  // guards what follows and all writing above
    std::uint32_t entry_count_ = 0;
    std::uint32_t first_free_ = kNone;  // the longest unused: its old references stay stale longest
    std::uint32_t last_free_ = kNone;
};

}  // namespace sanpoll::engine
