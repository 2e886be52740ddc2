// The options of peer_bench: what is measured against what.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/peers.hpp"
#include "bench/ping_options.hpp"

namespace sanpoll::bench {

struct PeerBenchOptions {
    PingOptions ping;  // what the leader is told
    bool quick = false;
    std::vector<PeerLeftOut> skipped;  // asked for, but not in this build
};

struct ParsedPeerOptions {
    std::optional<PeerBenchOptions> options;
    std::string text;  // without options: what to print
    int status = 0;    // 0: help, to standard output; 2: a wrong option, one line to standard error
};

ParsedPeerOptions parse_peer_options(int argc, const char* const* argv, const Peers& peers);

}  // namespace sanpoll::bench
