// What travels through the rings that are measured: a number, filled up to 8 or 64 bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sanpoll::bench {

inline constexpr std::uint32_t kRingCapacity = 1024;  // elements; the same for every ring
inline constexpr std::size_t kRingBurst = 32;

template <std::size_t Bytes>
struct Element {
    static_assert(Bytes % sizeof(std::uint64_t) == 0);
    std::uint64_t words[Bytes / sizeof(std::uint64_t)] = {};  // the first one is the number

    [[nodiscard]] std::uint64_t number() const noexcept { return words[0]; }
    void number(std::uint64_t value) noexcept { words[0] = value; }
};

static_assert(sizeof(Element<8>) == 8 && sizeof(Element<64>) == 64);

// Makes the compiler believe that the whole element is read and was written here: otherwise it leaves out
// the copying of what nobody looks at, for those rings that it can look into.
template <typename T>
inline void touch(T& element) noexcept {
    asm volatile("" : : "r"(&element) : "memory");
}

}  // namespace sanpoll::bench
