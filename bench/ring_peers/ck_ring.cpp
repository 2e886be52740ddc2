// ck_ring: see ck_ring_loops.h.
#include "bench/ring_peers/ring_pair.hpp"

#ifdef SANPOLL_HAVE_CK
#include <new>

#include "bench/ring_peers/ck_ring_loops.h"

namespace sanpoll::bench {
namespace {

class CkPair final : public RingPair {
public:
    explicit CkPair(std::size_t bytes)
        : pair_(ck_pair_make(kRingCapacity, static_cast<unsigned>(bytes)), &ck_pair_free) {
        if (pair_ == nullptr) throw std::bad_alloc();
    }

    void put(std::uint64_t count) override { ck_put(pair_.get(), count); }
    std::uint64_t take(std::uint64_t count) override { return ck_take(pair_.get(), count); }
    void put_bursts(std::uint64_t count) override { ck_put_bursts(pair_.get(), count, kRingBurst); }
    std::uint64_t take_bursts(std::uint64_t count) override {
        return ck_take_bursts(pair_.get(), count, kRingBurst);
    }
    std::uint64_t ask(std::uint64_t count) override { return ck_ask(pair_.get(), count); }
    void answer(std::uint64_t count) override { ck_answer(pair_.get(), count); }

private:
    std::unique_ptr<ck_pair, void (*)(ck_pair*)> pair_;
};

std::unique_ptr<RingPair> make(std::size_t bytes) {
    if (bytes != 8 && bytes != 64) return nullptr;
    return std::make_unique<CkPair>(bytes);
}

}  // namespace

std::vector<RingKind> ck_ring_kinds() {
    return {{"ck_ring", "ck_ring_*_spsc; 8 B as its pointers, 64 B by CK_RING_PROTOTYPE",
             RingKind::Role::kPeer, &make}};
}

}  // namespace sanpoll::bench

#else
std::vector<sanpoll::bench::RingKind> sanpoll::bench::ck_ring_kinds() { return {}; }
#endif
