// rte_ring as DPDK builds it on x86: ordered by barriers.
#undef RTE_USE_C11_MEM_MODEL

#include "bench/ring_peers/rte_ring_pair.hpp"

namespace sanpoll::bench {

std::vector<RingKind> rte_ring_barriers() {
    return {{"rte_ring", "SP/SC, rte_ring_*_elem, the default memory model of x86",
             RingKind::Role::kPeer, &make_pair_of<RteRing>}};
}

}  // namespace sanpoll::bench
