// The rings of rings/.
#include "bench/ring_peers/ring_pair.hpp"
#include "rings/dense_ring.hpp"
#include "rings/duplex.hpp"
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

// A Duplex: its two directions are there and back. It has no bursts of its own: one by one is what it is for.
template <std::size_t Bytes>
class Both {
public:
    using Item = Element<Bytes>;
    struct End {
        rings::DuplexEnd<Item>& end;

        bool push(const Item& item) { return end.try_push(item); }
        bool pop(Item& item) { return end.try_pop(item); }
        std::size_t push_some(std::span<const Item> items) {
            std::size_t done = 0;
            while (done < items.size() && end.try_push(items[done]))
                ++done;
            return done;
        }
        std::size_t pop_some(std::span<Item> items) {
            std::size_t done = 0;
            while (done < items.size() && end.try_pop(items[done]))
                ++done;
            return done;
        }
    };
    End asker() { return {duplex_.end(0)}; }
    End answerer() { return {duplex_.end(1)}; }

private:
    rings::Duplex<Item> duplex_{kRingCapacity};
};

std::unique_ptr<RingPair> make_both(std::size_t bytes) {
    if (bytes == 8) return std::make_unique<RingPairOf<Both<8>>>();
    if (bytes == 64) return std::make_unique<RingPairOf<Both<64>>>();
    return nullptr;
}

}  // namespace

std::vector<RingKind> own_rings() {
    constexpr auto kOurs = RingKind::Role::kOurs;
    return {
        {"SpscRing", "rings/spsc_ring.hpp: any payload, records of several slots", kOurs,
         &make_pair_of<Spsc>},
        {"DenseRing", "rings/dense_ring.hpp: one type of whole words, nothing else in the lines",
         kOurs, &make_pair_of<Dense>},
        {"Duplex", "rings/duplex.hpp: two SpscRings and a line for who is answered next", kOurs,
         &make_both}};
}

}  // namespace sanpoll::bench
