// The rings of rings/.
#include "bench/ring_peers/ring_pair.hpp"
#include "rings/dense_pair.hpp"
#include "rings/dense_ring.hpp"
#include "rings/spsc_ring.hpp"

namespace sanpoll::bench {
namespace {

template <std::size_t Bytes>
struct Spsc {
    using Item = Element<Bytes>;
    rings::SpscRing ring{kRingCapacity};

    bool push(const Item& item) { return ring.producer().try_push(item); }
    bool pop(Item& item) { return ring.consumer().try_pop(item); }
    std::size_t push_some(std::span<const Item> items) { return ring.producer().push_batch(items); }
    std::size_t pop_some(std::span<Item> items) { return ring.consumer().pop_batch(items); }
};

template <std::size_t Bytes>
struct Dense {
    using Item = Element<Bytes>;
    rings::DenseRing<Item> ring{kRingCapacity};

    bool push(const Item& item) { return ring.producer().try_push(item); }
    bool pop(Item& item) { return ring.consumer().try_pop(item); }
    std::size_t push_some(std::span<const Item> items) { return ring.producer().push_batch(items); }
    std::size_t pop_some(std::span<Item> items) { return ring.consumer().pop_batch(items); }
};

// A DensePair with RingPair's face: its two directions are there and back.
class PairOfHalves final : public RingPair {
    using Item = Element<8>;

public:
    void put(std::uint64_t count) override {
        Item item;
        for (std::uint64_t i = 0; i < count; ++i) {
            item.number(i);
            touch(item);
            while (!asker().producer.try_push(item)) {
            }
        }
    }
    std::uint64_t take(std::uint64_t count) override {
        Item item;
        std::uint64_t errors = 0;
        for (std::uint64_t i = 0; i < count; ++i) {
            while (!answerer().consumer.try_pop(item)) {
            }
            touch(item);
            errors += item.number() != i;
        }
        return errors;
    }
    void put_bursts(std::uint64_t count) override {
        std::array<Item, kRingBurst> burst;
        for (std::uint64_t i = 0; i < count; i += kRingBurst) {
            for (std::size_t k = 0; k < kRingBurst; ++k)
                burst[k].number(i + k);
            touch(burst);
            for (std::span<const Item> left(burst); !left.empty();)
                left = left.subspan(asker().producer.push_batch(left));
        }
    }
    std::uint64_t take_bursts(std::uint64_t count) override {
        std::array<Item, kRingBurst> burst;
        std::uint64_t errors = 0;
        for (std::uint64_t i = 0; i < count;) {
            const std::size_t got = answerer().consumer.pop_batch(burst);
            touch(burst);
            for (std::size_t k = 0; k < got; ++k)
                errors += burst[k].number() != i + k;
            i += got;
        }
        return errors;
    }
    std::uint64_t ask(std::uint64_t count) override {
        Item item;
        std::uint64_t errors = 0;
        for (std::uint64_t i = 0; i < count; ++i) {
            item.number(i);
            touch(item);
            while (!asker().producer.try_push(item)) {
            }
            while (!asker().consumer.try_pop(item)) {
            }
            touch(item);
            errors += item.number() != i;
        }
        return errors;
    }
    void answer(std::uint64_t count) override {
        Item item;
        for (std::uint64_t i = 0; i < count; ++i) {
            while (!answerer().consumer.try_pop(item)) {
            }
            touch(item);
            while (!answerer().producer.try_push(item)) {
            }
        }
    }

private:
    rings::DenseEnd<Item>& asker() { return pair_.end(0); }
    rings::DenseEnd<Item>& answerer() { return pair_.end(1); }

    rings::DensePair<Item> pair_{kRingCapacity};
};

std::unique_ptr<RingPair> make_halves(std::size_t bytes) {
    if (bytes != 8) return nullptr;
    return std::make_unique<PairOfHalves>();
}

}  // namespace

std::vector<RingKind> own_rings() {
    constexpr auto kOurs = RingKind::Role::kOurs;
    return {
        {"SpscRing", "rings/spsc_ring.hpp: any payload, records of several slots", kOurs,
         &make_pair_of<Spsc>},
        {"DenseRing", "rings/dense_ring.hpp: one type of whole words, nothing else in the lines",
         kOurs, &make_pair_of<Dense>},
        {"DensePair", "rings/dense_pair.hpp: two that share their lines, half each", kOurs,
         &make_halves}};
}

}  // namespace sanpoll::bench
