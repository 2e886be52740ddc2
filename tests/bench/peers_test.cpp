// Every peer as a Connection: it moves what it is given, between two processes, in the loops that measure it.
#include "bench/peers.hpp"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <ostream>

#include "bench/ping_loops.hpp"
#include "bench/socket_peers.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

// Tests are listed with what they are given.
void PrintTo(const Peer& peer, std::ostream* out) { *out << peer.name; }

namespace {

constexpr std::uint64_t kSkip = 3, kCount = 100, kStream = 333;
constexpr int kMissing = 77;

SpinRule patient_rule() {
    SpinRule rule;
    rule.yield = true;  // tests run beside others on few CPUs
    return rule;
}

// Runs `work` in a process of its own, so that neither a sanitizer nor the peer's library sees both ends; its status is
// what `work` answers, 1 if it throws.
pid_t in_a_child(const std::function<int()>& work) {
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child != 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv("UCX_LOG_LEVEL", "fatal", 1);
    int status = 1;
    try {
        status = work();
    } catch (const std::exception& fault) {
        std::fprintf(stderr, "%s\n", fault.what());
    }
    _exit(status);
}

int status_of(pid_t child) {
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

int run_server(const Peer& peer, const TcpListener& listener, const ConnectionShape& shape) {
    const SpinRule rule = patient_rule();
    const auto ends = peer.open(listener.accept(), true, shape, rule);
    LatencyHistogram none;
    ends->ping(rule.clock, shape.size, 0, kSkip, kCount, none);
    return ends->stream(rule.clock, shape.size, kStream, shape.receives) == 0 ? 0 : 2;
}

// The loops throw at a wrong stamp, a wrong length and a message too many or too few.
int run_client(const Peer& peer, std::uint16_t port, const ConnectionShape& shape) {
    const std::string why = peer.missing();
    if (!why.empty()) {
        std::fprintf(stderr, "%s: %s\n", peer.name, why.c_str());
        return kMissing;
    }
    const SpinRule rule = patient_rule();
    const auto ends = peer.open(tcp_connect("127.0.0.1", port), false, shape, rule);
    LatencyHistogram histogram;
    ends->ping(rule.clock, shape.size, 0, kSkip, kCount, histogram);
    const std::uint64_t ticks = ends->stream(rule.clock, shape.size, kStream, shape.receives);
    return histogram.total() == kCount && ticks > 0 ? 0 : 2;
}

class EveryPeer : public testing::TestWithParam<Peer> {};

// UCX reads this when it is loaded, so it is too late to set it here; ctest does.
bool survives(const Peer& peer) {
#if defined(__SANITIZE_THREAD__)
    return !std::string(peer.name).starts_with("ucx") || std::getenv("UCX_MEM_EVENTS") != nullptr;
#else
    return peer.name != nullptr;
#endif
}

TEST_P(EveryPeer, PingsAndStreams) {
    const Peer& peer = GetParam();
    if (!survives(peer))
        GTEST_SKIP() << "UCX would patch mmap under the thread sanitizer; set UCX_MEM_EVENTS=no";
    for (const std::uint32_t size : {0U, 1U, 8U, 64U, 1024U, 4096U, 65536U, 1U << 20}) {
        if (size > peer.largest) continue;
        SCOPED_TRACE(size);
        const ConnectionShape shape{size, 64, 32, size % 64 == 0};
        const TcpListener listener("127.0.0.1");
        const pid_t client = in_a_child([&] { return run_client(peer, listener.port(), shape); });
        const pid_t server = in_a_child([&] { return run_server(peer, listener, shape); });
        ASSERT_GT(client, 0);
        ASSERT_GT(server, 0);
        const int status = status_of(client);
        if (status == kMissing) {
            kill(server, SIGKILL);
            status_of(server);
            GTEST_SKIP() << peer.name << " cannot be used here (the line above says why)";
        }
        EXPECT_EQ(status, 0) << "client";
        if (status != 0) kill(server, SIGKILL);
        EXPECT_EQ(status_of(server), 0) << "server";
        if (HasFailure()) return;
    }
}

// The least that a connection may be given.
TEST_P(EveryPeer, WorksWithOneSendAndFewReceives) {
    const Peer& peer = GetParam();
    if (!survives(peer))
        GTEST_SKIP() << "UCX would patch mmap under the thread sanitizer; set UCX_MEM_EVENTS=no";
    const ConnectionShape shape{64, 4, 1, false};
    const TcpListener listener("127.0.0.1");
    const pid_t client = in_a_child([&] { return run_client(peer, listener.port(), shape); });
    const pid_t server = in_a_child([&] { return run_server(peer, listener, shape); });
    const int status = status_of(client);
    if (status != 0) kill(server, SIGKILL);
    const int served = status_of(server);
    if (status == kMissing) GTEST_SKIP() << peer.name << " cannot be used here";
    EXPECT_EQ(status, 0);
    EXPECT_EQ(served, 0);
}

std::string name_of(const testing::TestParamInfo<Peer>& info) {
    std::string name = info.param.name;
    for (char& letter : name)
        if (letter == '-') letter = '_';
    return name;
}

INSTANTIATE_TEST_SUITE_P(All, EveryPeer, testing::ValuesIn(all_peers()), name_of);

TEST(Peers, AreThereOrNamedAsLeftOut) {
    const Peers peers = all_peers();
    std::vector<std::string> names;
    for (const PeerLeftOut& missing : peers_left_out()) {
        EXPECT_EQ(find_peer(peers, missing.name), nullptr) << missing.name;
        EXPECT_FALSE(missing.why.empty());
        names.push_back(missing.name);
    }
    for (const Peer& peer : peers)
        names.emplace_back(peer.name);
    EXPECT_EQ(names.size(), 11U);
    for (const char* name :
         {"tcp-spin", "tcp-epoll", "tcp-block", "unix-spin", "unix-block", "uring-tcp",
          "uring-unix", "ucx-tag", "ucx-am", "ucx-uct", "libfabric"})
        EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
}

TEST(Peers, NoticeThatTheOtherEndLeftWhileOpening) {
    const TcpListener listener("127.0.0.1");
    Descriptor client = tcp_connect("127.0.0.1", listener.port());
    const Descriptor server = listener.accept();
    client = Descriptor();
    EXPECT_THROW(exchange_addresses(server, {'a'}), ConnectionFault);
}

}  // namespace
}  // namespace sanpoll::bench
