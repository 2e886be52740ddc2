// The memory that one socket has exposed to its peer.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/memory_region.hpp"

namespace sanpoll::engine {

/// Where a fabric lets the peer find what is exposed, so that it need not ask this side's core. Everything is called
/// with that core's token held.
class ExposureBoard {
public:
    /// Shows it. Returns the place, which the peer has to be told; 0: it has to ask.
    [[nodiscard]] virtual std::uint32_t show(std::uint64_t base, std::uint32_t length,
                                             std::uint32_t access, std::uint32_t key,
                                             std::uint64_t nonce) noexcept = 0;
    /// From here on the peer finds nothing there. False if it is at work on it: nothing has changed then.
    [[nodiscard]] virtual bool hide(std::uint32_t place) noexcept = 0;
    /// The same, but no work of the peer's begins any more in any case; hide() or drop() follow.
    virtual void revoke(std::uint32_t place) noexcept = 0;
    /// revoke(), and the place is not this region's any more.
    virtual void drop(std::uint32_t place) noexcept = 0;

protected:
    ~ExposureBoard() = default;
};

/// What a peer's request names (key and nonce, from the descriptor it was sent) is looked up here, by the
/// core that owns the connection; the peer's word is good for nothing else. Everything is called with that
/// core's token held. It does not allocate: the caller brings a larger table when this one is full.
class RemoteRegions {
public:
    static constexpr std::uint32_t kMaxRegions = 1U << 16;

    struct Region {
        std::uint64_t nonce = 0;
        std::uint64_t base = 0;
        std::uint32_t length = 0;  // 0: the entry is free
        std::uint32_t access = 0;
        std::uint32_t generation = 0;
        std::uint32_t uses = 0;       // transfers that are running
        std::uint32_t next_free = 0;  // index + 1
        std::uint32_t place = 0;      // on the board; 0: not there
    };
    using Table = std::vector<Region>;

    [[nodiscard]] bool full() const noexcept { return free_ == 0; }
    [[nodiscard]] std::uint32_t capacity() const noexcept {
        return static_cast<std::uint32_t>(table_.size());
    }

    /// What is exposed from now on is shown there; nullptr: nowhere. The board stays until clear().
    void set_board(ExposureBoard* board) noexcept { board_ = board; }

    /// Moves into `larger`, a table of default entries; the old table is left in it, to be freed off the
    /// core. Nothing happens unless it is larger.
    void adopt(Table& larger) noexcept {
        if (larger.size() <= table_.size()) {
            return;
        }
        const std::uint32_t before = capacity();
        for (std::uint32_t i = 0; i < before; ++i) {
            larger[i] = table_[i];
        }
        std::swap(table_, larger);
        for (std::uint32_t i = capacity(); i-- > before;) {
            table_[i].next_free = free_;
            free_ = i + 1;
        }
    }

    /// Exposes [base, base + length), length > 0; on the board only if `shown`. Returns its key, 0 when full.
    [[nodiscard]] std::uint32_t add(std::uint64_t base, std::uint32_t length, std::uint32_t access,
                                    std::uint64_t nonce, bool shown = true) noexcept {
        if (free_ == 0) {
            return 0;
        }
        const std::uint32_t index = free_ - 1;
        Region& region = table_[index];
        free_ = region.next_free;
        region = {nonce, base, length, access, (region.generation + 1) & kGenerationMask, 0, 0, 0};
        const std::uint32_t key = (region.generation << kIndexBits) | (index + 1);
        if (board_ != nullptr && shown) {
            region.place = board_->show(base, length, access, key, nonce);
        }
        return key;
    }

    /// Where on the board the peer finds what add() has just made; 0: nowhere.
    [[nodiscard]] std::uint32_t place_of(std::uint32_t key) const noexcept {
        return table_[index_of(key)].place;
    }

    /// The address of [offset, offset + length) of a region if the descriptor is right, the range inside
    /// and `access` allowed; else 0.
    [[nodiscard]] std::uint64_t resolve(std::uint32_t key, std::uint64_t nonce,
                                        std::uint32_t offset, std::uint32_t length,
                                        std::uint32_t access) const noexcept {
        const Region* region = find(key, nonce);
        if (region == nullptr || (region->access & access) != access || offset > region->length ||
            length > region->length - offset) {
            return 0;
        }
        return region->base + offset;
    }

    [[nodiscard]] bool knows(std::uint32_t key, std::uint64_t nonce) const noexcept {
        return find(key, nonce) != nullptr;
    }

    /// A transfer begins or ends; `key` as resolve() found it.
    void hold(std::uint32_t key) noexcept { ++table_[index_of(key)].uses; }
    void release(std::uint32_t key) noexcept { --table_[index_of(key)].uses; }

    enum class Removal : std::uint8_t { kRemoved, kUnknown, kInUse };
    /// From here on the peer reaches nothing of it.
    [[nodiscard]] Removal remove(std::uint32_t key, std::uint64_t nonce) noexcept {
        Region* region = find(key, nonce);
        if (region == nullptr) {
            return Removal::kUnknown;
        }
        if (region->uses != 0 || (region->place != 0 && !board_->hide(region->place))) {
            return Removal::kInUse;
        }
        vacate(index_of(key));
        return Removal::kRemoved;
    }

    /// Ends all, in use or not: the connection is gone, and the board with it.
    void clear() noexcept {
        take_off_board();
        for (std::uint32_t i = 0; i < capacity(); ++i) {
            if (table_[i].length != 0) {
                vacate(i);
            }
        }
        board_ = nullptr;
    }

    /// The connection has ended, and what was exposed stays so until it is removed: the peer finds it no more.
    void revoke_on_board() noexcept {
        for_each_shown([this](Region& region) { board_->revoke(region.place); });
    }
    /// The peer is another one from now on, which has to ask for all of it.
    void take_off_board() noexcept {
        revoke_on_board();  // all of them first: what follows costs once then
        for_each_shown([this](Region& region) {
            board_->drop(region.place);
            region.place = 0;
        });
    }

private:
    static constexpr std::uint32_t kIndexBits = 17;
    static constexpr std::uint32_t kGenerationMask = (1U << (32 - kIndexBits)) - 1;
    static_assert(kMaxRegions < 1U << kIndexBits);

    [[nodiscard]] static std::uint32_t index_of(std::uint32_t key) noexcept {
        return (key & ((1U << kIndexBits) - 1)) - 1;
    }
    [[nodiscard]] const Region* find(std::uint32_t key, std::uint64_t nonce) const noexcept {
        const std::uint32_t index = index_of(key);
        if (index >= table_.size()) {
            return nullptr;
        }
        const Region& region = table_[index];
        return region.length != 0 && region.generation == key >> kIndexBits && region.nonce == nonce
                   ? &region
                   : nullptr;
    }
    [[nodiscard]] Region* find(std::uint32_t key, std::uint64_t nonce) noexcept {
        return const_cast<Region*>(std::as_const(*this).find(key, nonce));
    }
    template <typename Visit>
    void for_each_shown(Visit visit) noexcept {
        if (board_ == nullptr) {
            return;
        }
        for (Region& region : table_) {
            if (region.length != 0 && region.place != 0) {
                visit(region);
            }
        }
    }
    void vacate(std::uint32_t index) noexcept {
        table_[index].length = 0;
        table_[index].nonce = 0;
        table_[index].place = 0;
        table_[index].next_free = free_;
        free_ = index + 1;
    }

    Table table_;
    ExposureBoard* board_ = nullptr;
    std::uint32_t free_ = 0;  // index + 1 of the first free entry
};

}  // namespace sanpoll::engine
