// What the messages of the mixed traffic are: for each stream (one direction of one socket) and number,
// the length and every byte follow from the seed. Both ends know what must come.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace sanpoll::system_test {

inline constexpr std::uint32_t kLongestMessage = 16U << 20;
inline constexpr std::uint32_t kChecksumBytes = sizeof(std::uint64_t);

[[nodiscard]] constexpr std::uint64_t mixed(std::uint64_t value) noexcept {
    value += 0x9E3779B97F4A7C15U;  // the steps of splitmix64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
    return value ^ (value >> 31);
}

/// Four lanes, so that checking costs less than what is checked. Depends on every byte and its place.
[[nodiscard]] inline std::uint64_t checksum(std::uint64_t start, const std::byte* data,
                                            std::size_t length) noexcept {
    constexpr std::uint64_t kPrime = 0x9FB21C651E98DF25U;
    std::uint64_t lanes[4] = {start, start + 1, start + 2, start + 3};
    std::size_t at = 0;
    for (; at + 32 <= length; at += 32) {
        for (std::size_t lane = 0; lane < 4; ++lane) {
            std::uint64_t word;
            std::memcpy(&word, data + at + lane * 8, sizeof(word));
            lanes[lane] = std::rotl(lanes[lane] ^ word, 29) * kPrime;
        }
    }
    std::uint64_t tail = length;
    for (; at < length; ++at) {
        tail = std::rotl(tail ^ static_cast<std::uint64_t>(data[at]), 11) * kPrime;
    }
    return mixed(lanes[0] ^ mixed(lanes[1] ^ mixed(lanes[2] ^ mixed(lanes[3] ^ mixed(tail)))));
}

/// Random bytes that bodies are cut from; the same in every process with the same seed.
class Pool {
public:
    static constexpr std::size_t kOffsets = 1U << 16;

    explicit Pool(std::uint64_t seed) : words_((kLongestMessage + kOffsets) / 8) {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            words_[i] = mixed(seed + i);
        }
    }
    [[nodiscard]] std::byte* data() noexcept { return reinterpret_cast<std::byte*>(words_.data()); }
    [[nodiscard]] std::size_t bytes() const noexcept { return words_.size() * 8; }

private:
    std::vector<std::uint64_t> words_;
};

/// One message: a checksum over its identity and its body, then the body, a piece of the pool. One that
/// is too short for a checksum consists of bytes of its identity.
struct Message {
    std::uint64_t identity;
    std::uint32_t length;
    std::uint32_t offset;  // of the body in the pool

    [[nodiscard]] std::uint32_t body() const noexcept { return length - kChecksumBytes; }
    [[nodiscard]] bool has_checksum() const noexcept { return length >= kChecksumBytes; }

    /// The first bytes of the message, up to kChecksumBytes.
    [[nodiscard]] std::uint64_t head(const std::byte* pool) const noexcept {
        return has_checksum() ? checksum(identity, pool + offset, body()) : identity;
    }
    [[nodiscard]] bool is(const std::byte* received) const noexcept {
        if (!has_checksum()) {
            return std::memcmp(received, &identity, length) == 0;
        }
        std::uint64_t head = 0;
        std::memcpy(&head, received, kChecksumBytes);
        return head == checksum(identity, received + kChecksumBytes, body());
    }
};

/// A stream's messages: mostly small, lengths of a class equally likely by their logarithm. On average
/// some 900 bytes.
class Stream {
public:
    Stream(std::uint64_t seed, std::uint32_t id, bool with_longest) noexcept
        : seed_(mixed(seed ^ (std::uint64_t{id} << 32))), with_longest_(with_longest) {}

    [[nodiscard]] Message message(std::uint64_t number) const noexcept {
        const std::uint64_t identity = mixed(seed_ + number);
        const std::uint64_t random = mixed(identity);
        return {identity, length(number, random),
                static_cast<std::uint32_t>((random >> 8) % Pool::kOffsets) & ~7U};
    }

    /// A number for decisions about a message that the other end need not know.
    [[nodiscard]] std::uint64_t dice(std::uint64_t number) const noexcept {
        return mixed(~seed_ + number);
    }

private:
    [[nodiscard]] std::uint32_t length(std::uint64_t number, std::uint64_t random) const noexcept {
        if (with_longest_ && number == 7) {
            return kLongestMessage;
        }
        const auto part = static_cast<std::uint32_t>(random % 1000000);
        const auto dice = static_cast<std::uint32_t>(random >> 32);
        const auto between_powers = [dice](std::uint32_t first, std::uint32_t doublings) {
            const std::uint32_t low = first << (dice % doublings);
            return low + 1 + (dice >> 4) % low;
        };
        if (part < 20000) {
            return 0;
        }
        if (part < 550000) {
            return 1 + dice % 64;
        }
        if (part < 930000) {
            return between_powers(64, 4);  // to 1 KiB
        }
        if (part < 997000) {
            return between_powers(1U << 10, 4);  // to 16 KiB
        }
        if (part < 999970) {
            return between_powers(1U << 14, 4);  // to 256 KiB
        }
        return between_powers(1U << 18, 6);  // to 16 MiB
    }

    std::uint64_t seed_;
    bool with_longest_;
};

}  // namespace sanpoll::system_test
