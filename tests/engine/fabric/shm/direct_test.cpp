// Messages by the direct way, among those that go the long one: each step by hand.
#include <pthread.h>
#include <sched.h>

#include <random>
#include <thread>

#include "tests/engine/fabric/shm/direct_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::scaled;
using tests::Socket;

TEST_F(DirectTest, TheFirstPostIsNot) {
    EXPECT_FALSE(b_.is_direct());
    EXPECT_FALSE(b_.receive_directly(64));
    EXPECT_FALSE(a_.send_directly(0, 64));
    EXPECT_FALSE(b_.poll_directly());
    ASSERT_NO_FATAL_FAILURE(warm_up());
    EXPECT_TRUE(b_.receive_directly(64));
    EXPECT_TRUE(a_.send_directly(0, 64));
}

TEST_F(DirectTest, AMessageOfEachSizeArrives) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    for (std::size_t size = 1; size <= kHeadBytes; ++size) {
        ASSERT_TRUE(b_.receive_directly(size + 1));
        ASSERT_TRUE(a_.send_directly(size, size));
        EXPECT_TRUE(a_.operations.back().good());
        ASSERT_TRUE(b_.poll_directly());
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations.back(), size, size));
        ports_.a.core.poll_once();  // for the credit
    }
    // Longer ones are posted too, and end as others do.
    for (const std::size_t size : {kHeadBytes + 1U, 1024U, 100000U}) {
        ASSERT_TRUE(b_.receive_directly(size));
        ASSERT_TRUE(a_.send_directly(size, size));
        ports_.settle();
        EXPECT_TRUE(a_.operations.back().good());
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations.back(), size, size));
    }
    EXPECT_FALSE(a_.send_directly(0, std::size_t{ports_.config.max_message} + 1));
}

TEST_F(DirectTest, CountsWhatItDoes) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ASSERT_TRUE(b_.receive_directly(64));
    ASSERT_TRUE(a_.send_directly(1, 60));
    ASSERT_TRUE(b_.poll_directly());
    EXPECT_EQ(ports_.a.port.counters().messages_sent.value(), 2U);
    EXPECT_EQ(ports_.a.port.counters().bytes_sent.value(), 124U);
    EXPECT_EQ(ports_.b.port.counters().messages_received.value(), 2U);
    EXPECT_EQ(ports_.b.port.counters().bytes_received.value(), 124U);
    EXPECT_EQ(ports_.a.core.counters().requests.value(), 2U);
    EXPECT_EQ(ports_.a.core.counters().completions.value(), 2U);
    EXPECT_EQ(ports_.b.core.counters().requests.value(), 2U);
    EXPECT_EQ(ports_.b.core.counters().completions.value(), 2U);
}

TEST_F(DirectTest, OnlyWithTheTokenAndInTheRegionOfThePostBefore) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ASSERT_TRUE(ports_.a.core.try_acquire());
    EXPECT_FALSE(a_.send_directly(0, 64));
    ports_.a.core.release();
    ASSERT_TRUE(a_.regions.retire(a_.region));
    EXPECT_FALSE(a_.send_directly(0, 64)) << "its memory was deregistered";
    ASSERT_TRUE(ports_.a.core.try_acquire()) << "it was given back each time";
    ports_.a.core.release();
}

TEST_F(DirectTest, APendingReceiveHoldsItsRegion) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ASSERT_TRUE(b_.receive_directly(64));
    EXPECT_FALSE(b_.regions.retire(b_.region));
    ASSERT_TRUE(a_.send_directly(1, 8));
    ASSERT_TRUE(b_.poll_directly());
    ASSERT_TRUE(b_.receive_directly(64));
    ASSERT_TRUE(b_.receive_directly(64));
    (void)a_.send({std::byte{1}});
    (void)b_.core_slot.load()->turn();  // the long way takes it as well
    EXPECT_FALSE(b_.regions.retire(b_.region)) << "one still waits";
    b_.close();
    EXPECT_EQ(b_.operations.back().status, Status::kAborted);
    EXPECT_TRUE(b_.regions.retire(b_.region));
}

TEST_F(DirectTest, WhatIsOnItsWayIsNotOvertaken) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(b_.receive_directly(64));
    }
    // Another thread posts while somebody else is the core, and returns before its request is taken up.
    ASSERT_TRUE(ports_.a.core.try_acquire());
    std::thread([&] { (void)a_.send_number(1, 64); }).join();
    ports_.a.core.release();
    EXPECT_FALSE(a_.is_direct());
    EXPECT_FALSE(a_.send_directly(2, 64));
    (void)a_.send_number(2, 64);
    ports_.settle();
    a_.send_somehow(3, 64);
    EXPECT_TRUE(a_.is_direct()) << "all that was on its way has taken effect";
    ports_.settle();
    for (std::uint64_t i = 1; i <= 3; ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations[i], i, 64));
    }
}

TEST_F(DirectTest, NoPostAfterTheClose) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ASSERT_TRUE(b_.receive_directly(64));
    b_.close();
    EXPECT_FALSE(b_.receive_directly(64));
    EXPECT_FALSE(b_.poll_directly());
    EXPECT_EQ(b_.closures.load(), 1);
    for (const Operation& operation : b_.operations) {
        EXPECT_EQ(operation.ends.load(), 1);
    }
    ports_.settle();
    EXPECT_FALSE(a_.send_directly(0, 64)) << "the other end has heard of it";
    EXPECT_EQ(a_.gate.view().state, PostGate::State::kReset);
}

TEST_F(DirectTest, AMessageThatComesFirstWaitsForItsReceive) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    for (std::uint64_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(a_.send_directly(i, 64));
    }
    ASSERT_TRUE(b_.poll_directly());
    for (std::uint64_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(b_.receive_directly(64));
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations.back(), i, 64));
    }
    // And again in its order, with one that is too short for it.
    ASSERT_TRUE(b_.receive_directly(10));
    ASSERT_TRUE(b_.receive_directly(64));
    ASSERT_TRUE(a_.send_directly(5, 64));
    ASSERT_TRUE(b_.poll_directly());
    EXPECT_EQ(b_.operations[b_.operations.size() - 2].status, Status::kMessageTooLong);
    ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations.back(), 5, 64));
}

TEST_F(DirectTest, ALookTakesWhatOthersWaitFor) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    Socket from;
    Socket to;
    ports_.connect(from, to);
    Operation& other = to.receive(64);
    ASSERT_TRUE(b_.receive_directly(64));
    (void)from.send_number(7, 64);
    ASSERT_TRUE(a_.send_directly(8, 64));
    ASSERT_TRUE(b_.poll_directly());
    ASSERT_NO_FATAL_FAILURE(expect_message(other, 7, 64));
    ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations.back(), 8, 64));
    // What does not come along is found by the turns between.
    ASSERT_TRUE(b_.poll_directly()) << "nothing there: a whole turn";
    EXPECT_NE(ports_.b.core.counters().turns.value(), 0U);
    from.close();
    to.close();
}

TEST_F(DirectTest, WhatComesBehindIsLeftToTheNextLook) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    // The first receive makes room for the others; and a look in vain is a whole turn, after which there is none for a
    // while.
    ASSERT_TRUE(b_.receive_directly(64));
    ASSERT_TRUE(a_.send_directly(0, 64));
    ASSERT_TRUE(b_.poll_directly());
    ASSERT_TRUE(b_.poll_directly());
    for (std::uint64_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(b_.receive_directly(64));
        ASSERT_TRUE(a_.send_directly(i, 64));
    }
    const std::size_t first = b_.operations.size() - 3;
    for (std::uint64_t i = 0; i < 3; ++i) {
        ASSERT_TRUE(b_.poll_directly());
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations[first + i], i, 64));
        ASSERT_EQ(b_.operations.back().ends.load(), i == 2 ? 1 : 0);
    }
}

// What is left in the queue of one connection must not wait until another one has been looked at often enough.
TEST_F(SmallDirectTest, WhatIsQueuedIsSeenToByTheNextLook) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    Socket from;
    Socket to;
    ports_.connect(from, to);
    Operation& there = to.receive(20000);
    Operation& sent = from.send_number(1, 20000);  // in pieces, a few a turn
    ports_.settle();
    ASSERT_TRUE(there.good() && sent.good());
    Operation& last = from.send_number(2, 20000);
    Operation& end = to.receive(20000);
    for (std::uint64_t i = 0; i < 20 && !last.good(); ++i) {
        (void)b_.core_slot.load()->turn();
        a_.receive_somehow(64);
        b_.send_somehow(i, 64);
        ASSERT_TRUE(a_.poll_directly());
    }
    EXPECT_TRUE(last.good()) << "although a message came with every look";
    ports_.settle();
    EXPECT_TRUE(end.good());
    from.close();
    to.close();
}

// Whatever stops sends that need no look has to be looked at again before the next one.
TEST_F(DirectTest, SendsWithoutALookStopWhereOneWouldStop) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    std::uint64_t sent = 0;
    while (sent < 100 && a_.send_directly(sent, 64) && a_.operations.back().good()) {
        ++sent;
    }
    EXPECT_EQ(sent, kUnasked - 1) << "with the one before: so many, whose receives were not told";
    const std::uint64_t waiting = sent;  // is in the queue, and what follows does not overtake it
    ASSERT_TRUE(a_.send_directly(sent + 1, 8));
    EXPECT_EQ(a_.operations.back().ends.load(), 0);
    for (std::uint64_t i = 0; i < waiting + 2; ++i) {
        b_.receive_somehow(64);
        ports_.settle();
    }
    const std::size_t first = b_.operations.size() - (waiting + 2);
    for (std::uint64_t i = 0; i < waiting + 2; ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations[first + i], i, i <= waiting ? 64 : 8));
    }
}

TEST_F(DirectTest, OthersHaveTheirTurnHoweverMuchComes) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    const std::uint64_t turns = ports_.b.core.counters().turns.value();
    for (std::uint64_t i = 0; i < 1000; ++i) {
        ASSERT_TRUE(b_.receive_directly(64));
        a_.send_somehow(i, 64);
        ASSERT_TRUE(b_.poll_directly());
        ports_.a.core.poll_once();  // takes the credit
        ASSERT_TRUE(b_.operations.back().good());
    }
    EXPECT_GE(ports_.b.core.counters().turns.value(), turns + 1000 / 65);
}

TEST_F(SmallDirectTest, AReceiveQueueHasItsDepth) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    std::uint32_t posted = 0;
    while (posted < 100000 && b_.receive_directly(1)) {
        ++posted;
    }
    EXPECT_EQ(posted, ports_.config.queue_depth);
    EXPECT_TRUE(b_.saturation.receives.load());
    a_.send_somehow(1, 1);
    ports_.settle();
    EXPECT_FALSE(b_.saturation.receives.load());
    EXPECT_TRUE(b_.receive_directly(1));
    EXPECT_TRUE(b_.saturation.receives.load());
    // By the direct look as well.
    a_.send_somehow(2, 1);
    ASSERT_TRUE(b_.poll_directly());
    EXPECT_FALSE(b_.saturation.receives.load());
}

TEST_F(SmallDirectTest, WithoutCreditMessagesWait) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    constexpr std::uint64_t kCount = 100;
    for (std::uint64_t i = 0; i < kCount; ++i) {
        ASSERT_TRUE(a_.send_directly(i, 64));
    }
    ports_.settle();
    EXPECT_FALSE(a_.operations.back().ended());
    for (std::uint64_t i = 0; i < kCount; ++i) {
        ASSERT_TRUE(b_.receive_directly(64));
        ports_.settle();
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations.back(), i, 64));
    }
    for (const Operation& operation : a_.operations) {
        ASSERT_EQ(operation.ends.load(), 1);
    }
}

// Whatever comes in whatever order by whichever way, each message arrives once, whole and in its place.
TEST_F(SmallDirectTest, MixesWithAllElse) {
    std::mt19937 random(7);
    std::uint64_t sent = 0;
    std::uint64_t posted = 0;
    std::uint64_t direct_posts = 0;
    std::vector<std::size_t> lengths;
    const std::uint64_t count = scaled(20000);
    while (sent < count || posted < count) {
        switch (random() % 6) {
            case 0:
            case 1:
                if (sent < count && sent < posted + 40) {
                    const std::size_t length = random() % 8 != 0 ? random() % 109 : random() % 5000;
                    lengths.push_back(length);
                    if (random() % 4 != 0 && a_.send_directly(sent, length)) {
                        ++direct_posts;
                    } else {
                        (void)a_.send_number(sent, length);
                    }
                    ++sent;
                }
                break;
            case 2:
            case 3:
                if (posted < count && posted < sent + 40) {
                    if (random() % 4 != 0 && b_.receive_directly(5000)) {
                        ++direct_posts;
                    } else {
                        (void)b_.receive(5000);
                    }
                    ++posted;
                }
                break;
            case 4:
                if (!b_.is_direct() || !b_.poll_directly()) {
                    (void)ports_.b.core.turn();
                }
                break;
            default:
                (void)ports_.a.core.turn();
                break;
        }
    }
    ports_.settle();
    EXPECT_GT(direct_posts, count / 2);
    for (std::uint64_t i = 0; i < count; ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_message(b_.operations[i], i, lengths[i]));
        ASSERT_EQ(a_.operations[i].ends.load(), 1) << i;
        ASSERT_TRUE(a_.operations[i].good()) << i;
    }
    a_.close();
    b_.close();
    EXPECT_TRUE(a_.regions.retire(a_.region)) << "nothing holds it";
    EXPECT_TRUE(b_.regions.retire(b_.region));
}

// A control operation waits for the token, which is free, and its thread is kept from taking it: it has the same CPU as
// we, who keep it busy. A look that took the token instead of giving way would keep it waiting for long.
TEST_F(DirectTest, ALookLeavesTheTokenToWhoWaitsForIt) {
    warm_up();
    struct Nothing final : ControlOp {
        void run() noexcept override {}
    };
    cpu_set_t before;
    ASSERT_EQ(::pthread_getaffinity_np(::pthread_self(), sizeof(before), &before), 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(::sched_getcpu()), &one);
    ASSERT_EQ(::pthread_setaffinity_np(::pthread_self(), sizeof(one), &one), 0);
    PollingCore& core = ports_.a.core;
    bool left = false;
    for (int attempt = 0; attempt < 200 && !left; ++attempt) {
        ASSERT_TRUE(core.try_acquire());
        std::thread waiter([&] {  // on our CPU, like us
            Nothing nothing;
            core.run(nothing);
        });
        while (!core.token().wanted())
            std::this_thread::yield();
        core.release();
        const bool looked = a_.poll_directly();
        // It could still be had, and is still waited for: so it was left.
        const bool free = core.try_acquire();
        left = !looked && free && core.token().wanted();
        if (free) core.release();
        waiter.join();
    }
    ASSERT_EQ(::pthread_setaffinity_np(::pthread_self(), sizeof(before), &before), 0);
    EXPECT_TRUE(left);
}

}  // namespace
}  // namespace sanpoll::engine::shm
