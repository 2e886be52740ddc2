// The table by which an initiator finds what it may reach, and the game about taking it back.
#include "engine/fabric/shm/exposures.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "engine/fence.hpp"
#include "engine/remote_regions.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

class ExposuresTest : public testing::Test {
protected:
    static Exposure range(std::uint32_t number) {
        return {0, number, number * 3ULL, number * 5ULL, number * 7, 1, number + 1, 3};
    }
    std::unique_ptr<ExposureSlot[]> slots_{new ExposureSlot[kExposureSlots]()};
    ExposuresShown shown_{slots_.get()};
    ExposuresSeen seen_{slots_.get()};
};

TEST_F(ExposuresTest, WhatIsShownIsSeenUntilItIsHidden) {
    Exposure found;
    EXPECT_TRUE(shown_.empty());
    EXPECT_FALSE(seen_.look(1, found));
    const std::uint32_t place = shown_.show(range(10));
    ASSERT_NE(place, 0U);
    EXPECT_FALSE(shown_.empty());
    ASSERT_TRUE(seen_.look(place, found));
    EXPECT_EQ(found.connection, 10U);
    EXPECT_EQ(found.nonce, 30U);
    EXPECT_EQ(found.offset, 50U);
    EXPECT_EQ(found.key, 70U);
    EXPECT_EQ(found.arena, 1U);
    EXPECT_EQ(found.length, 11U);
    EXPECT_EQ(found.access & ~ExposureSlot::kOwnerFences, 3U);
    EXPECT_TRUE(shown_.hide(place));
    EXPECT_TRUE(shown_.empty());
    EXPECT_FALSE(seen_.look(place, found));
    EXPECT_FALSE(seen_.begin(place, found.state | 1U));
    EXPECT_FALSE(shown_.in_use(place));
}

TEST_F(ExposuresTest, NoPlaceOutsideOfTheTableIsLookedAt) {
    Exposure found;
    for (const std::uint32_t place : {0U, kExposureSlots + 1, ~0U}) {
        EXPECT_FALSE(seen_.look(place, found)) << place;
    }
}

TEST_F(ExposuresTest, AUseKeepsItAsItWas) {
    const std::uint32_t place = shown_.show(range(1));
    Exposure found;
    ASSERT_TRUE(seen_.look(place, found));
    ASSERT_TRUE(seen_.begin(place, found.state));
    EXPECT_FALSE(shown_.hide(place));
    EXPECT_TRUE(seen_.stands(place, found.state));
    EXPECT_FALSE(shown_.hide(place));
    seen_.end(place);
    Exposure again;
    ASSERT_TRUE(seen_.look(place, again));
    EXPECT_EQ(again.state, found.state);
    EXPECT_TRUE(shown_.hide(place));
    EXPECT_FALSE(seen_.stands(place, found.state));
}

TEST_F(ExposuresTest, WhoHasLookedBeforeThePlaceWasUsedAgainGetsNothing) {
    const std::uint32_t place = shown_.show(range(1));
    Exposure old;
    ASSERT_TRUE(seen_.look(place, old));
    ASSERT_TRUE(shown_.hide(place));
    ASSERT_EQ(shown_.show(range(2)), place);
    EXPECT_FALSE(seen_.begin(place, old.state));
    EXPECT_TRUE(shown_.hide(place));
}

TEST_F(ExposuresTest, RevokedInTheMiddleItKeepsItsPlaceUntilTheUseHasEnded) {
    const std::uint32_t place = shown_.show(range(1));
    Exposure found;
    ASSERT_TRUE(seen_.look(place, found));
    ASSERT_TRUE(seen_.begin(place, found.state));
    shown_.revoke(place);
    EXPECT_FALSE(seen_.stands(place, found.state));
    EXPECT_FALSE(shown_.hide(place));
    EXPECT_FALSE(seen_.stands(place, found.state)) << "what was revoked does not come back";
    EXPECT_FALSE(shown_.drop(place));
    std::uint32_t kept = 0;
    shown_.remember(place, kept);
    EXPECT_NE(shown_.show(range(2)), place);
    shown_.forget_unused(kept);
    EXPECT_EQ(kept, place);
    seen_.end(place);
    shown_.forget_unused(kept);
    EXPECT_EQ(kept, 0U);
    EXPECT_EQ(shown_.show(range(3)), place);
}

TEST_F(ExposuresTest, WhatIsHeldIsInUseAndNotTouched) {
    const std::uint32_t place = shown_.show(range(1));
    Exposure found;
    ASSERT_TRUE(seen_.look(place, found));
    ASSERT_TRUE(seen_.begin(place, found.state));
    EXPECT_FALSE(shown_.drop(place));
    std::uint32_t kept = 0;
    shown_.remember(place, kept);
    EXPECT_TRUE(shown_.copying_any(kept));
    seen_.hold(place);
    EXPECT_TRUE(shown_.in_use(place));
    EXPECT_FALSE(shown_.copying_any(kept));
    shown_.forget_unused(kept);
    EXPECT_EQ(kept, place) << "who holds it comes back to it";
    EXPECT_FALSE(seen_.begin(place, found.state));
    shown_.forget_unused(kept);
    EXPECT_EQ(kept, 0U);
}

// The place has become another's, who is in the midst of a long use: one that goes by the old state changes nothing.
TEST_F(ExposuresTest, AUseThatComesTooLateLeavesTheNextOneAlone) {
    const std::uint32_t place = shown_.show(range(1));
    Exposure old;
    ASSERT_TRUE(seen_.look(place, old));
    ASSERT_TRUE(shown_.hide(place));
    ASSERT_EQ(shown_.show(range(2)), place);
    Exposure found;
    ASSERT_TRUE(seen_.look(place, found));
    ASSERT_TRUE(seen_.begin(place, found.state));
    seen_.hold(place);
    EXPECT_FALSE(ExposuresSeen::begin_again(slots_[place - 1], old.state));
    EXPECT_TRUE(shown_.in_use(place));
    EXPECT_FALSE(shown_.hide(place)) << "it is in use by the second one";
    seen_.end(place);
}

TEST_F(ExposuresTest, WhatIsHeldStandsUntilItIsLetGo) {
    const std::uint32_t place = shown_.show(range(1));
    Exposure found;
    ASSERT_TRUE(seen_.look(place, found));
    ASSERT_TRUE(seen_.begin(place, found.state));
    seen_.hold(place);
    EXPECT_FALSE(shown_.hide(place));
    EXPECT_TRUE(seen_.begin(place, found.state));
    seen_.end(place);
    EXPECT_TRUE(shown_.hide(place));
}

TEST_F(ExposuresTest, WhateverAUserClaimsKeepsThePlaceAndNothingElse) {
    for (const std::uint32_t claim : {1U, 2U, 3U, 0x80000000U, ~0U}) {
        const std::uint32_t place = shown_.show(range(1));
        const std::uint32_t other = shown_.show(range(2));
        slots_[place - 1].uses.store(claim);
        EXPECT_FALSE(shown_.hide(place));
        EXPECT_TRUE(shown_.hide(other));
        std::uint32_t kept = 0;
        ASSERT_FALSE(shown_.drop(place));
        shown_.remember(place, kept);
        EXPECT_EQ(shown_.copying_any(kept), claim != ExposureSlot::kHeld);
        slots_[place - 1].uses.store(0);
        shown_.forget_unused(kept);
        EXPECT_TRUE(shown_.empty());
    }
}

TEST_F(ExposuresTest, OneThatIsUsedKeepsNoOtherOfItsListBack) {
    Exposure found;
    std::uint32_t kept = 0;
    std::uint32_t places[3];
    for (std::uint32_t& place : places) {
        place = shown_.show(range(1));
        ASSERT_TRUE(seen_.look(place, found));
        ASSERT_TRUE(seen_.begin(place, found.state));
        ASSERT_FALSE(shown_.drop(place));
        shown_.remember(place, kept);
    }
    seen_.end(places[0]);
    seen_.end(places[1]);
    shown_.forget_unused(kept);
    EXPECT_EQ(kept, places[2]);
    EXPECT_FALSE(shown_.empty());
    seen_.end(places[2]);
    shown_.forget_unused(kept);
    EXPECT_TRUE(shown_.empty());
}

TEST_F(ExposuresTest, WhatWasLeftInUseComesBackWhenPlacesAreShort) {
    Exposure found;
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < kExposureSlots; ++i) {
        const std::uint32_t place = shown_.show(range(i));
        ASSERT_TRUE(seen_.look(place, found));
        ASSERT_TRUE(seen_.begin(place, found.state));
        ASSERT_FALSE(shown_.drop(place));
        shown_.remember(place, kept);
    }
    shown_.abandon(kept);
    EXPECT_EQ(kept, 0U);
    EXPECT_EQ(shown_.show(range(1)), 0U);
    seen_.end(500);
    seen_.end(501);
    EXPECT_NE(shown_.show(range(1)), 0U);
    EXPECT_NE(shown_.show(range(1)), 0U);
    EXPECT_EQ(shown_.show(range(1)), 0U);
}

TEST_F(ExposuresTest, AFullTableSaysSoAndPlacesComeBack) {
    std::vector<std::uint32_t> places;
    for (std::uint32_t i = 0; i < kExposureSlots; ++i) {
        places.push_back(shown_.show(range(i)));
        ASSERT_NE(places.back(), 0U);
    }
    EXPECT_EQ(shown_.show(range(5)), 0U);
    for (const std::uint32_t place : places) {
        ASSERT_TRUE(shown_.hide(place));
    }
    EXPECT_TRUE(shown_.empty());
    EXPECT_NE(shown_.show(range(6)), 0U);
}

// Whoever has hidden a range owns its memory again: ThreadSanitizer and the values find a user that is still there.
// With or without a fence of the user's own.
void play(ExposureSlot* slots, bool owner_fences) {
    ExposuresShown shown(slots);
    ExposuresSeen seen_slots(slots);
    struct Memory {
        std::uint64_t words[4] =
            {};  // written by the user under a use, by the owner when it is hidden
    } memory;
    std::atomic<std::uint32_t> place{0};
    std::atomic<bool> over{false};
    std::atomic<std::uint64_t> used{0};
    std::atomic<bool> fenced{false};
    std::thread user([&] {
        while (!over.load(std::memory_order_relaxed)) {
            const std::uint32_t at = place.load(std::memory_order_relaxed);
            Exposure found;
            if (!seen_slots.look(at, found)) {
                continue;
            }
            fenced.store((found.access & ExposureSlot::kOwnerFences) != 0,
                         std::memory_order_relaxed);
            if (!seen_slots.begin(at, found)) {
                continue;
            }
            used.fetch_add(1, std::memory_order_relaxed);
            for (std::uint64_t& word : memory.words) {
                word = found.nonce;
            }
            seen_slots.end(at);
        }
    });
    std::uint64_t refused = 0;
    std::uint64_t wrong = 0;
    const std::uint64_t rounds = tests::scaled(owner_fences ? 50000 : 200000) + 2000;
    for (std::uint64_t round = 1; round <= rounds || used.load() < 100; ++round) {
        const Exposure what{0, 1, round, 0, 1, 1, 1, 3};
        const std::uint32_t at = shown.show(what);
        place.store(at, std::memory_order_relaxed);
        if (round % 64 == 0) {
            std::this_thread::yield();
        }
        while (!shown.hide(at)) {
            ++refused;
            std::this_thread::yield();
        }
        const std::uint64_t seen = memory.words[0];
        wrong += seen == 0 || seen == round ? 0 : 1;
        for (std::uint64_t& word : memory.words) {
            wrong += word == seen ? 0 : 1;
            word = 0;
        }
    }
    over.store(true, std::memory_order_relaxed);
    user.join();
    EXPECT_EQ(wrong, 0U);
    EXPECT_EQ(fenced.load(), owner_fences);
    testing::Test::RecordProperty("used", static_cast<int>(used.load()));
    testing::Test::RecordProperty("refused", static_cast<int>(refused));
}

TEST_F(ExposuresTest, UseAndRevocationNeverMeet) { play(slots_.get(), heavy_fence_registered()); }

TEST_F(ExposuresTest, UseWithoutAFenceAndRevocationNeverMeet) {
    if (!register_heavy_fence()) {
        GTEST_SKIP() << "the kernel has no membarrier";
    }
    play(slots_.get(), true);
}

// A user that has not registered, or an owner that does not fence: the exchange stays.
TEST_F(ExposuresTest, AnOwnerThatFencesSaysSo) {
    const bool registered = register_heavy_fence();
    ExposuresShown shown(slots_.get());
    const ExposuresSeen seen(slots_.get());
    const std::uint32_t place = shown.show(range(1));
    Exposure found;
    ASSERT_TRUE(seen.look(place, found));
    EXPECT_EQ((found.access & ExposureSlot::kOwnerFences) != 0, registered);
    EXPECT_EQ(found.access & ~ExposureSlot::kOwnerFences, 3U)
        << "and the rights are what they were";
}

TEST_F(ExposuresTest, AUseThatBeganQuicklyKeepsItAsItWas) {
    (void)register_heavy_fence();
    ExposuresShown shown(slots_.get());
    ExposuresSeen seen(slots_.get());
    const std::uint32_t place = shown.show(range(1));
    Exposure found;
    ASSERT_TRUE(seen.look(place, found));
    ASSERT_TRUE(seen.begin(place, found));
    EXPECT_FALSE(shown.hide(place));
    EXPECT_TRUE(seen.stands(place, found.state));
    shown.revoke(place);
    EXPECT_TRUE(shown.in_use(place));
    EXPECT_FALSE(seen.stands(place, found.state));
    seen.end(place);
    EXPECT_FALSE(shown.in_use(place));
    EXPECT_FALSE(seen.begin(place, found));
    EXPECT_FALSE(shown.in_use(place)) << "a use that did not begin leaves nothing";
    EXPECT_TRUE(shown.hide(place));
}

// ---- the table of a socket, on a board --------------------------------------------------------------

struct Board final : ExposureBoard {
    std::uint32_t show(std::uint64_t, std::uint32_t, std::uint32_t, std::uint32_t key,
                       std::uint64_t) noexcept override {
        last_key = key;
        return next_place == 0 ? 0 : next_place++;
    }
    bool hide(std::uint32_t place) noexcept override {
        hidden = place;
        return !busy;
    }
    void revoke(std::uint32_t) noexcept override { ++revoked; }
    void drop(std::uint32_t) noexcept override { ++dropped; }
    std::uint32_t next_place = 1;
    std::uint32_t last_key = 0;
    std::uint32_t hidden = 0;
    int revoked = 0;
    int dropped = 0;
    bool busy = false;
};

class BoardTest : public testing::Test {
protected:
    using Removal = RemoteRegions::Removal;
    void SetUp() override {
        RemoteRegions::Table table(4);
        regions_.adopt(table);
        regions_.set_board(&board_);
    }
    Board board_;
    RemoteRegions regions_;
};

TEST_F(BoardTest, WhatIsExposedIsShownAndWhatIsRemovedIsHidden) {
    const std::uint32_t key = regions_.add(1000, 10, kRead, 7);
    EXPECT_EQ(board_.last_key, key);
    EXPECT_EQ(regions_.place_of(key), 1U);
    EXPECT_EQ(regions_.remove(key, 7), Removal::kRemoved);
    EXPECT_EQ(board_.hidden, 1U);
}

TEST_F(BoardTest, WhatIsNotToBeShownIsNot) {
    const std::uint32_t key = regions_.add(1000, 10, kRead, 7, false);
    EXPECT_EQ(board_.last_key, 0U);
    EXPECT_EQ(regions_.place_of(key), 0U);
    EXPECT_EQ(regions_.remove(key, 7), Removal::kRemoved);
}

TEST_F(BoardTest, WhatThePeerIsAtStays) {
    const std::uint32_t key = regions_.add(1000, 10, kRead, 7);
    board_.busy = true;
    EXPECT_EQ(regions_.remove(key, 7), Removal::kInUse);
    EXPECT_TRUE(regions_.knows(key, 7));
    board_.busy = false;
    regions_.hold(key);
    board_.hidden = 0;
    EXPECT_EQ(regions_.remove(key, 7), Removal::kInUse);
    EXPECT_EQ(board_.hidden, 0U) << "what a request holds is not even taken off";
}

TEST_F(BoardTest, WhatFindsNoPlaceIsAskedFor) {
    board_.next_place = 0;
    const std::uint32_t key = regions_.add(1000, 10, kRead, 7);
    EXPECT_EQ(regions_.place_of(key), 0U);
    EXPECT_EQ(regions_.remove(key, 7), Removal::kRemoved);
    EXPECT_EQ(board_.hidden, 0U);
}

TEST_F(BoardTest, EndsTakeEverythingOff) {
    const std::uint32_t first = regions_.add(1000, 10, kRead, 7);
    (void)regions_.add(2000, 10, kRead, 8);
    regions_.revoke_on_board();
    EXPECT_EQ(board_.revoked, 2);
    EXPECT_EQ(regions_.place_of(first), 1U);
    regions_.take_off_board();
    EXPECT_EQ(board_.dropped, 2);
    EXPECT_EQ(regions_.place_of(first), 0U);
    EXPECT_TRUE(regions_.knows(first, 7));
    (void)regions_.add(3000, 10, kRead, 9);
    regions_.clear();
    EXPECT_EQ(board_.dropped, 3);
    EXPECT_NE(regions_.add(1000, 10, kRead, 7), 0U);
    EXPECT_EQ(board_.next_place, 4U) << "the board has gone with the connection";
}

}  // namespace
}  // namespace sanpoll::engine::shm
