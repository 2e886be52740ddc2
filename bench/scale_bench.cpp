// scale_bench: what becomes of speed with the number of connections, threads, polling cores and clients, between
// processes over shared memory. See bench/README.md.
//
// --json: {"program": "scale_bench", "sentinels": [{round_trip_ns, overwrite_ns_per_line, placement}], "bytes",
// "rounds", "repeated", "moved", and of the sections that were wanted, medians with all rounds under "rounds":
// "idle": [{"idle_connections", "half_p50_ns", "half_p99_ns", "alone_half_p50_ns", "ratio_to_alone" (of a round:
// to the mean of the samples before and after without any)}], "idle_dedicated": the same of the largest number, the
// client with a polling core,
// "memory": [{"connections", "receives_posted", "server_bytes_per_connection", "client_bytes_per_connection",
// "bytes_per_connection" (an end's, mean of the two)}],
// "busy": [{"connections", "messages_per_second", "ns_per_message"}],
// "threads": [{"polling_cores", "threads", "cpus", "echoes_per_second", "messages_per_second" (two an echo),
// "half_p50_ns"}],
// "fan_in": [{"clients" (connections), "processes", "echoes_per_second", "messages_per_second", "half_p50_ns",
// "slowest_over_quickest_client"}],
// "targets": [{"name", "value", "target", "met"}]}
#include <fmt/format.h>

#include "bench/scale_end.hpp"
#include "bench/scale_sections.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr const char* kName = "scale_bench";

int lead(const ScaleOptions& options) {
    check_json_file(options.common);
    const Clock clock = Clock::calibrate();
    const CpuChoice cpus = choose_pair(read_topology(allowed_cpus()));
    const std::size_t samples = scale_samples(options);
    Sampler sampler(clock, cpus.server, cpus.client, 2, samples / 3 + 1);
    Progress progress(samples, options.common.quiet, kName);
    const ScaleRun run{options, cpus, sampler, progress};

    json figures{{"program", kName},
                 {"bytes", kScaleMessageBytes},
                 {"rounds", options.rounds()},
                 {"targets", json::array()}};
    std::string tables;
    const auto measure = [&](const char* option, const char* key,
                             ScaleSection (*section)(const ScaleRun&)) {
        if (!options.wants(option)) return;
        ScaleSection measured = section(run);
        figures[key] = std::move(measured.rows);
        if (!measured.more.is_null()) figures["idle_dedicated"] = std::move(measured.more);
        if (!measured.memory.is_null()) figures["memory"] = std::move(measured.memory);
        for (json& target : measured.targets)
            figures["targets"].push_back(std::move(target));
        tables += measured.table + '\n';
    };
    measure("idle", "idle", measure_idle);
    measure("busy", "busy", measure_busy);
    measure("threads", "threads", measure_threads);
    measure("fan-in", "fan_in", measure_fan_in);
    figures["sentinels"] = sampler.json();
    figures["repeated"] = sampler.repeated();
    figures["moved"] = sampler.moved();
    report(options.common, figures,
           fmt::format("{} rounds, medians of the rounds; {}\n\n{}", options.rounds(),
                       sampler.summary(), tables));
    return 0;
}

int run(const ScaleOptions& options) {
    if (options.role == "server")
        return run_scale_end(ScaleRole::kServer, options.common.library, options.common.control_fd);
    if (options.role == "client")
        return run_scale_end(ScaleRole::kClient, options.common.library, options.common.control_fd);
    return lead(options);
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    namespace bench = sanpoll::bench;
    bench::ScaleOptions options;
    bench::CommandLine line(
        bench::kName, "speed over the number of connections, threads, polling cores and clients");
    bench::add_common_options(line, options.common);
    line.option("--sections", options.sections, "idle, busy, threads, fan-in")
        .comma_separated()
        .one_of({"idle", "busy", "threads", "fan-in"});
    line.option("--idle", options.idle, "idle connections beside the busy one")
        .comma_separated()
        .within(1, 50000);
    line.option("--idle-receives", options.idle_receives, "receives posted on each idle one")
        .within(0, 64);
    line.option("--busy", options.busy, "busy connections").comma_separated().within(1, 4000);
    line.option("--threads", options.threads, "application threads")
        .comma_separated()
        .one_of({1, 2, 4, 8, 16});
    line.option("--clients", options.clients, "connections of the fan-in").within(1, 1024);
    line.option("--client-processes", options.client_processes,
                "processes that they are dealt out to")
        .one_of({1, 2, 4, 8, 16, 32, 64});
    line.option("--sample", options.sample_ms, "ms of a sample; 0: as many as are usual")
        .within(0, 60000);
    line.option("--role", options.role).hidden();
    return bench::run_program(line, argc, argv, [&] { return bench::run(options); });
}
