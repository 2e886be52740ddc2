// Writes a message, or a piece of one, into staging that the peer has read before.
//
// Each line that a processor writes to and another one has read must first be fetched back. Stores alone do that one
// line after the other (48 ns a line where a hand-off takes 57); asked for ahead, the fetches overlap: 1 KiB
// arrives in 480 ns instead of 800, 4 KiB in 960 instead of 1430 (bench/README.md, peer_bench).
#pragma once

#include <algorithm>
#include <cstddef>

#include "engine/fabric/copy.hpp"
#include "rings/slot.hpp"

namespace sanpoll::engine::shm {

/// Contract: one thread; add() as often as there are pieces, `length` bytes in all. No bytes beyond are touched.
class StagingWriter {
public:
    StagingWriter(std::byte* to, std::size_t length) noexcept : to_(to), left_(length) {
        fetch(0, std::min(length, kAhead));
    }

    void add(const void* from, std::size_t length) noexcept {
        const auto* in = static_cast<const std::byte*>(from);
        while (length != 0) {
            const std::size_t step = std::min(length, kBlock);
            if (left_ > kAhead) {
                fetch(kAhead, std::min(step, left_ - kAhead));
            }
            copy_long(to_, in, step);
            to_ += step;
            in += step;
            length -= step;
            left_ -= step;
        }
    }

private:
    // So many bytes are fetched before they are written; more would drive out of the cache what waits to be sent.
    static constexpr std::size_t kAhead = 4096;
    static constexpr std::size_t kBlock = 1024;

    void fetch(std::size_t from, std::size_t length) const noexcept {
        for (std::size_t at = 0; at < length; at += rings::kCacheLine) {
            __builtin_prefetch(to_ + from + at, 1, 3);
        }
    }

    std::byte* to_;
    std::size_t left_;
};

}  // namespace sanpoll::engine::shm
