// Registrations that outlive their deregistration, so that the next one of the same memory finds them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "engine/memory/mapping_watch.hpp"
#include "engine/region_index.hpp"

namespace sanpoll::engine::memory {

/// Off unless the user wants it. Holds registrations of memory ranges for domains: a domain is where a
/// registration is good, that is one connection's device, or, for what only asks whether memory is fit for it, the
/// process. A registration that is used or kept may be found by any range within it.
///
/// A range whose mapping has changed is stale at once: nobody finds it from then on (MappingWatch says how
/// exact that is). It is dropped when its last user has released it, by a thread of the cache's own if nobody
/// else comes to it: the thread that hears of the change must not.
///
/// What is kept stays pinned. Bounds: a number of registrations and of bytes, used ones included; the least
/// recently used one that nobody uses goes first. What finds no room is not kept.
///
/// Any thread may call anything; off the data path: they take a lock and may register or drop memory,
/// which may block. find() of what is there is a search and, for a device's domain, one system call.
class RegistrationCache final : private MappingWatch::Listener {
public:
    struct Limits {
        std::uint64_t bytes = 1ULL << 30;
        std::uint32_t entries = 16384;
        std::uint64_t discard_ns = MappingWatch::kDiscardNs;
    };
    /// One use of a registration. 0: none.
    using Handle = std::uint32_t;

    /// Ends after forget() only.
    class Domain {
    public:
        Domain() = default;
        Domain(const Domain&) = delete;
        Domain& operator=(const Domain&) = delete;
        /// Ends a registration that complete() was given. False: it could not be ended; the domain sees to that
        /// later, and the cache does not know it any more. No lock of the cache is held. May block.
        [[nodiscard]] virtual bool drop(void* registration) noexcept = 0;

    protected:
        ~Domain() = default;

    private:
        friend class RegistrationCache;
        RegionIndex ready_[4];  // by access
        std::uint32_t first_ = kNone;
        std::uint32_t dropping_ = 0;
    };

    struct Counts {
        std::uint64_t hits = 0;
        std::uint64_t misses = 0;
        std::uint32_t entries = 0;  // used or kept
        std::uint64_t bytes = 0;    // of them
        std::uint64_t stale = 0;    // dropped because their memory had changed
        std::uint64_t evicted = 0;  // dropped for want of room
    };

    /// Of this process; never destroyed, so that late callers find it off.
    static RegistrationCache& of_process();

    RegistrationCache() = default;
    ~RegistrationCache() { stop(); }
    RegistrationCache(const RegistrationCache&) = delete;
    RegistrationCache& operator=(const RegistrationCache&) = delete;

    /// On. Empty, or why it stays off and what would help. Blocks a little.
    [[nodiscard]] std::string start(const Limits& limits);
    /// Off. Domains have been forgotten before; the process's own is by this.
    void stop();
    // Acquire pairs with the release in start(): whoever sees it on finds everything made.
    [[nodiscard]] bool on() const noexcept { return on_.load(std::memory_order_acquire); }

    /// A registration of `domain` that contains [address, address + length) and allows `access` (kRead, kWrite),
    /// for its user. nullptr and 0 if there is none. `exactly`: and allows nothing else.
    struct Found {
        Handle handle = 0;
        void* registration = nullptr;
    };
    [[nodiscard]] Found find(Domain& domain, std::uint64_t address, std::uint64_t length,
                             std::uint32_t access, bool exactly = false);

    /// After a look in vain, before the memory is registered: makes room, and notices from here on what
    /// happens to the memory. 0: this registration will not be kept. Then complete() or cancel().
    [[nodiscard]] Handle begin(Domain& domain, std::uint64_t address, std::uint64_t length,
                               std::uint32_t access);
    /// The memory is registered; the caller is its first user.
    void complete(Handle handle, void* registration);
    void cancel(Handle handle);
    /// One user less.
    void release(Handle handle);

    /// Drops what nobody uses until `bytes` have gone, least recently used first. Whether there was anything. For
    /// who can pin no more.
    bool shrink(std::uint64_t bytes);
    /// The domain ends: drops all it has. Nobody uses any of it, or ever will.
    void forget(Domain& domain);
    /// Before [address, address + length) changes: afterwards nothing of it is kept. Registrations in use are not
    /// kept either, when they are released. False: something of it could not be dropped.
    bool invalidate(std::uint64_t address, std::uint64_t length);

    // ---- memory that may be read or written by the process, as far as is known

    /// Whether the range lies in one that was noted to be fit for `access`, or for more, and has been mapped all the
    /// time. Nobody tells of rights that mprotect() takes away: who does that says so by invalidate().
    [[nodiscard]] bool known_fit(std::uint64_t address, std::uint64_t length, std::uint32_t access);
    /// `fit` finds out whether it is. Returns what it says, and remembers.
    template <typename Fit>
    bool note_fit(std::uint64_t address, std::uint64_t length, std::uint32_t access, Fit fit) {
        const Handle handle = begin(process_, address, length, access);
        const bool answer = fit();
        if (handle != 0) {
            if (answer) {
                complete(handle, nullptr);
                release(handle);
            } else {
                cancel(handle);
            }
        }
        return answer;
    }

    [[nodiscard]] Counts counts() const;

private:
    static constexpr std::uint32_t kNone = 0xFFFFFFFF;

    struct Entry {
        std::uint64_t base = 0;
        std::uint64_t end = 0;
        std::uint64_t pinned = 0;  // bytes that count
        std::uint32_t access = 0;
        std::uint32_t users = 0;
        Domain* domain = nullptr;
        void* registration = nullptr;
        std::uint32_t newer =
            kNone;  // in the order of use, or the chain of free ones, or of those to be dropped
        std::uint32_t older = kNone;
        std::uint32_t next_in_domain = kNone;
        std::uint32_t previous_in_domain = kNone;
        std::uint32_t next_found = kNone;  // while invalidate() looks
        bool ready = false;                // may be found; users and order mean something
        bool watched =
            false;  // else never to be unwatched: it may be another program part's userfaultfd
        // The watch's thread sets them; who has the lock takes them back.
        std::atomic<bool> stale{
            false};  // not to be found, nor kept. May be set of an entry that is used anew
        std::atomic<bool> changed{false};   // its mapping has, so that the pages may be anybody's
        std::atomic<bool> on_stack{false};  // of stale_
        std::atomic<std::uint32_t> next_stale{kNone};
    };
    struct ProcessDomain final : Domain {
        bool drop(void*) noexcept override { return true; }
    };

    void mapping_changed(std::uint64_t low, std::uint64_t high) noexcept override;
    void hear(std::uint32_t& chain) noexcept;
    void take_out(std::uint32_t index, std::uint32_t& chain) noexcept;
    bool drop(std::unique_lock<std::mutex>& lock, std::uint32_t chain);
    void free_entry(std::uint32_t index) noexcept;
    [[nodiscard]] std::uint32_t make_room(std::unique_lock<std::mutex>& lock, std::uint64_t bytes);
    [[nodiscard]] std::uint32_t look(Domain& domain, std::uint64_t address, std::uint64_t length,
                                     std::uint32_t access, bool exactly) noexcept;
    void withdraw(std::uint32_t index) noexcept;
    void becomes_newest(std::uint32_t index) noexcept;
    void leave_order(std::uint32_t index) noexcept;
    void reap() noexcept;

    std::atomic<bool> on_{false};

    // For the watch's thread: it finds what has changed, marks it, and leaves it on the stack for who has the lock.
    RegionIndex all_;
    std::unique_ptr<Entry[]> entries_;
    std::atomic<std::uint32_t> stale_{kNone};
    std::atomic<std::uint32_t> stale_count_{0};  // the reaper waits for it to change

    mutable std::mutex mutex_;  // guards what follows, and all writing above
    std::condition_variable dropped_;
    Limits limits_;
    Counts counts_;
    std::uint32_t made_ = 0;
    std::uint32_t free_ = kNone;
    std::uint32_t newest_ = kNone;
    std::uint32_t oldest_ = kNone;
    std::uint32_t dropping_ = 0;
    bool stopping_ = false;
    ProcessDomain process_;
    std::unique_ptr<MappingWatch> watch_;
    std::thread reaper_;
};

}  // namespace sanpoll::engine::memory
