// rte_ring with C11 atomics, which DPDK builds for other processors.
#ifndef RTE_USE_C11_MEM_MODEL
#define RTE_USE_C11_MEM_MODEL
#endif

#include "bench/ring_peers/rte_ring_pair.hpp"

namespace sanpoll::bench {

std::vector<RingKind> rte_ring_c11() {
    return {{"rte_ring C11", "SP/SC, rte_ring_*_elem, RTE_USE_C11_MEM_MODEL", RingKind::Role::kPeer,
             &make_pair_of<RteRing>}};
}

}  // namespace sanpoll::bench
