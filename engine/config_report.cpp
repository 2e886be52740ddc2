#include "engine/config_report.hpp"

#include "engine/log.hpp"

namespace sanpoll::engine {

std::string config_report(const Config& config, const HostLimits& limits,
                          const NamedTexts& devices) {
    const Config standard;
    std::string text =
        "# knobs: SANPOLL_<NAME> in the environment, or this file as SANPOLL_CONFIG\n";
    for (const Knob& knob : knobs()) {
        const std::string value = knob_value(config, knob.name);
        const std::string usual = knob_value(standard, knob.name);
        text += formatted("\n# {}; {}{}\n{} = \"{}\"\n", knob.description, knob.allowed,
                          value == usual ? "" : formatted("; default: \"{}\"", usual), knob.name,
                          value);
    }
    text += "\n# limits of this host and process\n";
    for (const auto& [name, value] : described(limits)) {
        text += formatted("# {}: {}\n", name, value);
    }
    for (const std::string& warning : too_low(limits)) {
        text += formatted("# too low: {}\n", warning);
    }
    text += "\n# RDMA devices\n";
    for (const auto& [name, value] : devices) {
        text += formatted("# {}: {}\n", name, value);
    }
    if (devices.empty()) {
        text += "# none\n";
    }
    return text;
}

}  // namespace sanpoll::engine
