// A peer that lies about a message that both ends are to copy: it may spoil the message, and end its own link's
// connections, and nothing else may happen.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <random>
#include <thread>

#include "rings/spsc_ring.hpp"
#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/engine/patience.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::uint32_t kLength = 700000;   // more than is copied in a turn
constexpr std::uint64_t kTarget = 1 << 20;  // in the arena that is written to
constexpr std::uint32_t kArena = 3;         // the forger's name of it
constexpr std::byte kUntouched{0xEE};

// The victim (b of an honest pair of ports) with a link whose other side is ours to forge. Arena 0 is the sender's and arena 1
// the receiver's, whichever of them the victim is.
class HostileJointTest : public testing::Test {
protected:
    void SetUp() override {
        honest_.connect(honest_a_, honest_b_);
        ASSERT_NO_FATAL_FAILURE(tests::go_over(tests::shareable_arena(1)));
        std::memset(at(1, 0), static_cast<int>(kUntouched), kTarget + 2 * kLength + 4096);
    }
    void begin() {
        const SegmentShape shape{256, 256U << 10};
        std::string error;
        segment_ = Segment::create(shape, error);
        ASSERT_NE(segment_, nullptr) << error;
        auto mapped = Segment::open(segment_->fd(), shape, error);
        ASSERT_NE(mapped, nullptr) << error;
        int ours[2];
        int theirs[2];
        ASSERT_TRUE(make_doorbell(ours) && make_doorbell(theirs));
        link_ = std::make_unique<Link>(std::move(mapped), false, ours[0], theirs[1]);
        ::close(ours[1]);
        ::close(theirs[0]);
        victim().port.add_link(*link_);
        forge_ = rings::SpscProducer(segment_->direction(0).slots, shape.ring_slots,
                                     segment_->direction(0).slots_consumed);
        socket_ = std::make_unique<Socket>();
        Connection* connection = victim().port.make_connection(socket_->owner());
        ASSERT_NE(connection, nullptr);
        victim().port.install(*connection, *link_);
        id_ = connection->id;
        ASSERT_TRUE(victim().port.establish(*connection, 7));
    }
    void map(std::uint32_t which) {
        ArenaMapping mapping;
        const memory::Arena& arena = tests::shareable_arena(which);
        ASSERT_EQ(mapping.open(arena.fd, {kArena, arena.size, 0}, true), "");
        victim().port.add_peer_arena(*link_, kArena, mapping);
    }
    void lend(std::uint32_t which) {
        victim().port.lend_arena(*link_, tests::shareable_arena(which).id);
    }
    void begin_as_sender() {
        ASSERT_NO_FATAL_FAILURE(begin());
        lend(0);
        map(1);
        job_ = segment_->direction(1).job;
    }
    void begin_as_receiver() {
        ASSERT_NO_FATAL_FAILURE(begin());
        lend(1);
        map(0);
        job_ = segment_->direction(0).job;
    }
    void end() {
        victim().port.remove_link(*link_, Status::kReset);
        socket_->close();
        EXPECT_EQ(socket_->closures.load(), 1);
        for (const Operation& operation : socket_->operations) {
            ASSERT_EQ(operation.ends.load(), operation.status == Status::kNotOpen ? 0 : 1);
            ASSERT_LE(operation.length, kLength);
        }
        turn();
        link_.reset();
        Operation& there = honest_b_.receive(100);
        honest_a_.send_number(1, 100);
        honest_.settle();
        ASSERT_TRUE(there.good());
    }
    // As a receiver that has honestly begun, but for what `lie` makes of it.
    template <typename Lie>
    void offer(std::uint64_t serial, Lie lie) {
        JobTarget target{kTarget, kArena, id_, 0, kLength};
        JobWord word{serial, 0, 0};
        lie(target, word);
        job_->offset.store(target.offset);
        job_->arena.store(target.arena);
        job_->connection.store(target.connection);
        job_->message.store(target.message);
        job_->length.store(target.length);
        job_->claims.store(word.word());
    }
    // As a sender.
    void describe() {
        const Description description{kLength, 0};
        const RemotePiece piece{0, kLength, kArena};
        Bytes payload(sizeof(description) + sizeof(piece));
        std::memcpy(payload.data(), &description, sizeof(description));
        std::memcpy(payload.data() + sizeof(description), &piece, sizeof(piece));
        ASSERT_TRUE(forge_.has_room(1));
        std::copy(payload.begin(), payload.end(), forge_.payload() + sizeof(RecordHeader));
        write_header(
            forge_.payload(),
            {RecordKind::kDescribed, 1, 0, id_, static_cast<std::uint32_t>(payload.size()), 0}, 1);
        forge_.publish_record(1);
    }
    Operation& send() { return send_at(*socket_, at(0, 0), message_of(1, kLength)); }
    Operation& receive() { return socket_->post_at(Opcode::kReceive, at(1, kTarget), kLength); }
    [[nodiscard]] static std::byte* at(std::uint32_t which, std::uint64_t offset) {
        return reinterpret_cast<std::byte*>(tests::shareable_arena(which).base + offset);
    }
    [[nodiscard]] static bool untouched(std::uint64_t from, std::uint64_t to) {
        return std::all_of(at(1, from), at(1, to), [](std::byte one) { return one == kUntouched; });
    }
    [[nodiscard]] static bool untouched() { return untouched(0, kTarget + 2 * kLength); }
    void expect_only_target_touched() {
        EXPECT_TRUE(untouched(0, kTarget));
        EXPECT_TRUE(untouched(kTarget + kLength, kTarget + 2 * kLength));
    }
    void turn() { (void)victim().core.turn(); }
    [[nodiscard]] bool ended_in_time(const Operation& operation) {
        return tests::eventually([&] {
            turn();
            return operation.ended();
        });
    }
    [[nodiscard]] tests::Side& victim() { return honest_.b; }
    [[nodiscard]] std::uint64_t placed() {
        return victim().port.counters().bytes_placed_at_peers.value();
    }

    Socket honest_a_;
    Socket honest_b_;
    TwoPorts honest_{TwoPorts::small_config()};
    std::unique_ptr<Segment> segment_;
    std::unique_ptr<Link> link_;
    rings::SpscProducer forge_;
    std::unique_ptr<Socket> socket_;
    CopyJob* job_ = nullptr;
    std::uint32_t id_ = 0;
};

// ---- the victim sends -------------------------------------------------------------------------------

TEST_F(HostileJointTest, ASenderDoesNothingThatItsMessageIsNotMeantFor) {
    ASSERT_NO_FATAL_FAILURE(begin_as_sender());
    const std::uint64_t size = memory::kArenaAlignment;
    std::uint64_t serial = 0;
    const auto attack = [&](const char* what, auto lie) {
        offer(++serial, lie);
        for (int i = 0; i < 4; ++i) {
            turn();
        }
        EXPECT_EQ(placed(), 0U) << what;
        EXPECT_TRUE(untouched()) << what;
        EXPECT_EQ(job_->finished.load(), 0U) << what;
    };
    const auto honest = [](JobTarget&, JobWord&) {};
    attack("nothing is described", honest);
    Operation& sent = send();
    attack("another connection", [&](JobTarget& target, JobWord&) { target.connection += 1; });
    attack("no connection", [&](JobTarget& target, JobWord&) { target.connection = ~0U; });
    attack("an honest peer's", [&](JobTarget& target, JobWord&) {
        target.connection = static_cast<Connection&>(*honest_b_.slot.load()).id;
    });
    for (const std::uint32_t message : {1U, 2U, ~0U}) {
        attack("another message", [&](JobTarget& target, JobWord&) { target.message = message; });
    }
    for (const std::uint32_t length : {0U, 1U, kLength - 1, kLength + 1, 2 * kLength, ~0U}) {
        attack("another length", [&](JobTarget& target, JobWord&) { target.length = length; });
    }
    for (const std::uint32_t arena : {0U, 1U, 2U, 4U, 64U, 65U, 0x80000003U, ~0U}) {
        attack("another arena", [&](JobTarget& target, JobWord&) { target.arena = arena; });
    }
    for (const std::uint64_t offset : {size - kLength + 1, size, size + 1, ~std::uint64_t{0},
                                       ~std::uint64_t{0} - kLength + 1, std::uint64_t{1} << 63}) {
        attack("outside of it", [&](JobTarget& target, JobWord&) { target.offset = offset; });
    }
    const std::uint32_t chunks = JobChunks(kLength).count();
    for (const auto& [front, back] : {std::pair{chunks, 0U},
                                      {0U, chunks},
                                      {chunks - 1, 1U},
                                      {chunks + 1, 0U},
                                      {0U, 4095U},
                                      {4095U, 4095U},
                                      {JobWord::kClosed, 0U}}) {
        attack("all is taken", [&](JobTarget&, JobWord& word) {
            word.front = front;
            word.back = back;
        });
    }
    EXPECT_FALSE(sent.ended());
    EXPECT_FALSE(link_->failed.load());
    offer(++serial, honest);
    turn();
    EXPECT_NE(placed(), 0U);
    expect_only_target_touched();
    ASSERT_NO_FATAL_FAILURE(end());
}

// Its arena may only be read.
TEST_F(HostileJointTest, ASenderDoesNotWriteWhereItMayNot) {
    ASSERT_NO_FATAL_FAILURE(begin());
    lend(0);
    const memory::Arena& arena = tests::shareable_arena(1);
    ArenaMapping mapping;
    ASSERT_EQ(mapping.open(arena.fd, {kArena, arena.size, 0}, false), "");
    victim().port.add_peer_arena(*link_, kArena, mapping);
    job_ = segment_->direction(1).job;
    send();
    offer(1, [](JobTarget&, JobWord&) {});
    turn();
    EXPECT_EQ(placed(), 0U);
    EXPECT_TRUE(untouched());
    ASSERT_NO_FATAL_FAILURE(end());
}

TEST_F(HostileJointTest, ASenderThatHasGivenItsMessageUpCopiesNothing) {
    ASSERT_NO_FATAL_FAILURE(begin_as_sender());
    send();
    turn();
    socket_->close();
    offer(1, [](JobTarget&, JobWord&) {});
    turn();
    EXPECT_EQ(placed(), 0U);
    EXPECT_TRUE(untouched());
    victim().port.remove_link(*link_, Status::kReset);
    link_.reset();
}

// Whatever the words become from turn to turn: it writes its message, and where that belongs.
TEST_F(HostileJointTest, ASenderStandsAnyWordsThatChange) {
    ASSERT_NO_FATAL_FAILURE(begin_as_sender());
    Operation& sent = send();
    std::mt19937_64 random(3);
    for (std::uint64_t i = 0; i < tests::scaled(30000) + 1000; ++i) {
        offer(random() % 4, [&](JobTarget& target, JobWord& word) {
            word.front = random() % 60;
            word.back = random() % 60;
            switch (random() % 8) {
                case 0:
                    target.offset = random();
                    break;
                case 1:
                    target.length = static_cast<std::uint32_t>(random());
                    break;
                case 2:
                    target.arena = static_cast<std::uint32_t>(random());
                    break;
                case 3:
                    word = JobWord::of(random());
                    break;
                default:
                    break;
            }
        });
        job_->finished.store(random());
        turn();
    }
    EXPECT_FALSE(sent.ended());
    EXPECT_FALSE(link_->failed.load());
    EXPECT_NE(placed(), 0U);
    expect_only_target_touched();
    for (std::uint64_t i = 0; i < kLength; ++i) {
        const std::byte one = at(1, kTarget)[i];
        ASSERT_TRUE(one == kUntouched || one == at(0, 0)[i]);
    }
    ASSERT_NO_FATAL_FAILURE(end());
}

// It is asked for the same message again and again: who has had all of it gets no more.
TEST_F(HostileJointTest, ASenderIsNotKeptBusyByAMessageThatBeginsAnew) {
    ASSERT_NO_FATAL_FAILURE(begin_as_sender());
    Operation& sent = send();
    for (std::uint64_t serial = 1; serial < 500; ++serial) {
        offer(serial, [](JobTarget&, JobWord&) {});
        turn();
    }
    EXPECT_FALSE(sent.ended());
    EXPECT_GE(placed(), kLength);
    EXPECT_LE(placed(), kLength + JobChunks::kInAClaim * JobChunks::kBytes);
    expect_only_target_touched();
    ASSERT_NO_FATAL_FAILURE(end());
}

// The receiver says of the sender that it has taken what it has not, or has given back what it has.
TEST_F(HostileJointTest, ASenderTakesNothingWhereItsOwnCountIsNotItsOwn) {
    ASSERT_NO_FATAL_FAILURE(begin_as_sender());
    send();
    offer(1, [](JobTarget&, JobWord& word) { word.back = 1; });
    turn();
    EXPECT_EQ(placed(), 0U);
    offer(2, [](JobTarget&, JobWord&) {});
    turn();
    const std::uint64_t once = placed();
    EXPECT_NE(once, 0U);
    offer(2, [](JobTarget&, JobWord&) {});
    turn();
    EXPECT_EQ(placed(), once);
    ASSERT_NO_FATAL_FAILURE(end());
}

// A thread of the peer's writes while the sender takes. However often that makes a claim fail, the turn ends.
TEST_F(HostileJointTest, ASenderStandsWordsThatChangeWhileItTakes) {
    std::uint64_t rounds = 0;
    for (; rounds < tests::scaled(100) + 10; ++rounds) {
        ASSERT_NO_FATAL_FAILURE(begin_as_sender());
        const std::uint64_t before = placed();
        Operation& sent = send();
        offer(1, [](JobTarget&, JobWord&) {});
        std::atomic<bool> over{false};
        std::thread liar([&] {
            for (std::uint32_t i = 0; !over.load(std::memory_order_relaxed); ++i) {
                job_->claims.store(JobWord{1 + i / 4096, i % 40, i % 3 == 0 ? i % 7 : 0}.word());
            }
        });
        for (int turns = 0; turns < 50; ++turns) {
            turn();
        }
        over.store(true);
        liar.join();
        EXPECT_FALSE(sent.ended());
        EXPECT_FALSE(link_->failed.load());
        EXPECT_LE(placed() - before, kLength + JobChunks::kInAClaim * JobChunks::kBytes);
        expect_only_target_touched();
        ASSERT_NO_FATAL_FAILURE(end());
    }
    EXPECT_NE(placed(), 0U);
}

// ---- the victim receives ----------------------------------------------------------------------------

TEST_F(HostileJointTest, WordsThatNoSenderCanHaveWrittenEndTheLink) {
    const std::uint32_t chunks = JobChunks(kLength).count();
    const auto attack = [&](const char* what, auto lie) {
        ASSERT_NO_FATAL_FAILURE(begin_as_receiver());
        Operation& there = receive();
        Operation& behind = receive();
        describe();
        turn();  // takes what may be copied in a turn: some is left
        ASSERT_FALSE(there.ended()) << what;
        JobWord word = JobWord::of(job_->claims.load());
        JobWord finished{word.serial, 0, 0};
        lie(word, finished);
        job_->claims.store(word.word());
        job_->finished.store(finished.word());
        turn();
        turn();
        EXPECT_TRUE(link_->failed.load()) << what;
        EXPECT_EQ(there.status, Status::kReset) << what;
        EXPECT_EQ(behind.status, Status::kReset) << what;
        EXPECT_TRUE(there.ended() && behind.ended()) << what;
        ASSERT_NO_FATAL_FAILURE(end()) << what;
    };
    attack("another job", [](JobWord& word, JobWord&) { ++word.serial; });
    attack("chunks that are ours", [](JobWord& word, JobWord&) { --word.front; });
    attack("chunks for us", [](JobWord& word, JobWord&) { ++word.front; });
    attack("more than there are", [&](JobWord& word, JobWord&) { word.back = chunks; });
    attack("closed", [](JobWord& word, JobWord&) { word.front = JobWord::kClosed; });
    attack("finished, and never taken", [&](JobWord& word, JobWord& finished) {
        word.back = 1;
        finished.back = 2;
    });
    attack("finished, with what means nothing", [&](JobWord& word, JobWord& finished) {
        word.back = 1;
        finished.front = 1;
        finished.back = 1;
    });
}

TEST_F(HostileJointTest, ASenderThatSaysMoreThanItDidSpoilsItsMessageOnly) {
    ASSERT_NO_FATAL_FAILURE(begin_as_receiver());
    Operation& there = receive();
    describe();
    turn();
    JobWord word = JobWord::of(job_->claims.load());
    word.back = JobChunks(kLength).count() - word.front;
    job_->claims.store(word.word());
    turn();
    EXPECT_FALSE(there.ended());
    job_->finished.store(JobWord{word.serial, 0, word.back}.word());
    turn();
    EXPECT_TRUE(there.good());
    EXPECT_EQ(there.length, kLength);
    expect_only_target_touched();
    ASSERT_NO_FATAL_FAILURE(end());
}

// It says that it is at a chunk, for ever: whoever closes gets all back in the end, and the link goes.
TEST_F(HostileJointTest, AClosePutsAnEndToASenderThatNeverFinishes) {
    ASSERT_NO_FATAL_FAILURE(begin_as_receiver());
    Operation& there = receive();
    describe();
    turn();
    JobWord word = JobWord::of(job_->claims.load());
    word.back = 1;
    job_->claims.store(word.word());
    turn();
    socket_->close();
    EXPECT_FALSE(there.ended());
    EXPECT_EQ(socket_->closures.load(), 0);
    ASSERT_TRUE(ended_in_time(there));
    EXPECT_EQ(there.status, Status::kAborted);
    EXPECT_TRUE(link_->failed.load());
    EXPECT_NE(link_->failure.find("stopped"), std::string_view::npos);
    turn();
    EXPECT_EQ(socket_->closures.load(), 1);
    EXPECT_EQ(victim().port.counters().late_peers.value(), 1U);
    EXPECT_EQ(victim().port.counters().lying_peers.value(), 0U);
    victim().port.remove_link(*link_, Status::kReset);
    turn();
    link_.reset();
}

// It says so, and takes it back, as quick as it can: between any two looks of the victim's.
TEST_F(HostileJointTest, AClosePutsAnEndToASenderThatTakesItsWordBack) {
    for (std::uint64_t round = 0; round < tests::scaled(20) + 5; ++round) {
        ASSERT_NO_FATAL_FAILURE(begin_as_receiver());
        Operation& there = receive();
        Operation& behind = receive();
        describe();
        turn();
        JobWord word = JobWord::of(job_->claims.load());
        word.back = 1;
        job_->claims.store(word.word());
        turn();
        ASSERT_FALSE(there.ended());
        if (round % 2 == 0) {
            victim().port.break_link(*link_, Status::kReset);
        }
        socket_->close();
        std::atomic<bool> over{false};
        std::thread liar([&] {
            for (std::uint32_t i = 0; !over.load(std::memory_order_relaxed); ++i) {
                job_->finished.store(JobWord{word.serial, 0, i % 2}.word());
            }
        });
        const bool ended = ended_in_time(there) && ended_in_time(behind);
        over.store(true);
        liar.join();
        ASSERT_TRUE(ended);
        turn();
        EXPECT_EQ(socket_->closures.load(), 1);
        victim().port.remove_link(*link_, Status::kReset);
        turn();
        link_.reset();
    }
}

// The same where the peer has lied, too, and the link ends for that.
TEST_F(HostileJointTest, ASenderThatNeverFinishesHoldsNothingUpForEver) {
    ASSERT_NO_FATAL_FAILURE(begin_as_receiver());
    Operation& there = receive();
    describe();
    turn();
    JobWord word = JobWord::of(job_->claims.load());
    word.back = 1;
    job_->claims.store(word.word());
    for (int i = 0; i < 10; ++i) {
        turn();
    }
    EXPECT_FALSE(there.ended());
    ASSERT_TRUE(forge_.has_room(1));
    write_header(forge_.payload(), {static_cast<RecordKind>(99), 1, 0, id_, 0, 0}, 1);
    forge_.publish_record(1);
    ASSERT_TRUE(ended_in_time(there));
    EXPECT_TRUE(link_->failed.load());
    EXPECT_EQ(there.status, Status::kReset);
    ASSERT_NO_FATAL_FAILURE(end());
}

TEST_F(HostileJointTest, AReceiverStandsAnyWordsThatChange) {
    std::mt19937_64 random(9);
    for (std::uint64_t round = 0; round < tests::scaled(600) + 40; ++round) {
        ASSERT_NO_FATAL_FAILURE(begin_as_receiver());
        receive();
        receive();
        describe();
        describe();
        for (int i = 0; i < 6; ++i) {
            turn();
            JobWord word = JobWord::of(job_->claims.load());
            switch (random() % 4) {
                case 0:
                    word.back += random() % 3;
                    break;
                case 1:
                    word.front += random() % 2;
                    break;
                case 2:
                    word = JobWord::of(random());
                    break;
                default:
                    break;
            }
            job_->claims.store(word.word());
            job_->finished.store(random() % 2 == 0 ? JobWord{word.serial, 0, word.back}.word()
                                                   : random());
        }
        expect_only_target_touched();
        ASSERT_NO_FATAL_FAILURE(end());
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
