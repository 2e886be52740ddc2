// A peer that describes what is not there, or answers what it was not told: it may end its own link's connections,
// and nothing else may happen.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "rings/spsc_ring.hpp"
#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::uint32_t kRoom = 100000;

// The victim (b of an honest pair of ports) with a link whose other side is ours to forge. Each has an arena of
// the other.
class HostileDescribedTest : public testing::Test {
protected:
    void begin(bool receive = true, bool readable = false) {
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
        // The forger is of this process.
        link_->copy = tests::this_process(readable);
        victim().port.add_link(*link_);
        const memory::Arena& forged = tests::shareable_arena(0);
        ArenaMapping mapping;
        ASSERT_EQ(mapping.open(forged.fd, {3, forged.size, 0}), "");
        victim().port.add_peer_arena(*link_, 3, mapping);
        victim().port.lend_arena(*link_, tests::shareable_arena(1).id);
        const Direction direction = segment_->direction(0);
        forge_ = rings::SpscProducer(direction.slots, shape.ring_slots, direction.slots_consumed);
        socket_ = std::make_unique<Socket>();
        Connection* connection = victim().port.make_connection(socket_->owner());
        ASSERT_NE(connection, nullptr);
        victim().port.install(*connection, *link_);
        id_ = connection->id;
        ASSERT_TRUE(victim().port.establish(*connection, 7));
        if (receive) {
            socket_->receive(kRoom);
            socket_->receive(kRoom);
        }
    }
    void end() {
        victim().port.remove_link(*link_, Status::kReset);
        for (int i = 0; i < 64 && socket_->gate.view().state == PostGate::State::kOpen; ++i) {
            socket_->receive(kRoom);  // what had arrived before
        }
        socket_->close();
        EXPECT_EQ(socket_->closures.load(), 1);
        for (const Operation& operation : socket_->operations) {
            ASSERT_EQ(operation.ends.load(), operation.status == Status::kNotOpen ? 0 : 1);
            ASSERT_LE(operation.length, kRoom);
        }
        (void)victim().core.turn();
        link_.reset();
    }
    void expect_honest_link_works() {
        Operation& there = honest_b_.receive(100);
        honest_a_.send_number(1, 100);
        honest_.settle();
        ASSERT_TRUE(there.good());
    }
    void put(RecordKind kind, std::uint32_t length, const Bytes& payload = {}) {
        const std::uint32_t slots = slots_for(static_cast<std::uint32_t>(payload.size()));
        ASSERT_TRUE(forge_.has_room(slots));
        std::size_t done = std::min<std::size_t>(payload.size(), kHeadBytes);
        std::copy_n(payload.begin(), done, forge_.payload() + sizeof(RecordHeader));
        for (std::uint32_t slot = 1; slot < slots; ++slot) {
            const std::size_t step = std::min<std::size_t>(payload.size() - done, kNextBytes);
            std::memcpy(forge_.payload(slot), payload.data() + done, step);
            done += step;
        }
        write_header(forge_.payload(), {kind, 1, 0, id_, length, 0}, slots);
        forge_.publish_record(slots);
    }
    void describe(std::uint32_t length, const std::vector<RemotePiece>& pieces,
                  std::uint32_t revocations = 0) {
        const Description description{length, revocations};
        Bytes payload(sizeof(description) + pieces.size() * sizeof(RemotePiece));
        std::memcpy(payload.data(), &description, sizeof(description));
        std::memcpy(payload.data() + sizeof(description), pieces.data(),
                    pieces.size() * sizeof(RemotePiece));
        put(RecordKind::kDescribed, static_cast<std::uint32_t>(payload.size()), payload);
    }
    void turn() { (void)victim().core.turn(); }
    [[nodiscard]] tests::Side& victim() { return honest_.b; }

    void SetUp() override { honest_.connect(honest_a_, honest_b_); }

    Socket honest_a_;
    Socket honest_b_;
    TwoPorts honest_{TwoPorts::small_config()};
    std::unique_ptr<Segment> segment_;
    std::unique_ptr<Link> link_;
    rings::SpscProducer forge_;
    std::unique_ptr<Socket> socket_;
    std::uint32_t id_ = 0;
};

TEST_F(HostileDescribedTest, NonsenseEndsItsOwnLink) {
    constexpr std::uint64_t kSize = memory::kArenaAlignment;
    const auto attack = [&](const char* what, bool receive, auto forge) {
        ASSERT_NO_FATAL_FAILURE(begin(receive));
        forge();
        for (int i = 0; i < 10; ++i) {
            turn();
        }
        EXPECT_TRUE(link_->failed.load()) << what;
        ASSERT_NO_FATAL_FAILURE(end()) << what;
        ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
    };
    for (const std::uint32_t length : {0U, 7U, 8U, 9U, 16U, 23U, 25U, 152U, 0x80000000U, ~0U}) {
        attack("length of the record", true, [&] { put(RecordKind::kDescribed, length); });
    }
    for (const std::uint32_t arena : {0U, 1U, 2U, 4U, 64U, 65U, 0x80000003U, ~0U}) {
        attack("an arena that was not offered", true, [&] { describe(100, {{0, 100, arena}}); });
    }
    attack("past the end", true, [&] { describe(100, {{kSize - 99, 100, 3}}); });
    attack("beyond the end", true, [&] { describe(100, {{kSize + 1, 100, 3}}); });
    attack("wraps around", true, [&] { describe(100, {{~std::uint64_t{0} - 49, 100, 3}}); });
    attack("a second piece", true, [&] { describe(200, {{0, 100, 3}, {kSize, 100, 3}}); });
    attack("too little", true, [&] { describe(101, {{0, 100, 3}}); });
    attack("too much", true, [&] { describe(99, {{0, 100, 3}}); });
    attack("a sum that wraps around", true, [&] {
        describe(0, {{0, 0x1000000, 3}, {0, 0x2000000, 3}, {0, 0x1FFFFFF, 3}, {0, 1, 3}});
        describe(4, {{0, 0x2000000, 3}, {0, 0x2000000, 3}, {0, 4, 3}});
    });
    attack("no credit", false, [&] {
        for (std::uint32_t i = 0; i < kUnasked + 1; ++i) {
            describe(1000, {{0, 1000, 3}});
        }
    });
    attack("a message behind it", false, [&] {
        describe(1000, {{0, 1000, 3}});
        put(RecordKind::kMessage, 10, Bytes(10));
    });
    attack("an announcement behind it", false, [&] {
        describe(1000, {{0, 1000, 3}});
        put(RecordKind::kAnnounce, 100000);
    });
    attack("behind an announcement", false, [&] {
        put(RecordKind::kAnnounce, 100000);
        describe(1000, {{0, 1000, 3}});
    });
    attack("a piece of it", true, [&] {
        describe(kRoom, {{0, kRoom, 3}}, 5);  // is asked about, so it is being received
        put(RecordKind::kPiece, 10);
    });
    for (const RecordKind kind :
         {RecordKind::kCopied, RecordKind::kConfirm, RecordKind::kConfirmed}) {
        attack("an answer to nothing", true, [&] { put(kind, 1); });
    }
    attack("more than was described", true, [&] {
        send_at(*socket_, reinterpret_cast<std::byte*>(tests::shareable_arena(1).base),
                message_of(1, kRoom));
        put(RecordKind::kCopied, 2);
    });
    attack("none of what was described", true, [&] {
        send_at(*socket_, reinterpret_cast<std::byte*>(tests::shareable_arena(1).base),
                message_of(1, kRoom));
        put(RecordKind::kCopied, 0);
    });
    attack("copied twice", true, [&] {
        send_at(*socket_, reinterpret_cast<std::byte*>(tests::shareable_arena(1).base),
                message_of(1, kRoom));
        put(RecordKind::kCopied, 1);
        put(RecordKind::kConfirm, 0);
    });
    attack("confirmed twice", true, [&] {
        describe(1000, {{0, 1000, 3}}, 5);
        put(RecordKind::kConfirmed, 0);
        put(RecordKind::kConfirmed, 0);
    });
}

// Memory of its process, which it lets us read.
TEST_F(HostileDescribedTest, NonsenseAboutItsProcessEndsItsOwnLink) {
    const auto attack = [&](const char* what, auto forge) {
        ASSERT_NO_FATAL_FAILURE(begin(true, true));
        forge();
        for (int i = 0; i < 10; ++i) {
            turn();
        }
        EXPECT_TRUE(link_->failed.load()) << what;
        ASSERT_NO_FATAL_FAILURE(end()) << what;
        ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
    };
    const Bytes bytes = message_of(1, kRoom);
    const auto at = reinterpret_cast<std::uint64_t>(bytes.data());
    Operation* sent = nullptr;
    const auto two_sends = [&] {
        sent = &send_at(*socket_, reinterpret_cast<std::byte*>(tests::shareable_arena(0).base),
                        message_of(1, kRoom));
        send_at(*socket_, reinterpret_cast<std::byte*>(tests::shareable_arena(0).base) + kRoom,
                message_of(2, kRoom));
    };
    attack("an arena behind it", [&] { describe(200, {{at, 100, 0}, {0, 100, 3}}); });
    attack("it behind an arena", [&] { describe(200, {{0, 100, 3}, {at, 100, 0}}); });
    attack("too little", [&] { describe(101, {{at, 100, 0}}); });
    attack("pieces that were not invited", [&] {
        describe(2 * kRoom, {{at, kRoom, 0}, {at, kRoom, 0}});  // no receive is long enough
        put(RecordKind::kPiece, 10);
    });
    attack("an announcement behind one that is invited", [&] {
        describe(1000, {{4096, 1000, 0}});
        turn();
        put(RecordKind::kAnnounce, 100000);
    });
    attack("invited three times", [&] {
        two_sends();
        for (int i = 0; i < 3; ++i) {
            put(RecordKind::kInvite, 0);
        }
    });
    for (const RecordKind kind : {RecordKind::kCopied, RecordKind::kConfirm}) {
        attack("invited, and then copied", [&] {
            two_sends();
            put(RecordKind::kInvite, 0);
            put(kind, 1);
        });
    }
    attack("invited when nothing is left", [&] {
        two_sends();
        put(RecordKind::kCopied, 2);
        put(RecordKind::kInvite, 0);
    });
}

TEST_F(HostileDescribedTest, WhatIsNotThereIsInvitedAndMayStillCome) {
    for (const std::uint64_t address :
         {std::uint64_t{0}, std::uint64_t{4096}, ~std::uint64_t{0} - 100, std::uint64_t{1} << 63}) {
        ASSERT_NO_FATAL_FAILURE(begin(true, true));
        const Operation& receive = socket_->operations.front();
        describe(1000, {{address, 1000, 0}});
        turn();
        EXPECT_FALSE(receive.ended());
        EXPECT_FALSE(link_->failed.load());
        put(RecordKind::kPiece, 600);
        put(RecordKind::kPiece, 400);
        turn();
        EXPECT_EQ(receive.length, 1000U);
        EXPECT_TRUE(receive.good());
        put(RecordKind::kPiece, 1);  // one too many
        turn();
        EXPECT_TRUE(link_->failed.load());
        ASSERT_NO_FATAL_FAILURE(end());
        ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
    }
}

// A count of what was taken back that never fits costs it an answer each time.
TEST_F(HostileDescribedTest, AWrongCountIsAskedAbout) {
    ASSERT_NO_FATAL_FAILURE(begin());
    Operation& receive = socket_->operations.front();
    describe(1000, {{0, 1000, 3}}, 5);
    turn();
    EXPECT_FALSE(receive.ended());
    put(RecordKind::kConfirmed, 0);
    turn();
    EXPECT_TRUE(receive.good());
    EXPECT_EQ(receive.length, 1000U);
    EXPECT_FALSE(link_->failed.load());
    ASSERT_NO_FATAL_FAILURE(end());
}

TEST_F(HostileDescribedTest, RandomRecordsHarmNobodyElse) {
    std::mt19937 random(99);
    const std::uint64_t rounds = tests::scaled(2000) + 100;
    std::uint64_t failed = 0;
    auto* const own = reinterpret_cast<std::byte*>(tests::shareable_arena(1).base);
    const std::uint64_t own_address = tests::shareable_arena(0).base;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        const bool readable = random() % 2 == 0;
        ASSERT_NO_FATAL_FAILURE(begin(random() % 4 != 0, readable));
        for (int step = 0; step < 30 && !link_->failed.load(); ++step) {
            switch (random() % 10) {
                case 8:
                    put(RecordKind::kInvite, 0);
                    break;
                case 9:
                    put(RecordKind::kPiece, 1 + random() % 20000);
                    break;
                case 0:
                case 1:
                case 2: {
                    std::vector<RemotePiece> pieces(1 + random() % kMaxSges);
                    std::uint32_t sum = random() % 20 == 0 ? 1 : 0;
                    const bool process = readable && random() % 2 == 0;
                    for (RemotePiece& piece : pieces) {
                        piece = {random() % 2 == 0 ? random() % 4096 : random() % (40U << 20),
                                 static_cast<std::uint32_t>(random() % 20000),
                                 random() % 30 == 0 ? static_cast<std::uint32_t>(random()) : 3};
                        if (process) {
                            piece.arena = 0;
                            piece.address += random() % 3 == 0 ? 0 : own_address;
                        }
                        sum += piece.length;
                    }
                    describe(sum, pieces, random() % 6 == 0 ? 1 : 0);
                    break;
                }
                case 3:
                    put(RecordKind::kCopied, random() % 2 + (random() % 20 == 0 ? 1 : 0));
                    break;
                case 4:
                    put(random() % 2 == 0 ? RecordKind::kConfirm : RecordKind::kConfirmed, 0);
                    break;
                case 5:
                    send_at(*socket_, own, message_of(round, 20000 + random() % 10000));
                    break;
                case 6:
                    socket_->receive(kRoom);
                    break;
                default:
                    segment_->direction(1).revocations->store(random() % 3);
                    break;
            }
            if (random() % 2 == 0) {
                turn();
            }
            if (!forge_.has_room(4)) {
                break;
            }
        }
        turn();
        failed += link_->failed.load() ? 1 : 0;
        ASSERT_NO_FATAL_FAILURE(end());
        if (round % 20 == 0) {
            ASSERT_NO_FATAL_FAILURE(expect_honest_link_works());
        }
    }
    EXPECT_GT(failed, rounds / 4);
}

}  // namespace
}  // namespace sanpoll::engine::shm
