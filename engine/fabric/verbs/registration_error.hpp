// Why a device did not take memory, and what a person can do about it.
#pragma once

#include <cstdint>
#include <string>

#include "engine/host_limits.hpp"
#include "engine/status.hpp"

namespace sanpoll::engine::verbs {

struct DeviceLimits;

struct RegistrationError {
    Status status;  // kBadRegion: the caller's memory; kNotOpen: the device is gone; else kNoMemory
    std::string text;  // a sentence or two, with the remedy
};

/// `error`: errno of ibv_reg_mr, for `length` bytes and the device `name`, whose limits are named if they are
/// given. Any thread but a polling core's; reads files of /proc.
[[nodiscard]] RegistrationError explain_registration(
    int error, std::uint64_t length, const std::string& name, const DeviceLimits* device = nullptr,
    const LimitSource& source = LimitSource::host());

/// Writes the text into the log if it is for the administrator, once for each cause: programs that run
/// short of memory to pin do so again and again.
void tell_registration(const RegistrationError& error);

}  // namespace sanpoll::engine::verbs
