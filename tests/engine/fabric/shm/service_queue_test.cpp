// Connections that wait for room in the ring: a turn tries a bounded number of them, a core that goes to sleep
// all, and every one gets its turn.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine/fabric/shm/shm_port.hpp"
#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::size_t kConnections = 1000;
constexpr std::uint64_t kMostInATurn = 64;

class ServiceQueueTest : public testing::Test {
protected:
    static Config config() {
        Config config = TwoPorts::small_config();
        config.max_connections = 1024;
        return config;
    }
    void SetUp() override {
        for (std::size_t i = 0; i < kConnections; ++i) {
            from_.push_back(std::make_unique<Socket>());
            to_.push_back(std::make_unique<Socket>());
            ports_.connect(*from_.back(), *to_.back());
        }
    }
    // One message each, which the ring cannot hold all of. Returns how many wait.
    std::size_t send_from_all() {
        std::size_t waiting = 0;
        for (std::size_t i = 0; i < kConnections; ++i) {
            waiting += from_[i]->send_number(i, 100).ends.load() == 0 ? 1 : 0;
        }
        return waiting;
    }
    [[nodiscard]] std::uint64_t tries() const {
        return ports_.a.port.counters().full_rings.value();
    }

    std::vector<std::unique_ptr<Socket>> from_;  // outlive the ports, which refer to them
    std::vector<std::unique_ptr<Socket>> to_;
    TwoPorts ports_{config()};
};

TEST_F(ServiceQueueTest, ATurnTriesABoundedNumber) {
    ASSERT_GT(send_from_all(), 5 * kMostInATurn);
    for (int turn = 0; turn < 50; ++turn) {
        const std::uint64_t before = tries();
        (void)ports_.a.core.turn();
        EXPECT_LE(tries() - before, kMostInATurn);
        EXPECT_GT(tries(), before);
    }
}

TEST_F(ServiceQueueTest, ACoreThatGoesToSleepTriesAllOnce) {
    const std::size_t waiting = send_from_all();
    ports_.a.port.arm();
    const std::uint64_t before = tries();
    EXPECT_EQ(ports_.a.port.poll(64), 0U);
    EXPECT_EQ(tries() - before, waiting);
    (void)ports_.a.port.poll(64);
    EXPECT_LE(tries() - before, waiting + kMostInATurn);
    ports_.a.port.disarm();
}

TEST_F(ServiceQueueTest, EveryoneGetsItsTurn) {
    (void)send_from_all();
    ports_.settle();
    for (std::size_t i = 0; i < kConnections; ++i) {
        ASSERT_TRUE(from_[i]->operations.front().good()) << i;
        const Operation& receive = to_[i]->receive(200);
        ASSERT_TRUE(receive.good()) << i;
        ASSERT_TRUE(receive.content() == tests::message_of(i, 100)) << i;
    }
}

TEST_F(ServiceQueueTest, FarewellsOfAllFindTheirWay) {
    for (const auto& socket : from_) {
        socket->close();
    }
    ports_.settle();
    for (std::size_t i = 0; i < kConnections; ++i) {
        ASSERT_EQ(from_[i]->closures.load(), 1) << i;
        ASSERT_EQ(to_[i]->gate.view().state, PostGate::State::kReset) << i;
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
