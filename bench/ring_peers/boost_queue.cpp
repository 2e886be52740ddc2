// boost::lockfree::spsc_queue, with its capacity known at compile time (which it likes best) and its own bursts.
#include "bench/ring_peers/ring_pair.hpp"

#if __has_include(<boost/lockfree/spsc_queue.hpp>)
#include <boost/lockfree/spsc_queue.hpp>

namespace sanpoll::bench {
namespace {

template <std::size_t Bytes>
struct Boost {
    using Item = Element<Bytes>;
    boost::lockfree::spsc_queue<Item, boost::lockfree::capacity<kRingCapacity>> queue;

    bool push(const Item& item) { return queue.push(item); }
    bool pop(Item& item) { return queue.pop(item); }
    std::size_t push_some(std::span<const Item> items) {
        return queue.push(items.data(), items.size());
    }
    std::size_t pop_some(std::span<Item> items) { return queue.pop(items.data(), items.size()); }
};

}  // namespace

std::vector<RingKind> boost_queue() {
    return {{"boost", "lockfree::spsc_queue, capacity<1024>", RingKind::Role::kPeer,
             &make_pair_of<Boost>}};
}

}  // namespace sanpoll::bench

#else
std::vector<sanpoll::bench::RingKind> sanpoll::bench::boost_queue() { return {}; }
#endif
