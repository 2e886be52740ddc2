// What the engine would run with on this host, as a text to read and to keep: knobs, limits, devices.
//
// Threading: any thread but a polling core's; blocks, allocates.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/config.hpp"
#include "engine/host_limits.hpp"

namespace sanpoll::engine {

using NamedTexts = std::vector<std::pair<std::string, std::string>>;

/// A configuration file that sets every knob to the value that it has, with what is allowed, what it is for and its
/// default where that is another; the rest is comments.
[[nodiscard]] std::string config_report(const Config& config, const HostLimits& limits,
                                        const NamedTexts& devices);

}  // namespace sanpoll::engine
