#include "bench/ping_leader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "bench/clock.hpp"
#include "bench/connection.hpp"
#include "bench/core_exchange.hpp"
#include "bench/ping_crew.hpp"
#include "bench/progress.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

// Time for all measuring proper of a run without --count, and the bounds of one phase's share of it. Set-up,
// sentinels and warming up come on top and keep the default run below 15 s.
constexpr double kRunNs = 8e9;
constexpr double kShortestPhaseNs = 10e6;
constexpr double kLongestPhaseNs = 500e6;

// A phase without --count is measured in about so many commands.
constexpr double kCommandsOfAPhase = 4;

// A command has at least so many messages (as far as there are), however slow they are.
constexpr std::uint64_t kFewestMessages = 100;

// A command lasts about so long at most: between commands the leader shows progress and notices what has died.
constexpr double kCommandNs = 1e9;

// Round trips at the start of each command that are not recorded, because the ends have just been asleep.
constexpr std::uint64_t kAwaken = 16;

// Outstanding sends during ping-pong: one under way, one whose completion may not have been collected yet.
constexpr std::uint32_t kPingSends = 2;

constexpr std::uint32_t kFewestReceives = 4;
constexpr std::uint32_t kLongMessage = 65536;  // from here on a bare copy is measured beside it

constexpr std::uint64_t kWarmupStream = 512;

// Warming up moves no more bytes than this: long messages are warm after few.
constexpr std::uint64_t kWarmupBytes = 64ULL << 20;
constexpr std::uint64_t kShortestWarmup = 64;

std::uint64_t warming(std::uint32_t size, std::uint64_t messages) {
    if (messages <= kShortestWarmup) return messages;
    const std::uint64_t most = kWarmupBytes / std::max<std::uint32_t>(size, 1);
    return std::clamp(most, kShortestWarmup, messages);
}

// Cuts a phase into commands: of a given number of messages, or of a given time if the number is 0. The time
// counts as it passes, not as it was expected, so a machine that turns busy does not stretch the run.
class Portions {
public:
    Portions(std::uint64_t wanted, double phase_ns, double message_ns)
        : wanted_(wanted), phase_ns_(phase_ns), message_ns_(std::max(message_ns, 1.0)) {}

    // Messages of the next command; 0 when the phase is over.
    std::uint64_t next() const {
        if (wanted_ != 0) return std::min(wanted_ - messages_, lasting(kCommandNs));
        if (elapsed_ns_ >= phase_ns_) return 0;
        return lasting(std::min(kCommandNs, phase_ns_ / kCommandsOfAPhase));
    }

    void done(std::uint64_t messages, double ns) {
        messages_ += messages;
        elapsed_ns_ += std::max(ns, 1.0);
        message_ns_ = std::max(ns / static_cast<double>(messages), 1.0);
    }

    std::uint64_t messages() const { return messages_; }
    double elapsed_ns() const { return elapsed_ns_; }

private:
    std::uint64_t lasting(double ns) const {
        return std::max(static_cast<std::uint64_t>(ns / message_ns_), kFewestMessages);
    }

    std::uint64_t wanted_;
    double phase_ns_;
    double message_ns_;  // the last estimate
    std::uint64_t messages_ = 0;
    double elapsed_ns_ = 0;
};

class Leader {
public:
    Leader(const PingOptions& options, const CpuPlan& plan)
        : options_(options), plan_(plan), crew_(options, plan), clock_(Clock::calibrate()) {
        const json& facts = crew_.facts();
        run_.missing = facts.value("missing", json::object());
        if (options.shm || options.arena) {
            run_.provider = ProviderFacts{facts.at("provider"),
                                          facts.at("provider_path"),
                                          facts.at("addresses"),
                                          facts.at("startup_ms"),
                                          {}};
        }
        plan_series();
        samples_ = std::max<std::uint64_t>(run_.series.size() * options.rounds, 1);
        const double phases = static_cast<double>(samples_) * (options.rate ? 2 : 1);
        phase_ns_ = options.phase_ms != 0
                        ? static_cast<double>(options.phase_ms) * 1e6
                        : std::clamp(kRunNs / phases, kShortestPhaseNs, kLongestPhaseNs);
    }

    PingRun lead() {
        const std::uint64_t start = Clock::monotonic_ns();
        run_.reference = measure_handoff(clock_, plan_.handoff_a, plan_.handoff_b);
        Progress progress(samples_, options_.quiet);
        for (std::uint32_t round = 1; round <= options_.rounds; ++round) {
            for (const std::uint32_t size : options_.sizes) {
                for (PingSeries& series : run_.series) {
                    if (series.size != size) continue;
                    label_ = fmt::format("round {} of {}, {} {} bytes", round, options_.rounds,
                                         series.transport, size);
                    series.samples.push_back(take_until_steady(series, progress));
                    progress.step();
                }
            }
        }
        crew_.dismiss();
        run_.seconds = static_cast<double>(Clock::monotonic_ns() - start) / 1e9;
        return std::move(run_);
    }

private:
    void plan_series() {
        const auto add = [&](const std::string& transport, std::uint64_t largest,
                             Completion completion) {
            for (const std::uint32_t size : options_.sizes) {
                if (size <= largest)
                    run_.series.push_back({!transport.starts_with("san"),
                                           completion,
                                           transport,
                                           transport,
                                           size,
                                           {}});
            }
        };
        std::vector<Completion> completions{options_.completion};
        completions.insert(completions.end(), options_.more_completions.begin(),
                           options_.more_completions.end());
        for (const Completion completion : completions) {
            if (options_.shm) add("san", UINT64_MAX, completion);
            if (options_.arena) add("san-arena", UINT64_MAX, completion);
        }
        if (options_.peers.empty() && tcp_wanted()) add("tcp", UINT64_MAX, Completion::kPolled);
        for (const WantedPeer& peer : options_.peers) {
            if (!run_.missing.contains(peer.name))
                add(peer.name, peer.largest, Completion::kPolled);
        }
    }

    // One thread cannot wait for its own kernel TCP without giving it a chance, so that is left out.
    bool tcp_wanted() const { return options_.tcp && options_.layout != Layout::kOneThread; }

    // Everybody is asleep in a read between commands, so the sentinel has the CPUs for itself.
    Handoff sentinel() const { return measure_handoff(clock_, plan_.handoff_a, plan_.handoff_b); }

    // One thread whose every message goes to the polling core beside it and back, in a slot.
    bool goes_by_a_core(const PingSeries& series) const {
        return options_.layout == Layout::kOneThread && options_.mode == "dedicated" &&
               !series.kernel && series.completion == Completion::kPolled &&
               series.size <= kLongestExchanged && !plan_.server_poll.empty() &&
               plan_.server_poll.front() != plan_.server;
    }

    BareMessage bare_message(std::uint32_t size) const {
        const auto measured = [&](const CoreWork& work) {
            return measure_core_exchange(clock_, plan_.server, plan_.server_poll.front(), size,
                                         work)
                .half_p50_ns();
        };
        return {measured({}), measured(kProvidersWork)};
    }

    // Whose rate is bounded by what copies memory.
    bool is_bound_by_copies(const PingSeries& series) const {
        return options_.rate && series.opened_as == "san-arena" && series.size >= kLongMessage &&
               options_.layout != Layout::kOneThread;
    }

    // A host that moved the CPUs for good must not make the run several times as long.
    std::uint64_t most_repeated() const { return samples_ / 2 + options_.retries; }

    PingSample take_until_steady(PingSeries& series, Progress& progress) {
        for (std::uint32_t attempt = 0;; ++attempt) {
            PingSample sample;
            sample.before = sentinel();
            if (goes_by_a_core(series)) sample.bare = bare_message(series.size);
            measure_round_trips(series, sample, progress);
            if (options_.rate) measure_rate(series, sample, progress);
            if (is_bound_by_copies(series)) {
                sample.copy = measure_bare_copy(plan_.client, plan_.server, series.size,
                                                rate_receives(series.size));
            }
            sample.after = sentinel();
            sample.moved = !same_placement(sample.before, sample.after) ||
                           !same_placement(run_.reference, sample.after);
            if (!sample.moved || attempt == options_.retries || run_.repeated >= most_repeated()) {
                return sample;
            }
            ++run_.repeated;
        }
    }

    void open(PingSeries& series, std::uint32_t receives, std::uint32_t sends) {
        const json answer =
            crew_.all({{"do", "open"},
                       {"transport", series.opened_as},
                       {"completion", to_string(series.completion)},
                       {"fresh", options_.fresh},
                       {"port", crew_.facts().at(series.kernel ? "tcp_port" : "san_port")},
                       {"size", series.size},
                       {"receives", receives},
                       {"sends", sends}});
        if (!series.kernel) {
            series.transport = answer.at("fabric");
            if (series.opened_as == "san-arena") series.transport += "-arena";
            run_.provider->fabric = {series.transport, answer.at("device"), answer.at("reason"),
                                     ""};
        }
    }

    json ping(std::uint64_t skip, std::uint64_t count) {
        return crew_.all({{"do", "ping"}, {"skip", skip}, {"count", count}});
    }

    Portions portions(double message_ns) const {
        return {
            options_.count == 0 ? 0 : std::max<std::uint64_t>(options_.count / options_.rounds, 1),
            phase_ns_, message_ns};
    }

    void measure_round_trips(PingSeries& series, PingSample& sample, Progress& progress) {
        open(series, options_.receives, kPingSends);
        const std::uint64_t warmup = warming(series.size, options_.warmup);
        const double warm_ns = ping(warmup, 0).at("elapsed_ns").get<double>();
        Portions phase = portions(warm_ns / static_cast<double>(warmup));
        std::uint64_t turns = 0;
        while (const std::uint64_t count = phase.next()) {
            progress.show(label_ + ", round trips");
            const json answer = ping(kAwaken, count);
            phase.done(count, answer.at("elapsed_ns").get<double>());
            turns += count + kAwaken;
            sample.round_trips.merge(LatencyHistogram::from_buckets(
                answer.at("buckets"), answer.at("min"), answer.at("max"), answer.at("sum")));
        }
        sample.loop_ns = phase.elapsed_ns() / static_cast<double>(turns);
        crew_.all({{"do", "close"}});
    }

    std::uint32_t rate_receives(std::uint32_t size) const {
        if (options_.rate_bytes == 0) return options_.rate_receives;
        const std::uint64_t most = options_.rate_bytes / std::max<std::uint32_t>(size, 1);
        return std::min(options_.rate_receives,
                        static_cast<std::uint32_t>(
                            std::clamp<std::uint64_t>(most, kFewestReceives, UINT32_MAX)));
    }

    void measure_rate(PingSeries& series, PingSample& sample, Progress& progress) {
        const std::uint32_t receives = rate_receives(series.size);
        open(series, receives, std::min(options_.window, receives));
        const auto stream_ns = [&](std::uint64_t count) {
            return crew_.all({{"do", "stream"}, {"count", count}}).at("elapsed_ns").get<double>();
        };
        const std::uint64_t warmup = warming(series.size, kWarmupStream);
        Portions phase = portions(stream_ns(warmup) / static_cast<double>(warmup));
        while (const std::uint64_t count = phase.next()) {
            progress.show(label_ + ", message rate");
            phase.done(count, stream_ns(count));
        }
        sample.messages_per_second =
            static_cast<double>(phase.messages()) / std::max(phase.elapsed_ns(), 1.0) * 1e9;
        crew_.all({{"do", "close"}});
    }

    const PingOptions& options_;
    const CpuPlan& plan_;
    PingCrew crew_;  // first: it forks, and afterwards the sentinel makes threads
    Clock clock_;
    PingRun run_;
    std::string label_;
    std::uint64_t samples_ = 0;
    double phase_ns_ = 0;
};

}  // namespace

PingRun lead_run(const PingOptions& options, const CpuPlan& plan) {
    return Leader(options, plan).lead();
}

}  // namespace sanpoll::bench
