#include "engine/engine.hpp"

#include <fmt/format.h>
#include <sched.h>

#include "engine/fabric/fabric_choice.hpp"
#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/fabric/shm/shm_port.hpp"
#include "engine/fabric/verbs/verbs_fabric.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"
#include "engine/fence.hpp"
#include "engine/host_limits.hpp"
#include "engine/lane_registry.hpp"
#include "engine/log.hpp"
#include "engine/memory/start.hpp"

namespace sanpoll::engine {

namespace {

// Dedicated mode without a choice by the user: the last CPU that the process may use, since schedulers
// and interrupts prefer the first. Says what it chose.
std::string choose_cores(Config& config) {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return "cannot read the CPUs that this process may use";
    }
    if (config.cores.empty()) {
        for (int cpu = CPU_SETSIZE; cpu-- > 0;) {
            if (CPU_ISSET(cpu, &allowed)) {
                config.cores.push_back(static_cast<std::uint32_t>(cpu));
                break;
            }
        }
        log(LogLevel::kInfo, "polling core on CPU {}: the last one that this process may use",
            config.cores.empty() ? 0 : config.cores.front());
    }
    for (const std::uint32_t cpu : config.cores) {
        if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &allowed)) {
            return fmt::format(
                "SANPOLL_CORES names CPU {}, which is offline or not among those that this process "
                "may "
                "use (see taskset -p and the cpuset of its cgroup)",
                cpu);
        }
    }
    return {};
}

// A limit that binds later does so with an error that does not name it.
void tell_limits() {
    const bool all = log_enabled(LogLevel::kInfo);
    const HostLimits limits = all ? read_host_limits() : read_resource_limits();
    if (all) {
        for (const auto& [name, value] : described(limits)) {
            log(LogLevel::kInfo, "{}: {}", name, value);
        }
    }
    for (const std::string& line : too_low(limits)) {
        log(LogLevel::kWarn, "{}", line);
    }
}

}  // namespace

Engine::Engine(Config config, Clock& clock, const Handlers& handlers)
    : config_(std::move(config)),
      clock_(clock),
      handlers_(handlers),
      control_(clock),
      notifier_(config_) {}

std::unique_ptr<Engine> Engine::start(Config config, Clock& clock, const Handlers& handlers,
                                      std::string& error) {
    set_log_level(config.log_level);
    tell_limits();
    if (config.mode == Mode::kDedicated) {
        error = choose_cores(config);
        if (!error.empty()) {
            return nullptr;
        }
    }
    if (const std::string why = memory::settle_sharing(config); !why.empty()) {
        log(LogLevel::kWarn, "{}", why);
    }
    error = memory::begin(memory::Arenas::of_process(), config);
    if (!error.empty()) {
        return nullptr;
    }
    std::unique_ptr<Engine> engine(new Engine(std::move(config), clock, handlers));
    error = engine->begin();
    if (!error.empty()) {
        engine.reset();
    }
    return engine;
}

std::string Engine::begin() {
    if (!register_heavy_fence()) {
        log(LogLevel::kInfo,
            "this kernel has no membarrier; sleeping cores look around every millisecond");
    }
    const std::size_t count =
        config_.mode == Mode::kDedicated ? config_.cores.size() : config_.core_count;
    if (std::string error = control_.start(); !error.empty()) {
        return error;
    }
    if (std::string error = begin_verbs(); !error.empty()) {
        return error;
    }
    shm_ = std::make_unique<shm::ShmFabric>(config_, control_);
    for (std::size_t i = 0; i < count; ++i) {
        cores_.push_back(std::make_unique<PollingCore>(config_, clock_, handlers_, notifier_,
                                                       static_cast<std::uint32_t>(i)));
        ports_.push_back(
            std::make_unique<shm::ShmPort>(config_, *cores_.back(), shm_->trouble_fd()));
        cores_.back()->add_port(*ports_.back());
        shm_->add_port(*ports_.back());
        if (verbs_ != nullptr) {
            verbs_ports_.push_back(
                std::make_unique<verbs::VerbsPort>(config_, *cores_.back(), verbs_->ended_fd()));
            cores_.back()->add_port(*verbs_ports_.back());
            verbs_->add_port(*verbs_ports_.back());
        }
        notifier_.add_core(*cores_.back());
    }
    std::vector<PollingCore*> all;
    for (const auto& core : cores_) {
        all.push_back(core.get());
    }
    for (const auto& core : cores_) {
        core->set_cores(all);
    }
    if (std::string error = notifier_.start(); !error.empty()) {
        return error;
    }
    for (const auto& core : cores_) {
        if (std::string error = core->start(); !error.empty()) {
            return error;
        }
    }
    fabric_runs_ = true;
    if (std::string error = shm_->start(); !error.empty()) {
        return error;
    }
    choose_fabric();
    return {};
}

// A host without devices must not notice that there could be some: nothing is loaded, no port is polled.
std::string Engine::begin_verbs() {
    const bool wanted = config_.fabric == FabricKind::kVerbs;
    if (config_.fabric == FabricKind::kShm || (!wanted && !verbs::host_has_devices())) {
        return {};
    }
    std::string error;
    if (const verbs::Api* api = verbs::Api::load(error); api != nullptr) {
        verbs_ = std::make_unique<verbs::VerbsFabric>(*api, config_, clock_, control_);
        error = verbs_->start();
    }
    if (error.empty()) {
        return {};
    }
    verbs_.reset();
    if (wanted) {
        return fmt::format("fabric = verbs: {}; without RDMA devices, choose auto or shm", error);
    }
    log(LogLevel::kInfo, "no connections over RDMA devices: {}", error);
    return {};
}

// Shared memory before devices, which is what makes it the first choice within this host.
void Engine::choose_fabric() {
    std::vector<Fabric*> running;
    if (config_.fabric != FabricKind::kVerbs) {
        running.push_back(shm_.get());
    }
    if (verbs_ != nullptr) {
        running.push_back(verbs_.get());
    }
    if (running.size() == 1) {
        fabric_ = running.front();
        return;
    }
    choice_ = std::make_unique<FabricChoice>(control_, running);
    fabric_ = choice_.get();
}

Engine::~Engine() {
    if (verbs_ != nullptr) {
        verbs_->stop();
    }
    if (fabric_runs_) {
        shm_->stop();
    }
    notifier_.stop();
    control_.stop();
    for (const auto& core : cores_) {
        core->stop();
    }
    for (const auto& core : cores_) {
        core->end_for_good();
    }
    LaneRegistry::forget_all();
    ports_.clear();
    verbs_ports_.clear();
    cores_.clear();
}

}  // namespace sanpoll::engine
