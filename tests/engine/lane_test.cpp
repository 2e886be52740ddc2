#include "engine/lane.hpp"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

WorkRequest request_of(std::uint32_t seed, std::uint32_t sge_count) {
    std::mt19937_64 random(seed);
    WorkRequest request{};
    request.endpoint = reinterpret_cast<Endpoint*>(random());
    request.context = random();
    request.sequence = static_cast<std::uint32_t>(random());
    request.opcode = random() % 2 == 0 ? Opcode::kSend : Opcode::kReceive;
    request.flags = static_cast<std::uint8_t>(random() % 2);
    request.sge_count = static_cast<std::uint8_t>(sge_count);
    request.length = static_cast<std::uint32_t>(random());
    for (std::uint32_t i = 0; i < sge_count; ++i) {
        request.piece(i) = {random(), static_cast<std::uint32_t>(random()),
                            static_cast<std::uint32_t>(random())};
    }
    return request;
}

void expect_same(const WorkRequest& got, const WorkRequest& wanted) {
    ASSERT_EQ(got.endpoint, wanted.endpoint);
    ASSERT_EQ(got.context, wanted.context);
    ASSERT_EQ(got.sequence, wanted.sequence);
    ASSERT_EQ(got.opcode, wanted.opcode);
    ASSERT_EQ(got.flags, wanted.flags);
    ASSERT_EQ(got.length, wanted.length);
    ASSERT_EQ(got.sge_count, wanted.sge_count);
    for (std::uint32_t i = 0; i < wanted.sge_count; ++i) {
        ASSERT_EQ(got.piece(i).address, wanted.piece(i).address) << i;
        ASSERT_EQ(got.piece(i).length, wanted.piece(i).length) << i;
        ASSERT_EQ(got.piece(i).region, wanted.piece(i).region) << i;
    }
}

TEST(Lane, SlotsGrowWithThePieces) {
    const std::uint32_t wanted[kMaxSges + 1] = {1, 1, 1, 2, 2, 2, 3, 3, 3};
    for (std::uint32_t count = 0; count <= kMaxSges; ++count) {
        EXPECT_EQ(lane_slots(count), wanted[count]) << count;
    }
}

TEST(Lane, RequestsOfEveryNumberOfPiecesSurvive) {
    Lane lane(16);
    for (std::uint32_t round = 0; round < 200; ++round) {
        const std::uint32_t count = round % (kMaxSges + 1);
        const WorkRequest in = request_of(round, count);
        ASSERT_TRUE(lane.has_room(count));
        lane.push(in);
        WorkRequest out;
        ASSERT_TRUE(lane.front(out));
        expect_same(out, in);
        lane.pop(out);
        ASSERT_FALSE(lane.front(out));
    }
}

TEST(Lane, FrontDoesNotTake) {
    Lane lane(16);
    lane.push(request_of(1, 8));
    lane.push(request_of(2, 0));
    WorkRequest out;
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(lane.front(out));
        expect_same(out, request_of(1, 8));
    }
    lane.pop(out);
    ASSERT_TRUE(lane.front(out));
    expect_same(out, request_of(2, 0));
}

TEST(Lane, HasRoomSaysNoWhenFull) {
    Lane lane(16);
    std::uint32_t pushed = 0;
    while (lane.has_room(8)) {
        lane.push(request_of(pushed++, 8));
    }
    EXPECT_EQ(pushed, 5U);  // three slots each of sixteen
    EXPECT_TRUE(lane.has_room(2));
    lane.push(request_of(pushed++, 2));
    EXPECT_FALSE(lane.has_room(0));
    WorkRequest out;
    for (std::uint32_t i = 0; i < pushed; ++i) {
        ASSERT_TRUE(lane.front(out));
        expect_same(out, request_of(i, i < 5 ? 8 : 2));
        lane.pop(out);
    }
    lane.publish_progress();
    EXPECT_TRUE(lane.has_room(8));
}

TEST(Lane, RetirementIsSeen) {
    Lane lane(16);
    EXPECT_FALSE(lane.retired());
    lane.retire();
    EXPECT_TRUE(lane.retired());
}

TEST(Lane, CarriesRequestsBetweenThreadsInOrder) {
    const auto count = static_cast<std::uint32_t>(tests::scaled(200000));
    Lane lane(64);
    std::thread poster([&] {
        for (std::uint32_t i = 0; i < count; ++i) {
            for (std::uint32_t tries = 0; !lane.has_room(i % 9); ++tries) {
                if (tries % 32 == 31) {
                    std::this_thread::yield();
                }
            }
            lane.push(request_of(i, i % 9));
        }
    });
    for (std::uint32_t i = 0; i < count; ++i) {
        WorkRequest out;
        for (std::uint32_t tries = 0; !lane.front(out); ++tries) {
            if (tries % 32 == 31) {
                std::this_thread::yield();
            }
        }
        ASSERT_NO_FATAL_FAILURE(expect_same(out, request_of(i, i % 9)));
        lane.pop(out);
    }
    poster.join();
}

}  // namespace
}  // namespace sanpoll::engine
