#include "bench/scale_sections.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

// Open files beside those of the connections, of which each may have two.
constexpr std::size_t kOtherFiles = 1000;

std::size_t most(const std::vector<std::size_t>& counts) {
    return counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
}

HelperProcess start(const ScaleOptions& options, const std::string& role,
                    const ChildProcess::Environment& environment) {
    return HelperProcess::start(role, {"--role", role, "--library", options.common.library},
                                environment);
}

}  // namespace

ScaleCrew::ScaleCrew(const ScaleOptions& options, const Member& server,
                     const std::vector<Member>& clients)
    : options_(options), server_(start(options, "server", server.environment)) {
    for (const Member& client : clients)
        clients_.push_back(start(options, "client", client.environment));
    const std::size_t files = 2 * (most(options.busy) + options.clients) + kOtherFiles;
    const auto set_up = [&](HelperProcess& process, const Member& member) {
        return process.ask(
            {{"do", "start"}, {"cpu", member.cpu}, {"yield", member.yield}, {"files", files}});
    };
    // One after the other: calibrations at once on few CPUs disturb each other.
    const json told = set_up(server_, server);
    port_ = told.at("port");
    idle_port_ = told.at("idle_port");
    for (std::size_t i = 0; i < clients.size(); ++i)
        (void)set_up(clients_[i], clients[i]);
}

std::vector<json> ScaleCrew::all(const json& command, std::size_t clients,
                                 const json& server_only) {
    json server_command = command;
    server_command.update(server_only);
    server_.tell(server_command);
    for (std::size_t i = 0; i < clients; ++i)
        clients_.at(i).tell(command);
    std::vector<json> answers;
    for (std::size_t i = 0; i < clients; ++i)
        answers.push_back(clients_.at(i).hear());
    (void)server_.hear();
    return answers;
}

void ScaleCrew::open(std::size_t each, std::uint32_t receives, std::uint32_t sends,
                     std::size_t clients) {
    for (std::size_t i = 0; i < clients; ++i) {
        const json command{{"do", "open"},
                           {"connections", each},
                           {"receives", receives},
                           {"sends", sends},
                           {"port", port_}};
        server_.tell(command);
        (void)clients_.at(i).ask(command);
        (void)server_.hear();
    }
}

void ScaleCrew::crowd(std::size_t count) {
    (void)all({{"do", "crowd"},
               {"count", count},
               {"receives", options_.idle_receives},
               {"port", idle_port_}});
}

std::pair<json, json> ScaleCrew::memory() {
    const json command{{"do", "memory"}};
    json server = server_.ask(command);
    return {std::move(server), clients_.front().ask(command)};
}

void ScaleCrew::dismiss() {
    for (HelperProcess& client : clients_)
        client.dismiss();
    server_.dismiss();
}

std::size_t scale_samples(const ScaleOptions& options) {
    std::size_t each = 0;
    if (options.wants("idle")) each += 2 * options.idle.size() + 4;  // those of dedicated mode, too
    if (options.wants("busy")) each += options.busy.size();
    if (options.wants("threads")) each += 2 * options.threads.size();
    if (options.wants("fan-in")) each += 3;
    return each * options.rounds();
}

}  // namespace sanpoll::bench
