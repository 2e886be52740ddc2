// What the measuring loops (bench/ping_loops.hpp) want of a connection, whatever carries it.
//
// The loops are templates over this concept, so that kernel TCP and the provider run the very same pattern and no
// virtual call lies in the measured path.
#pragma once

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace sanpoll::bench {

// How one connection is used. Both ends are given the same.
struct ConnectionShape {
    std::uint32_t size = 64;     // bytes of a message
    std::uint32_t receives = 8;  // receives that each end keeps posted
    std::uint32_t sends = 2;     // sends that may be outstanding at each end
    bool fresh = false;  // a sender writes all of a message before it sends it, not its stamp only
};

// Length of the acknowledgements in a stream of messages.
inline constexpr std::uint32_t kAcknowledgementSize = 8;

// A loop gives up when nothing has come for so long: a shared machine may take a CPU away for seconds, and a peer's
// library, under a sanitizer, takes seconds to begin.
inline constexpr std::chrono::seconds kPatience{30};

// A fault of the peer or of what carries the messages, told in one plain line.
struct ConnectionFault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What a sender does with a buffer: the stamp goes to its beginning, if there is room; into each line, if `fresh`.
inline void write_message(char* buffer, std::size_t bytes, std::uint64_t stamp,
                          bool fresh) noexcept {
    constexpr std::size_t kLine = 64;
    const std::size_t end = fresh ? bytes : std::min(bytes, kLine);
    for (std::size_t at = 0; at + sizeof stamp <= end; at += kLine)
        std::memcpy(buffer + at, &stamp, sizeof stamp);
}

// What a receiver does with a message: it reads one word of each of its cache lines. Without that, a transport that
// delivers a message where the sender left it would be timed without the message ever having come.
class MessageReader {
public:
    void read(const char* message, std::size_t bytes) noexcept {
        std::uint64_t word = 0;
        for (std::size_t at = 0; at + sizeof word <= bytes; at += kLine) {
            std::memcpy(&word, message + at, sizeof word);
            sum_ += word;
        }
    }
    std::uint64_t sum() const noexcept { return sum_; }

private:
    static constexpr std::size_t kLine = 64;
    std::uint64_t sum_ = 0;
};

template <class C>
concept Connection = requires(C& connection, std::uint32_t size, std::uint64_t stamp) {
    // Starts one message of `size` bytes that begins with `stamp` (if it has room for it). May wait for an
    // outstanding send when all are in use. Throws ConnectionFault.
    connection.send(size, stamp);
    // Waits for the next message, checks that it has `size` bytes, reads it (MessageReader), answers its stamp (0 if
    // there was no room).
    // Throws ConnectionFault, also after kPatience without a message.
    { connection.receive(size) } -> std::same_as<std::uint64_t>;
    // Gives back the buffer of the message that receive() answered last: posts it again.
    connection.recycle();
    // Waits until no send is outstanding.
    connection.drain();
};

}  // namespace sanpoll::bench
