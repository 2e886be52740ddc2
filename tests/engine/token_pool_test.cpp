// Tokens outlive their cores.
#include <gtest/gtest.h>

#include <thread>

#include "engine/poll_token.hpp"

namespace sanpoll::engine {
namespace {

TEST(TokenPool, HandsOutHeldTokens) {
    PollToken& first = TokenPool::take();
    EXPECT_FALSE(first.try_acquire()) << "it is ours";
    first.release();
    EXPECT_TRUE(first.try_acquire());
    TokenPool::give(first);
    EXPECT_FALSE(first.try_acquire()) << "nobody's for good";
}

TEST(TokenPool, UsesThemAgain) {
    PollToken& first = TokenPool::take();
    TokenPool::give(first);
    PollToken& second = TokenPool::take();
    EXPECT_EQ(&first, &second);
    second.release();
    EXPECT_TRUE(second.try_acquire());
    TokenPool::give(second);
}

// One that was lent when its core ended may be another core's, whoever that is turned by.
TEST(TokenPool, OneThatIsLentIsHeldToo) {
    PollToken& token = TokenPool::take();
    token.release();
    for (std::uint32_t i = 0; i < 2 * PollToken::kTurnsAtFirst; ++i) {
        ASSERT_TRUE(token.try_acquire());
        token.note_turn();
        token.release();
    }
    token.acquire_first();
    TokenPool::give(token);
    std::thread([] {
        PollToken& again = TokenPool::take();
        EXPECT_FALSE(again.try_acquire());
        again.release();
        EXPECT_TRUE(again.try_acquire() || again.try_acquire())
            << "a loan of before is taken back, then the token is had";
        TokenPool::give(again);
    }).join();
}

}  // namespace
}  // namespace sanpoll::engine
