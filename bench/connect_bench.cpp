// connect_bench: how fast connections come and go, beside kernel TCP over loopback in the same run. Two processes;
// one after another and several under way at once; beside one and beside many open ones. See bench/README.md.
//
// --json: {"program": "connect_bench", "sentinels": [{round_trip_ns, overwrite_ns_per_line, placement}], "count",
// "rounds", "repeated", "moved", "results": [{"what": "connect", "transport": "shm" | "tcp", "wait": "sleep" | "poll",
// "under_way", "open", and medians of the rounds: "connected_p50_ns", "connected_p99_ns", "p50_ns" and "p99_ns" of
// connect + accept + close, "connections_per_second"; "rounds": [the same five of each]}], "ratios": [{"what":
// "shm_over_tcp", "under_way", "open", "p50", "rate"}]}: the better way of waiting of each; of rates the inverse, so
// that below 1 is faster everywhere.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "bench/connect_load.hpp"
#include "bench/cpu_placement.hpp"
#include "bench/helper_process.hpp"
#include "bench/program.hpp"
#include "bench/progress.hpp"
#include "bench/sampler.hpp"
#include "bench/spread.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr const char* kName = "connect_bench";
constexpr std::uint64_t kWarmUp = 50;  // or as many as are measured then

struct Options {
    CommonOptions common;
    std::uint64_t count = 0;  // 0: the usual one
    std::vector<std::size_t> at_once{1, 16};
    std::vector<std::size_t> beside{1, 1000};
    bool no_tcp = false;

    [[nodiscard]] unsigned rounds() const {
        return common.rounds != 0 ? common.rounds : (common.quick ? 3 : 7);
    }
    [[nodiscard]] std::uint64_t connections() const {
        return count != 0 ? count : (common.quick ? 500 : 2000);
    }
};

// ---- the server's process --------------------------------------------------------------------------------------

ConnectWait wait_from(const json& text) {
    return text == "poll" ? ConnectWait::kPoll : ConnectWait::kSleep;
}

int run_server(const Options& options) {
    std::unique_ptr<sanpoll_switch::Provider> provider;
    std::map<std::string, std::unique_ptr<ConnectServer>> servers;
    return obey_leader(options.common.control_fd, [&](const json& command) -> json {
        if (command.at("do") == "start") {
            // Not before: what is in the way is the leader's to tell, in one line.
            provider = load_provider(options.common.library);
            servers["shm"] = san_connect_server(*provider);
            servers["tcp"] = tcp_connect_server();
            let_open_files(command.at("files"));
            (void)pin_this_thread(command.at("cpu"));
            return {{"shm", servers["shm"]->port()}, {"tcp", servers["tcp"]->port()}};
        }
        ConnectServer& server = *servers.at(command.at("transport"));
        if (command.at("do") == "take") {
            server.take(command.at("count"), command.at("keep"), wait_from(command.at("wait")));
        } else {
            server.drop();
        }
        return json::object();
    });
}

// ---- the client's ----------------------------------------------------------------------------------------------

struct Series {
    std::string transport;
    std::string wait;
    std::size_t at_once = 1;
    std::size_t beside = 1;
    std::vector<double> connected_p50, connected_p99, whole_p50, whole_p99, per_second;

    void add(const ConnectTimes& times) {
        connected_p50.push_back(static_cast<double>(times.connected.quantile(0.5)));
        connected_p99.push_back(static_cast<double>(times.connected.quantile(0.99)));
        whole_p50.push_back(static_cast<double>(times.whole.quantile(0.5)));
        whole_p99.push_back(static_cast<double>(times.whole.quantile(0.99)));
        per_second.push_back(static_cast<double>(times.whole.total()) * 1e9 /
                             static_cast<double>(std::max<std::uint64_t>(times.elapsed_ns, 1)));
    }
};

class Leader {
public:
    explicit Leader(const Options& options)
        : options_(options),
          cpus_(choose_pair(read_topology(allowed_cpus()))),
          server_(HelperProcess::start("server", {"--library", options.common.library})),
          provider_(load_provider(options.common.library)) {
        rule_.clock = Clock::calibrate();
        rule_.yield = true;
        std::size_t files = 1000;
        for (const std::size_t beside : options.beside)
            files = std::max(files, beside + 1000);
        let_open_files(files);
        const json ports = server_.ask({{"do", "start"}, {"cpu", cpus_.server}, {"files", files}});
        (void)pin_this_thread(cpus_.client);
        clients_["shm"] = san_connect_client(*provider_, ports.at("shm"));
        if (!options.no_tcp) clients_["tcp"] = tcp_connect_client(ports.at("tcp"));
        for (const std::size_t beside : options.beside) {
            for (const std::size_t at_once : options.at_once) {
                for (const auto& [transport, client] : clients_) {
                    for (const char* wait : {"sleep", "poll"})
                        series_.push_back({transport, wait, at_once, beside, {}, {}, {}, {}, {}});
                }
            }
        }
    }

    void run() {
        const std::size_t samples = series_.size() * options_.rounds();
        Sampler sampler(rule_.clock, cpus_.server, cpus_.client, 2, samples / 3 + 1);
        Progress progress(samples, options_.common.quiet, kName);
        for (const std::size_t beside : options_.beside) {
            progress.show(fmt::format("opening {} connections", beside));
            for (const auto& [transport, client] : clients_)
                open(transport, *client, beside);
            for (unsigned round = 1; round <= options_.rounds(); ++round) {
                for (Series& series : series_) {
                    if (series.beside != beside) continue;
                    progress.show(fmt::format("round {} of {}, {} {}", round, options_.rounds(),
                                              series.transport, series.wait));
                    series.add(sampler.take([&] { return measure(series); }));
                    progress.step();
                }
            }
            for (const auto& [transport, client] : clients_) {
                client->drop();
                (void)server_.ask({{"do", "drop"}, {"transport", transport}});
            }
        }
        server_.dismiss();
        report(options_.common, figures(sampler), table(sampler));
    }

private:
    void order(const std::string& transport, std::uint64_t count, bool keep,
               const std::string& wait) {
        server_.tell({{"do", "take"},
                      {"transport", transport},
                      {"count", count},
                      {"keep", keep},
                      {"wait", wait}});
    }
    void open(const std::string& transport, ConnectClient& client, std::size_t count) {
        if (count == 0) return;
        order(transport, count, true, "sleep");
        for (std::size_t i = 0; i < count; ++i)
            client.keep();
        (void)server_.hear();
    }
    ConnectTimes measure(const Series& series) {
        ConnectClient& client = *clients_.at(series.transport);
        const std::uint64_t warm_up =
            std::max<std::uint64_t>(std::min(kWarmUp, options_.connections()), series.at_once);
        order(series.transport, warm_up + options_.connections(), false, series.wait);
        const ConnectWait wait = wait_from(series.wait);
        (void)run_connects(client, rule_, warm_up, series.at_once, wait);
        ConnectTimes times =
            run_connects(client, rule_, options_.connections(), series.at_once, wait);
        (void)server_.hear();
        return times;
    }

    // The better way of waiting; null without the transport.
    [[nodiscard]] const Series* best(const std::string& transport, const Series& like) const {
        const Series* found = nullptr;
        for (const Series& series : series_) {
            if (series.transport != transport || series.at_once != like.at_once ||
                series.beside != like.beside)
                continue;
            if (found == nullptr ||
                spread_of(series.whole_p50).median < spread_of(found->whole_p50).median)
                found = &series;
        }
        return found;
    }

    // Calls `use(san, tcp)` for each setting that both have been measured in.
    template <class Use>
    void each_pair(Use&& use) const {
        for (const Series& series : series_) {
            if (series.transport != "shm" || series.wait != "sleep") continue;
            const Series* tcp = best("tcp", series);
            if (tcp != nullptr) use(*best("shm", series), *tcp);
        }
    }
    static double whole_ratio(const Series& san, const Series& tcp) {
        return spread_of(san.whole_p50).median / spread_of(tcp.whole_p50).median;
    }
    static double rate_ratio(const Series& san, const Series& tcp) {
        return spread_of(tcp.per_second).median / spread_of(san.per_second).median;
    }

    [[nodiscard]] json figures(const Sampler& sampler) const {
        json results = json::array();
        for (const Series& series : series_) {
            json rounds = json::array();
            for (std::size_t i = 0; i < series.whole_p50.size(); ++i) {
                rounds.push_back({{"connected_p50_ns", series.connected_p50[i]},
                                  {"connected_p99_ns", series.connected_p99[i]},
                                  {"p50_ns", series.whole_p50[i]},
                                  {"p99_ns", series.whole_p99[i]},
                                  {"connections_per_second", series.per_second[i]}});
            }
            json one{{"what", "connect"},
                     {"transport", series.transport},
                     {"wait", series.wait},
                     {"under_way", series.at_once},
                     {"open", series.beside},
                     {"connected_p50_ns", spread_of(series.connected_p50).median},
                     {"connected_p99_ns", spread_of(series.connected_p99).median},
                     {"p50_ns", spread_of(series.whole_p50).median},
                     {"p99_ns", spread_of(series.whole_p99).median},
                     {"connections_per_second", spread_of(series.per_second).median},
                     {"rounds", rounds}};
            results.push_back(std::move(one));
        }
        json ratios = json::array();
        each_pair([&](const Series& san, const Series& tcp) {
            ratios.push_back({{"what", "shm_over_tcp"},
                              {"under_way", san.at_once},
                              {"open", san.beside},
                              {"p50", whole_ratio(san, tcp)},
                              {"rate", rate_ratio(san, tcp)}});
        });
        return {{"program", kName},
                {"sentinels", sampler.json()},
                {"count", options_.connections()},
                {"rounds", options_.rounds()},
                {"repeated", sampler.repeated()},
                {"moved", sampler.moved()},
                {"results", results},
                {"ratios", ratios}};
    }

    [[nodiscard]] std::string table(const Sampler& sampler) const {
        std::string text = fmt::format(
            "{} connections a round, {} rounds; us, medians of the rounds\n{}\n\n"
            "{:>6} {:>7} {:<4} {:<5} {:>9} {:>9} {:>9} {:>9} {:>15} {:>9} {:>15}\n",
            options_.connections(), options_.rounds(), sampler.summary(), "beside", "at once", "",
            "wait", "conn p50", "conn p99", "whole p50", "whole p99", "p50 range", "1/s", "range");
        for (const Series& series : series_) {
            const Spread p50 = spread_of(series.whole_p50);
            const Spread rate = spread_of(series.per_second);
            text += fmt::format(
                "{:>6} {:>7} {:<4} {:<5} {:>9.1f} {:>9.1f} {:>9.1f} {:>9.1f} {:>15} {:>9.0f} "
                "{:>15}\n",
                series.beside, series.at_once, series.transport, series.wait,
                spread_of(series.connected_p50).median / 1000,
                spread_of(series.connected_p99).median / 1000, p50.median / 1000,
                spread_of(series.whole_p99).median / 1000,
                fmt::format("{:.1f} - {:.1f}", p50.least / 1000, p50.most / 1000), rate.median,
                fmt::format("{:.0f} - {:.0f}", rate.least, rate.most));
        }
        text += '\n';
        each_pair([&](const Series& san, const Series& tcp) {
            text += fmt::format(
                "beside {}, {} at once: connect + accept + close takes {:.2f} of kernel TCP's time "
                "(p50, the better way of waiting of each), {:.2f} counted by the rate\n",
                san.beside, san.at_once, whole_ratio(san, tcp), rate_ratio(san, tcp));
        });
        return text;
    }

    const Options& options_;
    CpuChoice cpus_;
    HelperProcess server_;  // before anything that starts threads
    std::unique_ptr<sanpoll_switch::Provider> provider_;
    SpinRule rule_;
    std::map<std::string, std::unique_ptr<ConnectClient>> clients_;
    std::vector<Series> series_;
};

int run(const Options& options) {
    if (options.common.control_fd >= 0) return run_server(options);
    check_json_file(options.common);
    Leader(options).run();
    return 0;
}

}  // namespace
}  // namespace sanpoll::bench

int main(int argc, char** argv) {
    namespace bench = sanpoll::bench;
    bench::Options options;
    bench::CommandLine line(bench::kName, "connections that come and go, beside kernel TCP");
    bench::add_common_options(line, options.common);
    line.option("--count", options.count, "connections in a round; 0: as many as are usual")
        .within(0, 1000000);
    line.option("--at-once", options.at_once, "connections under way at once, up to 64")
        .comma_separated()
        .within(1, bench::kMostSlots);
    line.option("--beside", options.beside, "open connections beside, up to 4000")
        .comma_separated()
        .within(0, 4000);
    line.flag("--no-tcp", options.no_tcp, "without kernel TCP");
    return bench::run_program(line, argc, argv, [&] { return bench::run(options); });
}
