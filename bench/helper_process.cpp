#include "bench/helper_process.hpp"

#include "bench/connection.hpp"

namespace sanpoll::bench {
namespace {

constexpr const char* kQuit = "quit";
constexpr std::chrono::hours kForever{24 * 365};
constexpr std::chrono::seconds kToDie{10};

}  // namespace

HelperProcess HelperProcess::start(const std::string& name, std::vector<std::string> arguments,
                                   const ChildProcess::Environment& environment) {
    auto [ours, theirs] = ControlChannel::pair();
    arguments.emplace_back("--control-fd");
    arguments.push_back(std::to_string(theirs.fd()));
    return {std::move(ours), ChildProcess::start(name, arguments, environment, {theirs.fd()})};
}

void HelperProcess::gone() {
    const auto how = process_.ended(std::chrono::seconds(1));
    throw ConnectionFault("the " + process_.name() + " process " + how.value_or("has gone"));
}

void HelperProcess::tell(const nlohmann::json& command) {
    try {
        channel_.send(command);
    } catch (const ChannelClosed&) {
        gone();
    }
}

nlohmann::json HelperProcess::hear() {
    nlohmann::json answer;
    try {
        answer = channel_.receive(kPatience);
    } catch (const ChannelClosed&) {
        gone();
    } catch (const ChannelTimeout&) {
        throw ConnectionFault("the " + process_.name() + " process does not answer");
    }
    if (answer.is_object() && answer.contains("fault"))
        throw ConnectionFault("the " + process_.name() +
                              " process: " + answer.at("fault").get<std::string>());
    return answer;
}

void HelperProcess::dismiss() {
    tell({{"do", kQuit}});
    (void)process_.ended(kToDie);
}

int obey_leader(int control_fd,
                const std::function<nlohmann::json(const nlohmann::json& command)>& obey) {
    const ControlChannel leader(control_fd);
    try {
        for (;;) {
            const nlohmann::json command = leader.receive(kForever);
            if (command.at("do") == kQuit) return 0;
            leader.send(obey(command));
        }
    } catch (const ChannelClosed&) {
        return 1;
    } catch (const std::exception& fault) {
        try {
            leader.send({{"fault", fault.what()}});
        } catch (const ChannelClosed&) {
            // Nobody is left who could be told.
        }
        return 1;
    }
}

}  // namespace sanpoll::bench
