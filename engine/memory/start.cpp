#include "engine/memory/start.hpp"

#include <unistd.h>

#include <algorithm>

#include "engine/log.hpp"
#include "engine/memory/arena_mapping.hpp"

namespace sanpoll::engine::memory {

int numa_node_of(std::uint32_t cpu) {
    constexpr int kNodes = 64;  // as many as a preference can name (arena_mapping.cpp)
    for (int node = 0; node < kNodes; ++node) {
        const std::string path = formatted("/sys/devices/system/cpu/cpu{}/node{}", cpu, node);
        if (::access(path.c_str(), F_OK) == 0) {
            return node;
        }
    }
    return -1;
}

ArenaRules rules_of(const Config& config) {
    ArenaRules rules;
    rules.limit_bytes = static_cast<std::uint64_t>(config.arena_limit_mb) << 20;
    rules.arena_bytes =
        std::min(static_cast<std::uint64_t>(config.arena_mb) << 20, rules.limit_bytes);
    rules.hugepages = config.hugepages;
    rules.peers_may_write = config.share_arenas == ShareArenas::kOn;
    if (config.mode == Mode::kDedicated && !config.cores.empty()) {
        rules.numa_node = numa_node_of(config.cores.front());
    }
    return rules;
}

std::string settle_sharing(Config& config) {
    if (config.share_arenas != ShareArenas::kRead || writers_can_be_kept_out()) {
        return {};
    }
    config.share_arenas = ShareArenas::kOff;
    return "share_arenas = read becomes off: this kernel cannot seal memory against writers "
           "(F_SEAL_FUTURE_WRITE, Linux 5.1), so that whoever may read an arena could write to it; "
           "use a newer kernel, or SANPOLL_SHARE_ARENAS=on if peers may";
}

std::string begin(Arenas& arenas, const Config& config) {
    arenas.set_rules(rules_of(config));
    if (config.hugepages != Hugepages::kRequired) {
        return {};
    }
    for (std::uint32_t i = 0; i < arenas.count(); ++i) {
        if (arenas.arena(i).shareable && arenas.arena(i).pages == PageKind::kHuge) {
            return {};
        }
    }
    Refusal refusal;
    return arenas.make(true, 0, refusal) != nullptr ? std::string{} : refusal.text;
}

}  // namespace sanpoll::engine::memory
