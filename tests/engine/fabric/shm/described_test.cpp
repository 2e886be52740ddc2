// Messages that are copied where they lie, in a shared arena or in their sender's process: by one copy, and in order with
// all others. And those that the receiver wants in pieces after all.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <random>

#include "tests/engine/fabric/shm/described_fixture.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;

class ArenaMessages : public DescribedTest {};
INSTANTIATE_TEST_SUITE_P(Where, ArenaMessages, testing::Values(Where::kArena), name_of);
class CopiedMessages : public DescribedTest {};
INSTANTIATE_TEST_SUITE_P(Where, CopiedMessages, testing::Values(Where::kArena, Where::kProcess),
                         name_of);
class ProcessMessages : public DescribedTest {};
INSTANTIATE_TEST_SUITE_P(Where, ProcessMessages, testing::Values(Where::kProcess), name_of);
class MessagesInPieces : public DescribedTest {};
INSTANTIATE_TEST_SUITE_P(Where, MessagesInPieces, testing::Values(Where::kPieces), name_of);
class DescribedInAnyWay : public DescribedTest {};
INSTANTIATE_TEST_SUITE_P(Where, DescribedInAnyWay,
                         testing::Values(Where::kArena, Where::kProcess, Where::kPieces,
                                         Where::kAuto),
                         name_of);

TEST_P(CopiedMessages, ALongMessageIsCopiedOnceWhateverItsPiecesAre) {
    std::mt19937 random(3);
    std::uint64_t bytes = 0;
    for (std::uint64_t number = 0; number < tests::scaled(300) + 20; ++number) {
        const std::uint32_t length =
            ports_.config.eager_max + 1 + random() % (number % 10 == 0 ? 3 * kMiB : 100000);
        std::vector<std::uint32_t> cuts[2];
        for (auto& list : cuts) {
            list.resize(random() % kMaxSges);
            for (std::uint32_t& cut : list) {
                cut = random() % (length + 1);
            }
            std::sort(list.begin(), list.end());
        }
        Operation& receive = b_.receive(length, cuts[0]);
        Operation& send = send_at(a_, arena(random() % 1000), message_of(number, length), cuts[1]);
        ports_.settle();
        ASSERT_TRUE(send.good() && receive.good()) << number;
        ASSERT_EQ(send.length, length);
        ASSERT_TRUE(receive.content() == message_of(number, length)) << number;
        bytes += length;
        ASSERT_EQ(described(), number + 1);
        ASSERT_EQ(copied(), bytes);
    }
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_P(ArenaMessages, ShortMessagesAndThoseFromElsewhereGoAsEver) {
    Bytes outside = message_of(1, kMiB);
    b_.receive(2 * kMiB);
    b_.receive(2 * kMiB);
    Operation& elsewhere = b_.receive(2 * kMiB);
    send_at(a_, arena(), message_of(0, ports_.config.eager_max));
    a_.send(outside);
    ports_.settle();
    // Half of it in the arena.
    std::memcpy(arena(), outside.data(), kMiB / 2);
    Operation& mixed = a_.operations.emplace_back();
    WorkRequest request{};
    request.opcode = Opcode::kSend;
    request.context = reinterpret_cast<std::uint64_t>(&mixed);
    request.length = kMiB;
    request.sge_count = 2;
    request.sge[0] = {reinterpret_cast<std::uint64_t>(arena()), kMiB / 2, a_.region};
    request.sge[1] = {reinterpret_cast<std::uint64_t>(outside.data()) + kMiB / 2, kMiB / 2,
                      a_.region};
    ASSERT_EQ(a_.core_slot.load()->post(request, a_.gate, a_.generation, a_.slot), Status::kOk);
    ports_.settle();
    EXPECT_TRUE(mixed.good() && elsewhere.good());
    EXPECT_TRUE(elsewhere.content() == outside);
    EXPECT_EQ(described(), 0U);
    EXPECT_EQ(copied(), 0U);
}

TEST_P(DescribedInAnyWay, TheSendEndsWhenTheReceiverHasCopied) {
    Operation& send = send_at(a_, arena(), message_of(1, kMiB));
    ports_.settle();
    EXPECT_EQ(described(), 1U);
    EXPECT_FALSE(send.ended());
    // What is changed before a receive takes it is changed: no copy has been made.
    std::memcpy(arena(), message_of(2, kMiB).data(), kMiB);
    Operation& receive = b_.receive(kMiB);
    ports_.settle();
    EXPECT_TRUE(send.good() && receive.good());
    EXPECT_TRUE(receive.content() == message_of(2, kMiB));
}

TEST_P(CopiedMessages, ATurnCopiesABoundedPart) {
    Operation& receive = b_.receive(8 * kMiB);
    send_at(a_, arena(), message_of(1, 8 * kMiB));
    std::uint64_t before = 0;
    for (int turns = 0; !receive.ended(); ++turns) {
        ASSERT_LT(turns, 100);
        turn_b();
        const std::uint64_t now = copied();
        ASSERT_LE(now - before, 512U << 10);  // the second half on a quick machine
        before = now;
    }
    EXPECT_TRUE(receive.content() == message_of(1, 8 * kMiB));
}

// Twice that of several if the first half was quick, which depends on the machine; and then whoever had to wait comes first.
TEST_P(ArenaMessages, ATurnCopiesABoundedPartOfManyMessages) {
    constexpr std::uint32_t kLength = 64U << 10;
    constexpr std::uint32_t kPart = 256U << 10;
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    std::deque<Operation*> stream;
    for (int i = 0; i < 24; ++i) {
        stream.push_back(&b_.receive(kLength));
    }
    Operation& other = other_b.receive(kLength);
    turn_b();
    turn_a();
    for (std::size_t i = 0; i < stream.size(); ++i) {
        send_at(a_, arena(i * kLength), message_of(i, kLength));
    }
    send_at(other_a, arena(2 * kMiB), message_of(100, kLength));
    std::uint64_t before = copied();
    for (int turns = 0; !other.ended(); ++turns) {
        ASSERT_LT(turns, 3) << "the other one waits for the whole stream";
        turn_b();
        const std::uint64_t now = copied();
        ASSERT_TRUE(now - before == kPart || now - before == 2 * kPart) << now - before;
        before = now;
    }
    EXPECT_TRUE(other.content() == message_of(100, kLength));
    ports_.settle();
    for (std::size_t i = 0; i < stream.size(); ++i) {
        ASSERT_TRUE(stream[i]->content() == message_of(i, kLength)) << i;
    }
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_P(DescribedInAnyWay, AMessageThatIsBeingCopiedHoldsUpNoOtherConnection) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    Operation& big = b_.receive(16 * kMiB);
    send_at(a_, arena(), message_of(1, 16 * kMiB));
    turn_b();
    for (std::uint64_t number = 0; number < 10; ++number) {
        Operation& receive = other_b.receive(100);
        other_a.send_number(number, 100);
        turn_a();
        turn_b();
        ASSERT_TRUE(receive.good());
    }
    EXPECT_FALSE(big.ended());
    ports_.settle();
    EXPECT_TRUE(big.good());
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_P(DescribedInAnyWay, AStreamOfLongMessagesLeavesOthersTheirShare) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    std::deque<Operation*> stream;
    for (int i = 0; i < 16; ++i) {
        stream.push_back(&b_.receive(kMiB));
    }
    Operation& one = other_b.receive(kMiB);
    turn_b();
    turn_a();
    for (std::size_t i = 0; i < stream.size(); ++i) {
        send_at(a_, arena(), message_of(1, kMiB));
    }
    send_at(other_a, arena(2 * kMiB), message_of(2, kMiB));
    while (!stream.back()->ended()) {
        turn_a();
        turn_b();
        if (one.ended()) {
            break;
        }
    }
    EXPECT_TRUE(one.good());
    EXPECT_FALSE(stream[stream.size() / 2]->ended()) << "it waited for most of them";
    ports_.settle();
    for (Operation* receive : stream) {
        EXPECT_TRUE(receive->good());
    }
    other_a.close();
    other_b.close();
    ports_.settle();
}

TEST_P(DescribedInAnyWay, MessagesOfAllKindsStayInOrder) {
    std::mt19937 random(11);
    std::deque<Operation*> receives;
    std::deque<Operation*> sends;
    std::vector<std::size_t> lengths;
    constexpr std::uint32_t kPlaces = 24;  // in the arena, one each of the sends that are pending
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t idle = 0;
    const std::uint64_t count = tests::scaled(4000) + 200;
    while (received < count) {
        while (receives.size() < 1 + random() % 12) {
            receives.push_back(&b_.receive(100000));
        }
        while (sends.size() < kPlaces && sent < count) {
            const std::uint32_t limits[] = {100, 300, 5000, 16384, 100000, 100000, 100000};
            const std::size_t length = random() % limits[random() % 7];
            lengths.push_back(length);
            if (random() % 8 == 0) {
                sends.push_back(&a_.send_number(sent, length));
            } else {
                sends.push_back(
                    &send_at(a_, arena(sent % kPlaces * kMiB), message_of(sent, length)));
            }
            ++sent;
        }
        if (random() % 2 == 0) {
            turn_a();
        }
        if (random() % 2 == 0) {
            turn_b();
        }
        ASSERT_LT(++idle, 2000U) << "nothing moves after " << received << " messages";
        while (!sends.empty() && sends.front()->ended()) {
            ASSERT_EQ(sends.front()->status, Status::kOk);
            sends.pop_front();
        }
        while (!receives.empty() && receives.front()->ended()) {
            ASSERT_EQ(receives.front()->status, Status::kOk);
            ASSERT_TRUE(receives.front()->content() == message_of(received, lengths[received]))
                << received;
            receives.pop_front();
            ++received;
            idle = 0;
        }
    }
    EXPECT_GT(described(), count / 4);
    if (GetParam() == Where::kAuto) {
        EXPECT_GT(copied(), 0U);
        EXPECT_LT(copied(), ports_.b.port.counters().bytes_received.value());
    }
    ports_.settle();
    a_.close();
    b_.close();
    ports_.settle();
    expect_all_ended(a_);
    expect_all_ended(b_);
}

TEST_P(DescribedInAnyWay, SeveralWaitAtOnceAndAReceiveThatIsTooShortFailsAlone) {
    std::deque<Operation*> sends;
    for (std::uint64_t number = 0; number < 10; ++number) {
        sends.push_back(&send_at(a_, arena(number * kMiB), message_of(number, 50000)));
    }
    ports_.settle();
    EXPECT_EQ(described(), 10U);
    Operation& small = b_.receive(49999);
    ports_.settle();
    EXPECT_EQ(small.status, Status::kMessageTooLong);
    for (std::uint64_t number = 0; number < 10; ++number) {
        Operation& receive = b_.receive(50000);
        ports_.settle();
        ASSERT_TRUE(receive.good() && sends[number]->good());
        ASSERT_TRUE(receive.content() == message_of(number, 50000));
    }
}

TEST_P(DescribedInAnyWay, BothDirectionsAtOnce) {
    if (GetParam() == Where::kArena) {
        lend(tests::shareable_arena(1), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a);
    }
    auto* other = reinterpret_cast<std::byte*>(tests::shareable_arena(1).base);
    for (std::uint64_t number = 0; number < 50; ++number) {
        Operation& there = b_.receive(kMiB);
        Operation& back = a_.receive(kMiB);
        send_at(a_, arena(), message_of(number, kMiB));
        send_at(b_, other, message_of(number + 1000, kMiB));
        ports_.settle();
        ASSERT_TRUE(there.good() && back.good());
        ASSERT_TRUE(there.content() == message_of(number, kMiB));
        ASSERT_TRUE(back.content() == message_of(number + 1000, kMiB));
    }
}

// ---- in pieces --------------------------------------------------------------------------------------

TEST_P(ProcessMessages, WhatCannotBeReadIsAskedForInPieces) {
    constexpr std::uint32_t kLength = 300000;
    void* const page =
        ::mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page, MAP_FAILED);
    auto* const memory = static_cast<std::byte*>(page);
    Operation& receive = b_.receive(kLength);
    Operation& sent = send_at(a_, memory, message_of(1, kLength));
    // The end of it only, so that the copy stops in the middle.
    ASSERT_EQ(::mprotect(memory + 200 * 1024, kMiB - 200 * 1024, PROT_NONE), 0);
    turn_b();
    turn_b();
    EXPECT_GT(copied(), 0U);
    EXPECT_LT(copied(), kLength);
    EXPECT_FALSE(receive.ended());
    ASSERT_EQ(::mprotect(memory, kMiB, PROT_READ | PROT_WRITE), 0);
    ports_.settle();
    EXPECT_TRUE(sent.good() && receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, kLength));
    EXPECT_FALSE(ports_.link_b->unreadable) << "it was this memory only";
    ::munmap(page, kMiB);
}

// It has become another user's, or a filter of system calls was installed, or the thread that gave the process its
// name has ended.
TEST_P(ProcessMessages, ARightThatIsTakenAwayIsDoneWithout) {
    ports_.link_b->copy.pid = std::numeric_limits<pid_t>::max();
    for (std::uint64_t number = 0; number < 5; ++number) {
        Operation& receive = b_.receive(kMiB);
        Operation& sent = send_at(a_, arena(), message_of(number, kMiB));
        ports_.settle();
        ASSERT_TRUE(sent.good() && receive.good());
        ASSERT_TRUE(receive.content() == message_of(number, kMiB));
        ASSERT_TRUE(ports_.link_b->unreadable);
    }
    EXPECT_EQ(copied(), 0U);
}

// A process that bears the peer's id but is another one, with other bytes in the same place: what the peer becomes by
// exec, or who gets its id when it has ended, before either is noticed.
TEST_P(ProcessMessages, NothingIsTakenFromAnotherProcessOfTheSameId) {
    constexpr std::uint32_t kLength = 300000;
    static std::uint64_t probe[2] = {0x5EED, 0xFEED};
    ProcessCopy& copy = ports_.link_b->copy;
    copy.probe_address = reinterpret_cast<std::uint64_t>(probe);
    std::copy_n(probe, 2, copy.probe);
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    void* const page =
        ::mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page, MAP_FAILED);
    auto* const memory = static_cast<std::byte*>(page);
    Operation& receive = b_.receive(kLength);
    Operation& sent = send_at(a_, memory, message_of(1, kLength));
    const pid_t other = ::fork();
    ASSERT_GE(other, 0);
    if (other == 0) {
        probe[0] = 0;
        std::fill_n(memory, kLength, std::byte{0x77});
        (void)!::write(ready[1], "x", 1);
        ::pause();
        ::_exit(0);
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    copy.pid = other;
    ports_.settle();
    EXPECT_EQ(ports_.b.port.counters().bytes_from_process.value(), 0U);
    EXPECT_TRUE(ports_.link_b->unreadable);
    // The end that has sent it lives, here: it is asked.
    EXPECT_TRUE(sent.good() && receive.good());
    EXPECT_TRUE(receive.content() == message_of(1, kLength));
    ::kill(other, SIGKILL);
    ::waitpid(other, nullptr, 0);
    ::close(ready[0]);
    ::close(ready[1]);
    ::munmap(page, kMiB);
}

TEST_P(ProcessMessages, WithoutTheRightNothingIsDescribed) {
    ports_.link_a->copy.theirs = false;
    Operation& receive = b_.receive(kMiB);
    send_at(a_, arena(), message_of(1, kMiB));
    ports_.settle();
    EXPECT_TRUE(receive.good());
    EXPECT_EQ(described(), 0U);
}

TEST_P(MessagesInPieces, TheOneBehindIsInvitedAhead) {
    constexpr std::uint32_t kLength = 60000;
    std::deque<Operation*> receives;
    for (std::uint64_t number = 0; number < 4; ++number) {
        receives.push_back(&b_.receive(kLength));
        send_at(a_, arena(number * kMiB), message_of(number, kLength));
    }
    turn_b();  // invites two
    turn_a();  // the pieces of both
    turn_b();
    EXPECT_TRUE(receives[0]->good() && receives[1]->good());
    EXPECT_FALSE(receives[2]->ended());
    ports_.settle();
    for (std::uint64_t number = 0; number < 4; ++number) {
        ASSERT_TRUE(receives[number]->good());
        ASSERT_TRUE(receives[number]->content() == message_of(number, kLength));
    }
    EXPECT_EQ(copied(), 0U);
}

TEST_P(MessagesInPieces, AReceiveThatIsTooShortIsNotInvitedAheadFor) {
    constexpr std::uint32_t kLength = 60000;
    Operation& first = b_.receive(kLength);
    Operation& small = b_.receive(kLength - 1);
    Operation& last = b_.receive(kLength);
    for (std::uint64_t number = 0; number < 2; ++number) {
        send_at(a_, arena(number * kMiB), message_of(number, kLength));
    }
    ports_.settle();
    EXPECT_TRUE(first.good());
    EXPECT_EQ(small.status, Status::kMessageTooLong);
    EXPECT_TRUE(last.content() == message_of(1, kLength));
}

}  // namespace
}  // namespace sanpoll::engine::shm
