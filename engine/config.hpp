// Every knob of the engine, in one place: filled once, checked once, passed down by const reference.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sanpoll::engine {

enum class Mode : std::uint8_t {
    kInline,     // the posting or waiting thread turns the core itself; no core of ours
    kDedicated,  // a pinned lcore turns it for good
};

enum class Profile : std::uint8_t {
    kUltra,     // never sleeps
    kBalanced,  // spins a while, then sleeps until the doorbell rings
    kEco,       // sleeps as soon as there is nothing to do
};

enum class Hugepages : std::uint8_t { kAuto, kOff, kRequired };

/// How RDMA and messages beyond eager_max travel. Which way is the quicker one depends on where the CPUs of the two
/// processes are; see bench/README.md. Of RDMA the initiator's setting counts, of messages the receiver's, but
/// where either end has kStaged both are staged.
enum class Copy : std::uint8_t {
    kAuto,    // whichever of the two proves quicker, link by link (fabric/shm/copy_choice.hpp,
              // message_choice.hpp)
    kStaged,  // through the staging area
    kDirect,  // one copy between the processes, unless the host or the peer does not allow it
};

/// Whether other processes of the same user id may map our shareable arenas, and we theirs.
enum class ShareArenas : std::uint8_t {
    kOff,
    kRead,  // what lies in one travels by one copy
    kOn,  // and RDMA into one is a store of the initiator's: whoever has mapped it can change all of it
};

/// Whether the sender of a long message out of an arena copies a part of it itself, into the receive
/// (fabric/shm/joint_copy.hpp). Asked for by the receiver's setting, done if the sender's allows it too.
enum class JointCopy : std::uint8_t { kOff, kOn };

/// Whether WSPDeregisterMemory keeps what WSPRegisterMemory may want again.
enum class RegistrationCaching : std::uint8_t { kOff, kOn };

/// What may carry connections. A connection's own fabric follows from its address (fabric/fabric_choice.hpp).
enum class FabricKind : std::uint8_t {
    kAuto,   // shared memory, and RDMA devices where there are any
    kShm,    // shared memory only
    kVerbs,  // RDMA devices only, also between processes of this host
};

struct Config {
    Mode mode = Mode::kInline;
    Profile profile = Profile::kBalanced;
    FabricKind fabric = FabricKind::kAuto;
    std::vector<std::uint32_t> cores;  // dedicated: CPUs of the polling cores; empty = choose one
    std::uint32_t core_count = 1;      // inline: polling cores to spread connections over
    std::uint32_t spin_us = 50;        // balanced: idle time before a core sleeps
    Hugepages hugepages = Hugepages::kAuto;
    std::uint32_t eal_memory_mb = 64;     // what DPDK's EAL may take when it is started
    std::uint32_t arena_mb = 128;         // one arena of registered heaps; a multiple of 32
    std::uint32_t arena_limit_mb = 4096;  // all arenas of the process

    std::uint32_t lane_slots = 256;       // slots of a thread's lane to a core
    std::uint32_t notifier_slots = 1024;  // slots of a core's ring to the notifier thread
    std::uint32_t queue_depth = 4096;     // outstanding operations a socket and direction

    std::uint32_t shm_ring_slots = 1024;  // slots of a link's ring, one direction
    std::uint32_t shm_staging_kb = 2048;  // staging area of a link, one direction
    std::uint32_t eager_max = 16384;      // longest message sent before the receiver answers, bytes
    std::uint32_t max_message = 16U << 20;  // SO_MAX_MSG_SIZE, bytes
    std::uint32_t max_rdma = 1U << 30;      // SO_MAX_RDMA_SIZE, bytes
    // SO_RDMA_THRESHOLD_SIZE, bytes. A switch copies what it sends as a message into its pool, and the
    // receiver out of its own; RDMA saves both copies, and costs a registration at either end and two more
    // messages. Two copies of 64 KiB are some ten microseconds, which is several times that cost. It is a
    // preference: the switch may choose another length.
    std::uint32_t rdma_threshold = 65536;
    Copy copy = Copy::kAuto;  // how long RDMA and long messages travel
    ShareArenas share_arenas = ShareArenas::kOn;
    JointCopy joint_copy = JointCopy::kOn;  // where share_arenas = on
    std::uint32_t max_connections = 65536;  // a polling core's connections

    // memory/registration_cache.hpp. What is kept stays pinned, hence the bounds.
    RegistrationCaching registration_cache = RegistrationCaching::kOff;
    std::uint32_t registration_cache_mb = 1024;
    std::uint32_t registration_cache_entries = 16384;

    std::uint32_t connect_timeout_ms = 20000;
    std::string log_level = "warn";
};

struct Knob {
    std::string_view name;     // also the key in a configuration file; SANPOLL_<NAME> outside
    std::string_view allowed;  // in words, for messages
    std::string_view description;
};

/// All knobs, for sanpoll-info (config_report.hpp) and the documentation.
[[nodiscard]] const std::vector<Knob>& knobs();

/// The value of a knob as text.
[[nodiscard]] std::string knob_value(const Config& config, std::string_view name);

/// Sets one knob from text. Returns an empty string, or what is wrong with its name and what is allowed.
[[nodiscard]] std::string set_knob(Config& config, std::string_view name, std::string_view value);

/// Defaults, then the TOML file that SANPOLL_CONFIG names (if it does), then SANPOLL_* of the
/// environment, then checks that concern several knobs. Returns an empty string or the first error,
/// naming the knob, where its value came from, and its range. Reads the environment here and nowhere else.
[[nodiscard]] std::string load_config(Config& config);

}  // namespace sanpoll::engine
