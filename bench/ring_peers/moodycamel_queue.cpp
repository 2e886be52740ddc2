// moodycamel::ReaderWriterQueue as one block, which never allocates once it is made. It knows no bursts.
#include "bench/ring_peers/ring_pair.hpp"

#if __has_include(<readerwriterqueue/readerwriterqueue.h>)
#include <readerwriterqueue/readerwriterqueue.h>

namespace sanpoll::bench {
namespace {

template <std::size_t Bytes>
struct Moodycamel {
    using Item = Element<Bytes>;
    moodycamel::ReaderWriterQueue<Item, kRingCapacity> queue{kRingCapacity - 1};

    bool push(const Item& item) { return queue.try_enqueue(item); }
    bool pop(Item& item) { return queue.try_dequeue(item); }
    std::size_t push_some(std::span<const Item> items) { return push_each(*this, items); }
    std::size_t pop_some(std::span<Item> items) { return pop_each(*this, items); }
};

}  // namespace

std::vector<RingKind> moodycamel_queue() {
    return {{"moodycamel", "ReaderWriterQueue, one block of 1024, try_enqueue",
             RingKind::Role::kPeer, &make_pair_of<Moodycamel>}};
}

}  // namespace sanpoll::bench

#else
std::vector<sanpoll::bench::RingKind> sanpoll::bench::moodycamel_queue() { return {}; }
#endif
