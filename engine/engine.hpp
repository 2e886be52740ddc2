// The engine: polling cores, control thread, notifier and fabrics under one roof.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/config.hpp"
#include "engine/control_thread.hpp"
#include "engine/fabric/fabric.hpp"
#include "engine/notifier.hpp"
#include "engine/polling_core.hpp"

namespace sanpoll::engine {

class FabricChoice;

namespace shm {
class ShmFabric;
class ShmPort;
}  // namespace shm

namespace verbs {
class VerbsFabric;
class VerbsPort;
}  // namespace verbs

/// One per process at a time. Start and destruction are off the data path and block.
class Engine {
public:
    /// Starts threads and fabrics. nullptr and a message that names the remedy on failure. DPDK's EAL is
    /// started only in dedicated mode; without it a start takes well under 20 ms.
    [[nodiscard]] static std::unique_ptr<Engine> start(Config config, Clock& clock,
                                                       const Handlers& handlers,
                                                       std::string& error);
    /// All endpoints have been closed before. Ends links, threads and cores.
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    [[nodiscard]] const Config& config() const noexcept { return config_; }
    [[nodiscard]] Notifier& notifier() noexcept { return notifier_; }
    [[nodiscard]] ControlThread& control() noexcept { return control_; }
    /// What connections go through: the only fabric, or the choice among several.
    [[nodiscard]] Fabric& fabric() noexcept { return *fabric_; }
    [[nodiscard]] const std::vector<std::unique_ptr<PollingCore>>& cores() const noexcept {
        return cores_;
    }
    [[nodiscard]] const std::vector<std::unique_ptr<shm::ShmPort>>& shm_ports() const noexcept {
        return ports_;
    }
    /// Empty where no RDMA device is used.
    [[nodiscard]] const std::vector<std::unique_ptr<verbs::VerbsPort>>& verbs_ports()
        const noexcept {
        return verbs_ports_;
    }

private:
    Engine(Config config, Clock& clock, const Handlers& handlers);
    [[nodiscard]] std::string begin();
    [[nodiscard]] std::string begin_verbs();
    void choose_fabric();

    const Config config_;
    Clock& clock_;
    const Handlers handlers_;
    ControlThread control_;
    Notifier notifier_;
    std::vector<std::unique_ptr<PollingCore>> cores_;
    std::unique_ptr<shm::ShmFabric> shm_;
    std::vector<std::unique_ptr<shm::ShmPort>> ports_;
    std::unique_ptr<verbs::VerbsFabric> verbs_;  // none if no RDMA device is used
    std::vector<std::unique_ptr<verbs::VerbsPort>> verbs_ports_;
    std::unique_ptr<FabricChoice> choice_;  // none if there is one fabric
    Fabric* fabric_ = nullptr;
    bool fabric_runs_ = false;
};

}  // namespace sanpoll::engine
