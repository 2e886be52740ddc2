// The control thread gets no memory while another process introduces itself, writes letters or does not read: that
// acquaintance may end, with all that it has; nothing else does, and the next one succeeds.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <thread>

#include "tests/engine/denied_memory.hpp"
#include "tests/engine/fabric/shm/engine_bench.hpp"
#include "tests/engine/fabric/shm/liar.hpp"

namespace {

std::atomic<int> accepts_to_refuse{0};

}  // namespace

// In place of the system's.
extern "C" int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
    if (accepts_to_refuse.load() > 0) {
        accepts_to_refuse.fetch_sub(1);
        errno = ENOMEM;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_accept4, fd, address, length, flags));
}

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::control;
using tests::DeniedMemory;
using tests::EngineBench;
using tests::eventually;
using tests::Liar;
using tests::Socket;

constexpr int kMostPieces = 300;  // no introduction needs as many

class ShmNoMemoryTest : public testing::TestWithParam<const char*> {
protected:
    static bool for_good() { return std::string(GetParam()) == "AllFurther"; }

    /// Until its end the engine's control thread gets no more than that many pieces.
    class OnControlThread {
    public:
        OnControlThread(EngineBench& bench, int granted) : control_(bench.engine->control()) {
            std::promise<void> begun;
            control_.post_apart([&] {
                denial_.emplace(granted, for_good());
                begun.set_value();
            });
            begun.get_future().wait();
        }
        /// Whether one was denied. Once.
        bool end() {
            std::promise<bool> denied;
            control_.post_apart([&] {
                const bool result = DeniedMemory::was_denied();
                denial_.reset();
                denied.set_value(result);
            });
            return denied.get_future().get();
        }

    private:
        ControlThread& control_;
        std::optional<DeniedMemory> denial_;
    };

    /// A connection of `liar`'s, which it has asked for.
    static void connect(Liar& liar, Backlog& backlog, const Address& at, Socket& socket) {
        ControlMessage connect = control(MessageKind::kConnect);
        connect.connector_id = 5;
        connect.to_ip = at.ip;
        connect.to_port = at.port;
        liar.say(connect);
        const auto request = backlog.next();
        ASSERT_NE(request, nullptr);
        ASSERT_EQ(request->accept(socket.owner(), {}), Status::kOk);
        ASSERT_EQ(liar.hear().kind, MessageKind::kAnswer);
    }
    static const Connection& connection_of(const Socket& socket) {
        return static_cast<const Connection&>(*socket.slot.load());
    }
    static void expect_reset(Socket& socket) {
        EXPECT_TRUE(
            eventually([&] { return socket.gate.view().state == PostGate::State::kReset; }));
        tests::close_all({&socket});
    }
    static void expect_delivery(Socket& from, Socket& to) {
        const tests::Operation& receive = to.receive(64);
        const tests::Operation& send = from.send_number(1, 64);
        tests::wait_for(to, receive);
        tests::wait_for(from, send);
        EXPECT_TRUE(receive.good() && send.good());
    }
};

/// Another process' control socket, whose engine may hang up at any moment.
class Visitor {
public:
    explicit Visitor(const Address& at) : fd_(connect_rendezvous(at)) { EXPECT_GE(fd_, 0); }
    ~Visitor() { ::close(fd_); }
    Visitor(const Visitor&) = delete;
    Visitor& operator=(const Visitor&) = delete;

    /// Whether it comes to a link.
    [[nodiscard]] bool introduce() {
        ControlMessage hello = control(MessageKind::kHello);
        hello.engine_id[0] = 77;
        hello.shares_arenas = static_cast<std::uint32_t>(ShareArenas::kOn);
        if (send_message(fd_, hello, nullptr, 0) != 1 || !hears(MessageKind::kHello)) {
            return false;
        }
        std::string error;
        const SegmentShape shape{256, 256U << 10};
        const auto segment = Segment::create(shape, error);
        int bell[2];
        EXPECT_TRUE(segment && make_doorbell(bell));
        ControlMessage offer = control(MessageKind::kOffer);
        offer.ring_slots = shape.ring_slots;
        offer.staging_bytes = shape.staging_bytes;
        const int fds[] = {segment->fd(), bell[1]};
        const bool said = send_message(fd_, offer, fds, 2) == 1;
        ::close(bell[0]);
        ::close(bell[1]);
        return said && hears(MessageKind::kReady);
    }

private:
    [[nodiscard]] bool hears(MessageKind kind) {
        for (;;) {
            ControlMessage message;
            int fds[2];
            int count = 0;
            const int result = receive_message(fd_, message, fds, count);
            for (int i = 0; i < count; ++i) {
                ::close(fds[i]);
            }
            pollfd item{fd_, POLLIN, 0};
            if (result == 0 && ::poll(&item, 1, 60000) > 0) {
                continue;
            }
            EXPECT_NE(result, 0) << "neither an answer nor an end";
            return result > 0 && message.kind == kind;
        }
    }

    const int fd_;
};

TEST_P(ShmNoMemoryTest, AnIntroductionSucceedsOrEnds) {
    int failures = 0;
    bool denied = true;
    for (int granted = 0; denied && granted < kMostPieces; ++granted) {
        SCOPED_TRACE("pieces granted: " + std::to_string(granted));
        EngineBench bench;  // anew, so that no timer is due while memory is denied
        const Address at = EngineBench::fresh_address();
        Backlog backlog(bench, at);
        ASSERT_EQ(backlog.status, Status::kOk);
        {
            OnControlThread denial(bench, granted);
            Visitor visitor(at);
            const bool linked = visitor.introduce();
            denied = denial.end();
            EXPECT_TRUE(linked || denied);
            failures += linked ? 0 : 1;
        }
        Socket from;
        Socket to;
        ASSERT_NO_FATAL_FAILURE(tests::join(bench, backlog, at, from, to));
        expect_delivery(from, to);
        tests::close_all({&from, &to});
    }
    EXPECT_FALSE(denied);
    EXPECT_GT(failures, 0);
}

// A sentence about it is more than there is memory for.
TEST_P(ShmNoMemoryTest, AWrongLetterEndsItsSender) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(tests::join(bench, backlog, at, from, to));
    Liar liar(at);
    Socket theirs;
    ASSERT_NO_FATAL_FAILURE(connect(liar, backlog, at, theirs));
    OnControlThread denial(bench, 0);
    MailWriter writer(liar.outbox());
    bool knock = false;
    ASSERT_TRUE(writer.put(control(MessageKind::kHello), knock));
    liar.say(control(MessageKind::kMail));
    EXPECT_TRUE(liar.hung_up());
    EXPECT_TRUE(denial.end());
    expect_reset(theirs);
    expect_delivery(from, to);
    tests::close_all({&from, &to});
}

// What is kept for a peer that does not read needs memory.
TEST_P(ShmNoMemoryTest, WhoAsksAndDoesNotReadIsLeft) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(tests::join(bench, backlog, at, from, to));
    Liar liar(at);
    Socket theirs;
    ASSERT_NO_FATAL_FAILURE(connect(liar, backlog, at, theirs));
    OnControlThread denial(bench, 0);
    ControlMessage question = control(MessageKind::kConnect);  // nobody listens there
    question.to_ip = at.ip;
    question.to_port = 1;
    int result = 1;
    for (int sent = 0; result > 0 && sent < 50000; ++sent) {
        result = send_message(liar.fd(), question, nullptr, 0);
        pollfd item{liar.fd(), POLLOUT, 0};
        while (result == 0 && ::poll(&item, 1, 60000) > 0) {
            result = send_message(liar.fd(), question, nullptr, 0);
        }
    }
    EXPECT_LT(result, 0);
    EXPECT_TRUE(denial.end());
    expect_reset(theirs);
    expect_delivery(from, to);
    tests::close_all({&from, &to});
}

// Whether somebody polls is looked at by a timer, and a timer needs memory. Without it the peers are asked to tell.
TEST_P(ShmNoMemoryTest, LettersArriveAlthoughNobodySeesThatThePollingHasStopped) {
    for (int granted = 0; granted < 6; ++granted) {
        SCOPED_TRACE("pieces granted: " + std::to_string(granted));
        EngineBench bench;
        const Address at = EngineBench::fresh_address();
        Backlog backlog(bench, at);
        Liar liar(at);
        std::atomic<bool> stop{false};
        std::thread poller([&] {
            while (!stop.load()) {
                bench.fabric().progress();
            }
        });
        OnControlThread denial(bench, granted);
        for (int i = 0; i < 20; ++i) {
            liar.say(control(MessageKind::kMail));
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        (void)denial.end();
        stop.store(true);
        poller.join();
        MailWriter writer(liar.outbox());
        ControlMessage connect = control(MessageKind::kConnect);
        connect.connector_id = 5;
        connect.to_ip = at.ip;
        connect.to_port = at.port;
        bool knock = false;
        ASSERT_TRUE(writer.put(connect, knock));
        if (knock) {
            liar.say(control(MessageKind::kMail));
        }
        ASSERT_NE(backlog.next(), nullptr);
    }
}

TEST_P(ShmNoMemoryTest, WhoLiesInTheRingIsLeft) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(tests::join(bench, backlog, at, from, to));
    Liar liar(at);
    Socket theirs;
    ASSERT_NO_FATAL_FAILURE(connect(liar, backlog, at, theirs));
    OnControlThread denial(bench, 0);
    liar.lie_in_the_ring();
    expect_delivery(from, to);  // looks at all links
    EXPECT_TRUE(liar.hung_up());
    (void)denial.end();
    expect_reset(theirs);
    expect_delivery(from, to);
    tests::close_all({&from, &to});
}

// The other end of a connection wants to change process. It may, or is told why not, and nothing has happened.
TEST_P(ShmNoMemoryTest, AChangeOfProcessIsRefusedAndTheConnectionGoesOn) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Liar liar(at);
    Socket theirs;
    ASSERT_NO_FATAL_FAILURE(connect(liar, backlog, at, theirs));
    const std::uint32_t id = connection_of(theirs).id;
    int failures = 0;
    bool denied = true;
    std::uint32_t serial = 0;
    for (int granted = 0; denied && granted < kMostPieces; ++granted) {
        SCOPED_TRACE("pieces granted: " + std::to_string(granted));
        OnControlThread denial(bench, granted);
        ControlMessage message = control(MessageKind::kSuspend);
        message.acceptor_id = id;
        message.serial = ++serial;
        liar.say(message);
        const ControlMessage answer = liar.hear();
        denied = denial.end();
        ASSERT_EQ(answer.kind, MessageKind::kSuspended);
        if (answer.status != static_cast<std::uint32_t>(SuspendAnswer::kHeld)) {
            ++failures;
            EXPECT_TRUE(denied);
            ASSERT_EQ(answer.status, static_cast<std::uint32_t>(SuspendAnswer::kNoMemory));
            continue;  // the next one finds it as it was
        }
        message.kind = MessageKind::kStay;
        liar.say(message);
    }
    EXPECT_FALSE(denied);
    EXPECT_GT(failures, 0);
    EXPECT_EQ(theirs.gate.view().state, PostGate::State::kOpen);
    tests::close_all({&theirs});
}

// A long message has to be finished first, which is looked for by a timer.
TEST_P(ShmNoMemoryTest, AChangeOfProcessThatWouldHaveToWaitIsRefused) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Liar liar(at);
    Socket theirs;
    ASSERT_NO_FATAL_FAILURE(connect(liar, backlog, at, theirs));
    const Connection& connection = connection_of(theirs);
    PollingCore& core = *theirs.core_slot.load();
    const auto becomes = [&](auto condition) {
        return eventually([&] {
            if (!core.try_acquire()) {
                return false;
            }
            (void)core.turn();
            const bool so = condition();
            core.release();
            return so;
        });
    };
    // It has a receive, takes the message, and then no pieces of it beyond what the link holds.
    liar.tell(RecordKind::kCredit, connection.id, 1);
    const tests::Operation& send = theirs.send_number(1, 1 << 20);
    ASSERT_TRUE(becomes([&] { return connection.long_state == Connection::Long::kAnnounced; }));
    liar.tell(RecordKind::kInvite, connection.id, 1);
    ASSERT_TRUE(becomes([&] {
        return connection.long_state == Connection::Long::kSending && connection.progress != 0;
    }));
    int refusals = 0;
    std::uint32_t serial = 0;
    for (int granted = 0; granted < 4; ++granted) {
        SCOPED_TRACE("pieces granted: " + std::to_string(granted));
        OnControlThread denial(bench, granted);
        ControlMessage message = control(MessageKind::kSuspend);
        message.acceptor_id = connection.id;
        message.serial = ++serial;
        liar.say(message);
        // What it says is dealt with in order: the answer to this comes behind the other, if there is any yet.
        ControlMessage question = control(MessageKind::kSuspend);
        question.acceptor_id = ~0U;
        question.serial = 1000 + serial;
        liar.say(question);
        const ControlMessage answer = liar.hear();
        (void)denial.end();
        ASSERT_EQ(answer.kind, MessageKind::kSuspended);
        if (answer.serial == question.serial) {
            message.kind = MessageKind::kStay;  // it waits for the pieces to be taken
            liar.say(message);
            continue;
        }
        ++refusals;
        EXPECT_EQ(answer.status, static_cast<std::uint32_t>(SuspendAnswer::kNoMemory));
        EXPECT_EQ(liar.hear().serial, question.serial);
    }
    EXPECT_GT(refusals, 0);
    EXPECT_FALSE(send.ended());
    EXPECT_EQ(theirs.gate.view().state, PostGate::State::kOpen);
    tests::close_all({&theirs});
}

// As when the system has no memory either: who knocks waits until it has.
TEST_P(ShmNoMemoryTest, WhoCannotBeLetInWaits) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    ASSERT_EQ(backlog.status, Status::kOk);
    OnControlThread denial(bench, 0);
    accepts_to_refuse = 3;
    const int fd = connect_rendezvous(at);
    EXPECT_GE(fd, 0);
    EXPECT_TRUE(eventually([&] { return accepts_to_refuse.load() == 0; }));
    EXPECT_TRUE(denial.end());
    ::close(fd);
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(tests::join(bench, backlog, at, from, to));
    tests::close_all({&from, &to});
}

INSTANTIATE_TEST_SUITE_P(Denied, ShmNoMemoryTest, testing::Values("OneAlone", "AllFurther"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sanpoll::engine::shm
