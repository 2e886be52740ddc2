// Two engines' data planes on one fake device, turned by hand in one thread: every interleaving is the test's.
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <deque>
#include <memory>

#include "engine/clock.hpp"
#include "engine/config.hpp"
#include "engine/fabric/verbs/device.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"
#include "engine/lane_registry.hpp"
#include "engine/notifier.hpp"
#include "tests/engine/fabric/socket.hpp"
#include "tests/engine/fabric/verbs/fake_device.hpp"
#include "tests/engine/manual_clock.hpp"

namespace sanpoll::tests {

/// A core with its port, without threads. The control thread's part is played by control().
struct VerbsSide {
    VerbsSide(const engine::Config& config, ManualClock& clock, std::uint32_t index)
        : notifier(config),
          core(config, clock, operation_handlers(), notifier, index),
          ended(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
          port(config, core, ended) {
        core.add_port(port);
    }
    ~VerbsSide() { ::close(ended); }
    VerbsSide(const VerbsSide&) = delete;
    VerbsSide& operator=(const VerbsSide&) = delete;

    /// Does what the port wishes. Returns how many wishes it had.
    std::uint32_t control() {
        std::uint32_t wishes = 0;
        while (engine::verbs::Connection* connection = port.take_ended()) {
            ++wishes;
            if (connection->wish == engine::verbs::Wish::kAsk) {
                port.answer(*connection, known_end);
            } else if (connection->wish == engine::verbs::Wish::kStop) {
                port.stop(*connection);
            } else {
                port.drop_connection(connection);
            }
        }
        return wishes;
    }

    engine::Status known_end = engine::Status::kReset;  // the answer to those who ask

    engine::Notifier notifier;
    engine::PollingCore core;
    int ended;
    engine::verbs::VerbsPort port;
};

class TwoVerbsPorts {
public:
    static engine::Config small_config() {
        engine::Config config;
        config.max_connections = 64;
        return config;
    }

    explicit TwoVerbsPorts(const FakeDevice::Options& options = {},
                           engine::Config wanted = small_config())
        : config(std::move(wanted)), net(options), a(config, clock, 0), b(config, clock, 1) {
        std::string error;
        device_a = engine::verbs::Device::make(net.api(), net.context(), error);
        device_b = engine::verbs::Device::make(net.api(), net.context(), error);
        EXPECT_TRUE(device_a && device_b) << error;
        EXPECT_EQ(a.port.attach(*device_a), engine::Status::kOk);
        EXPECT_EQ(b.port.attach(*device_b), engine::Status::kOk);
    }
    /// Ends what is left, and sees that nothing stays behind.
    ~TwoVerbsPorts() {
        for (VerbsSide* side : {&a, &b}) {
            side->port.detach(side == &a ? *device_a : *device_b);
        }
        for (const auto& socket : sockets) {
            if (socket->closures == 0 && socket->slot.load() != nullptr) {
                socket->close();
            }
        }
        settle();
        for (engine::verbs::Connection* connection : never_installed) {
            (connection->port == &a.port ? a : b).port.drop_connection(connection);
        }
        EXPECT_FALSE(a.port.attached(*device_a));
        EXPECT_FALSE(b.port.attached(*device_b));
        device_a.reset();
        device_b.reset();
        EXPECT_EQ(net.queue_pairs(), 0U);
        EXPECT_EQ(net.registrations(), 0U);
        EXPECT_EQ(net.domains(), 0U);
        EXPECT_EQ(net.completion_queues(), 0U);
        EXPECT_EQ(net.channels(), 0U);
        EXPECT_FALSE(net.overrun());
        engine::LaneRegistry::forget_all();
    }
    TwoVerbsPorts(const TwoVerbsPorts&) = delete;
    TwoVerbsPorts& operator=(const TwoVerbsPorts&) = delete;

    /// A socket that lives as long as the ports.
    [[nodiscard]] Socket& make_socket() {
        return *sockets.emplace_back(std::make_unique<Socket>());
    }

    struct Ends {
        engine::verbs::Connection* first;
        engine::verbs::Connection* second;
    };

    /// Queue pairs that know each other; `from` on side a, `to` on side b. Not established yet.
    [[nodiscard]] Ends make(Socket& from, Socket& to) {
        engine::Status status{};
        Ends ends{};
        ends.first = a.port.make_connection(*device_a, net.make_id(), from.owner(), status);
        EXPECT_EQ(status, engine::Status::kOk);
        ends.second = b.port.make_connection(*device_b, net.make_id(), to.owner(), status);
        EXPECT_EQ(status, engine::Status::kOk);
        if (ends.first != nullptr && ends.second != nullptr) {
            net.join(ends.first->id, ends.second->id);
            a.port.install(*ends.first);
            b.port.install(*ends.second);
        }
        return ends;
    }
    Ends connect(Socket& from, Socket& to) {
        const Ends ends = make(from, to);
        EXPECT_TRUE(b.port.establish(*ends.second, {}));
        EXPECT_TRUE(a.port.establish(*ends.first, {}));
        return ends;
    }

    /// Two new sockets, the second last and the last of `sockets`.
    Ends connect_new() {
        Socket& from = make_socket();
        Socket& to = make_socket();
        return connect(from, to);
    }

    /// Turns both sides, and does what they wish, until nothing moves.
    void settle() {
        for (int quiet = 0; quiet < 10; ++quiet) {
            for (VerbsSide* side : {&a, &b}) {
                if (side->core.turn() || side->control() != 0) {
                    quiet = 0;
                }
            }
        }
    }
    /// Turns both sides only.
    void turn(int times = 5) {
        for (int i = 0; i < times; ++i) {
            (void)a.core.turn();
            (void)b.core.turn();
        }
    }

    ManualClock clock;
    const engine::Config config;
    FakeDevice net;
    std::unique_ptr<engine::verbs::Device> device_a;
    std::unique_ptr<engine::verbs::Device> device_b;
    std::deque<std::unique_ptr<Socket>> sockets;
    std::deque<engine::verbs::Connection*> never_installed;
    VerbsSide a;
    VerbsSide b;
};

}  // namespace sanpoll::tests
