#include "switch/backlog.hpp"

#include <gtest/gtest.h>

#include <array>

namespace sanpoll_switch::detail {
namespace {

TEST(Backlog, KeepsOrderWhileItGrowsAndWraps) {
    Backlog backlog;
    ULONG_PTR next_in = 0;
    ULONG_PTR next_out = 0;
    std::array<OVERLAPPED_ENTRY, 3> out{};
    // Three in and two out: the buffer grows at every possible place of its first entry.
    for (int round = 0; round < 5000; ++round) {
        for (int i = 0; i < 3; ++i)
            backlog.push({next_in++, nullptr, 0, 0});
        ASSERT_EQ(backlog.pop(out.data(), 2), 2u);
        ASSERT_EQ(out[0].lpCompletionKey, next_out++);
        ASSERT_EQ(out[1].lpCompletionKey, next_out++);
    }
    EXPECT_EQ(backlog.size(), next_in - next_out);
    while (next_out + 3 <= next_in) {
        ASSERT_EQ(backlog.pop(out.data(), 3), 3u);
        for (const OVERLAPPED_ENTRY& entry : out)
            ASSERT_EQ(entry.lpCompletionKey, next_out++);
    }
    EXPECT_EQ(backlog.pop(out.data(), 3), next_in - next_out);
    EXPECT_EQ(backlog.pop(out.data(), 3), 0u);
}

TEST(Backlog, ClearForgetsEverything) {
    Backlog backlog;
    OVERLAPPED_ENTRY out{};
    backlog.clear();
    for (ULONG_PTR i = 0; i < 1000; ++i)
        backlog.push({i, nullptr, 0, 0});
    backlog.clear();
    EXPECT_EQ(backlog.size(), 0u);
    EXPECT_EQ(backlog.pop(&out, 1), 0u);
    backlog.push({7, nullptr, 0, 0});
    ASSERT_EQ(backlog.pop(&out, 1), 1u);
    EXPECT_EQ(out.lpCompletionKey, 7u);
}

}  // namespace
}  // namespace sanpoll_switch::detail
