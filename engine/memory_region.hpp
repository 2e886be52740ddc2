// The registered memory of one socket: found by address on the posting thread, held by pending
// requests on the polling core, registered and deregistered on the control plane.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace sanpoll::engine {

enum Access : std::uint32_t { kRead = 1, kWrite = 2 };

/// Names a region inside its table: index and generation. 0 is none. A stale reference is refused, not
/// followed.
using RegionRef = std::uint32_t;

/// Who may call what:
///   add, remove_from_index, reset: any thread, off the data path (they take a mutex and allocate)
///   find:                          any thread, at any time, lock-free, without a system call
///   hold, release, retire:         the core that owns the socket's connection
/// Memory that find() may be reading is never given back before the table is destroyed, so it needs no
/// protection against a concurrent close; its answer may then be out of date, and hold() refuses it.
class RegionTable {
public:
    RegionTable() = default;
    ~RegionTable();
    RegionTable(const RegionTable&) = delete;
    RegionTable& operator=(const RegionTable&) = delete;

    /// Registers [address, address + length). Ranges may overlap and repeat; every call makes a region
    /// of its own. Returns 0 when out of memory or of table entries. length > 0, no wrap: the caller
    /// has checked.
    [[nodiscard]] RegionRef add(std::uint64_t address, std::uint64_t length, std::uint32_t access);

    /// A region that contains [address, address + length) and allows `access`; 0 if there is none. The
    /// range must lie in one region. Zero-length ranges match a region that contains `address`, its end
    /// included.
    [[nodiscard]] RegionRef find(std::uint64_t address, std::uint32_t length,
                                 std::uint32_t access) noexcept;

    /// Whether `ref` names a live region.
    [[nodiscard]] bool live(RegionRef ref) const noexcept;

    /// Counts one pending request on the region. False if the reference is stale.
    [[nodiscard]] bool hold(RegionRef ref) noexcept;
    void release(RegionRef ref) noexcept;

    /// Makes the reference stale unless requests hold it. Returns whether it did.
    [[nodiscard]] bool retire(RegionRef ref) noexcept;

    /// After retire(): takes the entry out of the index, for reuse.
    void remove_from_index(RegionRef ref);

    /// Drops all regions, held or not; the socket is gone.
    void reset();

    [[nodiscard]] std::size_t size() const;

private:
    // state: generation << 3 | live << 2 | access. A reader takes state, base, end and state again; the
    // writer makes the state "not live" first and "live" last, so a mixed reading shows.
    struct Entry {
        std::atomic<std::uint32_t> state{0};
        std::uint32_t holds = 0;  // core only
        std::atomic<std::uint64_t> base{0};
        std::atomic<std::uint64_t> end{0};
    };
    struct IndexItem {
        std::atomic<std::uint64_t> base{0};
        std::atomic<std::uint64_t> furthest_end{0};  // of this item and all before it
        std::atomic<std::uint32_t> entry{0};
    };

    static constexpr std::uint32_t kLive = 4;
    static constexpr std::uint32_t kIndexBits = 18;
    static constexpr std::uint32_t kMaxEntries = (1U << kIndexBits) - 2;
    static constexpr std::uint32_t kFirstChunk = 8;
    static constexpr std::uint32_t kChunks = 16;  // 8 * (2^16 - 1) entries, more than kMaxEntries
    static constexpr std::uint32_t kRefGenerationMask = (1U << (32 - kIndexBits)) - 1;

    [[nodiscard]] Entry* entry(std::uint32_t index) const noexcept;
    [[nodiscard]] RegionRef matches(std::uint32_t index, std::uint64_t address, std::uint64_t end,
                                    std::uint32_t access) const noexcept;
    [[nodiscard]] Entry* resolve(RegionRef ref) const noexcept;
    void rebuild_index(std::vector<std::uint32_t> order);

    std::atomic<Entry*> chunks_[kChunks] = {};
    std::atomic<std::uint32_t> hint_[4] = {};  // by access asked for: the entry that matched last

    std::atomic<std::uint32_t> version_{0};  // odd while the index is being written
    std::atomic<IndexItem*> index_{nullptr};
    std::atomic<std::uint32_t> index_size_{0};

    mutable std::mutex mutex_;  // guards what follows and all writing above
    std::uint32_t entry_count_ = 0;
    std::vector<std::uint32_t> free_;
    std::vector<std::uint32_t> sorted_;
    std::uint32_t index_capacity_ = 0;
    std::vector<std::unique_ptr<IndexItem[]>> index_storage_;  // old ones stay for late readers
};

}  // namespace sanpoll::engine
