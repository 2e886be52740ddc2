// The processes that take part in a measurement, as their leader sees them: started, given commands all at once,
// heard, and ended without leaving anything behind.
//
// Faults come as CrewFault with one plain line. If a process died, the line says which and how, since what the
// others then complain about is only the consequence.
#pragma once

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench/child_process.hpp"
#include "bench/control_channel.hpp"
#include "bench/cpu_plan.hpp"
#include "bench/ping_options.hpp"

namespace sanpoll::bench {

struct CrewFault : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class PingCrew {
public:
    // Starts the processes of options.layout and sets them up. The calling process must have one thread.
    PingCrew(const PingOptions& options, const CpuPlan& plan);

    // Gives everybody the command and waits for all answers; what the answers add is merged into one object.
    nlohmann::json all(const nlohmann::json& command);

    // What setup answered.
    const nlohmann::json& facts() const noexcept { return facts_; }

    // "quit", and waits for the ends. Without it the destructor kills.
    void dismiss();

private:
    struct Member {
        std::string name;
        ControlChannel channel;
        int cpu;
    };

    void start(const std::string& name, const std::string& role, const std::vector<int>& poll_cores,
               const PingOptions& options, const std::vector<std::pair<std::string, int>>& members);
    [[noreturn]] void report(std::size_t member, const std::string& complaint);

    std::vector<ChildProcess> processes_;
    std::vector<Member> members_;
    nlohmann::json facts_;
};

}  // namespace sanpoll::bench
