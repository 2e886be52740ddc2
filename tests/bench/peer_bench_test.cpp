// peer_bench as its user sees it: its JSON, its table, what it leaves out.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "bench/peers.hpp"
#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using Arguments = std::vector<std::string>;

test::ProgramResult run(Arguments more) {
    Arguments all{"--count", "200", "--rounds", "1", "--retries", "0", "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    test::RunningProgram program("peer_bench", all);
    return program.wait();
}

json run_json(Arguments more) {
    more.insert(more.end(), {"--json", "-"});
    const auto result = run(std::move(more));
    EXPECT_EQ(result.status, 0) << result.err;
    const json parsed = json::parse(result.out, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << result.out;
    return parsed.is_discarded() ? json::object() : parsed;
}

void check_result(const json& result, const std::string& name, std::uint32_t size) {
    SCOPED_TRACE(name + " " + std::to_string(size));
    EXPECT_EQ(result.at("name"), name);
    EXPECT_EQ(result.at("size"), size);
    EXPECT_FALSE(result.at("configuration").get<std::string>().empty());
    EXPECT_GT(result.at("half_p50_ns").get<double>(), 0);
    EXPECT_GE(result.at("half_p99_ns"), result.at("half_p50_ns"));
    const double rate = result.at("messages_per_second");
    EXPECT_GT(rate, 0);
    EXPECT_DOUBLE_EQ(result.at("bytes_per_second").get<double>(), rate * size);
    for (const char* key : {"half_p50_ns_rounds", "half_p99_ns_rounds",
                            "messages_per_second_rounds", "bytes_per_second_rounds"})
        EXPECT_EQ(result.at(key).size(), 1U) << key;
    std::uint64_t total = 0;
    for (const json& bucket : result.at("histogram"))
        total += bucket.at(1).get<std::uint64_t>();
    EXPECT_EQ(total, 200U);
    EXPECT_TRUE(result.contains("ratio_to_handoff"));
}

TEST(PeerBench, WritesTheDocumentedJson) {
    const json all =
        run_json({"--transports", "shm,shm-arena,tcp-epoll,unix-spin", "--sizes", "64,65536"});
    EXPECT_EQ(all.at("program"), "peer_bench");
    EXPECT_TRUE(all.at("skipped").empty());
    ASSERT_EQ(all.at("results").size(), 8U);
    std::size_t at = 0;
    for (const char* name : {"shm", "shm-arena", "tcp-epoll", "unix-spin"}) {
        for (const std::uint32_t size : {64U, 65536U})
            check_result(all["results"][at++], name, size);
    }
    ASSERT_EQ(all.at("sentinels").size(), 16U);
    for (const char* key : {"round_trip_ns", "overwrite_ns_per_line", "placement"})
        EXPECT_TRUE(all["sentinels"][0].contains(key)) << key;
    ASSERT_EQ(all.at("comparisons").size(), 8U);  // two of ours, two sizes, two figures
    for (const json& cell : all["comparisons"]) {
        EXPECT_TRUE(cell.at("best_peer") == "tcp-epoll" || cell["best_peer"] == "unix-spin");
        const double ours = cell.at("our_value"), best = cell.at("best_value");
        const double ratio = cell.at("figure") == "half_p50_ns" ? best / ours : ours / best;
        EXPECT_DOUBLE_EQ(cell.at("ratio").get<double>(), ratio);  // of the one round
    }
}

TEST(PeerBench, MeasuresTheProvidersCompletionsBesideEachOther) {
    const json all =
        run_json({"--transports", "shm", "--sizes", "64", "--completion", "polled,event,port"});
    ASSERT_EQ(all.at("results").size(), 3U);
    check_result(all["results"][0], "shm", 64);
    check_result(all["results"][1], "shm-event", 64);
    check_result(all["results"][2], "shm-port", 64);
    EXPECT_EQ(all["results"][1].at("completion"), "event");
    EXPECT_TRUE(all.at("comparisons").empty());
}

// What is not installed or not allowed here is named, and the run goes on without it.
TEST(PeerBench, MeasuresOrNamesEveryPeer) {
    const json all = run_json({"--sizes", "64"});
    std::size_t measured = 0;
    for (const json& result : all.at("results")) {
        check_result(result, result.at("name"), 64);
        if (!result.at("ours")) ++measured;
    }
    EXPECT_EQ(measured + all.at("skipped").size(), all_peers().size() + peers_left_out().size());
}

TEST(PeerBench, TheTableNamesTheBestPeerAndTheConfigurations) {
    const auto result = run({"--transports", "shm,unix-block", "--sizes", "1K"});
    EXPECT_EQ(result.status, 0) << result.err;
    for (const char* part : {"1K bytes", "times the best peer, unix-block", "GB/s",
                             "unix-block: unix stream sockets", "mode inline, completion polled"})
        EXPECT_NE(result.out.find(part), std::string::npos) << part << "\n" << result.out;
}

TEST(PeerBench, RefusesAWrongOptionInOneLine) {
    const auto result = run({"--transports", "nothing"});
    EXPECT_EQ(result.status, 2);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
}

}  // namespace
}  // namespace sanpoll::bench
