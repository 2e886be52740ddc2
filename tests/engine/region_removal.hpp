// What the tests of the table of registered memory share.
#pragma once

#include "engine/memory_region.hpp"

namespace sanpoll::tests {

inline constexpr std::uint32_t kBoth = engine::kRead | engine::kWrite;

/// As the control plane does: ask the core, then tidy up.
inline bool remove(engine::RegionTable& table, engine::RegionRef ref) {
    if (!table.retire(ref)) {
        return false;
    }
    table.remove_from_index(ref);
    return true;
}

}  // namespace sanpoll::tests
