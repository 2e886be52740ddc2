// One face for every ring that is measured: a ring there, a ring back, and the loops of both threads.
//
// The loops, not single calls, are virtual, so that each ring's own code is compiled into them. A number that is
// not the one expected counts as an error; a ring that loses or doubles something is no peer.
//
// Threads: put and take, put_bursts and take_bursts, ask and answer are called by two threads at the same time, with
// the same count, each pair of calls after the one before has returned on both sides. They spin.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/ring_peers/element.hpp"

namespace sanpoll::bench {

class RingPair {
public:
    virtual ~RingPair() = default;

    virtual void put(std::uint64_t count) = 0;                          // one by one
    [[nodiscard]] virtual std::uint64_t take(std::uint64_t count) = 0;  // errors
    virtual void put_bursts(std::uint64_t count) = 0;                   // of kRingBurst
    [[nodiscard]] virtual std::uint64_t take_bursts(std::uint64_t count) = 0;
    [[nodiscard]] virtual std::uint64_t ask(std::uint64_t count) = 0;  // round trips over two rings
    virtual void answer(std::uint64_t count) = 0;
};

// A kind of ring in one configuration. `configuration` says for readers which one.
struct RingKind {
    enum class Role {
        kOurs,
        kPeer,
        kRaw,  // no ring: only the round trip of bare lines, for 8 bytes
    };
    std::string name;
    std::string configuration;
    Role role = Role::kPeer;
    std::unique_ptr<RingPair> (*make)(std::size_t bytes) =
        nullptr;  // nullptr: does not carry these
};

// Each is defined in a file of its own; peers that the build did not find give nothing.
std::vector<RingKind> raw_lines();
std::vector<RingKind> own_rings();
std::vector<RingKind> index_ring();
std::vector<RingKind> rte_ring_barriers();
std::vector<RingKind> rte_ring_c11();
std::vector<RingKind> boost_queue();
std::vector<RingKind> moodycamel_queue();
std::vector<RingKind> ck_ring_kinds();

// Pair has `Item`, and an end for each thread, asker() and answerer(), with `bool push(const Item&)`, `bool pop(Item&)`,
// `std::size_t push_some(std::span<const Item>)` and `std::size_t pop_some(std::span<Item>)`.
template <typename Pair>
class RingPairOf final : public RingPair {
    using Item = typename Pair::Item;

public:
    void put(std::uint64_t count) override {
        auto&& end = pair_.asker();
        Item item;
        for (std::uint64_t i = 0; i < count; ++i) {
            item.number(i);
            touch(item);
            while (!end.push(item)) {
            }
        }
    }

    std::uint64_t take(std::uint64_t count) override {
        auto&& end = pair_.answerer();
        Item item;
        std::uint64_t errors = 0;
        for (std::uint64_t i = 0; i < count; ++i) {
            while (!end.pop(item)) {
            }
            touch(item);
            errors += item.number() != i;
        }
        return errors;
    }

    void put_bursts(std::uint64_t count) override {
        auto&& end = pair_.asker();
        std::array<Item, kRingBurst> burst;
        for (std::uint64_t i = 0; i < count; i += kRingBurst) {
            for (std::size_t k = 0; k < kRingBurst; ++k)
                burst[k].number(i + k);
            touch(burst);
            for (std::span<const Item> left(burst); !left.empty();)
                left = left.subspan(end.push_some(left));
        }
    }

    std::uint64_t take_bursts(std::uint64_t count) override {
        auto&& end = pair_.answerer();
        std::array<Item, kRingBurst> burst;
        std::uint64_t errors = 0;
        for (std::uint64_t i = 0; i < count;) {
            const std::size_t got = end.pop_some(burst);
            touch(burst);
            for (std::size_t k = 0; k < got; ++k)
                errors += burst[k].number() != i + k;
            i += got;
        }
        return errors;
    }

    std::uint64_t ask(std::uint64_t count) override {
        auto&& end = pair_.asker();
        Item item;
        std::uint64_t errors = 0;
        for (std::uint64_t i = 0; i < count; ++i) {
            item.number(i);
            touch(item);
            while (!end.push(item)) {
            }
            while (!end.pop(item)) {
            }
            touch(item);
            errors += item.number() != i;
        }
        return errors;
    }

    void answer(std::uint64_t count) override {
        auto&& end = pair_.answerer();
        Item item;
        for (std::uint64_t i = 0; i < count; ++i) {
            while (!end.pop(item)) {
            }
            touch(item);
            while (!end.push(item)) {
            }
        }
    }

private:
    Pair pair_;
};

// A ring there and another back. Ring has `Item` and the four functions of an end.
template <typename Ring>
class TwoRings {
public:
    using Item = typename Ring::Item;
    struct End {
        Ring& out;
        Ring& in;

        bool push(const Item& item) { return out.push(item); }
        bool pop(Item& item) { return in.pop(item); }
        std::size_t push_some(std::span<const Item> items) { return out.push_some(items); }
        std::size_t pop_some(std::span<Item> items) { return in.pop_some(items); }
    };
    End asker() { return {there_, back_}; }
    End answerer() { return {back_, there_}; }

private:
    alignas(128) Ring there_;
    alignas(128) Ring back_;
};

// For rings that know no bursts: one by one, as their users would.
template <typename Ring, typename Item>
std::size_t push_each(Ring& ring, std::span<const Item> items) {
    std::size_t count = 0;
    while (count < items.size() && ring.push(items[count]))
        ++count;
    return count;
}
template <typename Ring, typename Item>
std::size_t pop_each(Ring& ring, std::span<Item> items) {
    std::size_t count = 0;
    while (count < items.size() && ring.pop(items[count]))
        ++count;
    return count;
}

template <template <std::size_t> typename Ring>
std::unique_ptr<RingPair> make_pair_of(std::size_t bytes) {
    if (bytes == 8) return std::make_unique<RingPairOf<TwoRings<Ring<8>>>>();
    if (bytes == 64) return std::make_unique<RingPairOf<TwoRings<Ring<64>>>>();
    return nullptr;
}

}  // namespace sanpoll::bench
