// sanpoll-ping: round trips and message rates between a server process and a client process through the provider,
// beside kernel TCP measured in the same run in the same pattern. See bench/README.md.
#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>

#include "bench/cpu_plan.hpp"
#include "bench/ping_agent.hpp"
#include "bench/ping_leader.hpp"
#include "bench/ping_options.hpp"
#include "bench/ping_results.hpp"

namespace {

namespace bench = sanpoll::bench;

constexpr int kFailed = 1;

int fail(const std::string& line) {
    fmt::print(stderr, "sanpoll-ping: {}\n", line);
    return kFailed;
}

int write_outputs(const bench::PingRun& run, const bench::PingOptions& options,
                  const bench::CpuPlan& plan, std::ofstream& json_file) {
    if (options.json == "-") {
        fmt::print("{}\n", bench::json_of(run, options, plan).dump(1));
        return 0;
    }
    fmt::print("{}", bench::table_of(run, options, plan));
    if (options.json.empty()) return 0;
    json_file << bench::json_of(run, options, plan).dump(1) << '\n';
    json_file.close();
    return json_file ? 0
                     : fail("the results could not be written to " + options.json + ": " +
                            std::strerror(errno));
}

}  // namespace

int main(int argc, char** argv) {
    const bench::ParsedOptions parsed = bench::parse_options(argc, argv);
    if (!parsed.options) {
        fmt::print(parsed.status == 0 ? stdout : stderr, "{}\n", parsed.text);
        return parsed.status;
    }
    const bench::PingOptions& options = *parsed.options;
    std::signal(SIGPIPE, SIG_IGN);  // a reader that has gone is an error of write, not our death
    if (!options.role.empty())
        return bench::run_agent_process(options.role, options.control_fds, {});

    if (options.listen) {
        try {
            return bench::run_listening_agent(options);
        } catch (const std::exception& fault) {
            return fail(fault.what());
        }
    }

    // Opened before the run, so that a wrong name costs no measurement.
    std::ofstream json_file;
    if (!options.json.empty() && options.json != "-") {
        json_file.open(options.json);
        if (!json_file)
            return fail("--json: cannot write " + options.json + ": " + std::strerror(errno));
    }
    try {
        const bench::CpuPlan plan = bench::plan_cpus(options);
        const bench::PingRun run = bench::lead_run(options, plan);
        return write_outputs(run, options, plan, json_file);
    } catch (const std::exception& fault) {
        return fail(fault.what());
    }
}
