// The data path and its end in each mode and idle profile.
#include <atomic>
#include <cstring>
#include <deque>
#include <ostream>
#include <vector>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

struct Setting {
    const char* mode;
    const char* profile;

    friend std::ostream& operator<<(std::ostream& out, const Setting& setting) {
        return out << setting.mode << ", " << setting.profile;
    }
};

class ModesTest : public ProviderTest, public testing::WithParamInterface<Setting> {
protected:
    Knobs knobs() const override {
        return {{"mode", GetParam().mode}, {"profile", GetParam().profile}};
    }
};

TEST_P(ModesTest, PolledMessagesOfEverySizeArrive) {
    Pair pair = connected(1 << 20);
    for (const std::size_t length : {0U, 1U, 64U, 1000U, 10000U, 100000U, 1U << 20}) {
        std::memset(pair.client.at(0), 'm', pair.client.memory.size());
        std::memset(pair.server.at(0), 0, pair.server.memory.size());
        Polled receive;
        Polled sent;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 1 << 20, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), length, &sent), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, length);
        EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
        EXPECT_EQ(std::memcmp(pair.client.at(0), pair.server.at(0), length), 0);
    }
}

// More than may go before there is a receive: what goes at once and what is kept for later are the same bytes.
TEST_P(ModesTest, ShortMessagesWaitForTheirReceivesUndamaged) {
    constexpr std::size_t kCount = 200;
    constexpr std::size_t kRoom = 256;
    constexpr auto kLength = [](std::size_t i) { return i % 131; };
    Pair pair = connected(kCount * kRoom);
    std::deque<Polled> sends(kCount);
    std::deque<Polled> receives(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        std::memset(pair.client.at(i * kRoom), static_cast<int>(i + 1), kLength(i));
        ASSERT_EQ(patiently([&] {
                      return san.send(pair.client.s, pair.client.at(i * kRoom), kLength(i),
                                      &sends[i]);
                  }),
                  WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(patiently([&] {
                      return san.recv(pair.server.s, pair.server.at(i * kRoom), kRoom,
                                      &receives[i]);
                  }),
                  WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(san.finish(pair.server.s, &receives[i]).bytes, kLength(i)) << i;
        ASSERT_EQ(san.finish(pair.client.s, &sends[i]).error, 0) << i;
        ASSERT_EQ(std::memcmp(pair.client.at(i * kRoom), pair.server.at(i * kRoom), kLength(i)), 0)
            << i;
    }
}

// A buffer is its owner's again as soon as its send has ended, and holds the next message.
TEST_P(ModesTest, OneBufferCarriesOneMessageAfterTheOther) {
    Pair pair = connected();
    for (int i = 0; i < 2000; ++i) {
        const std::size_t length = 1 + static_cast<std::size_t>(i) % 80;
        Polled receive;
        Polled sent;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 128, &receive), WSA_IO_PENDING);
        std::memset(pair.client.at(0), i, length);
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), length, &sent), WSA_IO_PENDING);
        ASSERT_EQ(san.finish(pair.client.s, &sent).error, 0);
        std::memset(pair.client.at(0), ~i, length);
        ASSERT_EQ(san.finish(pair.server.s, &receive).bytes, length);
        const std::vector<char> wanted(length, static_cast<char>(i));
        ASSERT_EQ(std::memcmp(pair.server.at(0), wanted.data(), length), 0) << i;
    }
}

TEST_P(ModesTest, NotifiedMessagesKeepTheirOrder) {
    Pair pair = connected();
    constexpr std::size_t kCount = 500;
    std::deque<Notified> receives(kCount);
    std::deque<Notified> sends(kCount);
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(
            patiently([&] { return san.recv(pair.server.s, pair.server.at(0), 64, &receives[i]); }),
            WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < kCount; ++i) {
        ASSERT_EQ(patiently([&] {
                      return san.send(pair.client.s, pair.client.at(0), i % 64, &sends[i]);
                  }),
                  WSA_IO_PENDING);
    }
    ASSERT_TRUE(upcalls.wait_for(UpcallKind::kComplete, 2 * kCount));
    // The last upcalls have not only begun: they write into the operations, which go with this test.
    ASSERT_TRUE(upcalls.wait_for(&receives.back()));
    ASSERT_TRUE(upcalls.wait_for(&sends.back()));
    std::size_t next = 0;
    for (const Upcall& call : upcalls.upcalls(UpcallKind::kComplete)) {
        if (call.handle == pair.server.handle) {
            ASSERT_EQ(call.overlapped, &receives[next]);
            ASSERT_EQ(call.bytes, next++ % 64);
        }
    }
    EXPECT_EQ(next, kCount);
}

TEST_P(ModesTest, AnIdleProviderWakesUp) {
    Pair pair = connected();
    std::deque<Notified> receives(5);
    for (Notified& receive : receives) {
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
        let_time_pass();  // whoever may sleep does so by now
        Polled sent;
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 10, &sent), WSA_IO_PENDING);
        EXPECT_TRUE(upcalls.wait_for(&receive));
        EXPECT_EQ(san.overlapped_result(pair.client.s, &sent, 1).bytes, 10U);
    }
}

TEST_P(ModesTest, WaitingForAPolledOperationEnds) {
    Pair pair = connected();
    Polled receive;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
    std::thread sender([&] {
        let_time_pass();
        Polled sent;
        EXPECT_EQ(san.send(pair.client.s, pair.client.at(0), 10, &sent), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
    });
    EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 1).bytes, 10U);
    sender.join();
}

// Of a send alone, behind which nothing is posted that could bring its end along.
TEST_P(ModesTest, WaitingForASendAloneEnds) {
    Pair pair = connected();
    for (int i = 0; i < 20; ++i) {
        Polled receive;
        Polled sent;
        ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 10, &sent), WSA_IO_PENDING);
        EXPECT_EQ(san.overlapped_result(pair.client.s, &sent, 1).bytes, 10U);
        EXPECT_EQ(san.overlapped_result(pair.server.s, &receive, 1).bytes, 10U);
    }
}

TEST_P(ModesTest, CloseEndsWhatIsPendingAtBothEnds) {
    Pair pair = connected();
    std::deque<Polled> polled(10);
    std::deque<Notified> notified(10);
    for (std::size_t i = 0; i < 10; ++i) {
        End& end = i % 2 == 0 ? pair.client : pair.server;
        ASSERT_EQ(san.recv(end.s, end.at(0), 64, &polled[i]), WSA_IO_PENDING);
        ASSERT_EQ(san.recv(end.s, end.at(0), 64, &notified[i]), WSA_IO_PENDING);
    }
    EXPECT_EQ(san.close(pair.client.s), 0);
    for (std::size_t i = 0; i < 10; ++i) {
        const auto expected =
            static_cast<DWORD>(i % 2 == 0 ? WSA_OPERATION_ABORTED : WSAECONNRESET);
        if (i % 2 == 1) {
            EXPECT_EQ(san.finish(pair.server.s, &polled[i]).error, WSAECONNRESET);
        }
        EXPECT_EQ(polled[i].OffsetHigh, expected);
        ASSERT_TRUE(upcalls.wait_for(&notified[i]));
        EXPECT_EQ(upcalls.completions(&notified[i]).at(0).error, expected);
    }
}

TEST_P(ModesTest, MemoryInUseStaysRegistered) {
    Pair pair = connected();
    Polled receive;
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
    EXPECT_EQ(san.deregister_memory(pair.server.s, pair.server.region), WSAEINVAL);
    Polled sent;
    ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 10, &sent), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.server.s, &receive).bytes, 10U);
    EXPECT_EQ(san.deregister_memory(pair.server.s, pair.server.region), 0);
    EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
}

TEST_P(ModesTest, TheSocketMayBeClosedFromWithinTheUpcall) {
    Pair pair = connected();
    Notified receive;
    Notified other;
    std::atomic<int> closed{-1};
    const ActionScope acting = upcalls.on_complete([&](const Upcall& call) {
        if (call.overlapped == &receive) {
            closed = san.close(pair.server.s);
        }
    });
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &receive), WSA_IO_PENDING);
    ASSERT_EQ(san.recv(pair.server.s, pair.server.at(0), 64, &other), WSA_IO_PENDING);
    Polled sent;
    ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 10, &sent), WSA_IO_PENDING);
    ASSERT_TRUE(upcalls.wait_for(&other));
    EXPECT_EQ(closed, 0);
    EXPECT_EQ(upcalls.completions(&other).at(0).error, static_cast<DWORD>(WSA_OPERATION_ABORTED));
    EXPECT_EQ(san.finish(pair.client.s, &sent).error, 0);
}

TEST_P(ModesTest, ItCanBeStartedAgain) {
    for (int i = 0; i < 3; ++i) {
        Pair pair = connected();
        expect_delivery(pair.client, pair.server, "hello");
        stop();
        ProviderTest::SetUp();
    }
}

constexpr Setting kSettings[] = {
    {"inline", "ultra"},    {"inline", "balanced"},    {"inline", "eco"},
    {"dedicated", "ultra"}, {"dedicated", "balanced"}, {"dedicated", "eco"},
};

INSTANTIATE_TEST_SUITE_P(Settings, ModesTest, testing::ValuesIn(kSettings),
                         [](const auto& setting) {
                             return std::string(setting.param.mode) + "_" + setting.param.profile;
                         });

class SettingsTest : public ProviderTest {};

TEST_F(SettingsTest, ModesMayChangeFromStartToStart) {
    for (const char* mode : {"inline", "dedicated", "inline", "dedicated"}) {
        stop();
        const Knobs knobs{{"mode", mode}};
        set_knobs(knobs);
        ProviderTest::SetUp();
        unset_knobs(knobs);
        Pair pair = connected();
        expect_delivery(pair.client, pair.server, mode);
    }
}

TEST_F(SettingsTest, ConnectionsMayBeSpreadOverSeveralCores) {
    stop();
    const Knobs knobs{{"core_count", "4"}};
    set_knobs(knobs);
    ProviderTest::SetUp();
    unset_knobs(knobs);
    std::deque<Pair> pairs;
    for (int i = 0; i < 12; ++i) {
        pairs.push_back(connected());
    }
    for (Pair& pair : pairs) {
        expect_delivery(pair.client, pair.server, "there");
        expect_delivery(pair.server, pair.client, "and back");
    }
}

TEST_F(SettingsTest, TheSmallestRingsCarryEverything) {
    stop();
    const Knobs knobs{{"shm_ring_slots", "256"},
                      {"shm_staging_kb", "256"},
                      {"lane_slots", "16"},
                      {"notifier_slots", "16"},
                      {"queue_depth", "64"}};
    set_knobs(knobs);
    ProviderTest::SetUp();
    unset_knobs(knobs);
    Pair pair = connected(4 << 20);
    std::deque<Notified> receives(60);
    std::deque<Notified> sends(60);
    for (Notified& receive : receives) {
        ASSERT_EQ(patiently([&] {
                      return san.recv(pair.server.s, pair.server.at(0), 4 << 20, &receive);
                  }),
                  WSA_IO_PENDING);
    }
    for (std::size_t i = 0; i < sends.size(); ++i) {
        ASSERT_EQ(patiently([&] {
                      return san.send(pair.client.s, pair.client.at(0), i * i * 1000, &sends[i]);
                  }),
                  WSA_IO_PENDING);
    }
    ASSERT_TRUE(upcalls.wait_for(UpcallKind::kComplete, 120));
    ASSERT_TRUE(upcalls.wait_for(&receives.back()));
    ASSERT_TRUE(upcalls.wait_for(&sends.back()));
    for (std::size_t i = 0; i < receives.size(); ++i) {
        EXPECT_EQ(upcalls.completions(&receives[i]).at(0).bytes, i * i * 1000);
    }
}

}  // namespace
}  // namespace sanpoll::test
