// Two threads at full speed over a Duplex: nothing is lost, doubled or out of order, whichever way it takes.
// ThreadSanitizer watches the edges.
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <thread>

#include "rings/duplex.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::rings {
namespace {

using tests::scaled;

struct Wide {
    std::uint64_t words[8] = {};
};

std::uint64_t& number(std::uint64_t& value) { return value; }
std::uint64_t& number(Wide& value) { return value.words[0]; }
void fill(std::uint64_t&) {}
void fill(Wide& value) {
    for (int i = 1; i < 8; ++i)
        value.words[i] = value.words[0] * 8 + static_cast<std::uint64_t>(i);
}
bool whole(const std::uint64_t&) { return true; }
bool whole(const Wide& value) {
    for (int i = 1; i < 8; ++i) {
        if (value.words[i] != value.words[0] * 8 + static_cast<std::uint64_t>(i)) return false;
    }
    return true;
}

// On one CPU a spinning thread would keep the other one waiting for its time slice.
template <typename Done>
void wait_for(Done&& done) {
    for (int looks = 0; !done(); ++looks) {
        if (looks % 64 == 63) std::this_thread::yield();
    }
}

template <typename T>
class DuplexStress : public testing::Test {};
using Elements = testing::Types<std::uint64_t, Wide>;
TYPED_TEST_SUITE(DuplexStress, Elements);

// An echo: the answer is the question, word by word.
TYPED_TEST(DuplexStress, QuestionsAndAnswers) {
    const std::uint64_t count = scaled(300'000);
    Duplex<TypeParam> duplex(32);
    std::thread answerer([&] {
        for (std::uint64_t i = 0; i < count; ++i) {
            TypeParam value{};
            wait_for([&] { return duplex.end(1).try_pop(value); });
            wait_for([&] { return duplex.end(1).try_push(value); });
        }
    });
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
        TypeParam value{};
        number(value) = i;
        fill(value);
        wait_for([&] { return duplex.end(0).try_push(value); });
        wait_for([&] { return duplex.end(0).try_pop(value); });
        wrong += number(value) != i || !whole(value);
    }
    answerer.join();
    EXPECT_EQ(wrong, 0U);
}

// Both write and read as they like, so that the turn changes in the midst of streams.
TYPED_TEST(DuplexStress, StreamsBothWays) {
    const std::uint64_t count = scaled(1'000'000);
    Duplex<TypeParam> duplex(64);
    const auto play = [&](std::uint32_t which) {
        std::mt19937 random(which + 1);
        auto& end = duplex.end(which);
        std::uint64_t sent = 0;
        std::uint64_t received = 0;
        std::uint64_t wrong = 0;
        while (sent < count || received < count) {
            const std::uint32_t some = random() % 24;
            for (std::uint32_t i = 0; i < some && sent < count; ++i) {
                TypeParam value{};
                number(value) = sent;
                fill(value);
                if (!end.try_push(value)) break;
                ++sent;
            }
            const std::uint32_t looks = random() % 24;
            std::uint32_t got = 0;
            for (std::uint32_t i = 0; i < looks && received < count; ++i) {
                TypeParam value{};
                if (!end.try_pop(value)) break;
                wrong += number(value) != received++ || !whole(value);
                ++got;
            }
            if (got == 0) std::this_thread::yield();
        }
        return wrong;
    };
    std::uint64_t wrong[2] = {};
    std::thread other([&] { wrong[1] = play(1); });
    wrong[0] = play(0);
    other.join();
    EXPECT_EQ(wrong[0], 0U);
    EXPECT_EQ(wrong[1], 0U);
}

}  // namespace
}  // namespace sanpoll::rings
