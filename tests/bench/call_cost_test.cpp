// call_cost as its user sees it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/bench/run_program.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

std::map<std::string, json> run(const std::string& counts) {
    test::RunningProgram program("call_cost", {"--rounds", "100", "--counted-rounds", "40",
                                               "--counts", counts, "--json", "-"});
    const auto result = program.wait();
    EXPECT_EQ(result.status, 0) << result.err;
    std::map<std::string, json> calls;
    if (result.status == 0) {
        const json all = json::parse(result.out);
        for (const json& call : all.at("calls")) {
            calls[call.at("name")] = call;
        }
    }
    return calls;
}

TEST(CallCost, TimesEveryCall) {
    const auto calls = run("0");
    for (const char* name :
         {"send_and_receive_64", "send_8", "receive_1024", "result_idle_64", "rdma_write_64",
          "register_memory", "get_sock_opt", "socket", "connect", "accept", "close_last"}) {
        ASSERT_EQ(calls.count(name), 1U) << name;
        EXPECT_TRUE(calls.at(name).at("instructions").is_null()) << name;
        EXPECT_GE(calls.at(name).at("time_ns").get<double>(), 0.0) << name;
    }
}

TEST(CallCost, CountsTheSameEachTime) {
    if (kSanitized || std::system("valgrind --version >/dev/null 2>&1") != 0) {
        GTEST_SKIP() << "callgrind cannot run here";
    }
    const auto calls = run("2");
    for (const char* name : {"send_and_receive_64", "send_64", "receive_64", "result_of_send_64",
                             "result_with_arrival_64", "get_sock_opt"}) {
        ASSERT_EQ(calls.count(name), 1U) << name;
        const json& call = calls.at(name);
        EXPECT_TRUE(call.at("same_in_each_count").get<bool>()) << call.dump();
        EXPECT_GT(call.at("instructions").get<double>(), 20.0) << call.dump();
    }
    // The whole is its parts: one of each, and credit that is reported now and then.
    const auto of = [&](const char* name) {
        return calls.at(name).at("instructions").get<double>();
    };
    const double parts =
        of("send_64") + of("receive_64") + of("result_of_send_64") + of("result_with_arrival_64");
    EXPECT_NEAR(of("send_and_receive_64") / parts, 1.0, 0.15);
}

}  // namespace
}  // namespace sanpoll::bench
