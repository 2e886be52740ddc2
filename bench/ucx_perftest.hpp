// UCX's own measuring program beside ours: one test between two CPUs, its two processes started and ended here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace sanpoll::bench {

struct UcxResult {
    std::string failure;    // why there is no figure; empty if there is one
    double typical_ns = 0;  // the median of its latencies: half a round trip in its ping-pongs
    double operations_per_second = 0;
};

struct UcxTest {
    std::string name;  // ucp_put_lat, ucp_put_bw, ucp_get
    std::size_t bytes = 8;
    std::uint64_t count = 10000;
    int server_cpu = 0;
    int client_cpu = 0;
};

// What UCX may use: shared memory of one host, which is its quickest here.
inline constexpr const char* kUcxTransports = "posix,cma,self";

// Blocks for as long as it takes, at most some seconds. The port is picked anew each time.
UcxResult run_ucx(const UcxTest& test);

}  // namespace sanpoll::bench
