// The client of a paced load: message i goes out at its intended time, or as soon after it as the loop comes round and
// the window has room; the server echoes (serve() of ping_loops.hpp). Latency is from the intended time to the reply.
#pragma once

#include <algorithm>
#include <cstdint>

#include "bench/latency_histogram.hpp"
#include "bench/pacer.hpp"
#include "bench/ping_loops.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {

struct PacedLoad {
    std::uint32_t size = 64;
    std::uint64_t first = 0;  // number of the connection's next message
    std::uint64_t skip = 0;   // messages that are not recorded
    std::uint64_t count = 0;  // messages after them
    double per_second = 0;    // 0: as fast as the window lets
    std::uint64_t window =
        64;  // messages without a reply, at most; both ends have receives for them
};

struct PacedRun {
    std::uint64_t elapsed_ns = 0;  // of the recorded messages, from the first one's intended time
    std::uint64_t held_up = 0;     // messages that were due while the window was full
};

// C: a Connection that has try_receive(), too.
template <class C>
PacedRun send_paced(C& connection, const SpinRule& rule, const PacedLoad& load,
                    LatencyHistogram& histogram) {
    const Clock& clock = rule.clock;
    const std::uint64_t all = load.skip + load.count;
    const Pacer pacer(clock, clock.ticks(), load.per_second);
    PacedRun run;
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t due = pacer.due(0);
    std::uint64_t last_held = UINT64_MAX;
    std::uint64_t now = due;
    while (received < all) {
        Spin spin(rule, "a reply");
        for (bool some = false; !some;) {
            now = clock.ticks();
            if (sent < all && now >= due) {
                if (sent - received < load.window) {
                    connection.send(load.size, load.first + sent);
                    due = pacer.due(++sent);
                    some = true;
                } else if (load.per_second > 0 && sent != last_held) {
                    last_held = sent;
                    ++run.held_up;
                }
            }
            if (const auto stamp = connection.try_receive(load.size)) {
                now = clock.ticks();
                if (received >= load.skip)
                    histogram.record(clock.elapsed_ns(pacer.due(received), now));
                check_stamp(load.size, reply_stamp(load.first + received), *stamp);
                connection.recycle();
                ++received;
                some = true;
            }
            if (!some) spin.turn();
        }
        // Without pacing all are meant for the start: then what was skipped has to be left out by the clock.
        if (received == load.skip) run.elapsed_ns = now;
    }
    const std::uint64_t begin =
        load.skip == 0 || load.per_second > 0 ? pacer.due(load.skip) : run.elapsed_ns;
    run.elapsed_ns = clock.to_ns(now - begin);
    connection.drain();
    return run;
}

}  // namespace sanpoll::bench
