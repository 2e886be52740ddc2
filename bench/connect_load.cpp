#include "bench/connect_load.hpp"

#include <algorithm>
#include <array>

namespace sanpoll::bench {

ConnectTimes run_connects(ConnectClient& client, const SpinRule& rule, std::uint64_t count,
                          std::size_t at_once, ConnectWait wait) {
    ConnectTimes times;
    std::array<std::uint64_t, kMostSlots> started{};
    std::array<bool, kMostSlots> under_way{};
    const std::size_t slots = std::min<std::uint64_t>(at_once, count);
    const Clock& clock = rule.clock;
    std::uint64_t begun = 0;
    const auto begin = [&](std::size_t slot) {
        ++begun;
        under_way[slot] = true;
        started[slot] = clock.ticks();
        client.begin(slot);
        if (client.begin_connects())
            times.connected.record(clock.elapsed_ns(started[slot], clock.ticks()));
    };
    // Whether it is over.
    const auto look = [&](std::size_t slot) {
        if (!client.accepted(slot, wait, slots == 1)) return false;
        if (!client.begin_connects())
            times.connected.record(clock.elapsed_ns(started[slot], clock.ticks()));
        client.end(slot);
        times.whole.record(clock.elapsed_ns(started[slot], clock.ticks()));
        under_way[slot] = false;
        return true;
    };

    const std::uint64_t start = clock.ticks();
    for (std::size_t slot = 0; slot < slots; ++slot)
        begin(slot);
    for (std::uint64_t over = 0; over < count;) {
        Spin spin(rule, "the server's accept");
        for (bool some = false; !some;) {
            for (std::size_t slot = 0; slot < slots; ++slot) {
                if (!under_way[slot] || !look(slot)) continue;
                some = true;
                ++over;
                if (begun < count) begin(slot);
            }
            if (some) break;
            if (wait == ConnectWait::kSleep) {
                client.sleep(slots);
            } else {
                spin.turn();
            }
        }
    }
    times.elapsed_ns = clock.to_ns(clock.ticks() - start);
    return times;
}

}  // namespace sanpoll::bench
