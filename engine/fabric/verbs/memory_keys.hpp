// The user's memory of one connection, as the connection's device knows it.
#pragma once

#include <infiniband/verbs.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/fabric/verbs/device.hpp"
#include "engine/memory/registration_cache.hpp"
#include "engine/memory_registrar.hpp"

namespace sanpoll::engine::verbs {

/// A connection has a protection domain of its own: a key is good on the queue pairs of its domain, so no
/// other connection's peer can use it, whatever it guesses. The price is that memory which several sockets
/// register costs the device a registration for each.
///
/// Rights that the device gets:
///   local, to be read     remote read: a long message is announced to the peer, which reads it from where
///                         it lies. The peer learns the key with the first announcement.
///   local, to be written  local write. iWARP: also remote write, for there the answer to an RDMA READ comes
///                         as a write with the key of the memory that is read into.
///   exposed               remote read, remote write (and local write, which that includes). iWARP: always
///                         remote read, so that a write can be confirmed by reading; that memory which
///                         was exposed for writing only is not read is then for the peer's provider to see to
///
/// Exposed memory gets an address of its own that says nothing about where it lies, and another one each
/// time, so that a key which the device uses again does not fit an old descriptor. iWARP devices cannot be
/// relied on for that: there it is the process's address.
///
/// A local registration may be another's: memory of an arena that is only received into uses the arena's, made once for
/// the connection, which gives the peer no right at all; other memory uses one that the registration cache has
/// kept, if that is on. Then the rights above last until the cache lets go of it.
/// What is exposed is never kept.
///
/// Made and ended on the control thread. lkey() and rkey() belong to the polling core; the others are for
/// any thread.
class MemoryKeys final : public MemoryRegistrar {
public:
    /// nullptr: `error` says why. Blocks. The device outlives it.
    [[nodiscard]] static std::unique_ptr<MemoryKeys> make(const Device& device, std::string& error);
    ~MemoryKeys() { end(); }
    MemoryKeys(const MemoryKeys&) = delete;
    MemoryKeys& operator=(const MemoryKeys&) = delete;

    /// For the connection's queue pair and everything else of it. nullptr after end().
    [[nodiscard]] ibv_pd* pd() const noexcept { return pd_; }

    /// Deregisters everything and gives the domain back; what else was made in it is gone before. Later
    /// calls answer kNotOpen. Waits for a registration that is being made. Idempotent.
    void end() noexcept;

    /// Registrations that there are.
    [[nodiscard]] std::size_t local_count() const;
    [[nodiscard]] std::size_t exposed_count() const;

    // ---- the polling core; lock-free

    /// The key of a region that the core holds (RegionTable::hold), for work requests of this side.
    [[nodiscard]] std::uint32_t lkey(RegionRef ref) const noexcept {
        return static_cast<std::uint32_t>(keys(ref) >> 32);
    }
    /// The key by which the peer may read it; 0 if it may not.
    [[nodiscard]] std::uint32_t rkey(RegionRef ref) const noexcept {
        return static_cast<std::uint32_t>(keys(ref));
    }

    /// Whether the peer may reach anything that was exposed. Only to be asked when nobody exposes or conceals
    /// any more: the socket has been closed.
    [[nodiscard]] bool exposes() const noexcept { return exposes_.load(std::memory_order_relaxed); }

    /// iWARP: a byte of nobody's that the answers which confirm writes are read into.
    [[nodiscard]] ibv_sge sink() const noexcept {
        return {reinterpret_cast<std::uint64_t>(&sink_), sizeof(sink_), sink_mr_->lkey};
    }

    // ---- MemoryRegistrar

    [[nodiscard]] Status add_local(RegionRef ref, std::uint64_t address, std::uint64_t length,
                                   std::uint32_t access) override;
    void remove_local(RegionRef ref) noexcept override;
    [[nodiscard]] Status expose(std::uint32_t ref, std::uint64_t address, std::uint64_t length,
                                std::uint32_t access, DeviceKey& key) override;
    [[nodiscard]] Status conceal(std::uint32_t ref) noexcept override;

private:
    // By the region's place in its table, in chunks of 8, 16, 32, … that never move. A region that is held
    // is not deregistered, so its entry does not change under the core's eyes.
    struct Entry {
        std::atomic<std::uint64_t> keys{0};  // lkey << 32 | rkey
        // Under the mutex.
        ibv_mr* mr = nullptr;
        memory::RegistrationCache::Handle kept = 0;  // not 0: it is the cache's
        bool of_arena = false;
    };
    // What the cache may keep of this connection.
    struct Kept final : memory::RegistrationCache::Domain {
        explicit Kept(const Device& of) : device(of) {}
        [[nodiscard]] bool drop(void* registration) noexcept override;
        const Device& device;
        std::mutex mutex;
        std::vector<ibv_mr*> refused;  // by the device; tried again at the end
    };
    struct ArenaKey {
        std::uint32_t id;
        ibv_mr* mr;  // nullptr: it could not be had
    };
    static constexpr std::uint32_t kFirstChunk = 8;
    static constexpr std::uint32_t kChunks = 16;

    explicit MemoryKeys(const Device& device) : device_(device) {}

    [[nodiscard]] Entry* entry(RegionRef ref) const noexcept;
    [[nodiscard]] Entry* make_entry(RegionRef ref);
    [[nodiscard]] std::uint64_t keys(RegionRef ref) const noexcept {
        const Entry* found = entry(ref);
        // Pairs with the release in add_local().
        return found != nullptr ? found->keys.load(std::memory_order_acquire) : 0;
    }
    [[nodiscard]] ibv_mr* arena_mr(std::uint64_t address, std::uint64_t length, int access);
    [[nodiscard]] ibv_mr* register_local(std::uint64_t address, std::uint64_t length,
                                         std::uint32_t access, Entry& place);
    [[nodiscard]] bool let_go(Entry& place) noexcept;
    [[nodiscard]] Status registration_failed(std::uint64_t length) const;
    [[nodiscard]] static bool deregister(const Device& device, ibv_mr* mr) noexcept;

    const Device& device_;
    ibv_pd* pd_ = nullptr;
    std::byte sink_{};
    ibv_mr* sink_mr_ = nullptr;  // nullptr unless iWARP
    std::atomic<Entry*> chunks_[kChunks] = {};

    mutable std::mutex mutex_;  // held while the device registers
    bool ended_ = false;
    std::size_t local_count_ = 0;
    std::unique_ptr<Kept> kept_;  // nullptr: nothing is kept
    std::vector<ArenaKey> arenas_;
    std::vector<std::unique_ptr<Entry[]>> storage_;
    std::unordered_map<std::uint32_t, ibv_mr*> exposed_;  // by RemoteRegions' key
    // Not empty. Orders nothing: the close that the core answers by asking comes after the last change.
    std::atomic<bool> exposes_{false};
};

}  // namespace sanpoll::engine::verbs
