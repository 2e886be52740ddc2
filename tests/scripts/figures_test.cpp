// scripts/rdma-lab.d/demo/figures: what it reads out of the output of programs, as these print it.
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

namespace sanpoll::scripts {
namespace {

std::string call(const std::string& function, const std::string& input = "") {
    const std::string command =
        "printf '%s' '" + input +
        "' | bash -c '. " SANPOLL_SOURCE_DIR "/scripts/rdma-lab.d/demo/figures; " + function + "'";
    std::FILE* pipe = ::popen(command.c_str(), "r");
    std::string output;
    for (int c; pipe != nullptr && (c = std::fgetc(pipe)) != EOF;)
        output += static_cast<char>(c);
    EXPECT_TRUE(pipe != nullptr && ::pclose(pipe) == 0) << command;
    return output;
}

constexpr const char* kLatency =
    " #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]\n"
    " 64      2000          11.66          237.85       12.27    \t       13.38       \t9.31\n"
    "---------------------------------------------------------------------------------\n";
constexpr const char* kBandwidth =
    " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n"
    " 65536      400              42.92              28.85  \t\t   0.000462\n";

TEST(Figures, OfPerftestAreAColumnOfItsTable) {
    EXPECT_EQ(call("of_perftest 5 64", kLatency), "12.27\n");
    EXPECT_EQ(call("of_perftest 4 65536", kBandwidth), "28.85\n");
    EXPECT_EQ(call("of_perftest 5 64", "Couldn t connect to 10.0.0.1:18515\n"), "");
}

TEST(Figures, OfRstreamAreTheLastOfALine) {
    const std::string head =
        "name      bytes   xfers   iters   total       time     Gb/sec    usec/xfer\n";
    EXPECT_EQ(
        call("of_rstream",
             head + "custom    64      500     1       62k         0.05s      0.01      48.60\n"),
        "48.60\n");
    EXPECT_EQ(
        call("of_rstream",
             head + "custom    64k     500     1       62m         3.10s      0.17    3095.60\n"),
        "3095.60\n");
    EXPECT_EQ(call("of_rstream", "rconnect: Connection refused\n"), "");
    EXPECT_EQ(call("of_rstream", head), "");
}

TEST(Figures, OfSanpollsProgramsAreNumbers) {
    const std::string json =
        "{\n \"sizes\": [64],\n   \"half_rtt_ns\": 16383.5,\n   \"loop_ns\": 37432.4,\n"
        "   \"messages_per_second\": null,\n   \"messages_per_second\": 656.6\n}\n";
    EXPECT_EQ(call("of_json half_rtt_ns", json), "16383.5\n");
    EXPECT_EQ(call("of_json messages_per_second", json), "656.6\n");
    EXPECT_EQ(call("of_json nothing", json), "");
    EXPECT_EQ(
        call("of_bench",
             "RDMA write over verbs, 64 bytes, one way: 13.06 us p50, 2179.07 p99, 12.67 least\n"),
        "13.06\n");
}

TEST(Figures, ASummaryHasMediansRangesAndTheRatio) {
    EXPECT_EQ(call("summary us \"10 9.5 30 10.5 9\" \"12 11 20 100 12.5\" \"40 41 39\""),
              "10.0 (9.0 - 30.0) us by perftest, 12.5 (11.0 - 100.0) by sanpoll: 1.25; "
              "40.0 (39.0 - 41.0) by rstream\n");
    EXPECT_EQ(call("summary MiB/s \"40\" \"42\" \"\""),
              "40.0 (40.0 - 40.0) MiB/s by perftest, 42.0 (42.0 - 42.0) by sanpoll: 1.05; - by "
              "rstream\n");
}

}  // namespace
}  // namespace sanpoll::scripts
