// Measured patterns over many connections, once for everything that is a Connection and has try_receive(), too.
//
//   stream   one way, message i on connection i mod n; every kStreamAck messages the receiver says so on a
//            connection of its own, so that at most a window of messages is under way
//   volley   each connection has one echo under way; the client goes round and looks at each
//
// Stamps tell what is lost, doubled or out of order, as in ping_loops.hpp. C: a pointer to a connection.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bench/latency_histogram.hpp"
#include "bench/ping_loops.hpp"
#include "bench/spin.hpp"

namespace sanpoll::bench {

inline constexpr std::uint64_t kStreamWindow = 64;
inline constexpr std::uint64_t kStreamAck = 16;

// Receives that each of `connections` needs for a stream: its share of the window, and one that is being posted
// again.
inline std::uint32_t stream_receives(std::uint64_t connections) noexcept {
    return static_cast<std::uint32_t>((kStreamWindow + connections - 1) / connections + 1);
}

// Ticks from the first send to the last acknowledgement.
template <class C>
std::uint64_t send_round_robin(const std::vector<C>& connections, C& acknowledgements,
                               const Clock& clock, std::uint32_t size, std::uint64_t count) {
    const std::uint64_t start = clock.ticks();
    std::uint64_t acknowledged = 0;
    const auto hear = [&] {
        const std::uint64_t expected = std::min(acknowledged + kStreamAck, count);
        check_stamp(kAcknowledgementSize, expected,
                    acknowledgements->receive(kAcknowledgementSize));
        acknowledgements->recycle();
        acknowledged = expected;
    };
    std::size_t at = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        while (i - acknowledged >= kStreamWindow)
            hear();
        connections[at]->send(size, i);
        at = at + 1 == connections.size() ? 0 : at + 1;
    }
    while (acknowledged < count)
        hear();
    const std::uint64_t ticks = clock.ticks() - start;
    for (const C& connection : connections)
        connection->drain();
    return ticks;
}

template <class C>
void take_round_robin(const std::vector<C>& connections, C& acknowledgements, std::uint32_t size,
                      std::uint64_t count) {
    std::size_t at = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        check_stamp(size, i, connections[at]->receive(size));
        connections[at]->recycle();
        at = at + 1 == connections.size() ? 0 : at + 1;
        if ((i + 1) % kStreamAck == 0 || i + 1 == count)
            acknowledgements->send(kAcknowledgementSize, i + 1);
    }
    acknowledgements->drain();
}

// Client: `count` echoes, those after the first `skip` recorded. Answers the ticks that the recorded ones took.
template <class C>
std::uint64_t volley(const std::vector<C>& connections, const SpinRule& rule, std::uint32_t size,
                     std::uint64_t skip, std::uint64_t count, LatencyHistogram& histogram) {
    struct Echo {
        std::uint64_t stamp = 0;
        std::uint64_t start = 0;
        bool under_way = false;
    };
    const Clock& clock = rule.clock;
    std::vector<Echo> echoes(connections.size());
    std::uint64_t begun = 0;
    std::uint64_t over = 0;
    std::uint64_t start = clock.ticks();
    const auto begin = [&](std::size_t at) {
        if (begun == skip + count) return;
        echoes[at] = {begun++, clock.ticks(), true};
        connections[at]->send(size, echoes[at].stamp);
    };
    for (std::size_t at = 0; at < connections.size(); ++at)
        begin(at);
    while (over < skip + count) {
        Spin spin(rule, "an echo");
        for (bool some = false; !some;) {
            for (std::size_t at = 0; at < connections.size(); ++at) {
                if (!echoes[at].under_way) continue;
                const auto stamp = connections[at]->try_receive(size);
                if (!stamp) continue;
                const std::uint64_t now = clock.ticks();
                check_stamp(size, reply_stamp(echoes[at].stamp), *stamp);
                connections[at]->recycle();
                echoes[at].under_way = false;
                if (over >= skip) histogram.record(clock.elapsed_ns(echoes[at].start, now));
                if (++over == skip) start = now;
                some = true;
                begin(at);
            }
            if (!some) spin.turn();
        }
    }
    const std::uint64_t ticks = clock.ticks() - start;
    for (const C& connection : connections)
        connection->drain();
    return ticks;
}

// Server: echoes whatever comes on any of them, `count` messages in all.
template <class C>
void echo_all(const std::vector<C>& connections, const SpinRule& rule, std::uint32_t size,
              std::uint64_t count) {
    for (std::uint64_t over = 0; over < count;) {
        Spin spin(rule, "a message of any client");
        for (bool some = false; !some;) {
            for (const C& connection : connections) {
                const auto stamp = connection->try_receive(size);
                if (!stamp) continue;
                connection->send(size, reply_stamp(*stamp));
                connection->recycle();
                some = true;
                ++over;
            }
            if (!some) spin.turn();
        }
    }
    for (const C& connection : connections)
        connection->drain();
}

}  // namespace sanpoll::bench
