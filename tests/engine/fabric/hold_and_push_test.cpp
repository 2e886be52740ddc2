// A request takes hold of all its memory when it is queued, or of none.
#include "engine/fabric/hold_and_push.hpp"

#include <gtest/gtest.h>

namespace sanpoll::engine {
namespace {

class HoldAndPush : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(queue_.prepare()); }
    static WorkRequest request_of(std::initializer_list<Sge> pieces) {
        WorkRequest request{};
        request.opcode = Opcode::kReceive;
        for (const Sge& piece : pieces) {
            request.piece(request.sge_count++) = piece;
            request.length += piece.length;
        }
        return request;
    }

    RegionTable regions_;
    RequestQueue queue_;
    RegionRef first_ = regions_.add(0x1000, 0x1000, kWrite);
    RegionRef second_ = regions_.add(0x4000, 0x1000, kWrite);
};

TEST_F(HoldAndPush, WhatIsQueuedIsInUse) {
    const WorkRequest request =
        request_of({{0x1000, 10, first_}, {0x4000, 10, second_}, {0x4100, 20, second_}});
    ASSERT_EQ(hold_and_push(regions_, queue_, request), Status::kOk);
    EXPECT_EQ(queue_.size(), 1U);
    EXPECT_EQ(queue_.front().length, 40U);
    EXPECT_FALSE(regions_.retire(first_));
    EXPECT_FALSE(regions_.retire(second_));
    regions_.release(second_);
    EXPECT_FALSE(regions_.retire(second_)) << "held once for each piece";
    regions_.release(second_);
    EXPECT_TRUE(regions_.retire(second_));
}

TEST_F(HoldAndPush, APieceOfNothingNeedsNoRegion) {
    ASSERT_EQ(hold_and_push(regions_, queue_, request_of({{0, 0, 0}, {0x1000, 1, first_}})),
              Status::kOk);
    ASSERT_EQ(hold_and_push(regions_, queue_, request_of({})), Status::kOk);
    EXPECT_EQ(queue_.size(), 2U);
}

TEST_F(HoldAndPush, IfOneRegionIsGoneNoneIsHeld) {
    ASSERT_TRUE(regions_.retire(second_));
    const WorkRequest request =
        request_of({{0x1000, 10, first_}, {0, 0, 0}, {0x1100, 10, first_}, {0x4000, 10, second_}});
    EXPECT_EQ(hold_and_push(regions_, queue_, request), Status::kBadRegion);
    EXPECT_TRUE(queue_.empty());
    EXPECT_TRUE(regions_.retire(first_)) << "nobody uses it";
}

}  // namespace
}  // namespace sanpoll::engine
