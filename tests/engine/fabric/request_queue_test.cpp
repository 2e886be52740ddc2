#include "engine/fabric/request_queue.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <vector>

namespace sanpoll::engine {
namespace {

WorkRequest request_of(std::uint64_t context, std::uint32_t pieces) {
    WorkRequest request{};
    request.context = context;
    request.length = static_cast<std::uint32_t>(context * 3);
    request.flags = static_cast<std::uint8_t>(context % 2);
    request.sge_count = static_cast<std::uint8_t>(pieces);
    for (std::uint32_t i = 0; i < pieces; ++i) {
        request.piece(i) = {context * 100 + i, static_cast<std::uint32_t>(context + i), i + 1};
    }
    return request;
}

void expect_front(const RequestQueue& queue, std::uint64_t context, std::uint32_t pieces) {
    ASSERT_EQ(queue.front().context, context);
    ASSERT_EQ(queue.front().length, static_cast<std::uint32_t>(context * 3));
    ASSERT_EQ(queue.front().flags, context % 2);
    ASSERT_EQ(queue.front().sge_count, pieces);
    for (std::uint32_t i = 0; i < pieces; ++i) {
        ASSERT_EQ(queue.piece(i).address, context * 100 + i) << i;
        ASSERT_EQ(queue.piece(i).length, static_cast<std::uint32_t>(context + i));
        ASSERT_EQ(queue.piece(i).region, i + 1);
    }
}

TEST(RequestQueue, IsEmptyWhenNew) {
    const RequestQueue queue;
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(queue.size(), 0U);
}

TEST(RequestQueue, TakesAsManyDirectlyAsThereAreCells) {
    RequestQueue queue;
    EXPECT_FALSE(queue.takes_directly());
    EXPECT_FALSE(queue.look_for_room(1000)) << "it has no cells yet";
    ASSERT_TRUE(queue.prepare());
    RegionTable::Holds holds;
    std::uint64_t pushed = 0;
    while (queue.takes_directly() || queue.look_for_room(1000)) {
        queue.push_directly(pushed, 1000 + pushed, 10, &holds);
        ++pushed;
    }
    ASSERT_GT(pushed, 0U);
    EXPECT_EQ(queue.size(), pushed);
    ASSERT_TRUE(queue.push(request_of(pushed, 3)));  // and grows
    for (std::uint64_t i = 0; i < pushed; ++i) {
        EXPECT_TRUE(queue.front().was_pushed_directly());
        EXPECT_EQ(&queue.front().holds(), &holds);
        EXPECT_EQ(queue.front().context, i);
        EXPECT_EQ(queue.front().length, 10U);
        EXPECT_EQ(queue.front().flags, kPushedDirectly);
        EXPECT_EQ(queue.front().sge_count, 1U);
        EXPECT_EQ(queue.front().opcode, Opcode::kReceive);
        EXPECT_EQ(queue.piece(0).address, 1000 + i);
        EXPECT_EQ(queue.piece(0).length, 10U);
        queue.pop_single();
    }
    EXPECT_FALSE(queue.front().was_pushed_directly());
    ASSERT_NO_FATAL_FAILURE(expect_front(queue, pushed, 3));
}

TEST(RequestQueue, StaysShorterThanItsDepthDirectly) {
    RequestQueue queue;
    ASSERT_TRUE(queue.prepare());
    RegionTable::Holds holds;
    for (std::uint32_t i = 0; i < 4; ++i) {
        ASSERT_TRUE(queue.takes_directly() || queue.look_for_room(5));
        queue.push_directly(i, 1000, 10, &holds);
    }
    EXPECT_FALSE(queue.takes_directly());
    EXPECT_FALSE(queue.look_for_room(5));
    EXPECT_TRUE(queue.look_for_room(6));
    queue.pop_single();
    EXPECT_TRUE(queue.look_for_room(5));
    EXPECT_TRUE(queue.takes_directly());
    // What is pushed otherwise uses up what was found, several cells at once too.
    ASSERT_TRUE(queue.push(request_of(9, 8)));
    EXPECT_FALSE(queue.takes_directly());
    EXPECT_FALSE(queue.look_for_room(5));
}

TEST(RequestQueue, KeepsEveryNumberOfPieces) {
    for (std::uint32_t pieces = 0; pieces <= kMaxSges; ++pieces) {
        RequestQueue queue;
        ASSERT_TRUE(queue.push(request_of(pieces + 1, pieces)));
        ASSERT_NO_FATAL_FAILURE(expect_front(queue, pieces + 1, pieces));
        queue.pop();
        EXPECT_TRUE(queue.empty());
    }
}

TEST(RequestQueue, GrowsAndKeepsTheOrder) {
    RequestQueue queue;
    for (std::uint64_t i = 0; i < 5000; ++i) {
        ASSERT_TRUE(queue.push(request_of(i, i % 9)));
        ASSERT_EQ(queue.size(), i + 1);
    }
    for (std::uint64_t i = 0; i < 5000; ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_front(queue, i, i % 9));
        queue.pop();
    }
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(queue.size(), 0U);
}

TEST(RequestQueue, WrapsWhileItGrowsAndShrinks) {
    std::mt19937_64 random(5);
    RequestQueue queue;
    std::deque<std::pair<std::uint64_t, std::uint32_t>> model;
    for (std::uint64_t step = 0; step < 100000; ++step) {
        if (model.size() < random() % 40) {
            const auto pieces = static_cast<std::uint32_t>(random() % (kMaxSges + 1));
            ASSERT_TRUE(queue.push(request_of(step, pieces)));
            model.emplace_back(step, pieces);
        } else if (!model.empty()) {
            ASSERT_NO_FATAL_FAILURE(expect_front(queue, model.front().first, model.front().second));
            queue.pop();
            model.pop_front();
        }
        ASSERT_EQ(queue.size(), model.size());
        ASSERT_EQ(queue.empty(), model.empty());
    }
}

TEST(RequestQueue, PositionsLeadThroughRequestsOfEverySizeAndOutliveGrowth) {
    RequestQueue queue;
    std::vector<RequestQueue::Position> positions;
    for (std::uint32_t i = 0; i < 200; ++i) {
        positions.push_back(queue.end());
        ASSERT_TRUE(queue.push(request_of(i + 1, i % (kMaxSges + 1))));
        EXPECT_EQ(queue.at(positions.back()).state, 0);
        queue.at(positions.back()).state = static_cast<std::uint8_t>(i);
    }
    RequestQueue::Position position = queue.first();
    for (std::uint32_t i = 0; i < 200; ++i) {
        ASSERT_EQ(position, positions[i]);
        ASSERT_EQ(queue.at(position).context, i + 1);
        ASSERT_EQ(queue.at(position).state, static_cast<std::uint8_t>(i));
        for (std::uint32_t piece = 0; piece < i % (kMaxSges + 1); ++piece) {
            ASSERT_EQ(queue.piece_at(position, piece).address, (i + 1) * 100 + piece);
        }
        position = queue.after(position);
    }
    EXPECT_EQ(position, queue.end());
}

}  // namespace
}  // namespace sanpoll::engine
