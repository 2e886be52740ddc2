// bench/index_ring.hpp: the classic ring with indices, each end with a copy of the other's, as rigtorp's and others'
// are. Ours, but no ring of the product.
#include "bench/index_ring.hpp"

#include "bench/ring_peers/ring_pair.hpp"

namespace sanpoll::bench {
namespace {

template <std::size_t Bytes>
struct Classic {
    using Item = Element<Bytes>;
    IndexRing<Item> ring{kRingCapacity};

    bool push(const Item& item) { return ring.try_push(item); }
    bool pop(Item& item) { return ring.try_pop(item); }
    std::size_t push_some(std::span<const Item> items) { return push_each(*this, items); }
    std::size_t pop_some(std::span<Item> items) { return pop_each(*this, items); }
};

}  // namespace

std::vector<RingKind> index_ring() {
    return {{"cached indices", "bench/index_ring.hpp: head, tail, and each end's copy of the other",
             RingKind::Role::kPeer, &make_pair_of<Classic>}};
}

}  // namespace sanpoll::bench
