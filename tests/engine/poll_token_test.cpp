#include "engine/poll_token.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <latch>
#include <thread>
#include <vector>

#include "engine/fence.hpp"
#include "tests/engine/core_bench.hpp"
#include "tests/engine/patience.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine {
namespace {

using tests::CoreBench;
using tests::eventually;
using tests::inline_config;
using tests::scaled;

TEST(PollTokenTest, IsHeldByOne) {
    PollToken token;
    EXPECT_TRUE(token.try_acquire());
    EXPECT_FALSE(token.try_acquire());
    token.release();
    EXPECT_TRUE(token.try_acquire());
}

TEST(PollTokenTest, NobodyGivesWayWhenNobodyWaits) {
    PollToken token;
    EXPECT_FALSE(token.wanted());
    EXPECT_EQ(token.give_way(), 0U);
    ASSERT_TRUE(token.try_acquire());
    EXPECT_EQ(token.give_way(), 0U);
}

TEST(PollTokenTest, WhoFindsItFreeAsksNobodyToGiveWay) {
    PollToken token;
    token.acquire_first();
    EXPECT_FALSE(token.wanted());
    EXPECT_FALSE(token.try_acquire());
}

// The waiter cannot get what the test holds, so the poller gives way as often as it ever does.
TEST(PollTokenTest, APollerGivesWayABoundedNumberOfTimes) {
    PollToken token;
    ASSERT_TRUE(token.try_acquire());
    std::thread waiter([&] {
        token.acquire_first();
        token.release();
    });
    ASSERT_TRUE(eventually([&] { return token.wanted(); }));
    for (int i = 0; i < 100; ++i) {
        ASSERT_EQ(token.give_way(), PollToken::kYields);
    }
    EXPECT_TRUE(token.wanted());
    token.release();
    waiter.join();
    EXPECT_FALSE(token.wanted());
    EXPECT_EQ(token.give_way(), 0U);
}

TEST(PollTokenTest, ItIsWantedUntilTheLastWaiterHasIt) {
    PollToken token;
    ASSERT_TRUE(token.try_acquire());
    std::atomic<bool> go{false};
    std::atomic<int> holders{0};
    std::vector<std::thread> waiters;
    for (int i = 0; i < 2; ++i) {
        waiters.emplace_back([&] {
            token.acquire_first();
            holders.fetch_add(1);
            while (!go.load()) {
                std::this_thread::yield();
            }
            token.release();
        });
    }
    ASSERT_TRUE(eventually([&] { return token.wanted(); }));
    token.release();
    ASSERT_TRUE(eventually([&] { return holders.load() == 1; }));
    // One has it. The other waits, or is about to.
    ASSERT_TRUE(eventually([&] { return token.wanted(); }));
    go.store(true);
    for (std::thread& waiter : waiters) {
        waiter.join();
    }
    EXPECT_EQ(holders.load(), 2);
    EXPECT_FALSE(token.wanted());
}

TEST(PollTokenTest, APatientWaiterAsksNobodyToGiveWay) {
    PollToken token;
    ASSERT_TRUE(token.try_acquire());
    std::atomic<bool> has_it{false};
    std::thread waiter([&] {
        token.acquire_patiently();
        has_it.store(true);
        token.release();
    });
    for (int i = 0; i < 100; ++i) {
        EXPECT_FALSE(token.wanted());
        EXPECT_FALSE(has_it.load());
        std::this_thread::yield();
    }
    token.release();
    waiter.join();
    EXPECT_TRUE(has_it.load());
}

// A holder that looks after wanted tokens, as a core does: the data that the token guards is never torn.
TEST(PollTokenTest, GuardsWhatItGuards) {
    PollToken token;
    std::uint64_t guarded = 0;  // plain: a race would be seen
    const std::uint64_t each = scaled(20000);
    std::atomic<std::uint64_t> polled{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
        threads.emplace_back([&] {
            for (std::uint64_t i = 0; i < each; ++i) {
                (void)token.give_way();
                if (token.try_acquire()) {
                    ++guarded;
                    token.release();
                    polled.fetch_add(1, std::memory_order_relaxed);
                }
            }
        });
        threads.emplace_back([&] {
            for (std::uint64_t i = 0; i < each / 10; ++i) {
                token.acquire_first();
                ++guarded;
                token.release();
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(guarded, polled.load() + 2 * (each / 10));
}

// ---- on a core --------------------------------------------------------------------------------------

// A port that takes its time, so that whoever polls it holds the token nearly always.
class SlowPort final : public FabricPort {
public:
    [[nodiscard]] std::string_view fabric() const noexcept override { return "slow"; }
    void post(Endpoint&, const WorkRequest&) noexcept override {}
    void close(Endpoint&) noexcept override {}
    std::uint32_t poll(std::uint32_t) noexcept override {
        for (int i = 0; i < 100; ++i) {
            rings::cpu_pause();
        }
        return 1;  // always busy: pollers do not rest between two turns
    }
    void arm() noexcept override {}
    void disarm() noexcept override {}
};

// Many more threads than processors, all of them pollers that never rest; a control operation comes in
// all the same, again and again, and the pollers are not shut out either.
TEST(PollTokenOnACore, ControlOperationsComeInAmongSpinningPollers) {
    CoreBench bench(inline_config());
    SlowPort slow;
    bench.core.add_port(slow);
    std::atomic<bool> stop{false};
    std::vector<std::thread> pollers;
    for (int i = 0; i < 10; ++i) {
        pollers.emplace_back([&] {
            while (!stop.load(std::memory_order_relaxed)) {
                bench.core.poll_once();
            }
        });
    }
    struct Op final : ControlOp {
        void run() noexcept override { ++runs; }
        std::uint64_t runs = 0;
    } op;
    ASSERT_TRUE(eventually([&] { return bench.port.polls.load() > 100; }));
    const std::uint64_t wanted = scaled(4000);
    EXPECT_TRUE(eventually([&] {
        bench.core.run(op);
        return op.runs >= wanted;
    })) << op.runs;
    const std::uint64_t before = bench.port.polls.load();
    EXPECT_TRUE(eventually([&] { return bench.port.polls.load() > before + 100; }));
    stop.store(true);
    for (std::thread& poller : pollers) {
        poller.join();
    }
    EXPECT_EQ(bench.port.intruders.load(), 0);
}

// ---- loans

class LoanTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (!register_heavy_fence()) {
            GTEST_SKIP() << "this system has no membarrier: nothing is lent";
        }
    }
    // Whether one more turn of this thread is enough.
    bool turn() {
        if (!token_.try_acquire()) {
            return false;
        }
        token_.note_turn();
        token_.release();
        return token_.is_lent_to_us();
    }
    // How many it takes, but for the first, which only tells who it is.
    std::uint32_t borrow(std::uint32_t at_most = PollToken::kTurnsAtMost) {
        std::uint32_t turns = 0;
        while (!turn() && turns < at_most) {
            ++turns;
        }
        return turns;
    }
    bool at_once() {
        PollToken::Word* word = nullptr;
        return token_.try_at_once(word);
    }
    static void elsewhere(const std::function<void()>& what) { std::thread(what).join(); }

    PollToken token_;
};

TEST_F(LoanTest, WhoTurnsTheCoreLongGetsIt) {
    EXPECT_EQ(borrow(), PollToken::kTurnsAtFirst);
    EXPECT_TRUE(token_.is_lent_to_us());
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(i % 2 == 0 ? token_.try_acquire() : at_once());
        ASSERT_FALSE(token_.try_acquire()) << "not recursive";
        ASSERT_FALSE(at_once());
        token_.release();
    }
    elsewhere([&] { EXPECT_FALSE(token_.is_lent_to_us()); });
}

TEST_F(LoanTest, IsLeftByItsWordOrWithout) {
    (void)borrow();
    PollToken::Word* word = nullptr;
    for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(i % 4 < 2 ? token_.try_at_once(word) : token_.try_acquire());
        ASSERT_FALSE(token_.try_acquire());
        if (i % 2 == 0) {
            token_.release();
        } else {
            PollToken::leave(*word);  // the same as the time before
        }
        ASSERT_TRUE(token_.is_lent_to_us()) << "asking in vain does not end one's own loan";
    }
}

TEST_F(LoanTest, IsLeftByItsWordAfterItWasTakenBack) {
    (void)borrow();
    PollToken::Word* word = nullptr;
    ASSERT_TRUE(token_.try_at_once(word));
    elsewhere([&] { EXPECT_FALSE(token_.try_acquire()); });
    PollToken::leave(*word);
    elsewhere([&] {
        EXPECT_TRUE(token_.try_acquire());
        token_.release();
    });
    ASSERT_TRUE(token_.try_at_once(word)) << "shared";
    elsewhere([&] { EXPECT_FALSE(token_.try_acquire()); });
    PollToken::leave(*word);
    elsewhere([&] {
        EXPECT_TRUE(token_.try_acquire());
        token_.release();
    });
}

TEST_F(LoanTest, OneTokenIsNotAnother) {
    (void)borrow();
    PollToken other;
    EXPECT_FALSE(other.is_lent_to_us());
    PollToken::Word* word = nullptr;
    PollToken::Word* others = nullptr;
    ASSERT_TRUE(token_.try_at_once(word));
    ASSERT_TRUE(other.try_at_once(others));
    elsewhere([&] { EXPECT_FALSE(other.try_acquire()); });
    PollToken::leave(*others);
    EXPECT_FALSE(token_.try_acquire());
    PollToken::leave(*word);
    EXPECT_TRUE(token_.is_lent_to_us());
}

TEST_F(LoanTest, WhoTriesAtOnceGoesWithoutWhileItIsWanted) {
    ASSERT_TRUE(token_.try_acquire());
    std::atomic<bool> go{false};
    std::thread waiter([&] {
        token_.acquire_first();
        while (!go.load()) {
            std::this_thread::yield();
        }
        token_.release();
    });
    ASSERT_TRUE(eventually([&] { return token_.wanted(); }));
    token_.release();
    ASSERT_FALSE(at_once()) << "whether the waiter has come or not";
    go.store(true);
    waiter.join();
    EXPECT_TRUE(at_once());
}

TEST_F(LoanTest, WhoOnlyTakesItDoesNot) {
    for (std::uint32_t i = 0; i < 2 * PollToken::kTurnsAtFirst; ++i) {
        ASSERT_TRUE(at_once());
        token_.release();
    }
    EXPECT_FALSE(token_.is_lent_to_us());
}

TEST_F(LoanTest, ATurnForOthersBeginsTheCountAnew) {
    ASSERT_FALSE(turn());
    for (std::uint32_t i = 0; i < 4 * PollToken::kTurnsAtFirst; ++i) {
        if (i % (PollToken::kTurnsAtFirst / 2) == 0) {
            ASSERT_TRUE(token_.try_acquire());
            token_.note_other_turn();
            token_.release();
        }
        ASSERT_FALSE(turn());
    }
}

TEST_F(LoanTest, TwoThatTakeTurnsShareIt) {
    for (std::uint32_t i = 0; i < 8; ++i) {
        for (std::uint32_t k = 0; k < PollToken::kTurnsAtFirst / 2; ++k) {
            ASSERT_FALSE(turn());
        }
        elsewhere([&] { ASSERT_FALSE(turn()); });
    }
}

TEST_F(LoanTest, IsTakenBackAtTheFirstTry) {
    (void)borrow();
    elsewhere([&] {
        EXPECT_FALSE(at_once()) << "this one calls nothing";
        ASSERT_TRUE(token_.try_acquire());
    });
    EXPECT_FALSE(token_.is_lent_to_us());
    EXPECT_FALSE(token_.try_acquire()) << "the other thread has it";
    token_.release();  // as that thread
    EXPECT_TRUE(token_.try_acquire());
    token_.release();
    EXPECT_TRUE(at_once());
}

TEST_F(LoanTest, IsNotTakenOutOfTheHand) {
    (void)borrow();
    ASSERT_TRUE(token_.try_acquire());
    elsewhere([&] { EXPECT_FALSE(token_.try_acquire()); });
    EXPECT_FALSE(token_.is_lent_to_us()) << "but the loan is over";
    elsewhere([&] { EXPECT_FALSE(token_.try_acquire()); });
    EXPECT_FALSE(token_.try_acquire()) << "not recursive in this state either";
    token_.release();
    elsewhere([&] {
        EXPECT_TRUE(token_.try_acquire());
        token_.release();
    });
    EXPECT_TRUE(token_.try_acquire());
    token_.release();
    EXPECT_TRUE(at_once());
}

TEST_F(LoanTest, ItsBorrowerMayHaveItBack) {
    (void)borrow();
    ASSERT_TRUE(token_.try_acquire());
    elsewhere([&] { EXPECT_FALSE(token_.try_acquire()); });
    token_.release();
    EXPECT_TRUE(token_.try_acquire()) << "given back, and nobody has taken it";
    elsewhere([&] { EXPECT_FALSE(token_.try_acquire()); });
    token_.release();
    elsewhere([&] { EXPECT_TRUE(token_.try_acquire()); });
}

TEST_F(LoanTest, AWaiterGetsIt) {
    (void)borrow();
    elsewhere([&] {
        token_.acquire_first();
        token_.release();
        token_.acquire_patiently();
        token_.release();
    });
    EXPECT_FALSE(token_.is_lent_to_us());
}

TEST_F(LoanTest, TheNextOneTakesTwiceAsManyTurns) {
    std::uint32_t turns = PollToken::kTurnsAtFirst;
    for (int i = 0; i < 5; ++i, turns *= 2) {
        const std::uint64_t lent = __builtin_ia32_rdtsc();  // at the earliest
        ASSERT_EQ(borrow(), turns - (i == 0 ? 0 : 2));      // one turn below, and the last one
        elsewhere([&] {
            ASSERT_TRUE(token_.try_acquire());
            token_.release();
        });
        if (__builtin_ia32_rdtsc() - lent >= std::uint64_t{1} << 27) {
            GTEST_SKIP() << "this machine is too slow: the loan may have gone well";
        }
        ASSERT_FALSE(turn());
    }
}

// Each keeps its place, and lives until all have borrowed, so that none has the control block of another.
TEST_F(LoanTest, AsManyBorrowAsThereArePlaces) {
    std::latch all(PollToken::kPlaces + 1);
    std::vector<std::thread> threads;
    for (std::uint32_t i = 0; i < PollToken::kPlaces; ++i) {
        std::latch borrowed(1);
        threads.emplace_back([&] {
            (void)borrow();
            EXPECT_TRUE(token_.is_lent_to_us());
            borrowed.count_down();
            all.arrive_and_wait();
        });
        borrowed.wait();
    }
    (void)borrow(PollToken::kTurnsAtFirst << (PollToken::kPlaces + 2));
    EXPECT_FALSE(token_.is_lent_to_us());
    EXPECT_TRUE(token_.try_acquire()) << "it does without";
    token_.release();
    all.count_down();
    for (std::thread& thread : threads) {
        thread.join();
    }
}

TEST_F(LoanTest, WhoeverHasTheBlockOfOneThatEndedHasItsPlace) {
    for (std::uint32_t i = 0; i < 4 * PollToken::kPlaces; ++i) {
        elsewhere(
            [&] {  // the system's library keeps stacks, and with them the blocks, for the next thread
                if (!token_.is_lent_to_us()) {
                    (void)borrow();
                }
                EXPECT_TRUE(token_.is_lent_to_us()) << "thread " << i;
                EXPECT_TRUE(at_once());
                token_.release();
            });
        ASSERT_TRUE(token_.try_acquire()) << "taken back after its borrower has ended";
        token_.forget_loans();  // or each would need twice as many turns, for seconds at last
        token_.release();
    }
}

// Loans come and go all the time; what the token guards is never torn.
TEST_F(LoanTest, GuardsWhatItGuards) {
    std::uint64_t guarded = 0;  // plain: a race would be seen
    std::atomic<std::uint64_t> taken{0};
    std::atomic<std::uint32_t> loans{0};
    const std::uint64_t each = scaled(200000);
    std::vector<std::thread> threads;
    for (std::uint32_t t = 0; t < 3; ++t) {
        threads.emplace_back([&, t] {
            std::uint64_t mine = 0;
            bool was_lent = false;
            for (std::uint64_t i = 0; i < each; ++i) {
                // Bursts, in which one borrows; between them it hardly comes.
                if ((i / 2000 + t) % 3 != 0 && i % 500 != 0) {
                    continue;
                }
                if (i % 2 == 0 ? at_once() : token_.try_acquire()) {
                    ++guarded;
                    ++mine;
                    token_.note_turn();
                    token_.release();
                }
                const bool is_lent = token_.is_lent_to_us();
                if (is_lent && !was_lent) {
                    loans.fetch_add(1, std::memory_order_relaxed);
                }
                was_lent = is_lent;
            }
            taken.fetch_add(mine, std::memory_order_relaxed);
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(guarded, taken.load());
    EXPECT_GE(loans.load(), 1U);
}

}  // namespace
}  // namespace sanpoll::engine
