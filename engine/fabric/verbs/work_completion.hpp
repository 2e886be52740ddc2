// What a work completion's status means for a socket, and what a person can do about it.
#pragma once

#include <infiniband/verbs.h>

#include <cstdint>
#include <string_view>

#include "engine/status.hpp"

namespace sanpoll::engine::verbs {

/// One row of the table in README.md.
struct WorkCompletionMeaning {
    Status status;            // of the operation and of its connection
    std::string_view name;    // as verbs.h has it, without the prefix
    std::string_view remedy;  // a sentence
};

/// Statuses that verbs.h knows, 0 to kWorkStatuses - 1.
inline constexpr std::uint32_t kWorkStatuses = IBV_WC_TM_RNDV_INCOMPLETE + 1;

/// Never fails: a status that we have not heard of has a row of its own. Any thread, no allocation.
[[nodiscard]] const WorkCompletionMeaning& meaning_of(std::uint32_t status) noexcept;

}  // namespace sanpoll::engine::verbs
