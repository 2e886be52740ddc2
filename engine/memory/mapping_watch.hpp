// Notices when memory that was registered is unmapped, moved or discarded, whoever does it and however.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

namespace sanpoll::engine::memory {

/// Watches ranges of this process's memory by userfaultfd's events. Ranges are registered in write-protect
/// mode and never protected, so that no page fault is ever ours to serve.
///
/// The thread that unmaps waits in the kernel until our thread has read the event. So our thread must never wait
/// for what the other may hold: it takes no lock, allocates and frees nothing, and logs nothing. Its listener
/// must not either.
///
/// Exact: where changing() was false, a change that was over before has been told when settle() returns. For a discard
/// (madvise) the kernel tells before it does it; who registers that very memory meanwhile gets its old
/// pages, and discarded_lately() says that nothing should be built on them.
class MappingWatch {
public:
    class Listener {
    public:
        /// [low, high) is not what it was, or will not be in a moment. On the watch's thread; see above.
        virtual void mapping_changed(std::uint64_t low, std::uint64_t high) noexcept = 0;

    protected:
        ~Listener() = default;
    };

    /// How long discarded_lately() remembers: longer than a thread is kept off its processor.
    static constexpr std::uint64_t kDiscardNs = 100'000'000;

    /// Starts the thread. nullptr: `error` says what is missing, and how to get it. Blocks a little.
    [[nodiscard]] static std::unique_ptr<MappingWatch> start(Listener& listener, std::string& error,
                                                             std::uint64_t discard_ns = kDiscardNs);
    /// Nobody is told any more. Whoever waits for its unmapping to be heard goes on.
    ~MappingWatch();
    MappingWatch(const MappingWatch&) = delete;
    MappingWatch& operator=(const MappingWatch&) = delete;

    // ---- any thread; system calls, no locks

    /// From now on changes of the pages of [address, address + length) are told. False: they cannot be
    /// (mapped files; nothing is there). Repeating it does nothing.
    [[nodiscard]] bool watch(std::uint64_t address, std::uint64_t length) noexcept;
    void unwatch(std::uint64_t address, std::uint64_t length) noexcept;

    /// Whether a page of the range belongs to a file or to shared memory, or it cannot be found out: such pages can
    /// be discarded by way of the file, which nobody tells. Pages that are not there count as private.
    [[nodiscard]] bool shared(std::uint64_t address, std::uint64_t length) const noexcept;

    // ---- any thread; no system call but sched_yield

    /// Whether a change is under way, or over, and its event not read yet: until then somebody else may already have
    /// other memory at the same addresses, and settle() not know of it. May stay true for good after an mremap that
    /// has failed. One system call.
    [[nodiscard]] bool changing() const noexcept;

    /// Waits until all changes that were made before have been told, but for those that changing() tells of; what
    /// the calling thread has changed is never among them. A load, nearly always.
    void settle() const noexcept {
        // Pairs with the stores in thread_main(). The thread that waits for an event to be read is woken
        // after `telling_` was set.
        if (telling_.load(std::memory_order_acquire)) [[unlikely]] {
            wait_until_told();
        }
    }
    /// Whether a part of the range was being discarded just now. After settle().
    [[nodiscard]] bool discarded_lately(std::uint64_t address, std::uint64_t length) const noexcept;

private:
    MappingWatch(Listener& listener, std::uint64_t discard_ns)
        : listener_(listener), discard_ns_(discard_ns) {}
    [[nodiscard]] std::string open();
    void thread_main() noexcept;
    void take_events() noexcept;
    void note_discard(std::uint64_t low, std::uint64_t high) noexcept;
    void wait_until_told() const noexcept;

    Listener& listener_;
    const std::uint64_t discard_ns_;
    int fd_ = -1;        // userfaultfd
    int stop_fd_ = -1;   // eventfd
    int pages_fd_ = -1;  // /proc/self/pagemap
    std::thread thread_;
    std::atomic<bool> telling_{false};

    // Written by the watch's thread while it tells. The range only grows as long as the time is not over.
    std::atomic<std::uint64_t> discarded_low_{0};
    std::atomic<std::uint64_t> discarded_high_{0};
    std::atomic<std::uint64_t> discarded_until_ns_{0};
};

}  // namespace sanpoll::engine::memory
