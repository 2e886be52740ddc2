// A connected pair of processes with nothing to do sleeps, whether it waits to be told or polls later. What is counted is how
// often its threads wake. CPU time only tells that none of them spins instead: of a virtual machine's CPU time the host
// may have stolen a part, so that a few short looks a second can seem to take a percent and more.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>

#include "tests/system/child.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/san.hpp"
#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kReceives = 8;
constexpr milliseconds kSettle{500};
constexpr milliseconds kWatched{5000};
constexpr double kMostWakes =
    100;  // a second and process; a sanitizer's own thread wakes ten times
constexpr double kMostOfACore = 0.25;  // a thread that spins takes all of one

const Role idler("idler", [](Channel& test, const Arguments& arguments) {
    const auto provider = load_provider();
    ProviderSocket socket;
    if (arguments.at(0) == "listener") {
        const Listener listener(*provider);
        test.tell(std::to_string(listener.port()));
        socket = listener.accept();
    } else {
        socket = connect_to(*provider, static_cast<std::uint16_t>(std::stoul(arguments.at(0))));
    }
    std::vector<char> memory((kReceives + 1) * 64);
    register_memory(*provider, socket.descriptor, memory.data(), memory.size(), MEM_READWRITE);
    std::vector<WSAOVERLAPPED> operations(kReceives + 1);
    for (std::size_t i = 0; i < kReceives; ++i) {
        operations[i].hEvent = arguments.at(1) == "polled" ? kPolled : nullptr;
        WSABUF buffer{64, memory.data() + i * 64};
        if (post_receive(*provider, socket.descriptor, &buffer, 1, &operations[i]) != 0) {
            return 1;
        }
    }
    // One message each way, so that nothing is as new.
    WSAOVERLAPPED& sent = operations[kReceives];
    sent.hEvent = kPolled;
    WSABUF buffer{64, memory.data() + kReceives * 64};
    if (post_send(*provider, socket.descriptor, &buffer, 1, &sent) != 0 ||
        result_of(*provider, socket.descriptor, &sent, true)->error != 0 ||
        result_of(*provider, socket.descriptor, &operations[0], true)->error != 0) {
        return 1;
    }
    test.tell("idle");
    test.expect("close");
    provider->close(socket.descriptor);
    return 0;
});

class Idle : public ::testing::TestWithParam<const char*> {};

TEST_P(Idle, ConnectedPairSleeps) {
    Child listener("idler", {"listener", GetParam()});
    const auto port = listener.channel().hear();
    ASSERT_TRUE(port);
    Child connector("idler", {*port, GetParam()});
    Child* const both[] = {&listener, &connector};
    std::chrono::nanoseconds before[2];
    std::uint64_t sleeps_before[2];
    for (Child* child : both) {
        child->channel().expect("idle");
    }
    std::this_thread::sleep_for(kSettle);
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 2; ++i) {
        before[i] = cpu_time_of(both[i]->pid());
        sleeps_before[i] = sleeps_of(both[i]->pid());
    }
    std::this_thread::sleep_for(kWatched);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    for (int i = 0; i < 2; ++i) {
        const std::chrono::duration<double> used = cpu_time_of(both[i]->pid()) - before[i];
        const auto sleeps = static_cast<double>(sleeps_of(both[i]->pid()) - sleeps_before[i]);
        std::printf("%s: %.3f %% of a core, %.1f wakes a second\n",
                    i == 0 ? "listener" : "connector", 100 * used.count() / time.count(),
                    sleeps / time.count());
        EXPECT_LT(sleeps / time.count(), kMostWakes);
        EXPECT_LT(used / time, kMostOfACore);
    }
    for (Child* child : both) {
        child->channel().tell("close");
        EXPECT_EQ(child->reap(), 0);
    }
}

INSTANTIATE_TEST_SUITE_P(Completion, Idle, ::testing::Values("polled", "notified"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Sleeps, AreCounted) {
    const auto before = sleeps_of(::getpid());
    for (int i = 0; i < 5; ++i) {
        std::this_thread::sleep_for(milliseconds(1));
    }
    EXPECT_GE(sleeps_of(::getpid()) - before, 5U);
}

TEST(CpuTime, CountsWhatAProcessUses) {
    const auto before = cpu_time_of(::getpid());
    while (cpu_time_of(::getpid()) - before < milliseconds(20)) {
    }
    SUCCEED();
}

}  // namespace
}  // namespace sanpoll::system_test
