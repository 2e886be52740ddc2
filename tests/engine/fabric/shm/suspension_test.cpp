// Peers that lie about changes of process: their own connection may end, and nothing else.
#include "engine/fabric/shm/suspension.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <thread>

#include "engine/fabric/shm/export.hpp"
#include "engine/fabric/shm/segment.hpp"
#include "tests/engine/fabric/shm/engine_bench.hpp"
#include "tests/engine/fabric/shm/liar.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::control;
using tests::EngineBench;
using tests::Liar;
using tests::message_of;
using tests::Operation;
using tests::Socket;

class SuspensionTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(backlog_.status, Status::kOk);
        ASSERT_NO_FATAL_FAILURE(tests::join(bench_, backlog_, at_, honest_a_, honest_b_));
        waiting_ = &honest_b_.receive(100);
    }
    void TearDown() override {
        expect_honest_connection_works();
        tests::close_all({&honest_a_, &honest_b_});
    }
    void expect_honest_connection_works() {
        EXPECT_FALSE(waiting_->ended());
        const std::uint64_t number = ++number_;
        Operation& sent = honest_a_.send_number(number, 50);
        tests::wait_for(honest_b_, *waiting_);
        tests::wait_for(honest_a_, sent);
        EXPECT_TRUE(waiting_->good() && sent.good());
        EXPECT_TRUE(waiting_->content() == message_of(number, 50));
        waiting_ = &honest_b_.receive(100);
    }
    // The liar's connection to a socket of ours; our id of it.
    std::uint32_t connect(Liar& liar, Socket& socket) {
        ControlMessage message = control(MessageKind::kConnect);
        message.connector_id = 5;
        message.to_ip = at_.ip;
        message.to_port = at_.port;
        liar.say(message);
        const auto request = backlog_.next();
        EXPECT_NE(request, nullptr);
        EXPECT_EQ(request->accept(socket.owner(), {}), Status::kOk);
        const ControlMessage answer = liar.hear();
        EXPECT_EQ(answer.kind, MessageKind::kAnswer);
        EXPECT_EQ(answer.status, 0U);
        return answer.acceptor_id;
    }
    static ControlMessage suspend(std::uint32_t id, std::uint32_t serial = 1) {
        ControlMessage message = control(MessageKind::kSuspend);
        message.acceptor_id = id;
        message.serial = serial;
        return message;
    }
    static ControlMessage resume(const ControlMessage& suspended) {
        ControlMessage message = control(MessageKind::kResume);
        message.connector_id = 9;
        message.sent = suspended.arrived;
        message.arrived = suspended.sent;
        message.credit = suspended.sent;
        std::memcpy(message.secret, suspended.secret, sizeof(message.secret));
        return message;
    }
    static bool is_reset(const Socket& socket) {
        return tests::eventually(
            [&] { return socket.gate.view().state == PostGate::State::kReset; });
    }

    EngineBench bench_;
    Address at_ = EngineBench::fresh_address();
    Backlog backlog_{bench_, at_};
    Socket honest_a_;
    Socket honest_b_;
    Operation* waiting_ = nullptr;
    std::uint64_t number_ = 0;
};

TEST_F(SuspensionTest, ConnectionsOfOthersAreOutOfReach) {
    Liar liar(at_);
    for (std::uint32_t id = 0; id < 64; ++id) {
        liar.say(suspend(id, id));
        const ControlMessage answer = liar.hear();
        ASSERT_EQ(answer.kind, MessageKind::kSuspended);
        EXPECT_EQ(answer.status, 2U);
        EXPECT_EQ(liar.received(), -1);
        ControlMessage left = control(MessageKind::kLeft);
        left.acceptor_id = id;
        left.serial = id;
        liar.say(left);
        left.kind = MessageKind::kStay;
        liar.say(left);
    }
    expect_honest_connection_works();
}

TEST_F(SuspensionTest, AnOwnConnectionIsSuspendedAndResumedByWhoKnowsTheSecret) {
    Liar liar(at_);
    Socket socket;
    const std::uint32_t id = connect(liar, socket);
    Operation& receive = socket.receive(100);
    liar.say(suspend(id));
    const ControlMessage suspended = liar.hear();
    ASSERT_EQ(suspended.status, 0U);
    ASSERT_GE(liar.received(), 0);
    const Descriptor lifeline(::dup(liar.received()));
    Operation& send = socket.send_number(1, 20);
    ControlMessage left = control(MessageKind::kLeft);
    left.acceptor_id = id;
    left.serial = 1;
    liar.say(left);
    ControlMessage wrong = resume(suspended);
    for (std::uint64_t& word : wrong.secret) {
        word ^= 1;
        liar.say(wrong);
        const ControlMessage answer = liar.hear();
        EXPECT_EQ(answer.kind, MessageKind::kAnswer);
        EXPECT_EQ(answer.status, 2U);
        word ^= 1;
    }
    EXPECT_FALSE(receive.ended() || send.ended());
    liar.say(resume(suspended));
    const ControlMessage answer = liar.hear();
    EXPECT_EQ(answer.status, 0U);
    EXPECT_EQ(answer.acceptor_id, id);
    EXPECT_EQ(answer.credit, 1U);
    tests::wait_for(socket, send);
    EXPECT_TRUE(send.good());
    EXPECT_FALSE(receive.ended());
    liar.say(resume(suspended));
    EXPECT_EQ(liar.hear().status, 2U) << "a secret is good once";
    tests::close_all({&socket});
}

TEST_F(SuspensionTest, CountsThatDoNotFitResetTheConnection) {
    for (int which = 0; which < 3; ++which) {
        Liar liar(at_);
        Socket socket;
        const std::uint32_t id = connect(liar, socket);
        Operation& receive = socket.receive(100);
        liar.say(suspend(id));
        ControlMessage message = resume(liar.hear());
        (which == 0 ? message.sent : which == 1 ? message.arrived : message.credit) += 1;
        const int lifeline = ::dup(liar.received());
        liar.say(message);
        EXPECT_EQ(liar.hear().status, 2U);
        EXPECT_TRUE(is_reset(socket));
        tests::wait_for(socket, receive);
        EXPECT_EQ(receive.status, Status::kReset);
        ::close(lifeline);
        tests::close_all({&socket});
    }
}

TEST_F(SuspensionTest, WhenTheLastLifelineEndsTheConnectionIsReset) {
    Liar liar(at_);
    Socket socket;
    const std::uint32_t id = connect(liar, socket);
    Operation& receive = socket.receive(100);
    liar.say(suspend(id));
    ASSERT_EQ(liar.hear().status, 0U);
    const int lifeline = ::dup(liar.received());
    liar.close_received();
    ControlMessage left = control(MessageKind::kLeft);
    left.acceptor_id = id;
    left.serial = 1;
    liar.say(left);
    liar.say(suspend(id, 2));  // its answer says that kLeft was taken
    EXPECT_EQ(liar.hear().status, 2U);
    liar.hang_up();
    expect_honest_connection_works();
    EXPECT_FALSE(receive.ended()) << "it outlives the link of the process that left";
    ::close(lifeline);
    EXPECT_TRUE(is_reset(socket));
    tests::wait_for(socket, receive);
    EXPECT_EQ(receive.status, Status::kReset);
    tests::close_all({&socket});
}

TEST_F(SuspensionTest, WhoStaysGoesOnAsBefore) {
    Liar liar(at_);
    Socket socket;
    const std::uint32_t id = connect(liar, socket);
    for (std::uint32_t serial = 1; serial < 10; ++serial) {
        liar.say(suspend(id, serial));
        ASSERT_EQ(liar.hear().status, 0U);
        Operation& send = socket.send_number(1, 20);
        EXPECT_FALSE(send.ended());
        if (serial % 2 == 0) {
            liar.close_received();  // an end of the lifeline before it left means the same
        }
        ControlMessage stay = control(MessageKind::kStay);
        stay.acceptor_id = id;
        stay.serial = serial;
        liar.say(stay);
        tests::wait_for(socket, send);
        EXPECT_TRUE(send.good());
    }
    tests::close_all({&socket});
}

TEST_F(SuspensionTest, WhoLeavesWithoutBeingLetGoIsReset) {
    Liar liar(at_);
    Socket socket;
    const std::uint32_t id = connect(liar, socket);
    ControlMessage left = control(MessageKind::kLeft);
    left.acceptor_id = id;
    liar.say(left);
    EXPECT_TRUE(is_reset(socket));
    tests::close_all({&socket});
}

TEST_F(SuspensionTest, AnOwnerMayCloseWhileItsPeerIsOnItsWay) {
    Liar liar(at_);
    Socket socket;
    const std::uint32_t id = connect(liar, socket);
    liar.say(suspend(id));
    const ControlMessage suspended = liar.hear();
    ASSERT_EQ(suspended.status, 0U);
    const int lifeline = ::dup(liar.received());
    ControlMessage left = control(MessageKind::kLeft);
    left.acceptor_id = id;
    left.serial = 1;
    liar.say(left);
    tests::close_all({&socket});
    liar.say(resume(suspended));
    EXPECT_EQ(liar.hear().status, 2U);
    ::close(lifeline);
}

TEST_F(SuspensionTest, AnswersThatNobodyAskedForAreIgnoredOrEndTheLink) {
    {
        Liar liar(at_);
        ControlMessage message = control(MessageKind::kSuspended);
        message.status = 1;
        liar.say(message);  // may be late
        int ends[2];
        ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        message.status = 0;
        liar.say_with(message, ends[1]);
        ::close(ends[1]);
        pollfd item{ends[0], POLLIN, 0};
        EXPECT_EQ(::poll(&item, 1, 60000), 1) << "the descriptor was kept";
        ::close(ends[0]);
        liar.say(suspend(0));
        EXPECT_EQ(liar.hear().kind, MessageKind::kSuspended) << "the link lives";
    }
    for (const MessageKind kind : {MessageKind::kSuspend, MessageKind::kStay, MessageKind::kLeft,
                                   MessageKind::kResume, MessageKind::kSuspended}) {
        Liar liar(at_);
        int pipe_ends[2];
        ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
        liar.say_with(control(kind), pipe_ends[0]);  // a descriptor too many, or of the wrong kind
        EXPECT_TRUE(liar.hung_up());
        ::close(pipe_ends[0]);
        ::close(pipe_ends[1]);
    }
    Liar liar(at_);
    liar.say(control(MessageKind::kExport));
    EXPECT_TRUE(liar.hung_up());
}

TEST_F(SuspensionTest, RandomMessagesHarmNobodyElse) {
    std::mt19937 random(99);
    for (int round = 0; round < 60; ++round) {
        Liar liar(at_);
        Socket socket;
        const std::uint32_t id = connect(liar, socket);
        socket.receive(100);
        for (int i = 0; i < 30; ++i) {
            ControlMessage message = control(static_cast<MessageKind>(
                static_cast<std::uint32_t>(MessageKind::kSuspend) + random() % 5));
            message.acceptor_id = random() % 3 == 0 ? random() % 64 : id;
            message.connector_id = random() % 10;
            message.serial = random() % 3;
            message.status = random() % 4;
            message.sent = random() % 3;
            message.arrived = random() % 3;
            message.credit = random() % 3;
            message.port = random();
            message.secret[0] = random();
            if (send_message(liar.fd(), message, nullptr, 0) < 0) {
                break;
            }
            socket.send_number(1, random() % 100);
        }
        liar.hang_up();
        EXPECT_TRUE(is_reset(socket));
        tests::close_all({&socket});
        ASSERT_NO_FATAL_FAILURE(expect_honest_connection_works());
    }
}

// ---- tokens ---------------------------------------------------------------------------------------------

TEST_F(SuspensionTest, GarbageInsteadOfASocketIsRefused) {
    constexpr std::uint32_t kToken = 0x7E57AB1E;
    for (int which = 0; which < 5; ++which) {
        const Descriptor door(bind_token(kToken + static_cast<std::uint32_t>(which)));
        ASSERT_TRUE(door);
        std::thread server([&] {
            pollfd item{door.get(), POLLIN, 0};
            (void)::poll(&item, 1, 60000);
            const Descriptor caller(::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC));
            ControlMessage message =
                control(which == 0 ? MessageKind::kHello : MessageKind::kExport);
            ExportedState state;
            const Descriptor file =
                which == 1 ? Descriptor(::memfd_create("empty", MFD_CLOEXEC)) : write_state(state);
            int ends[2];
            (void)::socketpair(AF_UNIX, which == 2 ? SOCK_STREAM : SOCK_SEQPACKET, 0, ends);
            const int fds[] = {file.get(), ends[0]};
            if (which == 4) {
                (void)::send(caller.get(), "garbage", 7, MSG_NOSIGNAL);
            } else {
                (void)send_message(caller.get(), message, fds, which == 3 ? 1 : 2);
            }
            ::close(ends[0]);
            ::close(ends[1]);
        });
        std::unique_ptr<Import> import;
        EXPECT_EQ(bench_.fabric().import_socket(kToken + static_cast<std::uint32_t>(which), import),
                  Status::kUnknownToken)
            << which;
        EXPECT_EQ(import, nullptr);
        server.join();
    }
}

TEST_F(SuspensionTest, ALifelineThatLeadsNowhereEndsTheImport) {
    constexpr std::uint32_t kToken = 0x7E57AB2E;
    const Descriptor door(bind_token(kToken));
    ASSERT_TRUE(door);
    std::thread server([&] {
        pollfd item{door.get(), POLLIN, 0};
        (void)::poll(&item, 1, 60000);
        const Descriptor caller(::accept4(door.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const Descriptor file = write_state({});
        int ends[2];
        (void)::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends);
        const int fds[] = {file.get(), ends[0]};
        (void)send_message(caller.get(), control(MessageKind::kExport), fds, 2);
        ::close(ends[0]);
        ::close(ends[1]);
    });
    std::unique_ptr<Import> import;
    ASSERT_EQ(bench_.fabric().import_socket(kToken, import), Status::kOk);
    server.join();
    Socket socket;
    EXPECT_EQ(import->resume(socket.owner()), Status::kNoListener);
    EXPECT_EQ(socket.gate.view().state, PostGate::State::kShut);
}

}  // namespace
}  // namespace sanpoll::engine::shm
