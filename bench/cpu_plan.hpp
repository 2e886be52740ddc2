// Which thread of a measurement goes where: decided once, before anything is started, and explained.
#pragma once

#include <string>
#include <vector>

#include "bench/ping_options.hpp"

namespace sanpoll::bench {

struct CpuPlan {
    int server = 0;                // CPU of the server's application thread; -1: another host's
    int client = 0;                // the client's; the same with one thread or one CPU
    std::vector<int> server_poll;  // CPUs of the polling cores, dedicated mode only
    std::vector<int> client_poll;
    int handoff_a = 0;  // the two CPUs between which messages cross; equal if there is only one
    int handoff_b = 0;
    bool yield = false;                // more spinning threads than CPUs: loops give the CPU away
    std::string why;                   // one clause
    std::vector<std::string> remarks;  // what the reader of the figures has to know
};

CpuPlan plan_cpus(const PingOptions& options);

}  // namespace sanpoll::bench
