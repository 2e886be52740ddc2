#include "bench/cpu_plan.hpp"

#include <algorithm>
#include <map>

#include "bench/cpu_placement.hpp"

namespace sanpoll::bench {
namespace {

// Polling cores for one or two processes. Given ones are dealt out in halves; else CPUs that the application leaves
// free; else the application's own, which then takes turns with them.
void place_polling_cores(const PingOptions& options, const std::vector<int>& allowed,
                         CpuPlan& plan) {
    const bool two = options.layout == Layout::kTwoProcesses;
    std::vector<int> cpus = options.poll_cores;
    if (cpus.empty()) {
        for (const int cpu : allowed) {
            if (cpu != plan.server && cpu != plan.client && cpus.size() < (two ? 2U : 1U))
                cpus.push_back(cpu);
        }
        if (two && cpus.size() < 2) cpus = {plan.server, plan.client};
        if (cpus.empty()) cpus = {plan.server < 0 ? plan.client : plan.server};
    }
    if (!two || cpus.size() == 1) {
        plan.server_poll = cpus;
        plan.client_poll = cpus;
        return;
    }
    const auto half = cpus.begin() + static_cast<std::ptrdiff_t>((cpus.size() + 1) / 2);
    plan.server_poll.assign(cpus.begin(), half);
    plan.client_poll.assign(half, cpus.end());
}

bool some_cpu_is_shared(const PingOptions& options, const CpuPlan& plan) {
    std::map<int, int> spinning;
    ++spinning[plan.server];
    if (options.layout != Layout::kOneThread) ++spinning[plan.client];
    for (const int cpu : plan.server_poll)
        ++spinning[cpu];
    if (options.layout == Layout::kTwoProcesses) {
        for (const int cpu : plan.client_poll)
            ++spinning[cpu];
    }
    return std::any_of(spinning.begin(), spinning.end(),
                       [](const auto& entry) { return entry.second > 1; });
}

}  // namespace

CpuPlan plan_cpus(const PingOptions& options) {
    const std::vector<int> allowed = allowed_cpus();
    const std::vector<CpuTopology> topology = read_topology(allowed);
    CpuPlan plan;
    if (options.cores.empty()) {
        const CpuChoice choice = choose_pair(topology);
        plan.server = choice.server;
        plan.client = choice.client;
        plan.why = "chosen: " + choice.why;
    } else {
        plan.server = options.cores.front();
        plan.client = options.cores.back();
        plan.why = "given by --cores: " + describe_pair(topology, plan.server, plan.client);
    }
    if (options.layout == Layout::kOneThread) plan.client = plan.server;

    if (options.layout == Layout::kTwoHosts) plan.server = -1;

    if (options.mode == "dedicated") place_polling_cores(options, allowed, plan);

    if (options.layout == Layout::kTwoHosts) {
        // Nothing is handed from CPU to CPU; and whatever drives a device from software wants one, too.
        plan.handoff_a = plan.handoff_b = plan.client;
        plan.yield = allowed.size() == 1;
        return plan;
    }
    plan.handoff_a = plan.server;
    plan.handoff_b = plan.client;
    if (plan.handoff_a == plan.handoff_b && !plan.server_poll.empty())
        plan.handoff_b = plan.server_poll.front();
    if (options.layout == Layout::kOneThread) {
        plan.why = "one thread drives both ends";
        if (plan.handoff_a != plan.handoff_b)
            plan.why +=
                "; polling core: " + describe_pair(topology, plan.handoff_a, plan.handoff_b);
    }

    plan.yield = some_cpu_is_shared(options, plan);
    if (allowed.size() == 1) {
        plan.remarks.push_back(
            "This process may use one CPU only: both ends take turns on it and every wait gives it "
            "away, "
            "so the figures are the scheduler's; there is no hand-off to compare with.");
    } else if (plan.yield) {
        plan.remarks.push_back(
            "More spinning threads than CPUs: they take turns and every wait gives the CPU away, "
            "so the figures are the scheduler's more than the provider's.");
    }
    return plan;
}

}  // namespace sanpoll::bench
