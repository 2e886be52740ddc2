// Lines that two threads (or processes) write in turn: the shortest way of a question and its answer.
//
// In a ring the answer has a line of its own, which its writer must first take back from the thread that waits for it by
// looking at it, and which that thread then fetches again: two transfers a hand-off. Here the answer goes into the line
// that has just brought the question. Its writer has it already, so a hand-off is one transfer, and there is no quicker
// way between two processors. The price: only who has the turn may write, that is who wrote last must be answered first. So
// it is no queue, but stands beside two rings, which carry whatever finds the turn to be the other's; see duplex.hpp.
//
// A longer message goes on in the lines behind, which travel at the same time; they need not be taken back either.
//
// The line says by itself that it is full: its first word changes. Either end keeps the word that it last
// wrote or read there; what it writes must be another one (would_show), else it does not write here. Words are stored
// xored with a key of the end's own, so that an echo is a change. No byte of the line is needed for that, so a payload
// of a whole line travels in one line.
//
// Beside the line each end has a note, for what is the same from message to message (where to, how long): written
// only when it changes, it stays in the reader's cache, and costs a second line only when it does change. It belongs to
// the message that is published after it, since the writer cannot touch it again before it is answered.
//
// Zero-filled memory is a valid line; the first end has the first turn. The peer's hand is not trusted: whatever it
// writes, an end reads its own line and note and nothing else; what is in them is for the caller to check.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "rings/slot.hpp"

namespace sanpoll::rings {

struct TurnNote {
    std::uint64_t words[2];
    [[nodiscard]] bool operator==(const TurnNote&) const noexcept = default;
};

/// The memory, which both ends map.
struct TurnLine {
    static constexpr std::uint32_t kBytes = 4096 + kSlotStride;  // the longest message
    struct alignas(kSlotStride) Message {
        std::atomic<std::uint64_t> first;
        std::uint64_t rest[kBytes / sizeof(std::uint64_t) - 1];
    };
    struct alignas(kSlotStride) Note {
        std::uint64_t words[2];
    };
    Message message;
    Note notes[2];  // of the first end, of the second
};
static_assert(sizeof(TurnLine) == TurnLine::kBytes + 2 * kSlotStride);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// One end. Exactly one thread at a time; moving it to another thread needs a happens-before edge of the caller's own.
/// Nothing blocks, allocates or calls the system.
class TurnEnd {
public:
    static constexpr std::uint32_t kBytes = TurnLine::kBytes;  // of a message
    static constexpr std::uint32_t kRest =
        kCacheLine - sizeof(std::uint64_t);  // of its first line, behind the first word

    TurnEnd() = default;

    /// `line` must stay mapped while the end is in use, and be fresh (zero-filled).
    TurnEnd(TurnLine& line, bool first) noexcept
        : line_(&line),
          own_note_(&line.notes[first ? 0 : 1]),
          peer_note_(&line.notes[first ? 1 : 0]),
          key_(kKeys[first ? 0 : 1]),
          peer_key_(kKeys[first ? 1 : 0]),
          mine_(first) {}

    // ---- writing

    /// Whether the turn is ours. The rest is to be called only then.
    [[nodiscard]] bool mine() const noexcept { return mine_; }
    /// Whether the peer would see a message that begins with `first`.
    [[nodiscard]] bool would_show(std::uint64_t first) const noexcept {
        return (first ^ key_) != seen_;
    }
    /// Where the other bytes of the message go: kRest in its first line, which should be written last since the peer may
    /// look at it.
    [[nodiscard]] std::byte* rest() noexcept {
        return reinterpret_cast<std::byte*>(line_->message.rest);
    }
    /// What the note holds.
    [[nodiscard]] const TurnNote& note() const noexcept { return note_; }
    /// Goes with the next message and all that follow, until it is another one.
    void set_note(const TurnNote& note) noexcept {
        if (note != note_) [[unlikely]] {
            note_ = note;
            own_note_->words[0] = note.words[0];
            own_note_->words[1] = note.words[1];
        }
    }
    /// The message is there, and the turn the peer's. Only if would_show(first).
    void publish(std::uint64_t first) noexcept {
        seen_ = first ^ key_;
        mine_ = false;
        // Pairs with the acquire in look(): rest and note are the peer's to read, and what we read of its last
        // message was read before it is written over.
        line_->message.first.store(seen_, std::memory_order_release);
    }

    // ---- reading

    /// True when a message of the peer is there, and remains so until take().
    [[nodiscard]] bool look() noexcept {
        if (mine_) {
            return false;
        }
        // Pairs with the release in publish().
        arrived_ = line_->message.first.load(std::memory_order_acquire);
        return arrived_ != seen_;
    }
    /// Its first word. After look().
    [[nodiscard]] std::uint64_t first() const noexcept { return arrived_ ^ peer_key_; }
    [[nodiscard]] const std::byte* rest() const noexcept {
        return reinterpret_cast<const std::byte*>(line_->message.rest);
    }
    /// The peer's note, each word read once.
    [[nodiscard]] TurnNote peer_note() const noexcept {
        return {{load_once(peer_note_->words[0]), load_once(peer_note_->words[1])}};
    }
    /// The message has been read; the turn is ours.
    void take() noexcept {
        seen_ = arrived_;
        mine_ = true;
    }

private:
    // They differ in the highest bit, too: words below 2^63 never look alike from either end (but a fresh line, which is
    // zero, looks like the first end's key).
    static constexpr std::uint64_t kKeys[2] = {0x1E3779B97F4A7C15, 0xD851F42D4C957F2D};

    TurnLine* line_ = nullptr;
    TurnLine::Note* own_note_ = nullptr;
    const TurnLine::Note* peer_note_ = nullptr;
    std::uint64_t key_ = 0;
    std::uint64_t peer_key_ = 0;
    std::uint64_t seen_ = 0;     // the first word as we wrote it or took it last
    std::uint64_t arrived_ = 0;  // as look() found it
    TurnNote note_{};            // what our note holds
    bool mine_ = false;
};

}  // namespace sanpoll::rings
