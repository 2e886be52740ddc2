// A connection's end changes process while messages are described to it: they are its sender's until they are
// copied, and are described again to the next process.
#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <string>

#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/engine/fabric/shm/shm_port_fixture.hpp"
#include "tests/engine/fabric/shm/swap_by_hand.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::uint32_t kMiB = 1U << 20;

// b's end goes, by hand and over the same link, to a socket that stands for the next process.
// What is described lies in an arena, or in a's process, whence b copies it or wants it in pieces.
enum class Where { kArena, kProcess, kPieces };

std::string name_of(const testing::TestParamInfo<Where>& one) {
    const char* const names[] = {"Arena", "Process", "Pieces"};
    return names[static_cast<int>(one.param)];
}

class DescribedSwapTest : public ShmPortTest, public testing::WithParamInterface<Where> {
protected:
    DescribedSwapTest() : ShmPortTest(config()) {}
    static Config config() {
        Config config = TwoPorts::small_config();
        config.copy = Copy::kDirect;
        return config;
    }
    void SetUp() override {
        ShmPortTest::SetUp();
        if (GetParam() == Where::kArena) {
            lend(tests::shareable_arena(), ports_.a, *ports_.link_a, ports_.b, *ports_.link_b);
        } else {
            ports_.link_a->copy = ports_.link_b->copy = tests::this_process();
            ports_.link_b->unreadable = GetParam() == Where::kPieces;
        }
    }
    [[nodiscard]] static std::byte* arena(std::uint64_t offset) {
        return reinterpret_cast<std::byte*>(tests::shareable_arena().base + offset);
    }
    void turn_b() { (void)ports_.b.core.turn(); }
    Operation& send(std::uint64_t number) {
        return send_at(a_, arena(number * kMiB), message_of(number, kMiB));
    }
    [[nodiscard]] Connection& end_of(Socket& socket) {
        return static_cast<Connection&>(*socket.slot.load());
    }
    // Of b_'s end.
    void start_leaving() {
        ASSERT_NO_FATAL_FAILURE(swap_.begin(b_));
        ASSERT_NO_FATAL_FAILURE(swap_.hold_at_once());
    }
    void leave_for(Socket& next) {
        ASSERT_NO_FATAL_FAILURE(swap_.leave());
        ASSERT_NO_FATAL_FAILURE(swap_.arrive(next));
    }
    // What was copied before it left was received here, as far as `taken` goes; `next` gets the rest, in order.
    void expect_rest_by(Socket& next, std::uint64_t done, const std::deque<Operation*>& sends) {
        for (; done < sends.size(); ++done) {
            Operation& receive = next.receive(kMiB);
            ports_.settle();
            ASSERT_TRUE(receive.good());
            ASSERT_TRUE(receive.content() == message_of(done, kMiB));
            ASSERT_TRUE(sends[done]->good());
        }
    }
    static void count_taken(const std::deque<Operation*>& taken, std::uint64_t& done) {
        done = 0;
        for (const Operation* one : taken) {
            ASSERT_TRUE(one->good());
            if (one->length != 0) {
                ASSERT_TRUE(one->content() == message_of(done, kMiB));
                ++done;
            }
        }
    }
    void end(Socket& from, const Socket& to, Socket& next) {
        from.close();
        next.close();
        ports_.settle();
        expect_all_ended(from);
        expect_all_ended(to);
        expect_all_ended(next);
    }

    Socket next_;
    tests::SwapByHand swap_{ports_};
};

// Whatever was copied before it leaves was received here; the rest is, in order, in the next process.
TEST_P(DescribedSwapTest, TheNextProcessGetsWhatTheLastOneHasNotCopied) {
    constexpr std::uint64_t kMessages = 6;
    for (const std::uint32_t turns : {0U, 1U, 3U, 4U, 6U, 12U, 60U}) {
        for (const std::uint32_t receives : {0U, 1U, 2U, 3U}) {
            Socket from;
            Socket to;
            Socket next;
            ports_.connect(from, to);
            std::deque<Operation*> sends;
            for (std::uint64_t number = 0; number < kMessages; ++number) {
                sends.push_back(&send_at(from, arena(number * kMiB), message_of(number, kMiB)));
            }
            std::deque<Operation*> taken;
            for (std::uint32_t i = 0; i < receives; ++i) {
                taken.push_back(&to.receive(kMiB));
            }
            for (std::uint32_t i = 0; i < turns; ++i) {
                turn_b();
            }
            tests::SwapByHand swap(ports_);
            ASSERT_NO_FATAL_FAILURE(swap.begin(to));
            turn_b();  // copies nothing any more
            ASSERT_NO_FATAL_FAILURE(swap.hold_at_once());
            turn_b();
            ASSERT_NO_FATAL_FAILURE(swap.leave());
            std::uint64_t done = 0;
            ASSERT_NO_FATAL_FAILURE(count_taken(taken, done));
            for (std::uint64_t number = 0; number < kMessages; ++number) {
                ASSERT_EQ(sends[number]->ended(), number < done) << turns << " " << receives;
            }
            ASSERT_NO_FATAL_FAILURE(swap.arrive(next));
            ASSERT_NO_FATAL_FAILURE(expect_rest_by(next, done, sends));
            end(from, to, next);
        }
    }
}

TEST_P(DescribedSwapTest, WhoStaysCopiesOn) {
    Operation& receive = b_.receive(kMiB);
    Operation& sent = send(0);
    turn_b();
    ASSERT_NO_FATAL_FAILURE(start_leaving());
    for (int i = 0; i < 20; ++i) {
        turn_b();
    }
    EXPECT_FALSE(receive.ended());
    swap_.stay();
    ports_.settle();
    EXPECT_TRUE(receive.good() && sent.good());
    EXPECT_TRUE(receive.content() == message_of(0, kMiB));
}

TEST_P(DescribedSwapTest, NothingNewIsDescribedWhileThePeerLeaves) {
    send(0);
    ports_.settle();
    ASSERT_NO_FATAL_FAILURE(start_leaving());
    Operation& later = send(1);
    ports_.settle();
    EXPECT_EQ(ports_.a.port.counters().messages_described.value(), 1U);
    ASSERT_NO_FATAL_FAILURE(leave_for(next_));
    for (const std::uint64_t number : {0U, 1U}) {
        Operation& receive = next_.receive(kMiB);
        ports_.settle();
        ASSERT_TRUE(receive.good());
        ASSERT_TRUE(receive.content() == message_of(number, kMiB));
    }
    EXPECT_TRUE(later.good());
}

// What is left of the message lies in memory that goes with the link.
TEST_P(DescribedSwapTest, WhoLeavesInTheMiddleOfItsOwnMessageEndsTheConnection) {
    for (const bool copying : {false, true}) {
        Socket from;
        Socket to;
        ports_.connect(from, to);
        Operation* receive = copying ? &to.receive(16 * kMiB) : nullptr;
        const std::uint32_t id = end_of(to).id;
        ASSERT_EQ(ports_.b.port.suspend(id, *ports_.link_b, false), Hold::kHeld);
        Operation& sent = send_at(from, arena(0), message_of(1, 16 * kMiB));
        turn_b();
        ports_.b.port.let_go(id, *ports_.link_b);
        turn_b();
        EXPECT_EQ(to.gate.view().state, PostGate::State::kReset);
        if (copying) {
            EXPECT_EQ(receive->status, Status::kReset);
        }
        to.close();
        from.close();
        ports_.settle();
        EXPECT_TRUE(sent.ended());
        expect_all_ended(from);
        expect_all_ended(to);
    }
}

// A message whose pieces have begun to flow is finished before; what was invited behind it is not begun.
TEST_P(DescribedSwapTest, WhatFlowsIsFinishedAndWhatIsInvitedAheadIsDescribedAnew) {
    if (GetParam() != Where::kPieces) {
        GTEST_SKIP() << "nothing flows";
    }
    for (const int turns : {1, 2, 3, 5, 8, 12}) {
        Socket from;
        Socket to;
        Socket next;
        ports_.connect(from, to);
        std::deque<Operation*> sends;
        std::deque<Operation*> taken;
        for (std::uint64_t number = 0; number < 4; ++number) {
            sends.push_back(&send_at(from, arena(number * kMiB), message_of(number, kMiB)));
            taken.push_back(&to.receive(kMiB));
        }
        for (int i = 0; i < turns; ++i) {
            turn_b();
            (void)ports_.a.core.turn();
        }
        tests::SwapByHand swap(ports_);
        ASSERT_NO_FATAL_FAILURE(swap.begin(to));
        Hold hold = swap.hold();
        for (int i = 0; i < 100 && hold == Hold::kFinishing; ++i) {
            (void)ports_.a.core.turn();
            turn_b();
            hold = swap.held();
        }
        ASSERT_EQ(hold, Hold::kHeld);
        ASSERT_EQ(swap.held(), Hold::kHeld);
        ASSERT_NO_FATAL_FAILURE(swap.leave()) << turns;
        std::uint64_t done = 0;
        ASSERT_NO_FATAL_FAILURE(count_taken(taken, done));
        ASSERT_NO_FATAL_FAILURE(swap.arrive(next));
        ASSERT_NO_FATAL_FAILURE(expect_rest_by(next, done, sends));
        end(from, to, next);
    }
}

TEST_P(DescribedSwapTest, ASenderMayCloseWhileItsPeerIsBetweenProcesses) {
    Operation& first = send(0);
    b_.receive(kMiB);
    turn_b();
    ASSERT_NO_FATAL_FAILURE(start_leaving());
    ASSERT_NO_FATAL_FAILURE(swap_.leave());
    a_.close();
    EXPECT_EQ(first.status, Status::kAborted);
    expect_all_ended(a_);
    expect_all_ended(b_);
}

INSTANTIATE_TEST_SUITE_P(Where, DescribedSwapTest,
                         testing::Values(Where::kArena, Where::kProcess, Where::kPieces), name_of);

}  // namespace
}  // namespace sanpoll::engine::shm
