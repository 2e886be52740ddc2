// Two engines' data planes on one segment, turned by hand in one thread: every interleaving is the test's.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>

#include "engine/clock.hpp"
#include "engine/config.hpp"
#include "engine/fabric/shm/link.hpp"
#include "engine/fabric/shm/rendezvous.hpp"
#include "engine/fabric/shm/segment.hpp"
#include "engine/fabric/shm/shm_port.hpp"
#include "engine/lane_registry.hpp"
#include "engine/notifier.hpp"
#include "engine/polling_core.hpp"
#include "tests/engine/fabric/socket.hpp"

namespace sanpoll::tests {

/// A core with its port, without threads.
struct Side {
    Side(const engine::Config& config, std::uint32_t index)
        : notifier(config),
          core(config, engine::Clock::steady(), operation_handlers(), notifier, index),
          port(config, core, -1) {
        core.add_port(port);
    }
    engine::Notifier notifier;
    engine::PollingCore core;
    engine::shm::ShmPort port;
};

/// Whose memory the two sides read, if they may: this process', with something to know it by.
inline engine::shm::ProcessCopy this_process(bool may = true) {
    static const std::uint64_t probe[2] = {0x0123456789ABCDEF, 0xFEDCBA9876543210};
    return {::getpid(), may, may, reinterpret_cast<std::uint64_t>(probe), {probe[0], probe[1]}};
}

/// Two sides and the link between them.
class TwoPorts {
public:
    static engine::Config small_config() {
        engine::Config config;
        config.shm_ring_slots = 256;
        config.shm_staging_kb = 256;
        config.max_connections = 64;
        return config;
    }

    explicit TwoPorts(engine::Config wanted = {})
        : config(std::move(wanted)), a(config, 0), b(config, 1) {
        std::string error;
        const engine::shm::SegmentShape shape{config.shm_ring_slots, config.shm_staging_kb * 1024};
        auto ours = engine::shm::Segment::create(shape, error);
        EXPECT_NE(ours, nullptr) << error;
        auto theirs = engine::shm::Segment::open(ours->fd(), shape, error);
        EXPECT_NE(theirs, nullptr) << error;
        int first[2];
        int second[2];
        EXPECT_TRUE(engine::shm::make_doorbell(first) && engine::shm::make_doorbell(second));
        link_a = std::make_unique<engine::shm::Link>(std::move(ours), true, first[0], second[1]);
        link_b = std::make_unique<engine::shm::Link>(std::move(theirs), false, second[0], first[1]);
        a.port.add_link(*link_a);
        b.port.add_link(*link_b);
    }
    ~TwoPorts() {
        if (link_a) {
            a.port.remove_link(*link_a, engine::Status::kReset);
        }
        if (link_b) {
            b.port.remove_link(*link_b, engine::Status::kReset);
        }
        engine::LaneRegistry::forget_all();
    }
    TwoPorts(const TwoPorts&) = delete;
    TwoPorts& operator=(const TwoPorts&) = delete;

    void connect(Socket& from, Socket& to) {
        auto* first = a.port.make_connection(from.owner());
        auto* second = b.port.make_connection(to.owner());
        ASSERT_NE(first, nullptr);
        ASSERT_NE(second, nullptr);
        a.port.install(*first, *link_a);
        b.port.install(*second, *link_b);
        ASSERT_TRUE(b.port.establish(*second, first->id));
        ASSERT_TRUE(a.port.establish(*first, second->id));
    }

    /// Turns both sides until nothing moves. Nobody is patient meanwhile: what is there is seen.
    void settle() {
        for (int quiet = 0; quiet < 20; ++quiet) {
            for (engine::shm::Link* link : {link_a.get(), link_b.get()}) {
                if (link != nullptr) {
                    link->patience.give_up();
                }
            }
            for (Side* side : {&a, &b}) {
                if (side->core.turn()) {
                    quiet = 0;
                }
            }
        }
    }

    const engine::Config config;
    Side a;
    Side b;
    std::unique_ptr<engine::shm::Link> link_a;
    std::unique_ptr<engine::shm::Link> link_b;
};

}  // namespace sanpoll::tests
