// Messages of 0 bytes to 16 MiB over several sockets, both ways at once, several threads, polled and
// notified, gathered and scattered: none is lost, doubled, reordered or damaged, and every operation
// completes once. The seed is printed; SANPOLL_TEST_SEED repeats a run.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "tests/system/child.hpp"
#include "tests/system/mixed_side.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t new_seed() {
    if (const char* text = std::getenv("SANPOLL_TEST_SEED"); text != nullptr) {
        return std::strtoull(text, nullptr, 0);
    }
    return std::random_device{}();
}

TrafficPlan plan_for(std::uint64_t messages) {
    TrafficPlan plan;
    plan.seed = new_seed();
    plan.sockets = kSanitized ? 6 : 12;
    plan.threads = 3;
    plan.messages_each_way = (messages + plan.sockets * 2 - 1) / (plan.sockets * 2);
    return plan;
}

void print(const TrafficPlan& plan, std::uint64_t bytes, Clock::duration time) {
    const double seconds = std::chrono::duration<double>(time).count();
    std::printf("%llu messages, %.1f GB in %.1f s: %.2f million/s, %.2f GB/s\n",
                static_cast<unsigned long long>(plan.messages()), static_cast<double>(bytes) / 1e9,
                seconds, static_cast<double>(plan.messages()) / seconds / 1e6,
                static_cast<double>(bytes) / seconds / 1e9);
}

// Connects everything to the port that it is told, then is side 1.
const Role mixed_peer("mixed_peer", [](Channel& test, const Arguments& arguments) {
    const auto provider = load_provider();
    TrafficPlan plan;
    const auto port = static_cast<std::uint16_t>(std::stoul(arguments.at(0)));
    plan.seed = std::stoull(arguments.at(1));
    plan.sockets = static_cast<std::uint32_t>(std::stoul(arguments.at(2)));
    plan.threads = static_cast<std::uint32_t>(std::stoul(arguments.at(3)));
    plan.messages_each_way = std::stoull(arguments.at(4));
    std::vector<ProviderSocket> sockets;
    for (std::uint32_t i = 0; i < plan.sockets; ++i) {
        sockets.push_back(connect_to(*provider, port));
    }
    MixedSide side(*provider, plan, 1, sockets);
    side.run();
    test.tell("done " + std::to_string(side.bytes()));
    test.expect("close");
    return 0;
});

void between_processes(const TrafficPlan& plan, const Environment& knobs) {
    std::printf("SANPOLL_TEST_SEED=%llu\n", static_cast<unsigned long long>(plan.seed));
    const auto provider = load_provider(knobs);
    const Listener listener(*provider);
    Child peer(
        "mixed_peer",
        {std::to_string(listener.port()), std::to_string(plan.seed), std::to_string(plan.sockets),
         std::to_string(plan.threads), std::to_string(plan.messages_each_way)},
        knobs);
    std::vector<ProviderSocket> sockets;
    for (std::uint32_t i = 0; i < plan.sockets; ++i) {
        sockets.push_back(listener.accept());
    }
    MixedSide side(*provider, plan, 0, sockets);
    const auto start = Clock::now();
    side.run();
    const auto answer = peer.channel().hear();
    ASSERT_TRUE(answer && answer->starts_with("done ")) << answer.value_or("the peer is gone");
    print(plan, side.bytes() + std::stoull(answer->substr(5)), Clock::now() - start);
    peer.channel().tell("close");
    EXPECT_EQ(peer.reap(), 0);
}

void inside_one_process(const TrafficPlan& plan, const Environment& knobs) {
    std::printf("SANPOLL_TEST_SEED=%llu\n", static_cast<unsigned long long>(plan.seed));
    const auto provider = load_provider(knobs);
    const Listener listener(*provider);
    std::vector<ProviderSocket> ends[2];
    for (std::uint32_t i = 0; i < plan.sockets; ++i) {
        const auto [connector, acceptor] = connected_pair(*provider, listener);
        ends[0].push_back(acceptor);
        ends[1].push_back(connector);
    }
    MixedSide left(*provider, plan, 0, ends[0]);
    MixedSide right(*provider, plan, 1, ends[1]);
    const auto start = Clock::now();
    std::string failure;
    std::thread other([&] {
        try {
            right.run();
        } catch (const std::exception& thrown) {
            failure = thrown.what();
        }
    });
    try {
        left.run();
    } catch (const std::exception& thrown) {
        ADD_FAILURE() << thrown.what();
    }
    other.join();
    ASSERT_EQ(failure, "");
    print(plan, left.bytes() + right.bytes(), Clock::now() - start);
}

TEST(MixedTraffic, BetweenTwoProcesses) {
    between_processes(plan_for(scaled(10'000'000, 200'000)), {});
}

TEST(MixedTraffic, InsideOneProcess) {
    inside_one_process(plan_for(scaled(1'000'000, 60'000)), {});
}

TEST(MixedTraffic, DedicatedCoreInsideOneProcess) {
    inside_one_process(plan_for(scaled(500'000, 30'000)), {{"SANPOLL_MODE", "dedicated"}});
}

TEST(MixedTraffic, DedicatedCoresInTwoProcesses) {
    between_processes(plan_for(scaled(200'000, 20'000)), {{"SANPOLL_MODE", "dedicated"}});
}

}  // namespace
}  // namespace sanpoll::system_test
