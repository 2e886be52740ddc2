#include "engine/lane.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

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

// Bytes of a buffer that can be told from those of another length.
std::vector<std::uint8_t> bytes_of(std::uint32_t length, std::uint32_t seed) {
    std::vector<std::uint8_t> bytes(length);
    for (std::uint32_t i = 0; i < length; ++i) {
        bytes[i] = static_cast<std::uint8_t>(seed * 31 + i + 1);
    }
    return bytes;
}

WorkRequest carried(const std::vector<std::uint8_t>& bytes, std::uint32_t seed) {
    WorkRequest request = request_of(seed, 1);
    request.opcode = Opcode::kSend;
    request.length = static_cast<std::uint32_t>(bytes.size());
    request.sge[0].address = reinterpret_cast<std::uint64_t>(bytes.data());
    request.flags |= kCarried;
    return request;
}

void expect_carried(Lane& lane, const WorkRequest& in, const std::vector<std::uint8_t>& wanted) {
    WorkRequest out;
    ASSERT_TRUE(lane.front(out));
    expect_same(out, in);  // its own piece too, for who keeps it for later
    ASSERT_NE(source_of(out), out.sge[0].address);
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(source_of(out));
    ASSERT_EQ(std::vector<std::uint8_t>(bytes, bytes + out.length), wanted);
    lane.pop(out);
}

TEST(Lane, OnlyShortSendsOfOnePieceMayBeCarried) {
    WorkRequest request = request_of(1, 1);
    request.opcode = Opcode::kSend;
    for (const std::uint32_t length : {0U, 1U, kCarriedMost}) {
        request.length = length;
        EXPECT_TRUE(may_be_carried(request)) << length;
    }
    request.length = kCarriedMost + 1;
    EXPECT_FALSE(may_be_carried(request));
    request.length = 8;
    for (const std::uint8_t pieces : {0, 2, 3}) {
        request.sge_count = pieces;
        EXPECT_FALSE(may_be_carried(request)) << int{pieces};
    }
    request.sge_count = 1;
    for (const Opcode other : {Opcode::kReceive, Opcode::kRdmaWrite, Opcode::kRdmaRead}) {
        request.opcode = other;
        EXPECT_FALSE(may_be_carried(request)) << static_cast<int>(other);
    }
}

TEST(Lane, ARequestThatIsNotCarriedNamesItsOwnBytes) {
    Lane lane(16);
    const WorkRequest in = request_of(1, 1);
    lane.push(in);
    WorkRequest out;
    ASSERT_TRUE(lane.front(out));
    EXPECT_EQ(source_of(out), in.sge[0].address);
}

TEST(Lane, CarriedBytesAreThoseOfThePost) {
    Lane lane(16);
    for (std::uint32_t length = 0; length <= kCarriedMost; ++length) {
        std::vector<std::uint8_t> buffer = bytes_of(length, length);
        const WorkRequest in = carried(buffer, length);
        lane.claim();
        lane.push(in);
        std::fill(buffer.begin(), buffer.end(), std::uint8_t{0});
        expect_carried(lane, in, bytes_of(length, length));
    }
}

TEST(Lane, CarriedBytesKeepApartFromRequestsOfAnyLength) {
    Lane lane(16);
    for (std::uint32_t round = 0; round < 200; ++round) {
        const std::uint32_t pieces = round % (kMaxSges + 1);
        const std::vector<std::uint8_t> first = bytes_of(round % (kCarriedMost + 1), round);
        const std::vector<std::uint8_t> last = bytes_of(kCarriedMost, round + 1);
        ASSERT_TRUE(lane.has_room(1));
        lane.push(carried(first, round));
        ASSERT_TRUE(lane.has_room(pieces));
        lane.push(request_of(round, pieces));
        ASSERT_TRUE(lane.has_room(1));
        lane.push(carried(last, round + 1));
        expect_carried(lane, carried(first, round), first);
        WorkRequest between;
        ASSERT_TRUE(lane.front(between));
        expect_same(between, request_of(round, pieces));
        lane.pop(between);
        expect_carried(lane, carried(last, round + 1), last);
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
