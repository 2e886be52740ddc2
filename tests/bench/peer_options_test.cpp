// The options of peer_bench: what they come to, and how wrong ones are refused.
#include "bench/peer_options.hpp"

#include <gtest/gtest.h>

namespace sanpoll::bench {
namespace {

ParsedPeerOptions parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "peer_bench");
    return parse_peer_options(static_cast<int>(arguments.size()), arguments.data(), all_peers());
}

void expect_refusal(const std::vector<const char*>& arguments, const std::string& part) {
    const ParsedPeerOptions parsed = parse(arguments);
    EXPECT_FALSE(parsed.options);
    EXPECT_EQ(parsed.status, 2);
    EXPECT_NE(parsed.text.find(part), std::string::npos) << parsed.text;
    EXPECT_EQ(parsed.text.find('\n'), std::string::npos) << parsed.text;
}

TEST(PeerOptions, MeasureEverythingByDefault) {
    const auto parsed = parse({});
    ASSERT_TRUE(parsed.options) << parsed.text;
    const PingOptions& ping = parsed.options->ping;
    EXPECT_TRUE(ping.shm);
    EXPECT_TRUE(ping.arena);
    EXPECT_EQ(ping.peers.size() + parsed.options->skipped.size(), 11U);
    EXPECT_EQ(ping.sizes, (std::vector<std::uint32_t>{0, 8, 64, 256, 1024, 4096, 65536, 1048576}));
    EXPECT_EQ(ping.rounds, 5U);
    EXPECT_EQ(ping.mode, "inline");
    EXPECT_EQ(ping.rate_bytes, 1U << 20);
    EXPECT_EQ(ping.completion, Completion::kPolled);
}

TEST(PeerOptions, TakeLists) {
    const auto parsed = parse({"--transports", "shm-arena,tcp-spin,tcp-spin", "--sizes", "64,1K",
                               "--completion", "event,port", "--mode", "dedicated"});
    ASSERT_TRUE(parsed.options) << parsed.text;
    const PingOptions& ping = parsed.options->ping;
    EXPECT_FALSE(ping.shm);
    EXPECT_TRUE(ping.arena);
    ASSERT_EQ(ping.peers.size(), 1U);
    EXPECT_EQ(ping.peers[0].name, "tcp-spin");
    EXPECT_EQ(ping.sizes, (std::vector<std::uint32_t>{64, 1024}));
    EXPECT_EQ(ping.completion, Completion::kEvent);
    EXPECT_EQ(ping.more_completions, std::vector<Completion>{Completion::kPort});
    EXPECT_EQ(ping.mode, "dedicated");
}

TEST(PeerOptions, QuickIsShorterUnlessToldOtherwise) {
    const auto quick = parse({"--quick"});
    ASSERT_TRUE(quick.options);
    EXPECT_EQ(quick.options->ping.rounds, 2U);
    const auto told = parse({"--quick", "--rounds", "7"});
    ASSERT_TRUE(told.options);
    EXPECT_EQ(told.options->ping.rounds, 7U);
}

TEST(PeerOptions, RefuseWhatIsWrongInOneLine) {
    expect_refusal({"--transports", "shm,carrier-pigeon"}, "carrier-pigeon");
    expect_refusal({"--sizes", "64,many"}, "--sizes");
    expect_refusal({"--completion", "never"}, "--completion");
    expect_refusal({"--mode", "fast"}, "--mode");
    expect_refusal({"--rounds", "0"}, "--rounds");
    expect_refusal({"--no-such-option"}, "no-such-option");
}

TEST(PeerOptions, HelpNamesThePeers) {
    const auto parsed = parse({"--help"});
    EXPECT_FALSE(parsed.options);
    EXPECT_EQ(parsed.status, 0);
    EXPECT_NE(parsed.text.find("tcp-epoll"), std::string::npos);
}

}  // namespace
}  // namespace sanpoll::bench
