// The functions of WSAID_SANPOLL_MEMORY (contracts in sanpoll.h).
#pragma once

#include <sanpoll.h>

namespace sanpoll::provider {

[[nodiscard]] SANPOLL_MEMORY_FUNCTIONS heap_functions() noexcept;

}  // namespace sanpoll::provider
