// One polling core with a fake port, put together as the engine does it.
#pragma once

#include <sched.h>

#include <string>

#include "engine/clock.hpp"
#include "engine/config.hpp"
#include "engine/fence.hpp"
#include "engine/lane_registry.hpp"
#include "engine/notifier.hpp"
#include "engine/polling_core.hpp"
#include "tests/engine/fake_port.hpp"

namespace sanpoll::tests {

/// The last CPU that this process may use.
[[nodiscard]] inline std::uint32_t last_cpu() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    (void)::sched_getaffinity(0, sizeof(allowed), &allowed);
    std::uint32_t last = 0;
    for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        last = CPU_ISSET(cpu, &allowed) ? cpu : last;
    }
    return last;
}

[[nodiscard]] inline engine::Config inline_config() { return {}; }

/// Runs on two CPUs, without hugepages and without privileges.
[[nodiscard]] inline engine::Config dedicated_config() {
    engine::Config config;
    config.mode = engine::Mode::kDedicated;
    config.hugepages = engine::Hugepages::kOff;
    config.cores = {last_cpu()};
    return config;
}

class CoreBench {
public:
    explicit CoreBench(engine::Config wanted)
        : config(std::move(wanted)),
          notifier(config),
          core(config, engine::Clock::steady(), record_handlers(), notifier, 0),
          port(core) {
        (void)engine::register_heavy_fence();
        core.add_port(port);
        notifier.add_core(core);
    }
    ~CoreBench() {
        notifier.stop();
        core.stop();
        engine::LaneRegistry::forget_all();
    }
    CoreBench(const CoreBench&) = delete;
    CoreBench& operator=(const CoreBench&) = delete;

    /// Starts the core's thread and the notifier. Without it the test turns the core by hand.
    [[nodiscard]] std::string start() {
        if (std::string error = notifier.start(); !error.empty()) {
            return error;
        }
        return core.start();
    }

    const engine::Config config;
    engine::Notifier notifier;
    engine::PollingCore core;
    FakePort port;
};

}  // namespace sanpoll::tests
