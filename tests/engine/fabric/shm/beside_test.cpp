// A core of its own with both ends of a connection: messages that do not go by the link, and their order among those that do.
#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/engine/fabric/shm/two_ports.hpp"
#include "tests/engine/region_removal.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::message_of;
using tests::Operation;
using tests::Socket;

Config config_of(Mode mode) {
    Config config = tests::TwoPorts::small_config();
    config.mode = mode;
    config.cores = {0};
    return config;
}

// What has been told, in order: contexts.
std::vector<std::uint64_t>& told() {
    static std::vector<std::uint64_t> all;
    return all;
}

Handlers noting_handlers() {
    Handlers handlers = tests::operation_handlers();
    handlers.completed = [](std::uint64_t context, std::uint32_t bytes, Status status) noexcept {
        told().push_back(context);
        tests::operation_handlers().completed(context, bytes, status);
    };
    return handlers;
}

// A core with its port, without threads.
struct NotingSide {
    explicit NotingSide(const Config& config)
        : notifier(config),
          core(config, Clock::steady(), noting_handlers(), notifier, 0),
          port(config, core, -1) {
        core.add_port(port);
        told().clear();
    }
    Notifier notifier;
    PollingCore core;
    ShmPort port;
};

class BesideTest : public testing::Test {
protected:
    explicit BesideTest(Mode mode = Mode::kDedicated) : config_(config_of(mode)), side_(config_) {
        std::string error;
        const SegmentShape shape{config_.shm_ring_slots, config_.shm_staging_kb * 1024};
        auto ours = Segment::create(shape, error);
        EXPECT_NE(ours, nullptr) << error;
        fd_ = ::dup(ours->fd());
        first_ = link_of(std::move(ours), true);
        second_ = link_of(Segment::open(fd_, shape, error), false);
        side_.port.add_link(*first_);
        side_.port.add_link(*second_);
        Connection* const from = side_.port.make_connection(a_.owner());
        Connection* const to = side_.port.make_connection(b_.owner());
        side_.port.install(*from, *first_);
        side_.port.install(*to, *second_);
        EXPECT_TRUE(side_.port.establish(*to, from->id));
        EXPECT_TRUE(side_.port.establish(*from, to->id));
    }
    ~BesideTest() override {
        for (const auto& link : {first_.get(), second_.get()}) {
            if (link != nullptr) {
                side_.port.remove_link(*link, Status::kReset);
            }
        }
        ::close(fd_);
        LaneRegistry::forget_all();
    }

    [[nodiscard]] static std::unique_ptr<Link> link_of(std::unique_ptr<Segment> segment,
                                                       bool initiator) {
        int ends[2];
        EXPECT_TRUE(make_doorbell(ends));
        return std::make_unique<Link>(std::move(segment), initiator, ends[0], ends[1]);
    }
    void settle() {
        for (int quiet = 0; quiet < 20; ++quiet) {
            for (Link* link : {first_.get(), second_.get()}) {
                link->patience.give_up();
            }
            if (side_.core.turn()) {
                quiet = 0;
            }
        }
    }
    // How many records have gone by the link, either way.
    [[nodiscard]] std::uint32_t by_the_link() const {
        return first_->sender.position() + second_->sender.position();
    }
    void expect(const Operation& receive, std::uint64_t number, std::size_t length) {
        ASSERT_TRUE(receive.good()) << number;
        ASSERT_TRUE(receive.content() == message_of(number, length)) << number;
        ASSERT_EQ(receive.ends.load(), 1) << number;
    }

    const Config config_;
    NotingSide side_;
    int fd_ = -1;
    std::unique_ptr<Link> first_;
    std::unique_ptr<Link> second_;
    Socket a_;
    Socket b_;
};

TEST_F(BesideTest, AShortMessageDoesNotGoByTheLink) {
    for (const std::size_t length : {0U, 1U, 8U, 31U, 64U}) {
        SCOPED_TRACE(length);
        Operation& there = b_.receive(64);
        Operation& back = a_.receive(64);
        settle();
        const std::uint32_t before = by_the_link();  // credit may have
        Operation& sent = a_.send_number(1, length);
        Operation& answered = b_.send_number(2, length);
        settle();
        expect(there, 1, length);
        expect(back, 2, length);
        EXPECT_TRUE(sent.good());
        EXPECT_EQ(sent.ends.load(), 1);
        EXPECT_TRUE(answered.good());
        EXPECT_EQ(answered.ends.load(), 1);
        EXPECT_EQ(by_the_link(), before);
    }
    EXPECT_EQ(side_.port.counters().messages_sent.value(), 10U);
    EXPECT_EQ(side_.port.counters().messages_received.value(), 10U);
    EXPECT_EQ(side_.core.counters().completions.value(), 20U);
}

TEST_F(BesideTest, TheSendEndsBehindTheReceive) {
    Operation& receive = b_.receive(64);
    Operation& send = a_.send_number(1, 64);
    (void)side_.core.turn();  // which takes the receive
    for (int turn = 0; turn < 2 && !receive.ended(); ++turn) {
        (void)side_.core.turn();
    }
    ASSERT_TRUE(receive.good());
    EXPECT_FALSE(send.ended()) << "nothing hurries";
    Operation& next = b_.receive(64);  // the next request brings it
    while (side_.core.turn()) {
    }
    EXPECT_TRUE(send.good());
    EXPECT_FALSE(next.ended());
}

TEST_F(BesideTest, TheSendEndsWithoutAnotherRequest) {
    Operation& receive = b_.receive(64);
    Operation& send = a_.send_number(1, 64);
    for (int turn = 0; turn < 16; ++turn) {
        (void)side_.core.turn();
    }
    EXPECT_TRUE(receive.good());
    EXPECT_TRUE(send.good());
    EXPECT_EQ(send.length, 64U);
}

TEST_F(BesideTest, TheSendDoesNotWaitForABusyFabric) {
    Operation& receive = b_.receive(64);
    (void)a_.receive(4096);
    settle();
    (void)b_.send_number(1, 4096);
    ASSERT_TRUE(side_.core.turn());  // which finds the message on the link
    Operation& send = a_.send_number(2, 64);
    (void)side_.core.turn();
    EXPECT_TRUE(receive.good());
    EXPECT_TRUE(send.good());
}

TEST_F(BesideTest, SendsEndInTheirOrder) {
    std::vector<Operation*> receives;
    std::vector<Operation*> sends;
    for (std::uint64_t i = 0; i < 8; ++i) {
        receives.push_back(&b_.receive(64));
    }
    settle();
    for (std::uint64_t i = 0; i < 8; ++i) {
        sends.push_back(&a_.send_number(i, 8));
    }
    for (int turn = 0; turn < 40; ++turn) {
        (void)side_.core.turn();
        bool before = true;
        for (const Operation* send : sends) {
            EXPECT_TRUE(before || !send->ended());
            before = send->ended();
        }
    }
    for (std::uint64_t i = 0; i < 8; ++i) {
        expect(*receives[i], i, 8);
        EXPECT_TRUE(sends[i]->good());
    }
}

// Which of the operations are told in which order, as far as they have been.
std::vector<int> order_of(const std::vector<Operation*>& operations) {
    std::vector<int> order;
    for (const std::uint64_t context : told()) {
        for (std::size_t i = 0; i < operations.size(); ++i) {
            if (context == reinterpret_cast<std::uint64_t>(operations[i])) {
                order.push_back(static_cast<int>(i));
            }
        }
    }
    return order;
}

TEST_F(BesideTest, ASendBesideIsToldBeforeOneBehindItThatIsNot) {
    b_.receive(1024);
    settle();
    std::vector<Operation*> sends{&a_.send_number(1, 8)};
    (void)side_.core.turn();
    ASSERT_TRUE(order_of(sends).empty()) << "it would not tell anything";
    sends.push_back(&a_.send_number(2, 8));  // no receive waits for it: it goes by the link at once
    (void)side_.core.turn();
    EXPECT_EQ(order_of(sends), (std::vector<int>{0, 1}));

    b_.receive(1024);  // takes the second
    b_.receive(1024);
    b_.receive(1024);
    settle();
    sends = {&a_.send_number(3, 8)};
    (void)side_.core.turn();
    ASSERT_TRUE(order_of(sends).empty());
    sends.push_back(&a_.send_number(4, 200));  // does not come along in a slot
    (void)side_.core.turn();
    EXPECT_EQ(order_of(sends), (std::vector<int>{0, 1}));
}

TEST_F(BesideTest, ASendBesideIsToldBeforeRdmaBehindIt) {
    b_.receive(64);
    settle();
    std::vector<Operation*> sends{&a_.send_number(1, 8)};
    (void)side_.core.turn();
    ASSERT_TRUE(order_of(sends).empty());
    // It ends as soon as it is taken: its memory is deregistered meanwhile.
    sends.push_back(&a_.rdma(Opcode::kRdmaWrite, RemotePlace{1, 2, 0}, message_of(2, 8)));
    ASSERT_TRUE(tests::remove(a_.regions, a_.region));
    (void)side_.core.turn();
    EXPECT_EQ(order_of(sends), (std::vector<int>{0, 1}));
    EXPECT_EQ(sends[1]->status, Status::kBadRegion);
    settle();
    EXPECT_EQ(order_of(sends), (std::vector<int>{0, 1}));
}

TEST_F(BesideTest, ASendBesideIsToldBeforeTheConnectionIsClosed) {
    b_.receive(64);
    settle();
    const Operation& send = a_.send_number(1, 8);
    (void)side_.core.turn();
    ASSERT_FALSE(send.ended());
    std::thread closer([&] { a_.close(); });  // waits for the core, which this thread turns
    while (a_.closures.load() == 0) {
        (void)side_.core.turn();
    }
    closer.join();
    EXPECT_TRUE(send.good());
    EXPECT_EQ(send.ends.load(), 1);
}

class InlineBesideTest : public BesideTest {
protected:
    InlineBesideTest() : BesideTest(Mode::kInline) {}
};

// Who turns such a core may not do so again.
TEST_F(InlineBesideTest, NothingIsKeptForLater) {
    b_.receive(64);
    const Operation& send = a_.send_number(1, 8);
    EXPECT_TRUE(send.good());
    EXPECT_NE(by_the_link(), 0U);
    settle();
}

// What goes by the link is not overtaken by what need not.
TEST_F(BesideTest, MessagesKeepTheirOrderWhicheverWayTheyGo) {
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    const auto length_of = [](std::uint64_t number) {
        return number % 3 == 0 ? 1 + number % 64 : 65 + number * 37 % 900;
    };
    for (int round = 0; round < 60; ++round) {
        std::vector<Operation*> receives;
        // Some are there before their messages, the others come behind them.
        for (int i = 0; i < round % 5; ++i) {
            receives.push_back(&b_.receive(1024));
        }
        if (round % 2 == 0) {
            settle();
        }
        for (int i = 0; i < 4; ++i) {
            a_.send_number(sent, length_of(sent));
            ++sent;
            if (round % 7 == i) {
                (void)side_.core.turn();
            }
        }
        while (receives.size() < 4) {
            receives.push_back(&b_.receive(1024));
        }
        settle();
        for (const Operation* receive : receives) {
            if (received < sent) {
                ASSERT_NO_FATAL_FAILURE(expect(*receive, received, length_of(received)));
                ++received;
            }
        }
    }
    EXPECT_EQ(received, sent);
}

// Credit goes along with a message that does not go by the link, as with any other.
TEST_F(BesideTest, CreditGoesAlong) {
    for (int i = 0; i < 300; ++i) {
        Operation& receive = b_.receive(8);
        Operation& back = a_.receive(8);
        a_.send_number(1, 8);
        b_.send_number(2, 8);
        settle();
        ASSERT_NO_FATAL_FAILURE(expect(receive, 1, 8));
        ASSERT_NO_FATAL_FAILURE(expect(back, 2, 8));
    }
    EXPECT_EQ(by_the_link(), 0U) << "nothing had to be said otherwise";
}

TEST_F(BesideTest, AMessageThatIsTooLongForItsReceiveGoesTheOtherWay) {
    Operation& receive = b_.receive(8);
    settle();
    const std::uint32_t before = by_the_link();
    a_.send_number(1, 9);
    settle();
    EXPECT_EQ(by_the_link(), before + 1);
    EXPECT_TRUE(receive.ended());
    EXPECT_FALSE(receive.good());
}

TEST_F(BesideTest, GoesByTheLinkAgainWhenTheOtherEndsLinkHasGone) {
    ASSERT_EQ(first_->other_end, second_.get());
    ASSERT_EQ(second_->other_end, first_.get());
    side_.port.remove_link(*second_, Status::kReset);
    second_.reset();
    EXPECT_EQ(first_->other_end, nullptr);
    Operation& send = a_.send_number(1, 8);
    for (int turn = 0; turn < 16; ++turn) {
        (void)side_.core.turn();
    }
    EXPECT_TRUE(send.ended());
}

// A peer may offer a file of ours as its own, and more than once.
TEST_F(BesideTest, OneFileHasTwoEnds) {
    std::string error;
    const SegmentShape shape{config_.shm_ring_slots, config_.shm_staging_kb * 1024};
    const auto third = link_of(Segment::open(fd_, shape, error), false);
    const auto other = link_of(Segment::create(shape, error), true);
    side_.port.add_link(*third);
    side_.port.add_link(*other);
    EXPECT_EQ(third->other_end, nullptr);
    EXPECT_EQ(other->other_end, nullptr);
    EXPECT_EQ(first_->other_end, second_.get());
    side_.port.remove_link(*third, Status::kReset);
    side_.port.remove_link(*other, Status::kReset);
    EXPECT_EQ(first_->other_end, second_.get());
}

}  // namespace
}  // namespace sanpoll::engine::shm
