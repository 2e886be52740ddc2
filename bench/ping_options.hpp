// The options of sanpoll-ping: one struct, filled once, checked once.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sanpoll::bench {

enum class Completion {
    kPolled,  // hEvent = 1: the application asks WSPGetOverlappedResult until it is done
    kEvent,   // hEvent = an event: the application waits for it
    kPort,    // hEvent = NULL: the application takes completions from a port
};

enum class Layout {
    kTwoProcesses,  // the default: a server process and a client process
    kOneProcess,    // two threads of one process
    kOneThread,     // one thread drives both ends
    kTwoHosts,      // a client process here, the server where --listen runs
};

const char* to_string(Completion completion) noexcept;
const char* to_string(Layout layout) noexcept;
std::optional<Completion> completion_from(const std::string& text) noexcept;

// A peer that a run measures (bench/peer.hpp).
struct WantedPeer {
    std::string name;
    std::uint32_t largest = UINT32_MAX;  // bytes of the longest message that it carries
};

struct PingOptions {
    std::vector<std::uint32_t> sizes{0, 8, 64, 1024, 65536};
    std::uint64_t count =
        0;  // round trips (and streamed messages) of each size; 0: as many as fit into a sample's time
    std::uint64_t warmup = 1000;
    std::string mode = "inline";  // SANPOLL_MODE of the processes
    std::string profile;          // SANPOLL_PROFILE; empty: the library's default
    std::vector<int> cores;       // application CPUs: server, client; empty: chosen
    std::vector<int> poll_cores;  // SANPOLL_CORES in dedicated mode; empty: chosen
    Completion completion = Completion::kPolled;
    std::vector<Completion> more_completions;  // measured beside `completion`, in the same rounds
    std::uint32_t receives = 8;
    std::uint32_t window = 32;         // sends outstanding in the rate phase
    std::uint32_t rate_receives = 64;  // receives posted in the rate phase
    // Messages under way in the rate phase hold at most so many bytes, though at least kFewestReceives messages; 0: no
    // such bound.
    std::uint64_t rate_bytes = 0;
    std::uint32_t rounds = 5;
    std::uint32_t retries = 3;  // of one sample whose placement moved
    bool shm = true;
    bool arena = false;             // the provider again, with buffers out of its arenas
    std::vector<WantedPeer> peers;  // instead of `tcp`
    bool fresh = false;             // senders write all of each message (bench/connection.hpp)
    std::uint32_t phase_ms = 0;  // how long a phase lasts without `count`; 0: by the run's length
    bool tcp = true;
    bool tcp_blocking = false;
    bool rate = true;
    Layout layout = Layout::kTwoProcesses;
    std::string fabric;   // SANPOLL_FABRIC of the processes; empty: theirs anyway
    std::string address;  // empty: 127.0.0.1 if the provider has it, else its first
    std::string library;  // empty: what the switch looks for by default
    std::string json;     // empty: none; "-": standard output, instead of the table
    bool quiet = false;   // no progress and no remarks

    bool listen = false;        // be the server of one run that another host's --connect leads
    std::string connect;        // the address where that server is; empty: both ends are here
    std::uint16_t port = 7412;  // TCP, of their control connection

    // Set only in the processes that sanpoll-ping starts itself.
    std::string role;  // "server", "client" or "pair"
    std::vector<int> control_fds;
};

// What parsing came to: options to run with, or a text to print and a status to end with.
struct ParsedOptions {
    std::optional<PingOptions> options;
    std::string text;
    int status =
        0;  // 0: help or version, to standard output; 2: a wrong option, one line to standard error
};

ParsedOptions parse_options(int argc, const char* const* argv);

// "64", "64K", "1M" -> bytes; nothing if it is no such number or above 1 GiB.
std::optional<std::uint32_t> parse_size(const std::string& text) noexcept;

// The inverse, in the shortest exact form.
std::string format_size(std::uint32_t bytes);

}  // namespace sanpoll::bench
