// Why a device did not take memory, and what a person can do about it.
#pragma once

#include <cstdint>
#include <string>

#include "engine/status.hpp"

namespace sanpoll::engine::verbs {

struct RegistrationError {
    Status status;  // kBadRegion: the caller's memory; kNotOpen: the device is gone; else kNoMemory
    std::string text;  // a sentence or two, with the remedy
};

/// `error`: errno of ibv_reg_mr, for `length` bytes and the device `name`. Any thread but a polling core's.
[[nodiscard]] RegistrationError explain_registration(int error, std::uint64_t length,
                                                     const std::string& name);

/// Writes the text into the log if it is for the administrator, once for each cause: programs that run
/// short of memory to pin do so again and again.
void tell_registration(const RegistrationError& error);

}  // namespace sanpoll::engine::verbs
