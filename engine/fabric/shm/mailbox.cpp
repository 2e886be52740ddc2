#include "engine/fabric/shm/mailbox.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace sanpoll::engine::shm {

namespace {
constexpr std::size_t kHeadBytes = offsetof(ControlMessage, data);
}

bool MailWriter::put(const ControlMessage& message, bool& knock) noexcept {
    if (written_ == limit_) {
        // Acquire pairs with the release in take(): what was read before may be overwritten.
        const std::uint32_t taken = memory_->taken.load(std::memory_order_acquire);
        if (written_ - taken > MailboxMemory::kLetters) {
            return false;  // it took what was never written
        }
        limit_ = taken + MailboxMemory::kLetters;
        if (written_ == limit_) {
            return false;
        }
    }
    // Most letters have no data: three lines and not seven.
    std::memcpy(memory_->letters[written_ % MailboxMemory::kLetters].bytes, &message,
                kHeadBytes + message.data_length);
    // Sequentially consistent as the load behind it; pairs with arm(): either we see the flag or the reader's
    // next look sees the letter. Its release half pairs with the acquire in take().
    memory_->written.store(++written_, std::memory_order_seq_cst);
    knock = memory_->armed.load(std::memory_order_seq_cst) != 0 &&
            memory_->armed.exchange(0, std::memory_order_acq_rel) != 0;
    return true;
}

MailReader::Found MailReader::take(ControlMessage& message) noexcept {
    // Pairs with the store in put(), see there.
    const std::uint32_t written = memory_->written.load(std::memory_order_seq_cst);
    if (written == taken_) {
        return Found::kNothing;
    }
    if (written - taken_ > MailboxMemory::kLetters) {
        return Found::kLie;
    }
    const std::byte* letter = memory_->letters[taken_ % MailboxMemory::kLetters].bytes;
    std::memcpy(static_cast<void*>(&message), letter, kHeadBytes);
    if (message.data_length > kMaxConnectData) {
        return Found::kLie;
    }
    std::memcpy(message.data, letter + kHeadBytes, message.data_length);
    // Pairs with the acquire in put().
    memory_->taken.store(++taken_, std::memory_order_release);
    return Found::kLetter;
}

void MailReader::arm() noexcept { memory_->armed.store(1, std::memory_order_seq_cst); }

}  // namespace sanpoll::engine::shm
