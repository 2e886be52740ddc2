// The rings of rings/.
#include "bench/ring_peers/ring_pair.hpp"
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

}  // namespace

std::vector<RingKind> own_rings() {
    return {{"SpscRing", "rings/spsc_ring.hpp: any payload, records of several slots",
             RingKind::Role::kOurs, &make_pair_of<Spsc>}};
}

}  // namespace sanpoll::bench
