// An owner whose table of exposures says what it likes: at worst its own arenas are written to.
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "tests/engine/fabric/shm/shared_arena.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::Operation;
using tests::Socket;
using tests::TwoPorts;

constexpr std::uint64_t kNonce = 99;

// The victim is the initiator (a), whose peer's table is ours to write.
class HostileStoreTest : public testing::Test {
protected:
    void SetUp() override {
        ports_.link_b->sharing = Sharing::kNoneYet;
        connect();
        lend(arena(), ports_.b, *ports_.link_b, ports_.a, *ports_.link_a, true);
        place_ = ports_.link_b->shown.show(honest());
        ASSERT_NE(place_, 0U);
    }
    // A request that nobody understands ends the connection: the next attack has a new one.
    void connect() {
        a_ = &sockets_.emplace_back();
        b_ = &sockets_.emplace_back();
        ports_.connect(*a_, *b_);
    }
    void connect_again() {
        ports_.settle();
        a_->close();
        b_->close();
        ports_.settle();
        connect();
    }
    [[nodiscard]] static const memory::Arena& arena() { return tests::shareable_arena(1); }
    [[nodiscard]] Exposure honest() const {
        return {0, connection().id, kNonce, 0, 5, arena().id, 10000, kRead | kWrite};
    }
    [[nodiscard]] const Connection& connection() const {
        return static_cast<const Connection&>(*a_->slot.load());
    }
    Operation& post(Opcode opcode, std::uint32_t length, std::uint32_t offset) {
        Operation& operation = a_->operations.emplace_back();
        operation.bytes.assign(length, std::byte{3});
        WorkRequest request{};
        request.opcode = opcode;
        request.context = reinterpret_cast<std::uint64_t>(&operation);
        request.length = length;
        set_remote(request, {kNonce, 5, offset, place_});
        request.sge_count = kRemoteSges + 1;
        request.piece(kRemoteSges) = {reinterpret_cast<std::uint64_t>(operation.bytes.data()),
                                      length, a_->region};
        (void)a_->core_slot.load()->post(request, a_->gate, a_->generation, a_->slot);
        return operation;
    }

    std::deque<Socket> sockets_;
    Socket* a_ = nullptr;
    Socket* b_ = nullptr;
    TwoPorts ports_{TwoPorts::small_config()};
    std::uint32_t place_ = 0;
};

TEST_F(HostileStoreTest, ThatTableIsBelievedAsLongAsItStaysInsideTheArena) {
    EXPECT_TRUE(post(Opcode::kRdmaWrite, 100, 9900).good());
    EXPECT_EQ(std::to_integer<int>(reinterpret_cast<std::byte*>(arena().base)[9999]), 3);
    EXPECT_EQ(ports_.a.port.counters().rdma_stores.value(), 1U);
}

TEST_F(HostileStoreTest, NoRangeOutsideOfTheArenaIsTouched) {
    const std::uint64_t size = arena().size;
    const std::uint64_t offsets[] = {
        size - 99,  size,       size + 4096,      ~0ULL,           ~0ULL - 4096, 0 - size,
        1ULL << 63, ~0ULL - 99, 0ULL - 10000 + 1, size - 10000 + 1};
    for (const Opcode opcode : {Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        for (const std::uint64_t offset : offsets) {
            Exposure forged = honest();
            forged.offset = offset;
            forged.length = UINT32_MAX;
            place_ = ports_.link_b->shown.show(forged);
            const std::uint64_t before = ports_.a.port.counters().rdma_stores.value();
            (void)post(opcode, 10000, 0);
            // What wraps around to a range inside is the owner's own affair.
            const bool inside = offset + 10000 <= size && offset <= size;
            EXPECT_EQ(ports_.a.port.counters().rdma_stores.value() != before, inside) << offset;
            connect_again();
        }
    }
}

TEST_F(HostileStoreTest, RandomTablesHurtNobody) {
    std::mt19937 random(7);
    for (std::uint64_t round = 0; round < tests::scaled(3000) + 300; ++round) {
        Exposure forged = honest();
        switch (random() % 6) {
            case 0:
                forged.offset = (static_cast<std::uint64_t>(random()) << 32) | random();
                break;
            case 1:
                forged.arena = random() % 3 == 0 ? random() : random() % 70;
                break;
            case 2:
                forged.length = random();
                break;
            case 3:
                forged.offset = arena().size - random() % 20000;
                break;
            case 4:
                forged.access = random();
                break;
            default:
                forged.connection = random();
        }
        const std::uint32_t place = ports_.link_b->shown.show(forged);
        if (place == 0) {
            break;
        }
        place_ = place;
        Operation& operation = post(random() % 2 == 0 ? Opcode::kRdmaWrite : Opcode::kRdmaRead,
                                    random() % 1000, random() % 12000);
        (void)ports_.link_b->shown.hide(place);
        if (!operation.ended()) {
            connect_again();
            ASSERT_EQ(operation.ends.load(), 1);
        }
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
