// A million messages, and the threads that post and poll never enter the heap. First it is shown that
// the count is right, also for what the library does.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <vector>

#include "tests/system/allocation_counter.hpp"
#include "tests/system/child.hpp"
#include "tests/system/process_state.hpp"
#include "tests/system/scale.hpp"
#include "tests/system/steady_connection.hpp"

namespace sanpoll::system_test {
namespace {

constexpr std::uint64_t kWarmUp = 10'000;
constexpr std::uint64_t kBurst = 2 * SteadyConnection::kDepth;
constexpr std::uint64_t kMessages = 1'000'000;

const std::atomic<std::uint32_t> never{0};

Pattern pattern_of(const std::string& text) {
    return text == "pingpong" ? Pattern::kPingPong : Pattern::kOneWay;
}

// Part of the warm-up: queues grow to what they are used for. As many messages as the other side has
// posted receives for, and as many again as may wait for more of them, which nobody posts meanwhile.
void send_burst(SteadyConnection& connection) {
    for (std::uint64_t i = 0; i < kBurst; ++i) {
        connection.send(i);
    }
}

void receive_burst(SteadyConnection& connection) {
    for (std::uint64_t i = 0; i < kBurst; ++i) {
        EXPECT_EQ(connection.receive(), i);
    }
}

/// Heap calls of this thread, and of the polling core's if there is one, while `exchange` runs warm.
template <typename Exchange>
std::uint64_t heap_calls_in(Exchange exchange) {
    exchange(kWarmUp);
    const pid_t core = thread_named(::getpid(), "sanpoll-core");
    const std::uint64_t core_before = heap_calls_of(core);
    const std::uint64_t before = heap_calls();
    exchange(kMessages);
    const std::uint64_t after = heap_calls();
    return after - before + heap_calls_of(core) - core_before;
}

const Role follower("follower", [](Channel& test, const Arguments& arguments) {
    const auto provider = load_provider();
    const Listener listener(*provider);
    test.tell(std::to_string(listener.port()));
    SteadyConnection connection(*provider, listener.accept(), never);
    test.expect("burst");
    receive_burst(connection);
    send_burst(connection);
    test.tell("burst");
    connection.drain();
    const std::uint64_t calls = heap_calls_in(
        [&](std::uint64_t messages) { follow(pattern_of(arguments.at(0)), connection, messages); });
    test.tell(std::to_string(calls));
    test.expect("close");
    return 0;
});

class NoAllocations : public ::testing::TestWithParam<const char*> {
protected:
    void SetUp() override {
        if (kSanitized) {
            GTEST_SKIP() << "the sanitizers have a heap of their own, whose functions they define";
        }
    }
};

TEST_F(NoAllocations, AreCountedInTheProgramAndInTheLibrary) {
    const std::uint64_t at_first = heap_calls();
    ::operator delete(::operator new(100));
    EXPECT_EQ(heap_calls(), at_first + 2);
    const auto provider = load_provider();
    const Listener listener(*provider);
    // A connect has an object of its own in the library, made by the calling thread.
    const ProviderSocket socket = provider->socket();
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    where.sin_port = htons(listener.port());
    int error = 0;
    provider->table().lpWSPBind(socket.descriptor, reinterpret_cast<sockaddr*>(&where),
                                sizeof(where), &error);
    const std::uint64_t before = heap_calls();
    provider->table().lpWSPConnect(socket.descriptor, reinterpret_cast<sockaddr*>(&where),
                                   sizeof(where), nullptr, nullptr, nullptr, nullptr, &error);
    EXPECT_GT(heap_calls(), before);
    EXPECT_EQ(error, WSAEWOULDBLOCK);
    provider->close(socket.descriptor);
}

TEST_P(NoAllocations, InlineBetweenTwoProcesses) {
    const Pattern pattern = pattern_of(GetParam());
    const auto provider = load_provider();
    Child child("follower", {GetParam()});
    const auto port = child.channel().hear();
    ASSERT_TRUE(port);
    SteadyConnection connection(
        *provider, connect_to(*provider, static_cast<std::uint16_t>(std::stoul(*port))), never);
    send_burst(connection);
    child.channel().tell("burst");
    connection.drain();
    child.channel().expect("burst");
    receive_burst(connection);
    const std::uint64_t calls =
        heap_calls_in([&](std::uint64_t messages) { lead(pattern, connection, messages); });
    const auto their_calls = child.channel().hear();
    EXPECT_EQ(calls, 0U);
    EXPECT_EQ(their_calls, "0");
    child.channel().tell("close");
    EXPECT_EQ(child.reap(), 0);
}

TEST_P(NoAllocations, DedicatedCore) {
    const Pattern pattern = pattern_of(GetParam());
    const auto provider =
        load_provider({{"SANPOLL_MODE", "dedicated"}, {"SANPOLL_PROFILE", "ultra"}});
    ASSERT_NE(thread_named(::getpid(), "sanpoll-core"), 0);
    const Listener listener(*provider);
    const auto [one, other] = connected_pair(*provider, listener);
    SteadyConnection leading(*provider, one, never);
    SteadyConnection following(*provider, other, never);
    send_burst(leading);
    receive_burst(following);
    send_burst(following);
    receive_burst(leading);
    EXPECT_EQ(heap_calls_in([&](std::uint64_t messages) {
                  lead_and_follow(pattern, leading, following, messages);
              }),
              0U);
}

// The switch's first message may come before the other side has posted a receive; it waits in memory of the
// core's. A message on another connection of the same link, sent after it, shows that it has arrived.
TEST_F(NoAllocations, EarlyFirstMessages) {
    constexpr std::size_t kEarly = 16;  // what a connection takes unasked
    constexpr DWORD kBytes = 256;
    const auto provider =
        load_provider({{"SANPOLL_MODE", "dedicated"}, {"SANPOLL_PROFILE", "ultra"}});
    const pid_t core = thread_named(::getpid(), "sanpoll-core");
    ASSERT_NE(core, 0);
    const Listener listener(*provider);
    const auto [one, other] = connected_pair(*provider, listener);
    SteadyConnection leading(*provider, one, never);
    SteadyConnection following(*provider, other, never);
    lead_and_follow(Pattern::kPingPong, leading, following, kWarmUp);
    const auto [sender, receiver] = connected_pair(*provider, listener);
    std::vector<char> memory(kBytes);
    std::vector<WSAOVERLAPPED> operations(2 * kEarly);
    register_memory(*provider, sender.descriptor, memory.data(), memory.size(), MEM_READ);
    register_memory(*provider, receiver.descriptor, memory.data(), memory.size(), MEM_WRITE);
    WSABUF buffer{kBytes, memory.data()};
    const std::uint64_t before = heap_calls_of(core);
    for (std::size_t i = 0; i < kEarly; ++i) {
        operations[i].hEvent = kPolled;
        ASSERT_EQ(post_send(*provider, sender.descriptor, &buffer, 1, &operations[i]), 0);
    }
    lead_and_follow(Pattern::kPingPong, leading, following, 1);
    EXPECT_EQ(heap_calls_of(core) - before, 0U);
    for (std::size_t i = kEarly; i < 2 * kEarly; ++i) {
        operations[i].hEvent = kPolled;
        ASSERT_EQ(post_receive(*provider, receiver.descriptor, &buffer, 1, &operations[i]), 0);
        const auto result = result_of(*provider, receiver.descriptor, &operations[i], true);
        ASSERT_TRUE(result);
        EXPECT_EQ(result->error, 0);
        EXPECT_EQ(result->bytes, kBytes);
    }
    EXPECT_EQ(heap_calls_of(core) - before, 0U);
    provider->close(sender.descriptor);
    provider->close(receiver.descriptor);
}

INSTANTIATE_TEST_SUITE_P(Patterns, NoAllocations, ::testing::Values("pingpong", "oneway"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace sanpoll::system_test
