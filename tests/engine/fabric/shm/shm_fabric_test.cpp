#include "engine/fabric/shm/shm_fabric.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "tests/engine/core_bench.hpp"
#include "tests/engine/fabric/shm/engine_bench.hpp"
#include "tests/rings/scale.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Backlog;
using tests::EngineBench;
using tests::eventually;
using tests::message_of;
using tests::Operation;
using tests::Socket;

ConnectData data_of(std::string_view text) {
    ConnectData data(text.size());
    std::memcpy(data.data(), text.data(), text.size());
    return data;
}

TEST(ShmFabric, ServesLoopbackAndItsOwnAddresses) {
    EngineBench bench;
    EXPECT_EQ(bench.fabric().name(), "shm");
    EXPECT_TRUE(bench.fabric().serves(0x7F000001));
    EXPECT_TRUE(bench.fabric().serves(0x7F123456));
    EXPECT_FALSE(bench.fabric().serves(0xC0000201)) << "192.0.2.1 is for documentation";
    EXPECT_TRUE(bench.fabric().reaches(0x7F123456));
    EXPECT_FALSE(bench.fabric().reaches(0xC0000201));
    const auto addresses = bench.fabric().addresses();
    EXPECT_FALSE(addresses.empty());
    for (const std::uint32_t address : addresses) {
        EXPECT_TRUE(bench.fabric().serves(address));
    }
}

TEST(ShmFabric, CarriesCallerAndCalleeData) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    ASSERT_EQ(backlog.status, Status::kOk);
    Socket from;
    Socket to;
    const auto outcome = bench.dial(at, from, data_of("who is there?"));
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    EXPECT_EQ(request->caller_data(), data_of("who is there?"));
    EXPECT_EQ(request->local(), at);
    EXPECT_EQ(request->remote(), (Address{0x7F000001, 1}));
    const ConnectData longest(kMaxConnectData, std::byte{0x42});
    EXPECT_EQ(request->accept(to.owner(), longest), Status::kOk);
    EXPECT_EQ(request->accept(to.owner(), longest), Status::kNotOpen) << "answered already";
    const auto result = EngineBench::result_of(*outcome);
    EXPECT_EQ(result.status, Status::kOk);
    EXPECT_EQ(result.callee_data, longest);
    tests::close_all({&from, &to});
}

TEST(ShmFabric, TheWildcardHearsEveryAddress) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    // The port alone is not unique among processes: look for a free one.
    std::unique_ptr<Backlog> backlog;
    Address any{0, static_cast<std::uint16_t>(20000 + ::getpid() % 30000)};
    for (int tries = 0; tries < 100; ++tries, ++any.port) {
        backlog = std::make_unique<Backlog>(bench, any);
        if (backlog->status == Status::kOk) {
            break;
        }
    }
    ASSERT_EQ(backlog->status, Status::kOk);
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(bench, *backlog, {at.ip, any.port}, from, to));
    tests::close_all({&from, &to});
}

TEST(ShmFabric, NobodyListensIsSaidSo) {
    EngineBench bench;
    Socket from;
    const auto outcome = bench.dial(EngineBench::fresh_address(), from);
    EXPECT_EQ(EngineBench::result_of(*outcome).status, Status::kNoListener);
}

TEST(ShmFabric, AListenerThatStoppedIsGoneAlsoForThoseWhoKnewIt) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(bench, backlog, at, from, to));
    backlog.stop();
    Socket late;
    const auto outcome = bench.dial(at, late);
    EXPECT_EQ(EngineBench::result_of(*outcome).status, Status::kNoListener);
    tests::close_all({&from, &to});
}

TEST(ShmFabric, ARejectionIsARefusal) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    const auto outcome = bench.dial(at, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    request->reject(Status::kRefused);
    EXPECT_EQ(EngineBench::result_of(*outcome).status, Status::kRefused);
    EXPECT_EQ(from.gate.view().state, PostGate::State::kShut);
}

TEST(ShmFabric, AFullBacklogIsARefusal) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    backlog.full.store(true);
    Socket from;
    const auto outcome = bench.dial(at, from);
    EXPECT_EQ(EngineBench::result_of(*outcome).status, Status::kRefused);
}

TEST(ShmFabric, ATakenAddressIsInUse) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    const int fd = bind_rendezvous(at);
    ASSERT_GE(fd, 0);
    const Backlog backlog(bench, at);
    EXPECT_EQ(backlog.status, Status::kAddressInUse);
    ::close(fd);
    const Backlog again(bench, at);
    EXPECT_EQ(again.status, Status::kOk);
}

TEST(ShmFabric, AConnectThatNobodyAnswersTimesOut) {
    Config config;
    config.connect_timeout_ms = 20;
    EngineBench bench(config);
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    std::shared_ptr<IncomingConnection> request;
    // On a slow machine the time may be over before the request has come so far.
    ASSERT_TRUE(eventually([&] {
        Socket from;
        const auto outcome = bench.dial(at, from);
        EXPECT_EQ(EngineBench::result_of(*outcome).status, Status::kTimedOut);
        request = backlog.look();
        return request != nullptr || testing::Test::HasFailure();
    }));
    ASSERT_NE(request, nullptr);
    EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
    Socket to;
    EXPECT_EQ(request->accept(to.owner(), {}), Status::kWithdrawn);
}

TEST(ShmFabric, ACancelledConnectReportsNothingAndIsWithdrawn) {
    EngineBench bench;
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    const auto outcome = bench.dial(at, from);
    const auto request = backlog.next();
    ASSERT_NE(request, nullptr);
    outcome->outgoing->cancel();
    outcome->outgoing->cancel();
    EXPECT_TRUE(eventually([&] { return request->withdrawn(); }));
    bench.engine->control().call([] {});
    EXPECT_EQ(outcome->future.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
}

// ---- whole connections ------------------------------------------------------------------------------

// Two threads in turn; each sleeps for the other's answer.
void ping_pong(Config config, std::uint64_t rounds) {
    EngineBench bench(std::move(config));
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    Socket from;
    Socket to;
    ASSERT_NO_FATAL_FAILURE(join(bench, backlog, at, from, to));
    const auto length_of = [](std::uint64_t round) {
        return round % 10 == 9 ? 50000U : round % 400;
    };
    std::thread echo([&] {
        for (std::uint64_t round = 0; round < rounds; ++round) {
            Operation& receive = to.receive(50000);
            wait_for(to, receive);
            ASSERT_EQ(receive.status, Status::kOk);
            Operation& send = to.send(receive.content());
            wait_for(to, send);
            to.operations.clear();
        }
    });
    for (std::uint64_t round = 0; round < rounds; ++round) {
        Operation& receive = from.receive(50000);
        Operation& send = from.send_number(round, length_of(round));
        wait_for(from, send);
        wait_for(from, receive);
        ASSERT_TRUE(receive.good());
        ASSERT_TRUE(receive.content() == message_of(round, length_of(round))) << round;
        from.operations.clear();
    }
    echo.join();
    tests::close_all({&from, &to});
}

Config two_cores(Profile profile, std::uint32_t spin_us) {
    Config config;
    config.core_count = 2;
    config.profile = profile;
    config.spin_us = spin_us;
    return config;
}

TEST(ShmFabricSleep, BothEndsAsleepAreWokenBalanced) {
    ping_pong(two_cores(Profile::kBalanced, 1), 200);
}

TEST(ShmFabricSleep, BothEndsAsleepAreWokenEco) { ping_pong(two_cores(Profile::kEco, 0), 200); }

TEST(ShmFabricSleep, OneCoreForBothEnds) {
    Config config = two_cores(Profile::kBalanced, 1);
    config.core_count = 1;
    ping_pong(config, 200);
}

TEST(ShmFabricSleep, DedicatedCoreAsleepIsWoken) {
    Config config = tests::dedicated_config();
    config.profile = Profile::kEco;
    config.spin_us = 1;
    ping_pong(config, 100);
}

TEST(ShmFabric, ConnectionsOfManyThreadsShareTheLink) {
    EngineBench bench(two_cores(Profile::kBalanced, 50));
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    constexpr int kPairs = 3;
    std::deque<Socket> froms(kPairs);
    std::deque<Socket> tos(kPairs);
    for (std::size_t i = 0; i < kPairs; ++i) {
        ASSERT_NO_FATAL_FAILURE(join(bench, backlog, at, froms[i], tos[i]));
    }
    const std::uint64_t count = tests::scaled(3000);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kPairs; ++i) {
        // Inline cores move when somebody waits on them, so each end needs a thread of its own.
        threads.emplace_back([&, i] {
            for (std::uint64_t n = 0; n < count; ++n) {
                Operation& send = froms[i].send_number(n, n % 3000);
                wait_for(froms[i], send);
                ASSERT_TRUE(send.good());
                froms[i].operations.clear();
            }
        });
        threads.emplace_back([&, i] {
            for (std::uint64_t n = 0; n < count; ++n) {
                Operation& receive = tos[i].receive(3000);
                wait_for(tos[i], receive);
                ASSERT_TRUE(receive.good());
                ASSERT_TRUE(receive.content() == message_of(n, n % 3000));
                tos[i].operations.clear();
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (std::size_t i = 0; i < kPairs; ++i) {
        tests::close_all({&froms[i], &tos[i]});
    }
}

TEST(ShmFabric, ConnectsAndClosesManyTimes) {
    EngineBench bench(two_cores(Profile::kBalanced, 50));
    const Address at = EngineBench::fresh_address();
    Backlog backlog(bench, at);
    for (std::uint64_t i = 0; i < 200; ++i) {
        Socket from;
        Socket to;
        ASSERT_NO_FATAL_FAILURE(join(bench, backlog, at, from, to)) << i;
        Operation& receive = to.receive(64);
        from.send_number(i, 64);
        wait_for(to, receive);
        ASSERT_TRUE(receive.good()) << i;
        tests::close_all({&from, &to});
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
