// Letters of peers that lie, that write too much or read nothing, and of those who poll for them.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <thread>

#include "tests/engine/fabric/shm/engine_bench.hpp"
#include "tests/engine/fabric/shm/liar.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::control;
using tests::EngineBench;
using tests::eventually;
using tests::Liar;
using tests::Operation;
using tests::Socket;

constexpr std::uint32_t kLetters = MailboxMemory::kLetters;

class LettersTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(backlog_.status, Status::kOk);
        ASSERT_NO_FATAL_FAILURE(tests::join(bench_, backlog_, at_, honest_a_, honest_b_));
    }
    void TearDown() override {
        expect_honest_connection_works();
        tests::close_all({&honest_a_, &honest_b_});
    }
    void expect_honest_connection_works() {
        Operation& receive = honest_b_.receive(100);
        Operation& sent = honest_a_.send_number(++number_, 50);
        tests::wait_for(honest_b_, receive);
        tests::wait_for(honest_a_, sent);
        EXPECT_TRUE(receive.good() && sent.good());
        EXPECT_TRUE(receive.content() == tests::message_of(number_, 50));
    }
    // Whatever a liar does meanwhile.
    void others_connect() {
        for (int i = 0; i < 20; ++i) {
            Socket from;
            Socket to;
            ASSERT_NO_FATAL_FAILURE(tests::join(bench_, backlog_, at_, from, to));
            tests::close_all({&from, &to});
        }
    }
    ControlMessage connect_to(const Address& to, std::uint32_t id) {
        ControlMessage message = control(MessageKind::kConnect);
        message.connector_id = id;
        message.to_ip = to.ip;
        message.to_port = to.port;
        return message;
    }
    static void forge(Liar& liar, std::uint32_t index, const ControlMessage& letter) {
        std::memcpy(liar.outbox().letters[index % kLetters].bytes, &letter, sizeof(letter));
        liar.outbox().written = index + 1;
    }

    EngineBench bench_;
    Address at_ = EngineBench::fresh_address();
    Backlog backlog_{bench_, at_};
    Socket honest_a_;
    Socket honest_b_;
    std::uint64_t number_ = 0;
};

TEST_F(LettersTest, ARequestIsAnsweredByLetter) {
    Liar liar(at_);
    forge(liar, 0, connect_to(at_, 5));
    liar.say(control(MessageKind::kMail));
    const auto request = backlog_.next();
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->local(), at_);
    Socket socket;
    EXPECT_EQ(request->accept(socket.owner(), {}), Status::kOk);
    EXPECT_EQ(liar.inbox().written.load(), 1U);
    const ControlMessage answer = liar.hear();
    EXPECT_EQ(answer.kind, MessageKind::kAnswer);
    EXPECT_EQ(answer.connector_id, 5U);
    EXPECT_EQ(answer.status, 0U);
    tests::close_all({&socket});
}

TEST_F(LettersTest, WhatIsNoLetterEndsItsOwnLinkOnly) {
    std::vector<ControlMessage> wrong;
    for (const auto kind : {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 65535}) {
        wrong.push_back(connect_to(at_, 5));
        wrong.back().kind = static_cast<MessageKind>(kind);
    }
    wrong.push_back(connect_to(at_, 5));
    wrong.back().magic ^= 1;
    wrong.push_back(connect_to(at_, 5));
    wrong.back().version = 4;
    for (const std::uint32_t length : {257U, 1U << 31, UINT32_MAX}) {
        wrong.push_back(connect_to(at_, 5));
        wrong.back().data_length = length;
    }
    for (const ControlMessage& letter : wrong) {
        Liar liar(at_);
        forge(liar, 0, letter);
        liar.say(control(MessageKind::kMail));
        EXPECT_TRUE(liar.hung_up());
    }
    for (const std::uint32_t count : {kLetters + 1, 1U << 31, UINT32_MAX}) {
        Liar liar(at_);
        liar.outbox().written = count;
        liar.say(control(MessageKind::kMail));
        EXPECT_TRUE(liar.hung_up());
    }
}

TEST_F(LettersTest, RandomOnesHarmNobodyElse) {
    std::mt19937 random(20);
    for (std::uint64_t round = 0; round < tests::scaled(20); ++round) {
        Liar liar(at_);
        liar.reads_letters = round % 2 == 0;
        for (std::uint32_t index = 0; index < 200; ++index) {
            static constexpr MessageKind kKinds[] = {MessageKind::kConnect, MessageKind::kAnswer,
                                                     MessageKind::kWithdraw, MessageKind::kAbandon};
            ControlMessage letter = connect_to(at_, random() % 16);
            letter.kind = kKinds[random() % 4];
            letter.acceptor_id = random() % 8;
            letter.status = random() % 5;
            letter.data_length = random() % 257;
            letter.to_port = static_cast<std::uint16_t>(at_.port + random() % 2);
            (void)eventually([&] { return index - liar.outbox().taken.load() < kLetters; });
            forge(liar, index, letter);
            if (index % 8 == 0) {
                liar.say(control(MessageKind::kMail));
            }
            if (index % 16 == 0) {
                bench_.fabric().progress();
            }
        }
        liar.say(control(MessageKind::kMail));
        expect_honest_connection_works();
    }
    // What it asked for and has not taken back is refused, like that of anybody who has gone.
}

TEST_F(LettersTest, AFloodKeepsNobodyWaiting) {
    Liar liar(at_);
    std::atomic<bool> stop{false};
    std::thread flood([&] {
        const ControlMessage letter = connect_to({at_.ip, 1}, 5);  // nobody listens there
        std::uint32_t index = 0;
        liar.say(control(MessageKind::kMail));
        while (!stop.load()) {
            if (index - liar.outbox().taken.load() < kLetters) {
                forge(liar, index++, letter);
            }
            liar.inbox().taken = liar.inbox().written.load();
        }
    });
    others_connect();
    stop.store(true);
    flood.join();
}

TEST_F(LettersTest, AFloodBySocketKeepsNobodyWaiting) {
    Liar liar(at_);
    std::atomic<bool> stop{false};
    std::thread flood([&] {
        const ControlMessage message = control(MessageKind::kMail);
        while (!stop.load() && send_message(liar.fd(), message, nullptr, 0) >= 0) {
        }
    });
    others_connect();
    stop.store(true);
    flood.join();
}

TEST_F(LettersTest, WhoAsksAndNeverReadsIsLeft) {
    Liar liar(at_);
    const ControlMessage question = connect_to({at_.ip, 1}, 5);  // nobody listens there
    int result = 1;
    // As many as it takes to fill the mailbox, the socket and what is kept; without an end, all are taken.
    for (int sent = 0; result > 0 && sent < 50000; ++sent) {
        result = send_message(liar.fd(), question, nullptr, 0);
        pollfd item{liar.fd(), POLLOUT, 0};
        while (result == 0 && ::poll(&item, 1, 60000) > 0) {
            result = send_message(liar.fd(), question, nullptr, 0);
        }
    }
    EXPECT_LT(result, 0) << "the engine keeps answers for it without limit";
}

TEST_F(LettersTest, WithoutRoomTheAnswersComeByTheSocket) {
    Liar liar(at_);
    liar.reads_letters = false;
    constexpr std::uint32_t kMore = 8;
    for (std::uint32_t id = 0; id < kLetters + kMore; ++id) {
        liar.say(connect_to({at_.ip, 1}, id));
    }
    for (std::uint32_t id = kLetters; id < kLetters + kMore; ++id) {
        const ControlMessage answer = liar.hear();
        EXPECT_EQ(answer.kind, MessageKind::kAnswer);
        EXPECT_EQ(answer.connector_id, id);
        EXPECT_EQ(answer.status, 2U);
    }
    EXPECT_EQ(liar.inbox().written.load(), kLetters);
}

TEST_F(LettersTest, AReaderThatLiesGetsItsAnswersByTheSocket) {
    Liar liar(at_);
    liar.reads_letters = false;
    liar.inbox().taken = 1U << 31;
    for (std::uint32_t id = 0; id < 2 * kLetters; ++id) {
        liar.say(connect_to({at_.ip, 1}, id));
    }
    for (std::uint32_t id = kLetters; id < 2 * kLetters; ++id) {
        EXPECT_EQ(liar.hear().connector_id, id);
    }
}

TEST_F(LettersTest, AMessageBySocketComesAfterEarlierLetters) {
    for (std::uint64_t round = 0; round < tests::scaled(200); ++round) {
        Liar liar(at_);
        forge(liar, 0, connect_to(at_, 5));
        ControlMessage withdraw = control(MessageKind::kWithdraw);
        withdraw.connector_id = 5;
        liar.say(withdraw);
        const auto request = backlog_.next();
        ASSERT_NE(request, nullptr);
        EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
    }
}

TEST_F(LettersTest, LettersOfWhoHasEndedArrive) {
    for (std::uint64_t round = 0; round < tests::scaled(200); ++round) {
        Liar liar(at_);
        forge(liar, 0, connect_to(at_, 5));
        liar.hang_up();
        const auto request = backlog_.next();
        ASSERT_NE(request, nullptr);
        EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
        Socket socket;
        EXPECT_EQ(request->accept(socket.owner(), {}), Status::kWithdrawn);
    }
}

TEST_F(LettersTest, WhoPollsIsServedAndWhoStopsIsToldAgain) {
    for (std::uint64_t round = 0; round < tests::scaled(5); ++round) {
        std::atomic<bool> stop{false};
        std::thread poller([&] {
            while (!stop.load()) {
                bench_.fabric().progress();
            }
        });
        for (int i = 0; i < 200; ++i) {
            Socket from;
            Socket to;
            ASSERT_NO_FATAL_FAILURE(tests::join(bench_, backlog_, at_, from, to));
            tests::close_all({&from, &to});
        }
        stop.store(true);
        poller.join();
        // Nobody looks any more.
        for (int i = 0; i < 5; ++i) {
            Socket from;
            Socket to;
            ASSERT_NO_FATAL_FAILURE(tests::join(bench_, backlog_, at_, from, to));
            tests::close_all({&from, &to});
        }
    }
}

TEST_F(LettersTest, MoreAtOnceThanThereIsRoomForAllArrive) {
    constexpr std::size_t kMany = 5 * kLetters;
    std::deque<Socket> from(kMany);
    std::deque<Socket> to(kMany);
    std::vector<std::unique_ptr<EngineBench::Outcome>> outcomes;
    for (Socket& socket : from) {
        outcomes.push_back(bench_.dial(at_, socket));
    }
    for (Socket& socket : to) {
        const auto request = backlog_.next();
        ASSERT_NE(request, nullptr);
        ASSERT_EQ(request->accept(socket.owner(), {}), Status::kOk);
    }
    for (const auto& outcome : outcomes) {
        EXPECT_EQ(EngineBench::result_of(*outcome).status, Status::kOk);
    }
    for (std::size_t i = 0; i < kMany; ++i) {
        tests::close_all({&from[i], &to[i]});
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
