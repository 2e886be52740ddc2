#include "bench/ping_crew.hpp"

#include <poll.h>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

// More than any single wait inside an agent, so that its own, better explanation comes first.
constexpr std::chrono::seconds kAnswerTime{45};

// Whoever starts the other host's program may need as long.
constexpr std::chrono::seconds kListenTime{5};

// A process that has to clean up may take a moment; one that died did so before its channel closed.
constexpr std::chrono::seconds kEndTime{10};
constexpr std::chrono::seconds kDeathTime{1};

}  // namespace

void PingCrew::start(const std::string& name, const std::string& role,
                     const std::vector<int>& poll_cores, const PingOptions& options,
                     const std::vector<std::pair<std::string, int>>& members) {
    std::vector<std::string> arguments{"--role", role};
    std::vector<ControlChannel> theirs;
    std::vector<int> inherited;
    for (const auto& [member, cpu] : members) {
        auto [ours, their_end] = ControlChannel::pair();
        arguments.insert(arguments.end(), {"--control-fd", std::to_string(their_end.fd())});
        inherited.push_back(their_end.fd());
        theirs.push_back(std::move(their_end));
        members_.push_back({member, std::move(ours), cpu});
    }
    ChildProcess::Environment environment{{"SANPOLL_MODE", options.mode}};
    if (!options.fabric.empty()) environment.emplace_back("SANPOLL_FABRIC", options.fabric);
    if (!options.profile.empty()) environment.emplace_back("SANPOLL_PROFILE", options.profile);
    if (!poll_cores.empty()) environment.emplace_back("SANPOLL_CORES", format_cpu_list(poll_cores));
    processes_.push_back(ChildProcess::start(name, arguments, environment, inherited));
}

PingCrew::PingCrew(const PingOptions& options, const CpuPlan& plan) {
    switch (options.layout) {
        case Layout::kTwoProcesses:
            start("server process", "server", plan.server_poll, options,
                  {{"server process", plan.server}});
            start("client process", "client", plan.client_poll, options,
                  {{"client process", plan.client}});
            break;
        case Layout::kOneProcess:
            start("measuring process", "server", plan.server_poll, options,
                  {{"server thread", plan.server}, {"client thread", plan.client}});
            break;
        case Layout::kOneThread:
            start("measuring process", "pair", plan.server_poll, options,
                  {{"measuring process", plan.server}});
            break;
        case Layout::kTwoHosts:
            members_.push_back({"server at " + options.connect,
                                ControlChannel::connect(options.connect, options.port, kListenTime),
                                -1});
            start("client process", "client", plan.client_poll, options,
                  {{"client process", plan.client}});
            break;
    }

    // One after the other: two calibrations and start-ups at once on few CPUs disturb each other.
    facts_ = json::object();
    const bool two_hosts = options.layout == Layout::kTwoHosts;
    for (std::size_t i = 0; i < members_.size(); ++i) {
        const std::string address =
            two_hosts ? options.connect : facts_.value("address", options.address);
        std::vector<std::string> peers;
        for (const WantedPeer& peer : options.peers)
            peers.push_back(peer.name);
        const json command{{"do", "setup"},
                           {"cpu", members_[i].cpu},
                           {"yield", plan.yield},
                           {"address", address},
                           {"local", two_hosts ? "0.0.0.0" : address},
                           {"library", options.library},
                           {"san", options.shm || options.arena},
                           {"tcp", options.tcp || !options.peers.empty()},
                           {"peers", peers},
                           {"tcp_blocking", options.tcp_blocking}};
        try {
            members_[i].channel.send(command);
            const json answer = members_[i].channel.receive(kAnswerTime);
            if (answer.contains("error")) report(i, answer.at("error"));
            facts_.update(answer);
        } catch (const ChannelClosed&) {
            report(i, "ended without a word");
        } catch (const ChannelTimeout&) {
            report(i, "did not get ready for " + std::to_string(kAnswerTime.count()) + " s");
        }
    }
}

json PingCrew::all(const json& command) {
    std::size_t speaking = 0;
    json merged = json::object();
    try {
        for (speaking = 0; speaking < members_.size(); ++speaking)
            members_[speaking].channel.send(command);
        // Whoever answers first is heard first: when one end fails, the other is still waiting for it.
        const auto deadline = std::chrono::steady_clock::now() + kAnswerTime;
        std::vector<pollfd> silent;
        for (const Member& member : members_)
            silent.push_back({member.channel.fd(), POLLIN, 0});
        for (std::size_t heard = 0; heard < members_.size();) {
            const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
                deadline - std::chrono::steady_clock::now());
            if (left.count() <= 0) throw ChannelTimeout();
            if (poll(silent.data(), silent.size(), static_cast<int>(left.count())) <= 0) continue;
            for (speaking = 0; speaking < silent.size(); ++speaking) {
                if (silent[speaking].fd < 0 || silent[speaking].revents == 0) continue;
                const json answer = members_[speaking].channel.receive(kAnswerTime);
                if (answer.contains("error")) report(speaking, answer.at("error"));
                merged.update(answer);
                silent[speaking].fd = -1;  // poll() passes over it from now on
                ++heard;
            }
        }
    } catch (const ChannelClosed&) {
        report(speaking, "ended without a word");
    } catch (const ChannelTimeout&) {
        report(0, "no answer for " + std::to_string(kAnswerTime.count()) + " s");
    }
    return merged;
}

void PingCrew::report(std::size_t member, const std::string& complaint) {
    // Somebody was killed? Then that is the news, whoever complained first.
    const auto deadline = std::chrono::steady_clock::now() + kDeathTime;
    for (bool some_run = true; some_run && std::chrono::steady_clock::now() < deadline;) {
        some_run = false;
        for (auto& process : processes_) {
            const auto end = process.ended(std::chrono::milliseconds(2));
            if (end && end->rfind("was killed", 0) == 0)
                throw CrewFault("the " + process.name() + " " + *end);
            some_run |= !end;
        }
    }
    throw CrewFault(members_[member].name + ": " + complaint);
}

void PingCrew::dismiss() {
    all({{"do", "quit"}});
    for (auto& process : processes_) {
        const auto end = process.ended(kEndTime);
        if (!end) {
            throw CrewFault("the " + process.name() + " did not end within " +
                            std::to_string(kEndTime.count()) +
                            " s of being told to (WSPCleanup hangs?)");
        }
        if (process.failed())
            throw CrewFault("the " + process.name() + " " + *end + " after the measurement");
    }
}

}  // namespace sanpoll::bench
