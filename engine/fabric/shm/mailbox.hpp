// Letters between the control planes of two engines that have a link: connection management without the kernel.
#pragma once

#include <atomic>
#include <cstdint>

#include "engine/fabric/shm/rendezvous.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine::shm {

/// One direction, in the segment. A letter is a ControlMessage that carries no descriptor; it could go by the
/// control socket as well, and does if there is no room. The reader takes all letters before it takes anything
/// from the socket, so a message there never comes before a letter that was written earlier; the reverse may
/// happen.
///
/// The reader's `armed` says that nobody looks here: who writes then takes the flag and says kMail by the
/// socket, which wakes the control thread.
struct MailboxMemory {
    static constexpr std::uint32_t kLetters = 32;
    struct alignas(rings::kCacheLine) Letter {
        std::byte bytes[sizeof(ControlMessage)];
    };
    alignas(rings::kCacheLine) std::atomic<std::uint32_t> written;  // letters since the beginning
    // The reader's line.
    alignas(rings::kCacheLine) std::atomic<std::uint32_t> taken;
    std::atomic<std::uint32_t> armed;
    Letter letters[kLetters];
};

/// The writing end. With the turn of the control thread.
class MailWriter {
public:
    explicit MailWriter(MailboxMemory& memory) noexcept : memory_(&memory) {}

    /// False: there is no room, or the peer lies about what it has taken. `knock`: say kMail.
    [[nodiscard]] bool put(const ControlMessage& message, bool& knock) noexcept;

private:
    MailboxMemory* memory_;
    std::uint32_t written_ = 0;
    std::uint32_t limit_ = MailboxMemory::kLetters;  // written_ when there is no room left
};

/// The reading end. With the turn. Whatever the peer writes, only the letters are read, each once.
class MailReader {
public:
    enum class Found : std::uint8_t { kNothing, kLetter, kLie };

    explicit MailReader(MailboxMemory& memory) noexcept : memory_(&memory) {}

    /// Costs a load from a line that changes only when there is something.
    [[nodiscard]] bool anything() const noexcept {
        // Relaxed: a hint; take() looks properly.
        return memory_->written.load(std::memory_order_relaxed) != taken_;
    }
    /// The next letter, copied out; what it says is still to be checked, as if it had come by the socket.
    [[nodiscard]] Found take(ControlMessage& message) noexcept;

    /// Asks for a kMail at the next letter. What was written before is seen by a take() after this.
    void arm() noexcept;
    /// Whether no kMail has been asked for, or one is on its way.
    [[nodiscard]] bool disarmed() const noexcept {
        // Relaxed, pairs with the exchange in MailWriter::put: its letter is read by a take() after arm().
        return memory_->armed.load(std::memory_order_relaxed) == 0;
    }

private:
    MailboxMemory* memory_;
    std::uint32_t taken_ = 0;
};

}  // namespace sanpoll::engine::shm
