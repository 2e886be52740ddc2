#include "rings/turn_line.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace sanpoll::rings {
namespace {

struct Ends {
    TurnLine line{};
    TurnEnd first{line, true};
    TurnEnd second{line, false};
};

TEST(TurnLine, TheFirstEndHasTheFirstTurn) {
    Ends ends;
    EXPECT_TRUE(ends.first.mine());
    EXPECT_FALSE(ends.second.mine());
    EXPECT_FALSE(ends.first.look());
    EXPECT_FALSE(ends.second.look());
}

TEST(TurnLine, WhoHasWrittenWaitsUntilItIsAnswered) {
    Ends ends;
    ends.first.publish(5);
    EXPECT_FALSE(ends.first.mine());
    EXPECT_FALSE(ends.first.look()) << "it does not see its own message";
    ASSERT_TRUE(ends.second.look());
    EXPECT_EQ(ends.second.first(), 5U);
    EXPECT_FALSE(ends.second.mine()) << "not before it is taken";
    ends.second.take();
    EXPECT_TRUE(ends.second.mine());
    EXPECT_FALSE(ends.second.look());
    ends.second.publish(6);
    ASSERT_TRUE(ends.first.look());
    EXPECT_EQ(ends.first.first(), 6U);
}

TEST(TurnLine, AMessageRemainsUntilItIsTaken) {
    Ends ends;
    ends.first.publish(5);
    EXPECT_TRUE(ends.second.look());
    EXPECT_TRUE(ends.second.look());
    ends.second.take();
    EXPECT_FALSE(ends.second.look());
}

TEST(TurnLine, AnEchoIsSeen) {
    Ends ends;
    for (std::uint64_t word : {std::uint64_t{0}, std::uint64_t{1}, ~std::uint64_t{0}}) {
        ASSERT_TRUE(ends.first.would_show(word));
        ends.first.publish(word);
        ASSERT_TRUE(ends.second.look());
        EXPECT_EQ(ends.second.first(), word);
        ends.second.take();
        ASSERT_TRUE(ends.second.would_show(word));
        ends.second.publish(word);
        ASSERT_TRUE(ends.first.look());
        EXPECT_EQ(ends.first.first(), word);
        ends.first.take();
    }
}

// The one word of 2^64 that would leave the line as it is.
TEST(TurnLine, AWordThatWouldNotShowIsRefused) {
    Ends ends;
    const std::uint64_t untouched = ends.line.message.first.load();
    ends.first.publish(0);
    const std::uint64_t key = ends.line.message.first.load() ^ untouched;
    ASSERT_TRUE(ends.second.look());
    ends.second.take();
    ends.second.publish(0);
    const std::uint64_t now = ends.line.message.first.load();
    ASSERT_TRUE(ends.first.look());
    ends.first.take();
    EXPECT_FALSE(ends.first.would_show(now ^ key));
    EXPECT_TRUE(ends.first.would_show(now ^ key ^ 1));
}

TEST(TurnLine, AFreshLineTakesTheKeyItselfForNothing) {
    Ends ends;
    TurnLine other{};
    TurnEnd probe(other, true);
    probe.publish(0);
    EXPECT_FALSE(ends.first.would_show(other.message.first.load()));
}

TEST(TurnLine, CarriesAWholeLine) {
    Ends ends;
    for (int i = 0; i < 56; ++i)
        ends.first.rest()[i] = static_cast<std::byte>(i + 1);
    ends.first.publish(0x0807060504030201);
    ASSERT_TRUE(ends.second.look());
    const TurnEnd& reader = ends.second;
    for (int i = 0; i < 56; ++i)
        EXPECT_EQ(reader.rest()[i], static_cast<std::byte>(i + 1));
    EXPECT_EQ(static_cast<const void*>(reader.rest()),
              static_cast<const void*>(ends.line.message.rest));
}

TEST(TurnLine, ANoteStaysUntilItIsAnotherOne) {
    Ends ends;
    EXPECT_EQ(ends.second.peer_note(), (TurnNote{{0, 0}}));
    ends.first.set_note({{1, 2}});
    EXPECT_EQ(ends.second.peer_note(), (TurnNote{{1, 2}}));
    EXPECT_EQ(ends.first.note(), (TurnNote{{1, 2}}));
    EXPECT_EQ(ends.first.peer_note(), (TurnNote{{0, 0}})) << "each has one of its own";
    ends.second.set_note({{3, 4}});
    EXPECT_EQ(ends.first.peer_note(), (TurnNote{{3, 4}}));
    EXPECT_EQ(ends.second.peer_note(), (TurnNote{{1, 2}}));
}

TEST(TurnLine, AnUnchangedNoteIsNotWrittenAgain) {
    Ends ends;
    ends.first.set_note({{1, 2}});
    ends.line.notes[0].words[0] = 77;  // would be written over
    ends.first.set_note({{1, 2}});
    EXPECT_EQ(ends.line.notes[0].words[0], 77U);
    ends.first.set_note({{1, 3}});
    EXPECT_EQ(ends.line.notes[0].words[0], 1U);
}

TEST(TurnLine, MessageAndNotesAreInPairsOfLinesOfTheirOwn) {
    TurnLine line;
    const auto at = [&](const void* part) {
        return static_cast<std::size_t>(static_cast<const std::byte*>(part) -
                                        reinterpret_cast<const std::byte*>(&line)) /
               kSlotStride;
    };
    EXPECT_EQ(at(&line.message), 0U);
    EXPECT_EQ(at(&line.notes[0]), TurnLine::kBytes / kSlotStride);
    EXPECT_EQ(at(&line.notes[1]), at(&line.notes[0]) + 1);
}

}  // namespace
}  // namespace sanpoll::rings
