#include "engine/fabric/verbs/local_pieces.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/engine/fabric/verbs/fake_memory.hpp"

namespace sanpoll::engine::verbs {
namespace {

class LocalPiecesTest : public testing::Test {
protected:
    void SetUp() override {
        device = memory.open();
        std::string error;
        keys = MemoryKeys::make(*device, error);
        ASSERT_NE(keys, nullptr);
        for (RegionRef ref = 1; ref <= 16; ++ref) {
            ASSERT_EQ(keys->add_local(ref, 0x1000, 0x1000000, kRead | kWrite), Status::kOk);
        }
    }
    /// A queue whose first request is another one.
    void push(const std::vector<Sge>& pieces) {
        WorkRequest other{};
        ASSERT_TRUE(queue.push(other));
        WorkRequest request{};
        request.sge_count = static_cast<std::uint8_t>(pieces.size());
        for (std::uint32_t i = 0; i < pieces.size(); ++i) {
            request.piece(i) = pieces[i];
            request.length += pieces[i].length;
        }
        position = queue.end();
        ASSERT_TRUE(queue.push(request));
    }

    FakeMemory memory;
    std::unique_ptr<Device> device;
    std::unique_ptr<MemoryKeys> keys;
    RequestQueue queue;
    RequestQueue::Position position = 0;
    ibv_sge list[kMaxSges] = {};
    std::uint32_t taken = 0;
};

TEST_F(LocalPiecesTest, EachPieceGoesWithItsKey) {
    push({{0x2000, 10, 3}, {0x5000, 20, 4}, {0x3000, 30, 3}});
    LocalPieces pieces(*keys, queue, position, 0);
    ASSERT_EQ(pieces.take(list, 8, 1000, taken), 3U);
    EXPECT_EQ(taken, 60U);
    EXPECT_EQ(list[0].addr, 0x2000U);
    EXPECT_EQ(list[0].length, 10U);
    EXPECT_EQ(list[0].lkey, keys->lkey(3));
    EXPECT_EQ(list[1].addr, 0x5000U);
    EXPECT_EQ(list[1].lkey, keys->lkey(4));
    EXPECT_EQ(list[2].length, 30U);
    EXPECT_NE(keys->lkey(3), keys->lkey(4));
    EXPECT_EQ(pieces.take(list, 8, 1000, taken), 0U);
    EXPECT_EQ(taken, 0U);
}

TEST_F(LocalPiecesTest, PiecesWithoutBytesAreNone) {
    push({{0x9999, 0, 77},
          {0x8888, 0, 0},
          {0x2000, 10, 3},
          {0x1, 0, 0},
          {0x5000, 20, 4},
          {0, 0, 0}});
    LocalPieces pieces(*keys, queue, position, 0);
    ASSERT_EQ(pieces.take(list, 8, 1000, taken), 2U);
    EXPECT_EQ(list[0].addr, 0x2000U);
    EXPECT_EQ(list[1].addr, 0x5000U);
    EXPECT_EQ(taken, 30U);
    queue = RequestQueue();
    push({{0x9999, 0, 77}});
    LocalPieces none(*keys, queue, position, 0);
    EXPECT_EQ(none.take(list, 8, 1000, taken), 0U);
}

TEST_F(LocalPiecesTest, ItBeginsWhereItIsTold) {
    push({{0x2000, 10, 3}, {0x5000, 20, 4}});
    for (std::uint32_t offset = 0; offset < 30; ++offset) {
        LocalPieces pieces(*keys, queue, position, offset);
        ASSERT_EQ(pieces.take(list, 1, 1, taken), 1U);
        EXPECT_EQ(list[0].addr, offset < 10 ? 0x2000 + offset : 0x5000 + offset - 10) << offset;
    }
    LocalPieces end(*keys, queue, position, 30);
    EXPECT_EQ(end.take(list, 1, 1, taken), 0U);
}

// Whatever the cuts, every byte comes once, in order, and no cut is larger than was asked for.
TEST_F(LocalPiecesTest, CutsMeetWithoutHoles) {
    std::mt19937 random(5);
    for (int round = 0; round < 200; ++round) {
        queue = RequestQueue();
        std::vector<Sge> made(1 + random() % (kMaxSges + kRemoteSges));
        std::vector<std::uint64_t> bytes;
        std::vector<std::uint32_t> regions;
        for (Sge& piece : made) {
            piece = {0x1000 + random() % 100000,
                     static_cast<std::uint32_t>(random() % 4 * (random() % 50)),
                     1 + static_cast<std::uint32_t>(random() % 16)};
            for (std::uint32_t i = 0; i < piece.length; ++i) {
                bytes.push_back(piece.address + i);
                regions.push_back(keys->lkey(piece.region));
            }
        }
        push(made);
        LocalPieces pieces(*keys, queue, position, 0);
        std::size_t at = 0;
        for (;;) {
            const auto most = 1 + static_cast<std::uint32_t>(random() % kMaxSges);
            const auto wanted = 1 + static_cast<std::uint32_t>(random() % 60);
            const std::uint32_t used = pieces.take(list, most, wanted, taken);
            ASSERT_LE(used, most);
            ASSERT_LE(taken, wanted);
            if (used == 0) {
                break;
            }
            std::uint32_t sum = 0;
            for (std::uint32_t i = 0; i < used; ++i) {
                ASSERT_GT(list[i].length, 0U);
                for (std::uint32_t k = 0; k < list[i].length; ++k, ++at) {
                    ASSERT_LT(at, bytes.size());
                    ASSERT_EQ(list[i].addr + k, bytes[at]);
                    ASSERT_EQ(list[i].lkey, regions[at]);
                }
                sum += list[i].length;
            }
            ASSERT_EQ(sum, taken);
        }
        ASSERT_EQ(at, bytes.size());
    }
}

}  // namespace
}  // namespace sanpoll::engine::verbs
