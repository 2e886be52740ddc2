// DPDK's rte_ring for one producer and one consumer. Included by one file for each of its two memory models, which
// the header chooses at compile time; hence everything here is local to the including file.
#pragma once

#include <rte_config.h>  // before any other of DPDK's
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include <cstdlib>
#include <new>
#include <stdexcept>

#include "bench/ring_peers/ring_pair.hpp"

namespace sanpoll::bench {
namespace {

template <std::size_t Bytes>
class RteRing {
public:
    using Item = Element<Bytes>;

    // In memory of ours: the ring itself needs neither EAL nor hugepages.
    RteRing() {
        const auto bytes = rte_ring_get_memsize_elem(Bytes, kRingCapacity);
        ring_ = static_cast<rte_ring*>(
            std::aligned_alloc(128, (static_cast<std::size_t>(bytes) + 127) & ~std::size_t{127}));
        if (ring_ == nullptr) throw std::bad_alloc();
        if (rte_ring_init(ring_, "bench", kRingCapacity, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0)
            throw std::runtime_error("rte_ring_init refused the ring");
    }
    ~RteRing() { std::free(ring_); }
    RteRing(const RteRing&) = delete;
    RteRing& operator=(const RteRing&) = delete;

    bool push(const Item& item) {
        return rte_ring_sp_enqueue_elem(ring_, const_cast<Item*>(&item), Bytes) == 0;
    }
    bool pop(Item& item) { return rte_ring_sc_dequeue_elem(ring_, &item, Bytes) == 0; }
    std::size_t push_some(std::span<const Item> items) {
        return rte_ring_sp_enqueue_burst_elem(ring_, items.data(), Bytes,
                                              static_cast<unsigned>(items.size()), nullptr);
    }
    std::size_t pop_some(std::span<Item> items) {
        return rte_ring_sc_dequeue_burst_elem(ring_, items.data(), Bytes,
                                              static_cast<unsigned>(items.size()), nullptr);
    }

private:
    rte_ring* ring_ = nullptr;
};

}  // namespace
}  // namespace sanpoll::bench
