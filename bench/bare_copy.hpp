// Long messages copied by one CPU, and by two: what the machine makes of the copies of a stream of messages out of shared
// memory into shared memory, with no provider around them. So what bounds the bandwidth of such messages.
//
// Two threads, each on its CPU, as many buffers at each end as peer_bench has in its rate phase, and one line for the
// handshake of either: the sender says that a message is there, the receiver that it has been taken. Alone, the receiver copies all
// of it; both, it copies the first half, and the sender the second, of up to as many messages ahead as there are buffers.
// As in peer_bench the sender has written the first word of a message, and the receiver reads one of each line. It is a comparison
// and no lower bound: who shares messages out otherwise, or finds them in other caches, may be quicker.
#pragma once

#include <cstdint>

namespace sanpoll::bench {

struct BareCopy {
    double alone = 0;  // bytes a second; 0: not measured
    double both = 0;
};

// Starts two threads, pins them to the two CPUs and joins them; twice some 10 ms. The same CPU twice: nothing is started.
// `size`: bytes of a message, whose halves begin best with a line; `buffers`: at each end. Throws std::runtime_error if a CPU may not be used or
// a message came damaged, std::system_error if there is no memory.
BareCopy measure_bare_copy(int cpu_sender, int cpu_receiver, std::uint32_t size,
                           std::uint32_t buffers, std::uint64_t bytes = 64U << 20);

}  // namespace sanpoll::bench
