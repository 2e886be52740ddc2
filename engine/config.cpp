#include "engine/config.hpp"

#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <optional>

#include "engine/log.hpp"

namespace sanpoll::engine {

namespace {

struct KnobRule {
    Knob knob;
    std::function<bool(Config&, std::string_view)> set;
    std::function<std::string(const Config&)> get;
};

std::optional<std::uint64_t> to_number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || text.empty()) {
        return std::nullopt;
    }
    return value;
}

KnobRule number(std::string_view name, std::string_view allowed, std::string_view description,
                std::uint32_t Config::*member, std::uint32_t low, std::uint32_t high,
                bool power_of_two = false, std::uint32_t multiple_of = 1) {
    return {{name, allowed, description},
            [=](Config& config, std::string_view text) {
                const auto value = to_number(text);
                if (!value || *value < low || *value > high ||
                    (power_of_two && !std::has_single_bit(*value)) || *value % multiple_of != 0) {
                    return false;
                }
                config.*member = static_cast<std::uint32_t>(*value);
                return true;
            },
            [=](const Config& config) { return formatted("{}", config.*member); }};
}

template <typename Enum>
KnobRule choice(std::string_view name, std::string_view allowed, std::string_view description,
                Enum Config::*member, const std::vector<std::string_view>& words) {
    return {{name, allowed, description},
            [=](Config& config, std::string_view text) {
                const auto found = std::find(words.begin(), words.end(), text);
                if (found == words.end()) {
                    return false;
                }
                config.*member = static_cast<Enum>(found - words.begin());
                return true;
            },
            [=](const Config& config) {
                return std::string(words[static_cast<std::size_t>(config.*member)]);
            }};
}

// "3", "2,3" or "4-7".
bool set_cores(Config& config, std::string_view text) {
    std::vector<std::uint32_t> cores;
    if (text.ends_with(',')) {
        return false;
    }
    while (!text.empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        const std::string_view part = text.substr(0, comma);
        text.remove_prefix(std::min(comma + 1, text.size()));
        const std::size_t dash = part.find('-');
        const auto first = to_number(part.substr(0, dash));
        const auto last = dash == std::string_view::npos ? first : to_number(part.substr(dash + 1));
        if (!first || !last || *first > *last || *last > 4095 || *last - *first > 63) {
            return false;
        }
        for (std::uint64_t core = *first; core <= *last; ++core) {
            cores.push_back(static_cast<std::uint32_t>(core));
        }
    }
    std::vector<std::uint32_t> sorted = cores;
    std::sort(sorted.begin(), sorted.end());
    if (cores.size() > 16 || std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
        return false;
    }
    config.cores = std::move(cores);
    return true;
}

const std::vector<KnobRule>& rules() {
    static const std::vector<KnobRule> all = {
        choice("mode", "inline or dedicated",
               "who turns the polling cores: the calling threads, or pinned lcores", &Config::mode,
               {"inline", "dedicated"}),
        choice("profile", "ultra, balanced or eco",
               "what an idle polling core does: spin for ever, spin then sleep, sleep at once",
               &Config::profile, {"ultra", "balanced", "eco"}),
        choice(
            "fabric", "auto, shm or verbs",
            "what carries connections: shared memory within this host and RDMA devices beyond it, "
            "or just one of the two",
            &Config::fabric, {"auto", "shm", "verbs"}),
        {{"cores", "up to 16 different CPU numbers such as 2,3 or 2-5 (empty: choose)",
          "CPUs of the dedicated polling cores"},
         set_cores,
         [](const Config& config) { return formatted("{}", fmt::join(config.cores, ",")); }},
        number("core_count", "1 to 16", "inline mode: polling cores to spread connections over",
               &Config::core_count, 1, 16),
        number("spin_us", "0 to 1000000", "balanced profile: idle time before a core sleeps, us",
               &Config::spin_us, 0, 1000000),
        choice("hugepages", "auto, off or required",
               "whether arenas, and DPDK's EAL when it is started, take hugepages of 2 MiB: where "
               "there "
               "are enough, never, or else nothing starts",
               &Config::hugepages, {"auto", "off", "required"}),
        number("eal_memory_mb", "16 to 65536", "memory that DPDK's EAL may take, MiB",
               &Config::eal_memory_mb, 16, 65536),
        number("arena_mb", "a multiple of 32, 32 to 65536",
               "one arena, out of which registered heaps are given memory, MiB; at most 64 arenas",
               &Config::arena_mb, 32, 65536, false, 32),
        number("arena_limit_mb", "a multiple of 32, 32 to 1048576",
               "all arenas together, which are made one by one as they are needed, MiB",
               &Config::arena_limit_mb, 32, 1U << 20, false, 32),
        number("lane_slots", "a power of two, 16 to 65536", "slots of a thread's lane to a core",
               &Config::lane_slots, 16, 65536, true),
        number("notifier_slots", "a power of two, 16 to 1048576",
               "slots of a core's ring to the notifier thread", &Config::notifier_slots, 16,
               1U << 20, true),
        number("queue_depth", "64 to 1048576", "outstanding operations, each socket and direction",
               &Config::queue_depth, 64, 1U << 20),
        number("shm_ring_slots", "a power of two, 256 to 1048576",
               "slots of 128 bytes of a shared-memory link, each direction",
               &Config::shm_ring_slots, 256, 1U << 20, true),
        number("shm_staging_kb", "a power of two, 256 to 1048576",
               "staging area of a shared-memory link for larger messages, KiB each direction",
               &Config::shm_staging_kb, 256, 1U << 20, true),
        number("eager_max", "512 to 65536",
               "longest message sent before the receiver has answered, bytes", &Config::eager_max,
               512, 65536),
        number("max_message", "65536 to 1073741824", "longest message (SO_MAX_MSG_SIZE), bytes",
               &Config::max_message, 65536, 1U << 30),
        number("max_rdma", "1 to 2147483648", "longest RDMA transfer (SO_MAX_RDMA_SIZE), bytes",
               &Config::max_rdma, 1, 1U << 31),
        number("rdma_threshold", "0 to 2147483648",
               "what is longer a switch should send by RDMA (SO_RDMA_THRESHOLD_SIZE), bytes",
               &Config::rdma_threshold, 0, 1U << 31),
        choice("copy", "auto, staged or direct",
               "how long RDMA and long messages travel: through the staging area, by one copy "
               "between the processes where the host allows it, or by whichever of the two proves "
               "quicker",
               &Config::copy, {"auto", "staged", "direct"}),
        choice(
            "share_arenas", "on, read or off",
            "whether processes of the same user may map shareable arenas, so that what lies in one "
            "travels to them by one copy (read), and also RDMA of theirs into one, and their part "
            "of a "
            "message that is received in one, which takes that they may write to all of it (on)",
            &Config::share_arenas, {"off", "read", "on"}),
        choice("joint_copy", "on or off",
               "whether both processes copy a long message that goes from arena to arena, each a "
               "part, "
               "where that is the quicker way and share_arenas is on at both ends",
               &Config::joint_copy, {"off", "on"}),
        number("max_connections", "a power of two, 64 to 1048576", "connections a polling core",
               &Config::max_connections, 64, 1U << 20, true),
        choice("registration_cache", "off or on",
               "whether registrations of memory are kept after WSPDeregisterMemory, until the "
               "memory is "
               "unmapped",
               &Config::registration_cache, {"off", "on"}),
        number("registration_cache_mb", "1 to 1048576",
               "memory that kept registrations may pin, those in use included, MiB",
               &Config::registration_cache_mb, 1, 1U << 20),
        number("registration_cache_entries", "16 to 1048576",
               "registrations that are kept or in use", &Config::registration_cache_entries, 16,
               1U << 20),
        number("connect_timeout_ms", "1 to 3600000",
               "how long a connect may take before WSAETIMEDOUT, ms", &Config::connect_timeout_ms,
               1, 3600000),
        {{"log_level", "trace, debug, info, warn, error or off", "messages on standard error"},
         [](Config& config, std::string_view text) {
             static constexpr std::string_view words[] = {"trace", "debug", "info",
                                                          "warn",  "error", "off"};
             if (std::find(std::begin(words), std::end(words), text) == std::end(words)) {
                 return false;
             }
             config.log_level = text;
             return true;
         },
         [](const Config& config) { return config.log_level; }},
    };
    return all;
}

std::string set_from(Config& config, std::string_view name, std::string_view value,
                     std::string_view source) {
    for (const KnobRule& rule : rules()) {
        if (rule.knob.name == name) {
            if (rule.set(config, value)) {
                return {};
            }
            return formatted("{}: {} = '{}' is not allowed; use {}", source, name, value,
                             rule.knob.allowed);
        }
    }
    std::vector<std::string_view> names;
    for (const KnobRule& rule : rules()) {
        names.push_back(rule.knob.name);
    }
    return formatted("{}: there is no knob '{}'; there are {}", source, name,
                     fmt::join(names, ", "));
}

std::string read_file(Config& config, const char* path) {
    toml::parse_result table = toml::parse_file(path);
    if (!table) {
        return formatted("configuration file {}: {} (line {})", path,
                         std::string_view(table.error().description()),
                         table.error().source().begin.line);
    }
    for (const auto& [key, node] : table.table()) {
        std::string text;
        if (const auto* word = node.as_string()) {
            text = word->get();
        } else if (const auto* whole = node.as_integer()) {
            text = std::to_string(whole->get());
        } else if (const toml::array* list = node.as_array()) {
            for (const auto& item : *list) {
                text += (text.empty() ? "" : ",") +
                        std::to_string(item.value_exact<std::int64_t>().value_or(-1));
            }
        } else {
            text = "?";
        }
        if (std::string error =
                set_from(config, key.str(), text, formatted("configuration file {}", path));
            !error.empty()) {
            return error;
        }
    }
    return {};
}

}  // namespace

const std::vector<Knob>& knobs() {
    static const std::vector<Knob> list = [] {
        std::vector<Knob> out;
        for (const KnobRule& rule : rules()) {
            out.push_back(rule.knob);
        }
        return out;
    }();
    return list;
}

std::string knob_value(const Config& config, std::string_view name) {
    for (const KnobRule& rule : rules()) {
        if (rule.knob.name == name) {
            return rule.get(config);
        }
    }
    return {};
}

std::string set_knob(Config& config, std::string_view name, std::string_view value) {
    return set_from(config, name, value, "set_knob");
}

std::string load_config(Config& config) {
    if (const char* path = std::getenv("SANPOLL_CONFIG"); path != nullptr && *path != '\0') {
        if (std::string error = read_file(config, path); !error.empty()) {
            return error;
        }
    }
    for (const KnobRule& rule : rules()) {
        std::string variable = "SANPOLL_";
        for (const char c : rule.knob.name) {
            variable += static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
        }
        if (const char* value = std::getenv(variable.c_str()); value != nullptr) {
            if (std::string error = set_from(config, rule.knob.name, value, variable);
                !error.empty()) {
                return error;
            }
        }
    }
    // A piece must fit the staging area several times over, or sender and receiver would take turns.
    if (static_cast<std::uint64_t>(config.eager_max) * 4 > config.shm_staging_kb * 1024ULL) {
        return formatted(
            "eager_max = {} is too long for shm_staging_kb = {}; the staging area must hold four "
            "such "
            "messages",
            config.eager_max, config.shm_staging_kb);
    }
    // Up to the threshold a switch sends messages.
    if (config.rdma_threshold > config.max_message) {
        return formatted(
            "rdma_threshold = {} is greater than max_message = {}; what is not longer than the "
            "threshold is sent as a message",
            config.rdma_threshold, config.max_message);
    }
    return {};
}

}  // namespace sanpoll::engine
