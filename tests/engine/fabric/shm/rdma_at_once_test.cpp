// RDMA of one piece that begins and ends in the call that posts it, without a request: what is done so, and that nothing has
// happened where it is not.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "engine/remote_regions.hpp"
#include "tests/engine/fabric/shm/shared_arena.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;
using Removal = RemoteRegions::Removal;

constexpr std::uint32_t kRoom = 2U << 20;
constexpr std::uint64_t kNonce = 0x1234567890ABCDEF;

// What PollingCore::rdma_at_once asks of.
struct One {
    const RegionTable& regions;
    RegionRef region;
    RdmaOne operation;
    int ends = 0;
    [[nodiscard]] bool find() const noexcept {
        return regions.covers(region, operation.address, operation.length,
                              operation.write ? kRead : kWrite);
    }
    void ended() noexcept { ++ends; }
};

class RdmaAtOnceTest : public testing::Test {
protected:
    void SetUp() override {
        for (Link* link : {ports_.link_a.get(), ports_.link_b.get()}) {
            link->copy = tests::this_process();
            link->sharing = Sharing::kNoneYet;
        }
        lend(arena(), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a, true);
        ports_.connect(a_, b_);
        RemoteRegions::Table table(64);
        b_.remote.adopt(table);
        std::fill_n(memory(), kRoom, std::byte{0x55});
        to_ = expose(kRead | kWrite);
    }
    [[nodiscard]] static const memory::Arena& arena() { return tests::shareable_arena(1); }
    [[nodiscard]] static std::byte* memory() { return reinterpret_cast<std::byte*>(arena().base); }

    [[nodiscard]] RemotePlace expose(std::uint32_t access) {
        const std::uint32_t key =
            b_.remote.add(reinterpret_cast<std::uint64_t>(memory()), kRoom, access, kNonce);
        return {kNonce, key, 0, b_.remote.place_of(key)};
    }
    [[nodiscard]] PollingCore& core() { return *a_.core_slot.load(); }
    [[nodiscard]] bool move(bool write, Bytes& local, const RemotePlace& place) {
        One one{a_.regions,
                a_.region,
                {place, reinterpret_cast<std::uint64_t>(local.data()),
                 static_cast<std::uint32_t>(local.size()), write}};
        const std::uint64_t before = core().counters().completions.value();
        const bool done = core().rdma_at_once(one, a_.gate, a_.generation, a_.slot);
        EXPECT_EQ(one.ends, done ? 1 : 0);
        EXPECT_EQ(core().counters().completions.value(), before + (done ? 1 : 0));
        EXPECT_TRUE(core().try_acquire()) << "the token is free again";
        core().release();
        return done;
    }
    [[nodiscard]] bool write(const RemotePlace& place, std::uint32_t length = 8) {
        Bytes bytes = message_of(7, length);
        return move(true, bytes, place);
    }
    void expect_untouched() {
        EXPECT_TRUE(std::all_of(memory(), memory() + kRoom,
                                [](std::byte byte) { return byte == std::byte{0x55}; }));
        EXPECT_EQ(stores(), 0U);
        EXPECT_EQ(b_.remote.remove(to_.key, kNonce), Removal::kRemoved) << "nothing uses it";
    }
    [[nodiscard]] std::uint64_t stores() const {
        return ports_.a.port.counters().rdma_stores.value();
    }
    // The same by post(), to its end.
    [[nodiscard]] bool post_write(std::uint64_t number, std::uint32_t offset) {
        bytes_ = message_of(number, 100);
        Operation& operation = a_.operations.emplace_back();
        WorkRequest request{};
        request.opcode = Opcode::kRdmaWrite;
        request.context = reinterpret_cast<std::uint64_t>(&operation);
        request.length = 100;
        set_remote(request, {kNonce, to_.key, offset, to_.hint});
        request.sge_count = kRemoteSges + 1;
        request.piece(kRemoteSges) = {reinterpret_cast<std::uint64_t>(bytes_.data()), 100,
                                      a_.region};
        EXPECT_EQ(core().post(request, a_.gate, a_.generation, a_.slot), Status::kOk);
        ports_.settle();
        return operation.good();
    }

    Socket a_;
    Socket b_;
    Bytes bytes_;
    RemotePlace to_{};
    TwoPorts ports_{TwoPorts::small_config()};
};

// Not promised, but programs written for RDMA devices rely on it. Every second long one is copied from its end.
TEST_F(RdmaAtOnceTest, WhenTheLastByteIsThereAllIs) {
#if defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "looks at memory that is written meanwhile";
#endif
    constexpr std::uint32_t kLength = 1U << 20;
    for (int round = 1; round <= 200; ++round) {
        const auto value = static_cast<std::byte>(round);
        Bytes bytes(kLength, value);
        bool whole = false;
        std::atomic<bool> looks{false};
        std::thread looker([&] {
            looks.store(true);
            const std::atomic_ref<std::byte> last(memory()[kLength - 1]);
            while (last.load(std::memory_order_acquire) != value) {
            }
            whole = memory()[0] == value && memory()[kLength / 2] == value &&
                    memory()[kLength - 65] == value;
        });
        while (!looks.load()) {
        }
        EXPECT_TRUE(move(true, bytes, to_));
        looker.join();
        ASSERT_TRUE(whole) << round;
    }
}

TEST_F(RdmaAtOnceTest, WritesOfAllLengthsAreThere) {
    std::uint64_t done = 0;
    for (const std::uint32_t length : {1U, 8U, 9U, 64U, 129U, 1024U, 1025U, 65536U, 262143U,
                                       262144U, 262145U, 1U << 20, (1U << 20) - 13U, 1U << 20}) {
        std::fill_n(memory(), kRoom, std::byte{0x55});
        Bytes bytes = message_of(length, length);
        EXPECT_TRUE(move(true, bytes, {kNonce, to_.key, 100, to_.hint})) << length;
        EXPECT_EQ(stores(), ++done);
        EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), memory() + 100)) << length;
        EXPECT_EQ(memory()[99], std::byte{0x55});
        EXPECT_EQ(memory()[100 + length], std::byte{0x55});
    }
    EXPECT_EQ(b_.remote.remove(to_.key, kNonce), Removal::kRemoved) << "no use was left behind";
}

TEST_F(RdmaAtOnceTest, ReadsBringWhatIsThere) {
    for (const std::uint32_t length : {1U, 8U, 100U, 5000U, 1U << 20}) {
        const Bytes there = message_of(length, length);
        std::copy(there.begin(), there.end(), memory() + 10);
        Bytes here(length);
        EXPECT_TRUE(move(false, here, {kNonce, to_.key, 10, to_.hint})) << length;
        EXPECT_TRUE(here == there) << length;
    }
}

// It takes no number, so what comes behind it by a number must not wait for it.
TEST_F(RdmaAtOnceTest, OtherPostsGoOnBeforeAndBehindIt) {
    const std::uint32_t before = a_.gate.view().sequence;
    EXPECT_TRUE(write(to_));
    EXPECT_EQ(a_.gate.view().sequence, before);
    EXPECT_TRUE(post_write(1, 300));
    EXPECT_TRUE(write(to_));
    EXPECT_TRUE(post_write(2, 300));
    EXPECT_EQ(stores(), 4U);
    a_.close();
    ports_.settle();
    EXPECT_EQ(a_.closures.load(), 1);
}

TEST_F(RdmaAtOnceTest, NothingHappensBehindAPostThatHasNotTakenEffect) {
    const auto admitted = a_.gate.enter(a_.generation);
    ASSERT_TRUE(admitted);
    EXPECT_FALSE(write(to_));
    expect_untouched();
    a_.slot.load()->next_sequence = *admitted + 1;  // as if it had
}

TEST_F(RdmaAtOnceTest, NothingHappensWhileAnotherThreadIsTheCore) {
    ASSERT_TRUE(core().try_acquire());
    One one{a_.regions, a_.region, {to_, reinterpret_cast<std::uint64_t>(&one), 8, true}};
    EXPECT_FALSE(core().rdma_at_once(one, a_.gate, a_.generation, a_.slot));
    EXPECT_EQ(one.ends, 0);
    core().release();
    expect_untouched();
}

TEST_F(RdmaAtOnceTest, NothingHappensForAHandleThatIsNotTheGates) {
    a_.generation += 2;
    EXPECT_FALSE(write(to_));
    a_.generation -= 2;
    expect_untouched();
}

TEST_F(RdmaAtOnceTest, NothingHappensOnAConnectionThatIsBroken) {
    ASSERT_TRUE(a_.gate.break_off(a_.generation, PostGate::State::kReset));
    EXPECT_FALSE(write(to_));
    expect_untouched();
}

TEST_F(RdmaAtOnceTest, NothingHappensWithMemoryThatIsNotRegistered) {
    ASSERT_TRUE(a_.regions.retire(a_.region));
    EXPECT_FALSE(write(to_));
    expect_untouched();
}

TEST_F(RdmaAtOnceTest, NothingHappensWhereTheDescriptorIsWrong) {
    EXPECT_FALSE(write({kNonce + 1, to_.key, 0, to_.hint}));
    EXPECT_FALSE(write({kNonce, to_.key + 1, 0, to_.hint}));
    EXPECT_FALSE(write({kNonce, to_.key, kRoom - 7, to_.hint}));
    EXPECT_FALSE(write({kNonce, to_.key, ~0U, to_.hint}));
    for (const std::uint32_t hint : {0U, to_.hint + 1, kExposureSlots + 1, ~0U}) {
        EXPECT_FALSE(write({kNonce, to_.key, 0, hint})) << hint;
    }
    expect_untouched();
}

TEST_F(RdmaAtOnceTest, NothingHappensWithoutTheRight) {
    const RemotePlace read_only = expose(kRead);
    const RemotePlace write_only = expose(kWrite);
    EXPECT_FALSE(write(read_only));
    Bytes here(8);
    EXPECT_FALSE(move(false, here, write_only));
    EXPECT_TRUE(here == Bytes(8));
    expect_untouched();
}

TEST_F(RdmaAtOnceTest, NothingHappensToWhatIsTakenBack) {
    EXPECT_EQ(b_.remote.remove(to_.key, kNonce), Removal::kRemoved);
    EXPECT_FALSE(write(to_));
    to_ = expose(kRead | kWrite);
    expect_untouched();
}

TEST_F(RdmaAtOnceTest, ItDoesNotOvertakeAMessage) {
    Operation& receive = b_.receive(10);
    a_.send_number(1, 10);
    EXPECT_FALSE(write(to_));
    EXPECT_FALSE(receive.ended());
    (void)ports_.b.core.turn();
    EXPECT_TRUE(receive.good());
    EXPECT_TRUE(write(to_));
}

// What would keep others waiting goes in parts.
TEST_F(RdmaAtOnceTest, ALongOneAmongOthersIsLeftToTheTurns) {
    Socket other_a;
    Socket other_b;
    ports_.connect(other_a, other_b);
    (void)ports_.a.core.turn();
    EXPECT_TRUE(write(to_, 100000));
    EXPECT_FALSE(write(to_, 1U << 20));
    EXPECT_TRUE(write(to_, 1024)) << "a short one is done whatever else was copied";
    other_a.close();
    other_b.close();
    ports_.settle();
}

}  // namespace
}  // namespace sanpoll::engine::shm
