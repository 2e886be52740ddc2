// RDMA by the direct way: what goes it, and that nothing has happened where it does not.
#include "engine/direct_rdma.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/fence.hpp"
#include "tests/engine/fabric/shm/shared_arena.hpp"

namespace sanpoll::engine::shm {
namespace {

using direct::Outcome;
using tests::Bytes;
using tests::message_of;
using tests::Operation;
using tests::Socket;
using Removal = RemoteRegions::Removal;

constexpr std::uint32_t kRoom = 4096;
constexpr std::uint64_t kNonce = 0x1234567890ABCDEF;

// What the provider has of a piece of exposed memory: where it is, and the caller's words for it.
struct Descriptor {
    RemotePlace place;
    std::uint32_t length;
    RemoteName name;
};

class DirectRdmaTest : public testing::Test {
protected:
    void SetUp() override {
        if (!fences_) {
            GTEST_SKIP() << "without a heavy fence each use is announced by an exchange";
        }
        for (Link* link : {ports_.link_a.get(), ports_.link_b.get()}) {
            link->copy = tests::this_process();
            link->sharing = Sharing::kNoneYet;
        }
        lend(arena(), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a, true);
        EndpointOwner owner = a_.owner();
        owner.handle = handle();
        auto* first = ports_.a.port.make_connection(owner);
        auto* second = ports_.b.port.make_connection(b_.owner());
        ASSERT_TRUE(first != nullptr && second != nullptr);
        ports_.a.port.install(*first, *ports_.link_a);
        ports_.b.port.install(*second, *ports_.link_b);
        ASSERT_TRUE(ports_.b.port.establish(*second, first->id));
        ASSERT_TRUE(ports_.a.port.establish(*first, second->id));
        RemoteRegions::Table table(64);
        b_.remote.adopt(table);
        std::fill_n(memory(), 2 * kRoom, std::byte{0x55});
        to_ = expose(kRead | kWrite);
    }
    [[nodiscard]] static const memory::Arena& arena() { return tests::shareable_arena(2); }
    [[nodiscard]] static std::byte* memory() { return reinterpret_cast<std::byte*>(arena().base); }
    [[nodiscard]] std::uint64_t handle() const {
        return static_cast<std::uint64_t>(a_.generation) << 32 | 1U;
    }
    [[nodiscard]] PollingCore& core() { return *a_.core_slot.load(); }
    [[nodiscard]] Connection& connection() { return static_cast<Connection&>(*a_.slot.load()); }
    [[nodiscard]] direct::Way way() {
        return {core().token(), a_.gate, handle(), a_.slot, a_.regions};
    }
    [[nodiscard]] std::uint64_t stores() const {
        return ports_.a.port.counters().rdma_stores.value();
    }

    [[nodiscard]] Descriptor expose(std::uint32_t access, std::uint64_t nonce = kNonce) {
        const std::uint32_t key =
            b_.remote.add(reinterpret_cast<std::uint64_t>(memory()), kRoom, access, nonce);
        const RemotePlace place{nonce, key, 0, b_.remote.place_of(key)};
        return {place, kRoom, {{nonce, key, place.hint, kRoom, access}}};
    }

    // As the provider does: the direct way, and if it says so its second part. What becomes of either.
    [[nodiscard]] bool directly(bool write, std::byte* local, std::uint32_t length,
                                const Descriptor& to, std::uint32_t offset = 0,
                                RegionRef region = 0) {
        int ends = 0;
        const Outcome outcome = direct::rdma(
            way(), write, &to.name, offset, region == 0 ? a_.region : region,
            reinterpret_cast<std::uint64_t>(local), length, [&]() noexcept { ++ends; });
        if (outcome == Outcome::kHeld) {
            direct::end_rdma(way());
        }
        const bool done = outcome != Outcome::kNothing;
        EXPECT_EQ(ends, done ? 1 : 0);
        EXPECT_TRUE(core().try_acquire()) << "the token is free again";
        core().release();
        return done;
    }
    [[nodiscard]] bool slowly(bool write, std::byte* local, std::uint32_t length,
                              const Descriptor& to) {
        struct One {
            RegionTable& regions;
            RegionRef region;
            RdmaOne operation;
            [[nodiscard]] bool find() const noexcept {
                const Access access = operation.write ? kRead : kWrite;
                regions.remember_for_rdma(region, access);
                return regions.covers(region, operation.address, operation.length, access);
            }
            void ended() noexcept {}
        };
        One one{
            a_.regions,
            a_.region,
            {to.place, reinterpret_cast<std::uint64_t>(local), length, write, &to.name, to.length}};
        return core().rdma_at_once(one, a_.gate, a_.generation, a_.slot);
    }
    [[nodiscard]] bool write(const Descriptor& to, std::uint32_t offset = 0,
                             std::uint32_t length = 8) {
        return directly(true, bytes_.data(), length, to, offset);
    }
    // The first one of a kind finds the way for those that follow.
    void warm_up() {
        ASSERT_TRUE(slowly(true, bytes_.data(), 8, to_));
        ASSERT_TRUE(write(to_));
        std::fill_n(memory(), 2 * kRoom, std::byte{0x55});
        stores_ = stores();
    }
    void expect_untouched() {
        EXPECT_TRUE(std::all_of(memory(), memory() + 2 * kRoom,
                                [](std::byte byte) { return byte == std::byte{0x55}; }));
        EXPECT_EQ(stores(), stores_);
    }

    const bool fences_ = register_heavy_fence();  // before there is a link
    Socket a_;
    Socket b_;
    Socket other_a_;
    Socket other_b_;
    Bytes bytes_ = message_of(7, kRoom);
    Descriptor to_{};
    std::uint64_t stores_ = 0;
    tests::TwoPorts ports_{tests::TwoPorts::small_config()};
};

TEST_F(DirectRdmaTest, TheFirstOneIsNot) {
    EXPECT_FALSE(write(to_));
    EXPECT_FALSE(a_.gate.is_direct(handle()));
    expect_untouched();
    EXPECT_TRUE(slowly(true, bytes_.data(), 8, to_));
    EXPECT_TRUE(a_.gate.is_direct(handle()));
    EXPECT_TRUE(write(to_));
}

TEST_F(DirectRdmaTest, WritesOfAllItsLengthsAreThere) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    for (std::uint32_t length = 1; length <= direct::kLongestRdma; ++length) {
        std::fill_n(memory(), kRoom, std::byte{0x55});
        const Bytes bytes = message_of(length, length);
        std::copy(bytes.begin(), bytes.end(), bytes_.begin());
        ASSERT_TRUE(write(to_, 100, length)) << length;
        ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), memory() + 100)) << length;
        ASSERT_EQ(memory()[99], std::byte{0x55});
        ASSERT_EQ(memory()[100 + length], std::byte{0x55});
    }
    EXPECT_EQ(stores(), stores_ + direct::kLongestRdma);
    EXPECT_EQ(b_.remote.remove(to_.place.key, kNonce), Removal::kRemoved)
        << "no use was left behind";
}

TEST_F(DirectRdmaTest, ReadsBringWhatIsThere) {
    Bytes here(kRoom);
    ASSERT_TRUE(slowly(false, here.data(), 8, to_));
    for (std::uint32_t length = 1; length <= direct::kLongestRdma; ++length) {
        const Bytes there = message_of(length, length);
        std::copy(there.begin(), there.end(), memory() + 10);
        std::fill(here.begin(), here.end(), std::byte{0x66});
        ASSERT_TRUE(directly(false, here.data(), length, to_, 10)) << length;
        ASSERT_TRUE(std::equal(there.begin(), there.end(), here.begin())) << length;
        ASSERT_EQ(here[length], std::byte{0x66});
    }
    EXPECT_EQ(b_.remote.remove(to_.place.key, kNonce), Removal::kRemoved);
}

TEST_F(DirectRdmaTest, LongerOnesGoTheSameWay) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ASSERT_TRUE(slowly(false, bytes_.data(), 8, to_));
    for (const std::uint32_t length : {129U, 1024U, 1025U, kRoom}) {
        std::fill_n(memory(), kRoom, std::byte{0x55});
        Bytes bytes = message_of(length, length);
        const auto move = [&](bool writes, std::uint32_t offset) {
            int ends = 0;
            const bool done = direct::rdma_of_any_length(
                way(), writes, &to_.name, offset, a_.region,
                reinterpret_cast<std::uint64_t>(bytes.data()), length, [&]() noexcept { ++ends; });
            EXPECT_EQ(ends, done ? 1 : 0);
            return done;
        };
        ASSERT_TRUE(move(true, 0)) << length;
        ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), memory())) << length;
        ASSERT_EQ(memory()[length], std::byte{0x55});
        std::fill(bytes.begin(), bytes.end(), std::byte{0});
        ASSERT_TRUE(move(false, 0)) << length;
        ASSERT_TRUE(bytes == message_of(length, length)) << length;
        EXPECT_FALSE(move(true, kRoom - length + 1)) << length;
    }
    EXPECT_TRUE(core().try_acquire()) << "the token is free again";
    core().release();
    EXPECT_EQ(b_.remote.remove(to_.place.key, kNonce), Removal::kRemoved);
    EXPECT_FALSE(direct::rdma_of_any_length(way(), true, &to_.name, 0, a_.region,
                                            reinterpret_cast<std::uint64_t>(bytes_.data()), 200,
                                            []() noexcept {}));
}

// What one turn may copy is for all connections of a core together; what is short is not counted.
TEST_F(DirectRdmaTest, LongOnesBesideAnotherConnectionEndWithTheTurnsShare) {
    ports_.connect(other_a_, other_b_);
    ASSERT_NO_FATAL_FAILURE(warm_up());
    const auto write_long = [&] {
        return direct::rdma_of_any_length(way(), true, &to_.name, 0, a_.region,
                                          reinterpret_cast<std::uint64_t>(bytes_.data()), kRoom,
                                          []() noexcept {});
    };
    ASSERT_TRUE(core().try_acquire());
    (void)core().turn();
    core().release();
    std::uint32_t written = 0;
    while (written < 1000 && write_long()) {
        ++written;
    }
    EXPECT_GT(written, 0U);
    EXPECT_LT(written, 1000U);
    std::fill_n(memory(), 2 * kRoom, std::byte{0x55});
    stores_ = stores();
    EXPECT_FALSE(write_long());
    expect_untouched();
    EXPECT_TRUE(write(to_)) << "a short one";
    ASSERT_TRUE(core().try_acquire());
    (void)core().turn();
    core().release();
    EXPECT_TRUE(write_long()) << "the next turn has a share of its own";
}

TEST_F(DirectRdmaTest, WhatWasWrittenToIsNotReadWithoutALook) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    Bytes here(8);
    EXPECT_FALSE(directly(false, here.data(), 8, to_));
    EXPECT_TRUE(here == Bytes(8));
}

TEST_F(DirectRdmaTest, TheLastByteIsReachedAndNoneBehindIt) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    EXPECT_FALSE(write(to_, kRoom - 7));
    EXPECT_FALSE(write(to_, kRoom));
    EXPECT_FALSE(write(to_, ~0U));
    EXPECT_FALSE(write(to_, ~0U - 7));
    expect_untouched();
    EXPECT_TRUE(write(to_, kRoom - 8));
    EXPECT_EQ(memory()[kRoom], std::byte{0x55});
}

// One whose words say less than is exposed gets no more than it says.
TEST_F(DirectRdmaTest, ADescriptorThatSaysLessIsTakenAtItsWord) {
    to_.length = 64;
    ASSERT_NO_FATAL_FAILURE(warm_up());
    EXPECT_FALSE(write(to_, 57));
    expect_untouched();
    EXPECT_TRUE(write(to_, 56));
}

TEST_F(DirectRdmaTest, NothingHappensIfAnyByteOfTheDescriptorDiffers) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    for (std::size_t i = 0; i < sizeof(RemoteName); ++i) {
        Descriptor other = to_;
        reinterpret_cast<unsigned char*>(&other.name)[i] ^= 1U;
        EXPECT_FALSE(write(other)) << i;
    }
    expect_untouched();
    EXPECT_TRUE(write(to_));
}

TEST_F(DirectRdmaTest, NothingHappensInAnotherRegionOrOutsideOfIt) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    Bytes small(64);
    const RegionRef other =
        a_.regions.add(reinterpret_cast<std::uint64_t>(small.data()), small.size(), kRead | kWrite);
    ASSERT_NE(other, 0U);
    EXPECT_FALSE(directly(true, small.data(), 8, to_, 0, other)) << "not the one before";
    a_.regions.remember_for_rdma(other, kRead);
    EXPECT_FALSE(directly(true, small.data() + 57, 8, to_, 0, other));
    EXPECT_FALSE(directly(true, small.data() - 1, 8, to_, 0, other));
    expect_untouched();
    EXPECT_TRUE(directly(true, small.data() + 56, 8, to_, 0, other));
}

TEST_F(DirectRdmaTest, NothingHappensWithMemoryThatIsNotRegisteredAnyMore) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ASSERT_TRUE(a_.regions.retire(a_.region));
    EXPECT_FALSE(write(to_));
    expect_untouched();
}

TEST_F(DirectRdmaTest, NothingHappensWithoutTheRightToTheLocalMemory) {
    Bytes small(64);
    const RegionRef read_only =
        a_.regions.add(reinterpret_cast<std::uint64_t>(small.data()), small.size(), kRead);
    Bytes here(8);
    ASSERT_TRUE(slowly(false, here.data(), 8, to_));
    a_.regions.remember_for_rdma(read_only, kWrite);
    EXPECT_FALSE(directly(false, small.data(), 8, to_, 0, read_only));
    EXPECT_TRUE(small == Bytes(64));
}

TEST_F(DirectRdmaTest, NothingHappensToWhatIsTakenBack) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    EXPECT_EQ(b_.remote.remove(to_.place.key, kNonce), Removal::kRemoved);
    EXPECT_FALSE(write(to_));
    // What comes to the same place in the table is another one, whatever the caller says of it.
    const Descriptor next = expose(kRead | kWrite);
    EXPECT_EQ(next.place.hint, to_.place.hint);
    EXPECT_FALSE(write(to_));
    expect_untouched();
    EXPECT_EQ(b_.remote.remove(next.place.key, kNonce), Removal::kRemoved) << "nothing uses it";
}

TEST_F(DirectRdmaTest, NothingHappensToWhatIsRevokedWithItsConnection) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    b_.remote.revoke_on_board();
    EXPECT_FALSE(write(to_));
    expect_untouched();
}

TEST_F(DirectRdmaTest, ItDoesNotOvertakeAMessage) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    Operation& receive = b_.receive(10);
    a_.send_number(1, 10);
    EXPECT_FALSE(write(to_));
    expect_untouched();
    ports_.settle();
    EXPECT_TRUE(receive.good());
    EXPECT_FALSE(write(to_)) << "that it has been taken is seen by the long way";
    EXPECT_TRUE(slowly(true, bytes_.data(), 8, to_));
    EXPECT_TRUE(write(to_));
}

TEST_F(DirectRdmaTest, NothingHappensBehindASendThatWaits) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    a_.send_number(1, 100000);  // for which there is no receive
    EXPECT_FALSE(write(to_));
    expect_untouched();
    a_.close();
    ports_.settle();
}

TEST_F(DirectRdmaTest, NothingHappensBehindAPostThatHasNotTakenEffect) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    const auto admitted = a_.gate.enter_behind(a_.generation);
    ASSERT_TRUE(admitted);
    EXPECT_FALSE(write(to_));
    EXPECT_FALSE(slowly(true, bytes_.data(), 8, to_));
    EXPECT_FALSE(a_.gate.is_direct(handle()));
    expect_untouched();
    a_.slot.load()->next_sequence = *admitted + 1;  // as if it had
    EXPECT_TRUE(slowly(true, bytes_.data(), 8, to_));
    EXPECT_TRUE(write(to_));
}

TEST_F(DirectRdmaTest, NothingHappensWhileAnotherThreadIsTheCore) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ASSERT_TRUE(core().try_acquire());
    int ends = 0;
    EXPECT_EQ(
        direct::rdma(way(), true, &to_.name, 0, a_.region,
                     reinterpret_cast<std::uint64_t>(bytes_.data()), 8, [&]() noexcept { ++ends; }),
        Outcome::kNothing);
    EXPECT_EQ(ends, 0);
    core().release();
    expect_untouched();
}

TEST_F(DirectRdmaTest, NothingHappensOnAConnectionThatHasEnded) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    ports_.a.port.break_link(*ports_.link_a, Status::kReset);
    EXPECT_FALSE(write(to_));
    expect_untouched();
}

// Table, mapping and ids are the link's: with the next one all is looked up again.
TEST_F(DirectRdmaTest, NothingIsKeptWhenThePeersEndChangesProcess) {
    ASSERT_NO_FATAL_FAILURE(warm_up());
    EXPECT_NE(connection().written.length, 0U);
    ASSERT_EQ(ports_.a.port.suspend(connection().id, *ports_.link_a, false), Hold::kHeld);
    EXPECT_FALSE(write(to_));
    ports_.a.port.let_go(connection().id, *ports_.link_a);
    EXPECT_EQ(connection().written.length, 0U);
    EXPECT_FALSE(write(to_));
    expect_untouched();
}

}  // namespace
}  // namespace sanpoll::engine::shm
