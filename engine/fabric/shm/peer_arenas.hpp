// The arenas of the process at the other end of a link: mapped here, to be copied out of.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "engine/memory/arena.hpp"

namespace sanpoll::engine::shm {

/// Whether the two ends of a link map each other's arenas.
enum class Sharing : std::uint8_t {
    kOffHere,    // Config::share_arenas
    kOffThere,   // the peer's
    kOtherUser,  // it does not run under our user id
    kNoneYet,    // they would, and neither has a shareable arena
    kShared,     // at least one is mapped
    kStores,     // and one of the peer's so that we may write to it
};

/// For people; what is not shared is named with the remedy. Lasts for ever.
[[nodiscard]] std::string_view to_words(Sharing sharing) noexcept;

/// What a peer says of an arena that it offers, beside the descriptor.
struct ArenaOffer {
    std::uint32_t id = 0;  // the peer's; 1 to memory::kMaxArenas
    std::uint64_t size = 0;
    std::uint64_t offset = 0;  // in its file
};

/// An arena that is mapped for reading, and for writing if both ends want that. A forked child does not have it.
class ArenaMapping {
public:
    ArenaMapping() noexcept = default;
    ~ArenaMapping();
    ArenaMapping(ArenaMapping&& other) noexcept { swap(other); }
    ArenaMapping& operator=(ArenaMapping&& other) noexcept {
        swap(other);
        return *this;
    }

    /// Maps what a peer offers; `fd` is borrowed. Control thread: it blocks. Returns an empty string, or why
    /// the offer is not taken:
    ///   - a file that can shrink, is smaller than offered, or is no memory file: a copy out of it could end
    ///     in SIGBUS, whenever the peer likes;
    ///   - hugepages in whose file holes can be made, for the same reason: unlike an ordinary page, one
    ///     that is gone need not come again (F_SEAL_FUTURE_WRITE forbids holes);
    ///   - a size or place that no arena has, or no address space for it.
    /// With `write` it is mapped for writing too if its file allows that. One of hugepages does not (the
    /// seal that keeps it without holes also forbids new writers): it is mapped for reading then. Of ordinary pages
    /// only those are written to that the owner has exposed, and populated before (Arenas::populate), or into which it receives
    /// a message, where its own core has written before (memory::KnownPages): a page that its file does not have yet would
    /// be taken by whoever touches it first. One that is there is mapped here at the first touch, by a short fault of the core that
    /// touches it, once a page. That is the owner's word: one that lies, or makes holes in its file, has its
    /// peer pay for pages.
    [[nodiscard]] std::string open(int fd, const ArenaOffer& offer, bool write = false);

    [[nodiscard]] const std::byte* base() const noexcept { return base_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] bool writable() const noexcept { return writable_; }
    /// Only where it is writable.
    [[nodiscard]] std::byte* to_write() const noexcept { return base_; }

private:
    void swap(ArenaMapping& other) noexcept;

    std::byte* base_ = nullptr;
    std::uint64_t size_ = 0;
    bool writable_ = false;
};

/// All of one peer's. Only grows, and ends with the link: who ends it sees to it that nobody copies any more
/// (ShmPort::remove_link holds the core's token, and copies are made under the token only).
class PeerArenas {
public:
    [[nodiscard]] static bool is_id(std::uint32_t id) noexcept {
        return id - 1 < memory::kMaxArenas;
    }
    /// Token holder; `id` is one, and not there yet.
    void add(std::uint32_t id, ArenaMapping mapping) noexcept {
        writable_ = writable_ || mapping.writable();
        mappings_[id - 1] = std::move(mapping);
        ++count_;
    }
    /// Token holder. Whether any may be written to.
    [[nodiscard]] bool writable() const noexcept { return writable_; }
    [[nodiscard]] bool has(std::uint32_t id) const noexcept {
        return mappings_[id - 1].base() != nullptr;
    }
    /// Token holder. Whether there are any.
    [[nodiscard]] bool empty() const noexcept { return count_ == 0; }

    /// Token holder, data path. Where [offset, offset + length) of the peer's arena `id` is here; nullptr
    /// unless all of it lies in an arena that is mapped. All three are a peer's word.
    [[nodiscard]] const std::byte* find(std::uint32_t id, std::uint64_t offset,
                                        std::uint64_t length) const noexcept {
        if (!is_id(id)) [[unlikely]] {
            return nullptr;
        }
        const ArenaMapping& mapping = mappings_[id - 1];
        if (offset > mapping.size() || length > mapping.size() - offset || mapping.size() == 0)
            [[unlikely]] {
            return nullptr;
        }
        return mapping.base() + offset;
    }
    /// The same, to write to; nullptr also if that is not allowed.
    [[nodiscard]] std::byte* find_to_write(std::uint32_t id, std::uint64_t offset,
                                           std::uint64_t length) const noexcept {
        return find(id, offset, length) != nullptr && mappings_[id - 1].writable()
                   ? mappings_[id - 1].to_write() + offset
                   : nullptr;
    }

private:
    std::array<ArenaMapping, memory::kMaxArenas> mappings_;
    std::uint32_t count_ = 0;
    bool writable_ = false;
};

/// Which of our own arenas the peer has mapped. Token holder.
class LentArenas {
public:
    void add(std::uint32_t id) noexcept { ids_ |= std::uint64_t{1} << (id - 1); }
    [[nodiscard]] bool empty() const noexcept { return ids_ == 0; }

    struct Place {
        std::uint32_t arena = 0;  // 0: the peer cannot reach it
        std::uint64_t offset = 0;
        memory::KnownPages* known = nullptr;  // nullptr: it cannot write there, or nothing is known
    };
    /// Data path. Where the peer finds [address, address + length), which must lie in one of them.
    [[nodiscard]] Place place_of(std::uint64_t address, std::uint64_t length) const noexcept {
        const memory::Arena* arena = memory::Arenas::of_process().find(address, length);
        if (arena == nullptr || (ids_ >> (arena->id - 1) & 1) == 0) {
            return {};
        }
        return {arena->id, address - arena->base, arena->known.get()};
    }

private:
    static_assert(memory::kMaxArenas <= 64);
    std::uint64_t ids_ = 0;
};

}  // namespace sanpoll::engine::shm
