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

// A DensePair: its two directions are there and back.
class Halves {
public:
    using Item = Element<8>;
    struct End {
        rings::DenseEnd<Item>& end;

        bool push(const Item& item) { return end.producer.try_push(item); }
        bool pop(Item& item) { return end.consumer.try_pop(item); }
        std::size_t push_some(std::span<const Item> items) {
            return end.producer.push_batch(items);
        }
        std::size_t pop_some(std::span<Item> items) { return end.consumer.pop_batch(items); }
    };
    End asker() { return {pair_.end(0)}; }
    End answerer() { return {pair_.end(1)}; }

private:
    rings::DensePair<Item> pair_{kRingCapacity};
};

std::unique_ptr<RingPair> make_halves(std::size_t bytes) {
    if (bytes != 8) return nullptr;
    return std::make_unique<RingPairOf<Halves>>();
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
