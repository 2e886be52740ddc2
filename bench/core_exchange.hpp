// A message to a polling core and back through bare cache lines: what the machine makes of the lines that dedicated mode
// moves, with no provider around them, or with as many steps on the way as the provider takes.
//
// Two threads, a turn of two messages, and the loop of ping_with_self() (bench/ping_loops.hpp). Of a message, as the engine
// does it where both ends are on one core (engine/lane.hpp, ShmPort::deliver_beside, provider/posting.hpp):
//
//   thread -> core   a slot of two lines: the request with the sequence word that says it is full, and its bytes. The thread
//                    asks for the lines of the next slots before it needs them; they follow each other in the order of
//                    rings/slot.hpp
//   core -> thread   the receive's buffer and its result, asked for when the request is seen; the buffer is handed on
//   core -> thread   behind the next request, or after a moment without one: the result of the send
//   thread -> core   behind the turn, a slot for each receive that is posted again, and a look at a send's result
//
// There is no gate, no link, no check, no count, and no locked instruction. How long the thread waits before its first look at a
// result is what suits best, found anew at each measurement. It is a comparison and no lower bound: what either thread does
// beside the measured turn shifts when the other one looks, so more work at the right place can make a turn shorter.
#pragma once

#include <cstdint>

#include "bench/clock.hpp"
#include "bench/latency_histogram.hpp"

namespace sanpoll::bench {

// Steps on the way of one message, each of which waits for the one before and takes a cycle.
struct CoreWork {
    std::uint32_t asking = 0;     // the thread's, from the call that sends to the request
    std::uint32_t answering = 0;  // the core's, from the request to the result
    std::uint32_t taking = 0;  // the thread's, from the result to the end of the call that finds it
};

// The provider's instructions on that way, of a message of up to 64 bytes: counted by callgrind, as bench/README.md says.
inline constexpr CoreWork kProvidersInstructions{387, 240, 80};
// Where all lines are at hand, as in inline mode, it gets through three of them in a cycle or more: rather too many steps than too
// few.
inline constexpr std::uint32_t kInstructionsACycle = 3;
inline constexpr CoreWork kProvidersWork{kProvidersInstructions.asking / kInstructionsACycle,
                                         kProvidersInstructions.answering / kInstructionsACycle,
                                         kProvidersInstructions.taking / kInstructionsACycle};

// Longer messages do not come along in a slot.
inline constexpr std::uint32_t kLongestExchanged = 64;

struct CoreExchangeEffort {
    std::uint64_t trial = 500;   // turns with each wait that is tried
    std::uint64_t turns = 8000;  // turns with the best of them, which count
};

struct CoreExchange {
    LatencyHistogram turns;     // of two messages each
    std::uint64_t wait_ns = 0;  // before the first look
    [[nodiscard]] double half_p50_ns() const noexcept {
        return static_cast<double>(turns.quantile(0.5)) / 2;
    }
};

// Starts two threads, pins them to the two CPUs and joins them; some 20 ms. The same CPU twice: nothing is started. `size`: bytes of
// a message, at most kLongestExchanged. Throws std::runtime_error if a CPU may not be used, or a message came damaged.
CoreExchange measure_core_exchange(const Clock& clock, int cpu_thread, int cpu_core,
                                   std::uint32_t size, CoreWork work,
                                   CoreExchangeEffort effort = {});

// As many steps, one after the other. Returns `from` + `steps`.
std::uint64_t walk(std::uint64_t from, std::uint32_t steps) noexcept;

}  // namespace sanpoll::bench
