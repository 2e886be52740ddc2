// peer_bench: messages between two processes over the provider and over what else a host has (kernel TCP, unix
// sockets, io_uring, UCX, libfabric), in the same loops and the same rounds. See bench/README.md.
//
// --json writes one object:
//   program, mode, fresh, window, rate_receives, window_bytes, rounds, seconds, handoff_ns, placement, provider
//   skipped      {name: why} of the peers that could not be measured
//   sentinels    [{round_trip_ns, overwrite_ns_per_line, placement}], before and after each sample that was kept
//   results      for each transport and size what sanpoll-ping writes (rtt_ns, histogram, ratio_to_handoff, rounds, ...)
//                and name, ours, transport, size, configuration, half_p50_ns, half_p99_ns, messages_per_second,
//                bytes_per_second: medians of the rounds; the rounds' own values under the same names with _rounds;
//                of long messages of ours out of arenas bare_copy_bytes_per_second, bare_joint_copy_bytes_per_second: bare
//                copies of as many (bench/bare_copy.hpp), in the same rounds
//   comparisons  [{figure: "half_p50_ns" | "messages_per_second", size, ours, our_value, best_peer, best_value, ratio,
//                ratio_rounds}]: how many times better each of ours is than the best peer; the ratio is the median of
//                the rounds' ratios
#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>

#include "bench/peer_options.hpp"
#include "bench/peer_results.hpp"
#include "bench/ping_agent.hpp"
#include "bench/ping_leader.hpp"

namespace {

namespace bench = sanpoll::bench;

int fail(const std::string& line) {
    fmt::print(stderr, "peer_bench: {}\n", line);
    return 1;
}

}  // namespace

int main(int argc, char** argv) {
    const bench::Peers peers = bench::all_peers();
    const bench::ParsedPeerOptions parsed = bench::parse_peer_options(argc, argv, peers);
    if (!parsed.options) {
        fmt::print(parsed.status == 0 ? stdout : stderr, "{}\n", parsed.text);
        return parsed.status;
    }
    const bench::PeerBenchOptions& options = *parsed.options;
    std::signal(SIGPIPE, SIG_IGN);  // a reader that has gone is an error of write, not our death
    if (!options.ping.role.empty())
        return bench::run_agent_process(options.ping.role, options.ping.control_fds, peers);

    // UCX would write its warnings to standard output, where the results go.
    setenv("UCX_LOG_LEVEL", "fatal", 0);
    // Nor may it patch mmap and its like: that serves caches of registered memory, which posix and cma have no use for,
    // and the others are measured in the same process.
    setenv("UCX_MEM_EVENTS", "no", 0);
    std::ofstream json_file;
    const std::string& json = options.ping.json;
    if (!json.empty() && json != "-") {
        json_file.open(json);
        if (!json_file) return fail("--json: cannot write " + json + ": " + std::strerror(errno));
    }
    try {
        const bench::CpuPlan plan = bench::plan_cpus(options.ping);
        const bench::PingRun run = bench::lead_run(options.ping, plan);
        if (json == "-") {
            fmt::print("{}\n", bench::peer_json_of(run, options, plan, peers).dump(1));
            return 0;
        }
        fmt::print("{}", bench::peer_table_of(run, options, plan, peers));
        if (json.empty()) return 0;
        json_file << bench::peer_json_of(run, options, plan, peers).dump(1) << '\n';
        json_file.close();
        return json_file ? 0
                         : fail("the results could not be written to " + json + ": " +
                                std::strerror(errno));
    } catch (const std::exception& fault) {
        return fail(fault.what());
    }
}
