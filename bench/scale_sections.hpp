// The parts of scale_bench. Each starts its own processes, measures in rounds, and answers rows for JSON and a table
// for people.
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/cpu_placement.hpp"
#include "bench/helper_process.hpp"
#include "bench/program.hpp"
#include "bench/progress.hpp"
#include "bench/sampler.hpp"

namespace sanpoll::bench {

struct ScaleOptions {
    CommonOptions common;
    std::vector<std::string> sections{"idle", "busy", "threads", "fan-in"};
    std::vector<std::size_t> idle{1, 100, 1000, 10000};
    std::size_t idle_receives = 1;  // posted on each idle connection
    std::vector<std::size_t> busy{1, 10, 100, 1000};
    std::vector<std::size_t> threads{1, 2, 4};
    std::size_t clients = 64;          // of the fan-in, dealt out to ...
    std::size_t client_processes = 4;  // ... so many processes
    std::uint64_t sample_ms = 0;       // 0: the usual
    std::string role;                  // set in processes that the program starts itself

    [[nodiscard]] unsigned rounds() const {
        return common.rounds != 0 ? common.rounds : (common.quick ? 3 : 7);
    }
    [[nodiscard]] std::uint64_t ms() const {
        return sample_ms != 0 ? sample_ms : (common.quick ? 50 : 150);
    }
    [[nodiscard]] bool wants(const char* section) const {
        return std::find(sections.begin(), sections.end(), section) != sections.end();
    }
};

struct ScaleRun {
    const ScaleOptions& options;
    CpuChoice cpus;
    Sampler& sampler;
    Progress& progress;

    [[nodiscard]] bool one_cpu() const noexcept { return cpus.server == cpus.client; }
    // So many messages of `ns` each fill a sample; a multiple of 64, so that it can be dealt out.
    [[nodiscard]] std::uint64_t messages_of(double ns) const {
        const double fitting = static_cast<double>(options.ms()) * 1e6 / std::max(ns, 1.0);
        return std::max<std::uint64_t>(static_cast<std::uint64_t>(fitting) / 64, 4) * 64;
    }
};

// A server and its clients, set up.
class ScaleCrew {
public:
    struct Member {
        int cpu = 0;
        bool yield = false;
        ChildProcess::Environment environment;
    };
    ScaleCrew(const ScaleOptions& options, const Member& server,
              const std::vector<Member>& clients);

    // Tells the server and the first `clients` clients, waits for all; the clients' answers. What the two sides are
    // told may differ in `server_only`, which is put over the command.
    std::vector<nlohmann::json> all(const nlohmann::json& command, std::size_t clients = 1,
                                    const nlohmann::json& server_only = nlohmann::json::object());
    // Busy connections, one client after the other.
    void open(std::size_t each, std::uint32_t receives, std::uint32_t sends,
              std::size_t clients = 1);
    void close(std::size_t clients = 1) { (void)all({{"do", "close"}}, clients); }
    // Idle connections more, of the first client.
    void crowd(std::size_t count);
    void disperse() { (void)all({{"do", "disperse"}}); }
    // {server's, client's}.
    std::pair<nlohmann::json, nlohmann::json> memory();
    void dismiss();

private:
    const ScaleOptions& options_;
    HelperProcess server_;
    std::vector<HelperProcess> clients_;
    std::uint16_t port_ = 0;
    std::uint16_t idle_port_ = 0;
};

struct ScaleSection {
    nlohmann::json rows;  // under the section's name
    std::string table;
    // Of the idle section only:
    nlohmann::json more;  // in dedicated mode
    nlohmann::json memory;
    nlohmann::json targets;
};

ScaleSection measure_idle(const ScaleRun& run);
ScaleSection measure_busy(const ScaleRun& run);
ScaleSection measure_threads(const ScaleRun& run);
ScaleSection measure_fan_in(const ScaleRun& run);

// Samples of each section, for progress.
std::size_t scale_samples(const ScaleOptions& options);

}  // namespace sanpoll::bench
