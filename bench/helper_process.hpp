// A process of the program itself that takes part in a measurement and does what it is told, one command after the
// other. Commands and answers are JSON over a ControlChannel; a fault in the helper reaches its leader as a
// ConnectionFault with the helper's name and line.
#pragma once

#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/child_process.hpp"
#include "bench/control_channel.hpp"

namespace sanpoll::bench {

class HelperProcess {
public:
    static constexpr std::chrono::minutes kPatience{5};

    // This program again with `arguments` and "--control-fd N". From the thread that lives as long as the process.
    static HelperProcess start(const std::string& name, std::vector<std::string> arguments,
                               const ChildProcess::Environment& environment = {});

    // The destructor ends it, also in the middle of a command.

    void tell(const nlohmann::json& command);
    nlohmann::json hear();
    nlohmann::json ask(const nlohmann::json& command) {
        tell(command);
        return hear();
    }
    // Tells it to go and waits until it has.
    void dismiss();

    [[nodiscard]] pid_t pid() const noexcept { return process_.pid(); }

private:
    HelperProcess(ControlChannel channel, ChildProcess process)
        : channel_(std::move(channel)), process_(std::move(process)) {}
    [[noreturn]] void gone();

    ControlChannel channel_;
    ChildProcess process_;
};

// The helper's side: answers every command with what `obey` makes of it, until it is dismissed or the leader is
// gone. Returns the exit status.
int obey_leader(int control_fd,
                const std::function<nlohmann::json(const nlohmann::json& command)>& obey);

}  // namespace sanpoll::bench
