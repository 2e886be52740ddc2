// The measured patterns, once for everything that satisfies Connection.
//
//   ping-pong   client: [clock] send, wait for the reply [clock], post the receive again
//               server: wait, reply, then post the receive again, so that posting is off the critical path
//   stream      sender keeps messages flowing as long as the receiver is known to have a receive posted for each;
//               the receiver acknowledges every few messages, after it has posted their receives again
//
// Every message carries a stamp (its number), every reply another one made from it; a wrong one is a fault.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "bench/clock.hpp"
#include "bench/connection.hpp"
#include "bench/latency_histogram.hpp"

namespace sanpoll::bench {

// A message shorter than this has no room for a stamp.
inline constexpr std::uint32_t kStampSize = sizeof(std::uint64_t);

inline constexpr std::uint64_t reply_stamp(std::uint64_t stamp) noexcept { return ~stamp; }

inline void check_stamp(std::uint32_t size, std::uint64_t expected, std::uint64_t found) {
    if (size >= kStampSize && expected != found) {
        throw ConnectionFault("message " + std::to_string(expected) + " came with the content of " +
                              std::to_string(found) + ": lost, doubled, out of order or damaged");
    }
}

// Server: answers `count` messages, numbered from `first`.
template <Connection C>
void serve(C& connection, std::uint32_t size, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = first; i < first + count; ++i) {
        const std::uint64_t stamp = connection.receive(size);
        connection.send(size, reply_stamp(stamp));
        check_stamp(size, i, stamp);
        connection.recycle();
    }
    connection.drain();
}

// Client: `skip` round trips that are not recorded, then `count` that are.
template <Connection C>
void ping(C& connection, const Clock& clock, std::uint32_t size, std::uint64_t first,
          std::uint64_t skip, std::uint64_t count, LatencyHistogram& histogram) {
    for (std::uint64_t i = first; i < first + skip + count; ++i) {
        const std::uint64_t start = clock.ticks();
        connection.send(size, i);
        const std::uint64_t stamp = connection.receive(size);
        const std::uint64_t stop = clock.ticks();
        if (i >= first + skip) histogram.record(clock.elapsed_ns(start, stop));
        check_stamp(size, reply_stamp(i), stamp);
        connection.recycle();
    }
    connection.drain();
}

// Both ends in one thread.
template <Connection C>
void ping_with_self(C& client, C& server, const Clock& clock, std::uint32_t size,
                    std::uint64_t first, std::uint64_t skip, std::uint64_t count,
                    LatencyHistogram& histogram) {
    for (std::uint64_t i = first; i < first + skip + count; ++i) {
        const std::uint64_t start = clock.ticks();
        client.send(size, i);
        const std::uint64_t request = server.receive(size);
        server.send(size, reply_stamp(request));
        const std::uint64_t reply = client.receive(size);
        const std::uint64_t stop = clock.ticks();
        if (i >= first + skip) histogram.record(clock.elapsed_ns(start, stop));
        check_stamp(size, i, request);
        check_stamp(size, reply_stamp(i), reply);
        server.recycle();
        client.recycle();
    }
    client.drain();
    server.drain();
}

// Messages between two acknowledgements: a quarter of the posted receives, so that the sender learns of free ones long
// before it has used up the others.
inline std::uint64_t acknowledgement_interval(std::uint32_t receives) noexcept {
    return std::max<std::uint64_t>(receives / 4, 1);
}

template <Connection C>
void take_stream(C& connection, std::uint32_t size, std::uint64_t count, std::uint32_t receives) {
    const std::uint64_t interval = acknowledgement_interval(receives);
    for (std::uint64_t i = 0; i < count; ++i) {
        check_stamp(size, i, connection.receive(size));
        connection.recycle();
        if ((i + 1) % interval == 0 || i + 1 == count) connection.send(kAcknowledgementSize, i + 1);
    }
    connection.drain();
}

// Sends `count` messages; answers the ticks from the first send to the last acknowledgement.
template <Connection C>
std::uint64_t send_stream(C& connection, const Clock& clock, std::uint32_t size,
                          std::uint64_t count, std::uint32_t receives) {
    const std::uint64_t interval = acknowledgement_interval(receives);
    const std::uint64_t start = clock.ticks();
    const auto next_acknowledgement = [&](std::uint64_t acknowledged) {
        const std::uint64_t stamp = connection.receive(kAcknowledgementSize);
        check_stamp(kAcknowledgementSize, std::min(acknowledged + interval, count), stamp);
        connection.recycle();
        return stamp;
    };
    std::uint64_t acknowledged = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        while (i - acknowledged >= receives) {
            acknowledged = next_acknowledgement(acknowledged);
        }
        connection.send(size, i);
    }
    while (acknowledged < count) {
        acknowledged = next_acknowledgement(acknowledged);
    }
    const std::uint64_t stop = clock.ticks();
    connection.drain();
    return stop - start;
}

// Both ends in one thread: two intervals are kept under way, so that there is always work for what carries them.
template <Connection C>
std::uint64_t stream_with_self(C& client, C& server, const Clock& clock, std::uint32_t size,
                               std::uint64_t count, std::uint32_t receives) {
    const std::uint64_t interval = acknowledgement_interval(receives);
    const std::uint64_t start = clock.ticks();
    std::uint64_t sent = 0;
    for (std::uint64_t taken = 0; taken < count;) {
        const std::uint64_t ahead = std::min(count, taken + 2 * interval);
        for (; sent < ahead; ++sent)
            client.send(size, sent);
        const std::uint64_t until = std::min(count, taken + interval);
        for (; taken < until; ++taken) {
            check_stamp(size, taken, server.receive(size));
            server.recycle();
        }
        server.send(kAcknowledgementSize, taken);
        check_stamp(kAcknowledgementSize, taken, client.receive(kAcknowledgementSize));
        client.recycle();
    }
    const std::uint64_t stop = clock.ticks();
    client.drain();
    server.drain();
    return stop - start;
}

}  // namespace sanpoll::bench
