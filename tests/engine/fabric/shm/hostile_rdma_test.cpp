// A peer that asks for RDMA as no honest one would: at worst it loses its own connections.
#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

#include "rings/spsc_ring.hpp"
#include "tests/engine/fabric/shm/two_ports.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::uint32_t kLength = 100000;
constexpr std::uint64_t kNonce = 77;

// The victim (b of an honest pair of ports) with a link whose other side is ours to forge.
class HostileRdmaTest : public testing::Test {
protected:
    static constexpr std::size_t kGuard = 4096;

    void begin(bool direct = true) {
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
        link_->copy = tests::this_process(direct);
        victim().port.add_link(*link_);
        const Direction direction = segment_->direction(0);
        forge_ = rings::SpscProducer(direction.slots, shape.ring_slots, direction.slots_consumed);
        socket_ = std::make_unique<Socket>();
        Connection* connection = victim().port.make_connection(socket_->owner());
        ASSERT_NE(connection, nullptr);
        victim().port.install(*connection, *link_);
        id_ = connection->id;
        ASSERT_TRUE(victim().port.establish(*connection, 7));
        memory_.assign(kLength + 2 * kGuard, std::byte{0xA7});
        RemoteRegions::Table table(4);
        socket_->remote.adopt(table);
        key_ = socket_->remote.add(reinterpret_cast<std::uint64_t>(memory_.data() + kGuard),
                                   kLength, kRead | kWrite, kNonce);
    }
    void end() {
        victim().port.remove_link(*link_, Status::kReset);
        socket_->close();
        EXPECT_EQ(socket_->closures.load(), 1);
        for (const Operation& operation : socket_->operations) {
            ASSERT_EQ(operation.ends.load(), operation.status == Status::kNotOpen ? 0 : 1);
        }
        const auto is_guard = [](std::byte value) { return value == std::byte{0xA7}; };
        EXPECT_TRUE(std::all_of(memory_.begin(), memory_.begin() + kGuard, is_guard));
        EXPECT_TRUE(std::all_of(memory_.end() - kGuard, memory_.end(), is_guard));
        (void)victim().core.turn();
        link_.reset();
    }

    [[nodiscard]] tests::Side& victim() { return honest_.b; }

    RdmaRequest request(bool reads, std::uint32_t length, bool direct) const {
        RdmaRequest made{};
        made.nonce = kNonce;
        made.key = key_;
        made.length = length;
        made.operation = 1;
        made.read = reads ? 1 : 0;
        made.direct = direct ? 1 : 0;
        return made;
    }
    /// Puts a record with `payload` behind its header; the header's length may lie.
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
    template <typename... Parts>
    static Bytes bytes_of(const Parts&... parts) {
        Bytes bytes;
        const auto add = [&](const auto& part) {
            const auto* from = reinterpret_cast<const std::byte*>(&part);
            bytes.insert(bytes.end(), from, from + sizeof(part));
        };
        (add(parts), ...);
        return bytes;
    }
    void ask(const Bytes& payload) {
        put(RecordKind::kRdmaRequest, static_cast<std::uint32_t>(payload.size()), payload);
    }
    void expect_link_fails(const char* what) {
        for (int i = 0; i < 10; ++i) {
            (void)victim().core.turn();
        }
        EXPECT_TRUE(link_->failed.load()) << what;
        EXPECT_EQ(socket_->gate.view().state, PostGate::State::kReset) << what;
        end();
        expect_honest_link_works();
    }
    void expect_honest_link_works() {
        Operation& there = honest_b_.receive(100);
        honest_a_.send_number(1, 100);
        honest_.settle();
        EXPECT_TRUE(there.good());
    }
    void SetUp() override { honest_.connect(honest_a_, honest_b_); }

    Socket honest_a_;
    Socket honest_b_;
    TwoPorts honest_{TwoPorts::small_config()};
    std::unique_ptr<Segment> segment_;
    std::unique_ptr<Link> link_;
    rings::SpscProducer forge_;
    std::unique_ptr<Socket> socket_;
    std::uint32_t id_ = 0;
    std::uint32_t key_ = 0;
    Bytes memory_;
};

TEST_F(HostileRdmaTest, NonsenseEndsItsOwnLink) {
    const RemotePiece half{reinterpret_cast<std::uint64_t>(&half), kLength / 2, 0};
    const auto attack = [&](const char* what, bool direct, auto forge) {
        ASSERT_NO_FATAL_FAILURE(begin(direct));
        forge();
        ASSERT_NO_FATAL_FAILURE(expect_link_fails(what));
    };
    for (const std::uint32_t length : {0U, 16U, 31U, 33U, 176U, 0xFFFFFFFFU, 0x80000000U}) {
        attack("length of the request", true, [&] { put(RecordKind::kRdmaRequest, length); });
    }
    attack("kind", true, [&] {
        RdmaRequest bad = request(true, 10, false);
        bad.read = 2;
        ask(bytes_of(bad));
    });
    attack("way", true, [&] {
        RdmaRequest bad = request(true, 10, false);
        bad.direct = 2;
        ask(bytes_of(bad));
    });
    attack("direct read that was not agreed upon", false,
           [&] { ask(bytes_of(request(true, kLength, true))); });
    attack("direct write that was not agreed upon", false,
           [&] { ask(bytes_of(request(false, kLength, true), half, half)); });
    attack("nothing, directly", true, [&] { ask(bytes_of(request(true, 0, true))); });
    attack("pieces that are too short", true,
           [&] { ask(bytes_of(request(false, kLength, true), half)); });
    attack("pieces that are too long", true,
           [&] { ask(bytes_of(request(false, kLength, true), half, half, half)); });
    attack("a piece whose length wraps around", true, [&] {
        ask(bytes_of(request(false, kLength, true), RemotePiece{1, UINT32_MAX, 0},
                     RemotePiece{1, kLength + 1U, 0}));
    });
    attack("pieces of a read", true, [&] { ask(bytes_of(request(true, kLength, true), half)); });
    attack("arenas of no known kind", true, [&] {
        RdmaRequest bad = request(true, 10, false);
        bad.arenas = 2;
        ask(bytes_of(bad));
    });
    attack("an arena that was not offered", false, [&] {
        RdmaRequest good = request(false, kLength, false);
        good.arenas = 1;
        ask(bytes_of(good, RemotePiece{0, kLength, 1}));
    });
    attack("an arena, by another way", true, [&] {
        ask(bytes_of(request(false, kLength, true), RemotePiece{0, kLength, 1}));
    });
    attack("no arena where one should be", true, [&] {
        RdmaRequest good = request(false, kLength, false);
        good.arenas = 1;
        ask(bytes_of(good, RemotePiece{half.address, kLength, 0}));
    });
    attack("two ways at once", true, [&] {
        RdmaRequest bad = request(false, kLength, true);
        bad.arenas = 1;
        ask(bytes_of(bad, RemotePiece{0, kLength, 1}));
    });
    attack("a second operation", false, [&] {
        ask(bytes_of(request(false, 10, false)));
        ask(bytes_of(request(false, 10, false)));
    });
    attack("a piece of nothing", true, [&] { put(RecordKind::kRdmaPiece, 10); });
    attack("a piece that is too long", false, [&] {
        ask(bytes_of(request(false, 10, false)));
        put(RecordKind::kRdmaPiece, 11);
    });
    attack("an impossible piece", false, [&] { put(RecordKind::kRdmaPiece, 65537); });
    attack("data of no read", true, [&] { put(RecordKind::kRdmaData, 10); });
    for (const RecordKind kind :
         {RecordKind::kRdmaGrant, RecordKind::kRdmaDone, RecordKind::kRdmaFetched}) {
        attack("an answer to nothing", true, [&] {
            put(kind, sizeof(RdmaAnswer), bytes_of(RdmaAnswer{0x1000, 1, 0}));
        });
        attack("an answer of another length", true, [&] { put(kind, 15); });
    }
    attack("another operation's fetching", true, [&] {
        ask(bytes_of(request(true, kLength, true)));
        put(RecordKind::kRdmaFetched, sizeof(RdmaAnswer), bytes_of(RdmaAnswer{0, 2, 0}));
    });
}

TEST_F(HostileRdmaTest, APieceOfMemoryThatIsNotThereEndsItsConnectionOnly) {
    ASSERT_NO_FATAL_FAILURE(begin());
    ask(bytes_of(request(false, kLength, true), RemotePiece{4096, kLength, 0}));
    (void)victim().core.turn();
    EXPECT_FALSE(link_->failed.load());
    EXPECT_EQ(socket_->gate.view().state, PostGate::State::kFailed);
    end();
    expect_honest_link_works();
}

// What it does to a connection that is still being made is no concern of those that share the link with it.
TEST_F(HostileRdmaTest, ARequestBeforeItsConnectionStandsEndsThatConnectionOnly) {
    constexpr std::uint32_t kTheirs = 9;
    ASSERT_NO_FATAL_FAILURE(begin(false));
    Socket early;
    Connection* connection = victim().port.make_connection(early.owner());
    ASSERT_NE(connection, nullptr);
    victim().port.install(*connection, *link_);
    const std::uint32_t standing = std::exchange(id_, connection->id);
    for (int i = 0; i < 3; ++i) {  // what follows is passed over
        ask(bytes_of(request(true, kLength, false)));
    }
    (void)victim().core.turn();
    EXPECT_FALSE(link_->failed.load());
    EXPECT_EQ(socket_->gate.view().state, PostGate::State::kOpen);
    const Direction direction = segment_->direction(1);
    rings::SpscConsumer heard(direction.slots, 256, direction.slots_consumed);
    EXPECT_EQ(heard.front(), nullptr) << "nobody is there yet to be told";

    ASSERT_TRUE(victim().port.establish(*connection, kTheirs));
    EXPECT_EQ(early.gate.view().state, PostGate::State::kFailed) << "its owner learns of it";
    (void)victim().core.turn();
    ASSERT_NE(heard.front(), nullptr);
    const RecordHeader farewell = read_header(heard.front());
    EXPECT_EQ(farewell.kind, RecordKind::kFailed);
    EXPECT_EQ(farewell.connection, kTheirs);

    // The other one works.
    id_ = standing;
    ask(bytes_of(request(true, 100, false)));
    (void)victim().core.turn();
    heard.release(1);
    ASSERT_NE(heard.front(), nullptr);
    EXPECT_EQ(read_header(heard.front()).kind, RecordKind::kRdmaData);
    early.close();
    EXPECT_EQ(early.closures.load(), 1);
    ASSERT_NO_FATAL_FAILURE(end());
    expect_honest_link_works();
}

TEST_F(HostileRdmaTest, AConnectionThatIsGivenUpAfterSuchARequestLeavesNothing) {
    ASSERT_NO_FATAL_FAILURE(begin(false));
    Socket early;
    Connection* connection = victim().port.make_connection(early.owner());
    ASSERT_NE(connection, nullptr);
    victim().port.install(*connection, *link_);
    const std::uint32_t standing = std::exchange(id_, connection->id);
    ask(bytes_of(request(false, kLength, false)));
    (void)victim().core.turn();
    EXPECT_FALSE(link_->failed.load());
    victim().port.abandon(*connection);
    ask(bytes_of(request(false, kLength, false)));
    (void)victim().core.turn();
    EXPECT_FALSE(link_->failed.load());
    id_ = standing;
    EXPECT_EQ(socket_->gate.view().state, PostGate::State::kOpen);
    ASSERT_NO_FATAL_FAILURE(end());
    expect_honest_link_works();
}

TEST_F(HostileRdmaTest, AGrantThatIsNeverUsedHoldsTheRegionUntilTheEnd) {
    ASSERT_NO_FATAL_FAILURE(begin());
    ask(bytes_of(request(true, kLength, true)));
    (void)victim().core.turn();
    EXPECT_EQ(socket_->remote.remove(key_, kNonce), RemoteRegions::Removal::kInUse);
    const std::uint32_t before = segment_->direction(0).revocations->load();
    socket_->close();
    EXPECT_EQ(segment_->direction(0).revocations->load(), before + 1);
    victim().port.remove_link(*link_, Status::kReset);
    link_.reset();
    expect_honest_link_works();
}

TEST_F(HostileRdmaTest, RandomRequestsTouchNothingButWhatIsExposed) {
    std::mt19937 random(20240612);
    const std::uint64_t rounds = tests::scaled(400) + 50;
    std::uint64_t failed = 0;
    for (std::uint64_t round = 0; round < rounds; ++round) {
        ASSERT_NO_FATAL_FAILURE(begin(random() % 2 == 0));
        for (int i = 0; i < 8; ++i) {
            RdmaRequest forged =
                request(random() % 2 == 0, random() % (kLength + 10), random() % 4 == 0);
            forged.offset = random() % 3 == 0 ? random() : 0;
            if (random() % 8 == 0) {
                forged.nonce ^= 1ULL << random() % 64;
            }
            if (random() % 8 == 0) {
                forged.key ^= 1U << random() % 32;
            }
            Bytes payload = bytes_of(forged);
            for (std::uint32_t n = random() % 3; n != 0; --n) {
                const RemotePiece piece{
                    random() % 2 == 0 ? reinterpret_cast<std::uint64_t>(memory_.data()) : random(),
                    random() % 2 == 0 ? forged.length
                                      : static_cast<std::uint32_t>(random() % kLength),
                    0};
                const Bytes more = bytes_of(piece);
                payload.insert(payload.end(), more.begin(), more.end());
            }
            ask(payload);
            if (random() % 2 == 0) {
                put(static_cast<RecordKind>(random() % 6 + 10), random() % 20000, Bytes(16));
            }
            (void)victim().core.turn();
            if (link_->failed.load()) {
                ++failed;
                break;
            }
        }
        ASSERT_NO_FATAL_FAILURE(end());
    }
    EXPECT_GT(failed, rounds / 10);
    expect_honest_link_works();
}

// What a target may ask for once, if it cannot read here any more.
TEST_F(HostileRdmaTest, PiecesInsteadOfACopyAreAskedForOnce) {
    for (const bool twice : {false, true}) {
        ASSERT_NO_FATAL_FAILURE(begin());
        link_->unreadable_there = false;
        (void)socket_->rdma(Opcode::kRdmaWrite, {1, 1, 0}, Bytes(kLength));
        (void)victim().core.turn();
        const auto grant = [&](std::uint64_t address) {
            put(RecordKind::kRdmaGrant, sizeof(RdmaAnswer), bytes_of(RdmaAnswer{address, 1, 0}));
        };
        grant(twice ? 0 : 0x1000);
        (void)victim().core.turn();
        EXPECT_EQ(link_->failed.load(), !twice) << "a write is not granted a place to write to";
        if (twice) {
            EXPECT_EQ(victim().port.counters().rdma_bytes_staged.value(), kLength);
            grant(0);
        }
        ASSERT_NO_FATAL_FAILURE(expect_link_fails("pieces"));
    }
}

// The victim asks; the forger answers as it likes.
TEST_F(HostileRdmaTest, ForgedAnswersDoNotReachBeyondTheLocalBuffer) {
    std::mt19937 random(4);
    for (std::uint64_t round = 0; round < tests::scaled(200) + 40; ++round) {
        ASSERT_NO_FATAL_FAILURE(begin(random() % 2 == 0));
        Operation& operation = socket_->operations.emplace_back();
        operation.bytes.assign(kLength, std::byte{1});
        WorkRequest post{};
        post.opcode = random() % 2 == 0 ? Opcode::kRdmaRead : Opcode::kRdmaWrite;
        post.context = reinterpret_cast<std::uint64_t>(&operation);
        post.length = kLength - 2000;
        set_remote(post, {1, 1, 0});
        post.sge_count = kRemoteSges + 1;
        post.piece(kRemoteSges) = {reinterpret_cast<std::uint64_t>(operation.bytes.data()) + 1000,
                                   post.length, socket_->region};
        ASSERT_EQ(socket_->core_slot.load()->post(post, socket_->gate, socket_->generation,
                                                  socket_->slot),
                  Status::kOk);
        for (int i = 0; i < 6 && !link_->failed.load(); ++i) {
            switch (random() % 3) {
                case 0:
                    put(RecordKind::kRdmaData, random() % 65536 + 1);
                    break;
                case 1:
                    put(RecordKind::kRdmaGrant, sizeof(RdmaAnswer),
                        bytes_of(RdmaAnswer{random() % 2 == 0 ? random() : UINT64_MAX - 100,
                                            static_cast<std::uint32_t>(random() % 3), 0}));
                    break;
                default:
                    put(RecordKind::kRdmaDone, sizeof(RdmaAnswer),
                        bytes_of(RdmaAnswer{0, static_cast<std::uint32_t>(random() % 3), 0}));
            }
            (void)victim().core.turn();
        }
        ASSERT_NO_FATAL_FAILURE(end());
        EXPECT_EQ(operation.bytes[999], std::byte{1});
        EXPECT_EQ(operation.bytes[kLength - 1000], std::byte{1});
    }
    expect_honest_link_works();
}

}  // namespace
}  // namespace sanpoll::engine::shm
