// When a core with a shared-memory port may go to sleep, and what must call it back.
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include "engine/fence.hpp"
#include "tests/engine/fabric/shm/two_ports.hpp"
#include "tests/engine/patience.hpp"
#include "tests/engine/thread_state.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::eventually;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

class SleepTest : public testing::Test {
protected:
    static Config config() {
        Config config = TwoPorts::small_config();
        config.profile = Profile::kEco;
        return config;
    }
    void SetUp() override { ports_.connect(a_, b_); }

    Socket a_;  // outlive the ports, which refer to them
    Socket b_;
    TwoPorts ports_{config()};
};

TEST_F(SleepTest, ACoreThatSendsPiecesIsNotIdle) {
    Operation& receive = b_.receive(1U << 20);
    Operation& send = a_.send_number(1, 1U << 20);
    (void)ports_.b.core.turn();  // invites
    // Nothing arrives at the sender from here on, but it has work until the staging area is full.
    std::uint32_t busy = 0;
    while (ports_.a.core.turn()) {
        ASSERT_LT(++busy, 100U);
    }
    EXPECT_GE(busy, 2U);
    EXPECT_FALSE(send.ended());
    EXPECT_FALSE(ports_.a.core.turn()) << "now it waits";
    ports_.settle();
    EXPECT_TRUE(send.good());
    EXPECT_TRUE(receive.good());
    EXPECT_FALSE(ports_.a.core.turn());
}

TEST_F(SleepTest, ACoreThatSendsWhatWasQueuedIsNotIdle) {
    for (int i = 0; i < 600; ++i) {
        (void)b_.receive(8);
    }
    ports_.settle();
    for (int i = 0; i < 600; ++i) {  // more than twice what the ring holds
        (void)a_.send_number(1, 8);
    }
    while (ports_.b.core.turn()) {
    }
    EXPECT_TRUE(ports_.a.core.turn());
    ports_.settle();
    EXPECT_TRUE(a_.operations.back().good());
}

// In inline mode a posting thread borrows the token of a core whose own thread sleeps. If what it posts
// finds no room, that thread must go to sleep anew and ask to be told of room.
TEST_F(SleepTest, APostThatFindsNoRoomCallsTheSleepingCore) {
    (void)register_heavy_fence();
    PollingCore& core = ports_.a.core;
    ASSERT_EQ(core.start(), "");
    const int thread = tests::thread_named("sanpoll-back");
    ASSERT_NE(thread, 0);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    ASSERT_EQ(::epoll_ctl(core.epoll_fd(), EPOLL_CTL_ADD, ports_.link_a->own_doorbell(), &event),
              0);
    core.keep_awake();  // somebody wants to be told: the thread polls, and sleeps armed when it is idle
    // Most rounds must see the call. Not each: it may be awake just then, because a sleep has ended.
    int called = 0;
    std::uint64_t slept = 0;
    EXPECT_TRUE(eventually([&] {
        for (int i = 0; i < 600; ++i) {
            (void)b_.receive(8);
        }
        while (ports_.b.core.turn()) {
        }
        core.poll_once();
        EXPECT_TRUE(eventually([&] {  // it sleeps, and has fallen asleep with nothing to send
            return core.counters().sleeps.value() > slept && tests::thread_sleeps(thread);
        }));
        const std::uint64_t before = core.wakes();
        const Counter& full_rings = ports_.a.port.counters().full_rings;
        const std::uint64_t full_before = full_rings.value();
        while (full_rings.value() == full_before) {
            (void)a_.send_number(1, 8);
        }
        called += core.wakes() != before ? 1 : 0;
        EXPECT_TRUE(eventually([&] { return ports_.link_b->receiver.writer_waits(); }));
        // As the other side takes what is there, everything arrives.
        EXPECT_TRUE(eventually([&] {
            while (ports_.b.core.turn()) {
            }
            core.poll_once();
            return a_.operations.back().ended();
        }));
        slept = core.counters().sleeps.value();
        return called >= 30;
    })) << called;
    core.let_sleep();
    core.stop();
}

}  // namespace
}  // namespace sanpoll::engine::shm
