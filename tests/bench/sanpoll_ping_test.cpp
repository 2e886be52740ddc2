// The whole program as its user sees it: its JSON, its table, its faults.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "bench/cpu_placement.hpp"
#include "bench/tcp_connection.hpp"
#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;
using Arguments = std::vector<std::string>;

// A run small enough for sanitizers on a busy machine.
Arguments tiny(Arguments more) {
    Arguments all{"--count", "200", "--warmup", "20", "--rounds", "1", "--retries", "0"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

json run_json(Arguments more, int cpu = -1) {
    Arguments all = tiny(std::move(more));
    all.insert(all.end(), {"--json", "-"});
    const auto result = test::run_ping(all, cpu);
    EXPECT_EQ(result.status, 0) << result.err;
    const json parsed = json::parse(result.out, nullptr, false);
    EXPECT_FALSE(parsed.is_discarded()) << result.out;
    return parsed.is_discarded() ? json::object() : parsed;
}

void check_result(const json& result, const std::string& transport, std::uint64_t size) {
    SCOPED_TRACE(transport + " " + std::to_string(size));
    EXPECT_EQ(result.at("transport"), transport);
    EXPECT_EQ(result.at("size"), size);
    EXPECT_TRUE(result.at("mode").is_string());
    EXPECT_TRUE(result.at("completion").is_string());
    const json& rtt = result.at("rtt_ns");
    EXPECT_GT(rtt.at("p50").get<double>(), 0);
    EXPECT_LE(rtt.at("p50"), rtt.at("p90"));
    EXPECT_LE(rtt.at("p90"), rtt.at("p99"));
    EXPECT_LE(rtt.at("p99"), rtt.at("p999"));
    EXPECT_LE(rtt.at("p999"), rtt.at("max"));
    std::uint64_t total = 0;
    for (const json& bucket : result.at("histogram")) {
        ASSERT_EQ(bucket.size(), 2U);
        total += bucket.at(1).get<std::uint64_t>();
    }
    EXPECT_EQ(total, 200U);
}

void check_frame(const json& run) {
    if (allowed_cpus().size() > 1) {
        EXPECT_GT(run.at("handoff_ns").get<double>(), 1);
    } else {
        EXPECT_TRUE(run.at("handoff_ns").is_null());
    }
    EXPECT_TRUE(run.at("placement").is_object());
    EXPECT_FALSE(run.at("placement").at("why").get<std::string>().empty());
}

// ------------------------------------------------------------------------------------- kernel TCP --

TEST(SanpollPing, WritesTheDocumentedJson) {
    const json run = run_json({"--no-shm", "--sizes", "0,64"});
    check_frame(run);
    ASSERT_EQ(run.at("results").size(), 2U);
    check_result(run["results"][0], "tcp", 0);
    check_result(run["results"][1], "tcp", 64);
    EXPECT_GT(run["results"][1].at("messages_per_second").get<double>(), 0);
}

TEST(SanpollPing, WritesJsonToAFileBesideTheTable) {
    const auto file = std::filesystem::temp_directory_path() /
                      ("sanpoll_ping_" + std::to_string(getpid()) + ".json");
    const auto result =
        test::run_ping(tiny({"--no-shm", "--no-rate", "--sizes", "64", "--json", file.string()}));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("rtt p50"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("Placement:"), std::string::npos) << result.out;
    const json run = json::parse(std::ifstream(file), nullptr, false);
    std::filesystem::remove(file);
    ASSERT_FALSE(run.is_discarded());
    EXPECT_TRUE(run["results"][0].at("messages_per_second").is_null());
}

TEST(SanpollPing, RunsOnOneCpuAndSaysSo) {
    const int cpu = allowed_cpus().front();
    const auto result = test::run_ping(tiny({"--no-shm", "--no-rate", "--sizes", "64"}), cpu);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("one CPU only"), std::string::npos) << result.out;
    const json run = run_json({"--no-shm", "--no-rate", "--sizes", "64"}, cpu);
    EXPECT_TRUE(run.at("handoff_ns").is_null());
    EXPECT_TRUE(run.at("placement").at("yield"));
}

TEST(SanpollPing, RunsInOneProcessToo) {
    const json run = run_json({"--no-shm", "--one-process", "--sizes", "64"});
    check_result(run["results"][0], "tcp", 64);
}

TEST(SanpollPing, TellsInOneLineThatTheLibraryIsMissing) {
    const auto result = test::run_ping(tiny({"--no-tcp", "--library", "/nowhere/libsanpoll.so"}));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find("/nowhere/libsanpoll.so"), std::string::npos) << result.err;
}

TEST(SanpollPing, TellsInOneLineThatTheJsonFileCannotBeWritten) {
    const auto result = test::run_ping({"--json", "/nowhere/at/all.json"});
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find("/nowhere/at/all.json"), std::string::npos) << result.err;
}

TEST(SanpollPing, TellsInOneLineThatAnAddressIsForeign) {
    const auto result = test::run_ping(tiny({"--no-shm", "--address", "192.0.2.1"}));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find("192.0.2.1"), std::string::npos) << result.err;
}

// ---------------------------------------------------------------------------------- ends of processes --

// Waits until the program has both processes.
std::vector<pid_t> both_children(const test::RunningProgram& program) {
    std::vector<pid_t> children;
    (void)test::eventually([&] { return (children = program.children()).size() == 2; });
    return children;
}

const Arguments kLong{"--no-shm", "--sizes", "64", "--count", "100000000", "--quiet"};

TEST(SanpollPing, TellsInOneLineWhichProcessWasKilled) {
    for (const std::size_t victim : {0U, 1U}) {
        test::RunningProgram program("sanpoll-ping", kLong);
        const auto children = both_children(program);
        ASSERT_EQ(children.size(), 2U);
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        ASSERT_EQ(kill(children[victim], SIGKILL), 0);
        const auto result = program.wait();
        EXPECT_TRUE(result.ended);
        EXPECT_EQ(result.status, 1);
        EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
        const char* name = victim == 0 ? "server process was killed" : "client process was killed";
        EXPECT_NE(result.err.find(name), std::string::npos) << result.err;
        for (const pid_t child : children)
            EXPECT_NE(kill(child, 0), 0) << "an orphan is left";
    }
}

TEST(SanpollPing, LeavesNoOrphansWhenItIsKilledItself) {
    test::RunningProgram program("sanpoll-ping", kLong);
    const auto children = both_children(program);
    ASSERT_EQ(children.size(), 2U);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ASSERT_EQ(kill(program.pid(), SIGKILL), 0);
    program.wait();
    const auto gone = [&](pid_t child) {
        // Adopted by someone who may be slow to reap: a zombie counts as gone.
        std::ifstream stat("/proc/" + std::to_string(child) + "/stat");
        std::string id, name, state;
        return !(stat >> id >> name >> state) || state == "Z" || state == "X";
    };
    for (const pid_t child : children)
        EXPECT_TRUE(test::eventually([&] { return gone(child); })) << child;
}

// ---------------------------------------------------------------------------------------- two hosts --

// Programs that agree by TCP, as on two hosts; here the other host is this one.
class SanpollPingHosts : public testing::Test {
protected:
    SanpollPingHosts() {
        // A port that was free a moment ago.
        port_ = std::to_string(reserve_port("127.0.0.1").port);
    }
    Arguments connecting(Arguments more) const {
        more.insert(more.end(), {"--connect", "127.0.0.1", "--port", port_});
        return tiny(more);
    }
    // The leader gives up soon when nobody listens. Nothing may connect to find out: the server takes one connection.
    bool listens() const {
        char wanted[8];
        std::snprintf(wanted, sizeof wanted, ":%04X", static_cast<unsigned>(std::stoul(port_)));
        return test::eventually([&] {
            std::ifstream sockets("/proc/net/tcp");
            for (std::string line; std::getline(sockets, line);) {
                std::istringstream words(line);
                std::string slot, local, remote, state;
                if (words >> slot >> local >> remote >> state && local.ends_with(wanted) &&
                    state == "0A")
                    return true;
            }
            return false;
        });
    }
    std::string port_;
};

TEST_F(SanpollPingHosts, MeasureWithEachOther) {
    for (const char* fabric : {"auto", "shm"}) {
        test::RunningProgram server("sanpoll-ping", {"--listen", "--port", port_, "--address",
                                                     "127.0.0.1", "--fabric", fabric});
        ASSERT_TRUE(listens());
        const json run = run_json(
            {"--sizes", "0,64", "--connect", "127.0.0.1", "--port", port_, "--fabric", fabric});
        const auto served = server.wait();
        EXPECT_EQ(served.status, 0) << served.err;
        EXPECT_EQ(run.at("placement").at("layout"), "two-hosts");
        EXPECT_TRUE(run["placement"].at("server_cpu").is_null());
        EXPECT_TRUE(run.at("handoff_ns").is_null());
        ASSERT_EQ(run.at("results").size(), 4U);
        check_result(run["results"][1], "shm", 64);
        check_result(run["results"][3], "tcp", 64);
    }
}

TEST_F(SanpollPingHosts, TheServerHearsAllAddressesUnlessToldOtherwise) {
    test::RunningProgram server("sanpoll-ping", {"--listen", "--port", port_});
    ASSERT_TRUE(listens());
    const auto result = test::run_ping(connecting({"--sizes", "64", "--no-rate", "--no-tcp"}));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_NE(result.out.find("server at 127.0.0.1"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("between two hosts"), std::string::npos) << result.out;
    EXPECT_EQ(server.wait().status, 0);
}

TEST_F(SanpollPingHosts, TheLeaderChoosesNoLibraryForTheServer) {
    test::RunningProgram server("sanpoll-ping", {"--listen", "--port", port_});
    ASSERT_TRUE(listens());
    const auto result = test::run_ping(connecting({"--library", "/nowhere/libsanpoll.so"}));
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("client process"), std::string::npos) << result.err;
    EXPECT_EQ(server.wait().status, 1) << "its leader has gone";
}

TEST_F(SanpollPingHosts, TellInOneLineThatTheOtherEndDied) {
    test::RunningProgram server("sanpoll-ping", {"--listen", "--port", port_});
    ASSERT_TRUE(listens());
    test::RunningProgram leader("sanpoll-ping",
                                {"--connect", "127.0.0.1", "--port", port_, "--no-tcp", "--no-rate",
                                 "--sizes", "64", "--count", "1000000000", "--quiet"});
    ASSERT_TRUE(test::eventually([&] { return !leader.children().empty(); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    ASSERT_EQ(kill(server.pid(), SIGKILL), 0);
    const auto result = leader.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
}

TEST_F(SanpollPingHosts, TellInOneLineThatNobodyListens) {
    const auto result = test::run_ping(connecting({"--no-tcp"}));
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
    EXPECT_NE(result.err.find("--listen"), std::string::npos) << result.err;
}

// ------------------------------------------------------------------------------------ shared memory --

TEST(SanpollPingShm, MeasuresBesideTcp) {
    const json run = run_json({"--sizes", "0,8,64,1024,65536"});
    check_frame(run);
    ASSERT_EQ(run.at("results").size(), 10U);
    const std::uint64_t sizes[] = {0, 8, 64, 1024, 65536};
    for (std::size_t i = 0; i < 5; ++i) {
        check_result(run["results"][i], "shm", sizes[i]);
        check_result(run["results"][i + 5], "tcp", sizes[i]);
        EXPECT_EQ(run["results"][i].at("mode"), "inline");
        EXPECT_EQ(run["results"][i].at("completion"), "polled");
        EXPECT_GT(run["results"][i].at("messages_per_second").get<double>(), 0);
    }
}

TEST(SanpollPingShm, SaysWhichFabricCarriesItAndWhy) {
    const json run = run_json({"--no-tcp", "--no-rate", "--sizes", "64", "--fabric", "shm"});
    EXPECT_EQ(run.at("provider").at("fabric"), "shm");
    EXPECT_EQ(run["provider"].at("device"), "");
    EXPECT_EQ(run["provider"].at("fabric_reason"), "the knob 'fabric' leaves no other");
    const auto table = test::run_ping(tiny({"--no-tcp", "--no-rate", "--sizes", "64"}));
    EXPECT_EQ(table.status, 0) << table.err;
    EXPECT_NE(table.out.find("Fabric: shm ("), std::string::npos) << table.out;
}

TEST(SanpollPingShm, TellsWhyTheFabricThatIsAskedForIsNotThere) {
    const auto result = test::run_ping(tiny({"--no-tcp", "--fabric", "verbs"}));
    EXPECT_EQ(result.status, 1);
    EXPECT_NE(result.err.find("fabric = verbs"), std::string::npos) << result.err;
}

TEST(SanpollPingShm, LearnsOfCompletionsInEveryWay) {
    for (const char* completion : {"polled", "event", "port"}) {
        SCOPED_TRACE(completion);
        const json run = run_json({"--no-tcp", "--sizes", "64", "--completion", completion});
        check_result(run["results"][0], "shm", 64);
        EXPECT_EQ(run["results"][0].at("completion"), completion);
    }
}

TEST(SanpollPingShm, RunsInOneProcessAndInOneThread) {
    for (const char* layout : {"--one-process", "--one-thread"}) {
        SCOPED_TRACE(layout);
        const json run = run_json({"--no-tcp", "--sizes", "64,65536", layout});
        check_result(run["results"][0], "shm", 64);
        check_result(run["results"][1], "shm", 65536);
    }
}

TEST(SanpollPingShm, RunsWithDedicatedCores) {
    const json run = run_json({"--no-tcp", "--sizes", "64", "--mode", "dedicated", "--one-thread"});
    check_result(run["results"][0], "shm", 64);
    EXPECT_EQ(run["results"][0].at("mode"), "dedicated");
}

// Bare cache lines beside it: of what comes along in a slot, and nothing else.
TEST(SanpollPingShm, MeasuresBareLinesBesideAMessageByWayOfTheCore) {
    if (allowed_cpus().size() < 2) GTEST_SKIP() << "one CPU only";
    const json run = run_json({"--no-tcp", "--no-rate", "--sizes", "64,1024", "--count", "600",
                               "--rounds", "2", "--one-thread", "--mode", "dedicated"});
    const json& small = run["results"][0];
    EXPECT_GT(small.at("bare_ns"), 0.0);
    EXPECT_GT(small.at("bare_with_work_ns"), 0.0);
    for (const json& round : small.at("rounds")) {
        EXPECT_GT(round.at("bare_ns"), 0.0);
        EXPECT_GT(round.at("bare_with_work_ns"), 0.0);
    }
    EXPECT_FALSE(run["results"][1].contains("bare_ns"));
    const json inlined = run_json({"--no-tcp", "--no-rate", "--sizes", "64", "--one-thread"});
    EXPECT_FALSE(inlined["results"][0].contains("bare_ns"));
}

// With one CPU there is no hand-off to compare with.
TEST(SanpollPingShm, SaysWhatAMessageByWayOfTheCoreTakes) {
    if (allowed_cpus().size() < 2) GTEST_SKIP() << "one CPU only";
    const Arguments common{"--no-tcp", "--no-rate", "--sizes", "64",          "--count",
                           "2000",     "--rounds",  "1",       "--one-thread"};
    Arguments dedicated = common;
    dedicated.insert(dedicated.end(), {"--mode", "dedicated"});
    const auto with_core = test::run_ping(dedicated);
    EXPECT_EQ(with_core.status, 0) << with_core.err;
    EXPECT_NE(with_core.out.find("64 bytes from the thread to the polling core and back: "),
              std::string::npos)
        << with_core.out;
    EXPECT_NE(with_core.out.find("bare cache lines, as many of them: "), std::string::npos)
        << with_core.out;
    const auto inlined = test::run_ping(common);
    EXPECT_EQ(inlined.status, 0) << inlined.err;
    EXPECT_EQ(inlined.out.find("polling core and back"), std::string::npos) << inlined.out;
}

TEST(SanpollPingShm, RunsOnOneCpu) {
    const json run = run_json({"--no-tcp", "--sizes", "64"}, allowed_cpus().front());
    check_result(run["results"][0], "shm", 64);
}

TEST(SanpollPingShm, WorksWithASingleReceiveAndASingleSend) {
    const json run = run_json(
        {"--no-tcp", "--sizes", "64", "--receives", "1", "--window", "1", "--rate-receives", "4"});
    check_result(run["results"][0], "shm", 64);
}

TEST(SanpollPingShm, NoticesAKilledPeer) {
    test::RunningProgram program("sanpoll-ping", {"--no-tcp", "--sizes", "64", "--count",
                                                  "1000000000", "--quiet", "--no-rate"});
    const auto children = both_children(program);
    ASSERT_EQ(children.size(), 2U);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    ASSERT_EQ(kill(children[0], SIGKILL), 0);
    const auto result = program.wait();
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(test::lines_of(result.err), 1U) << result.err;
}

}  // namespace
}  // namespace sanpoll::bench
