// What footprint measured, and how it is shown: a table for people, JSON for programs (its keys are in footprint.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "bench/process_memory.hpp"

namespace sanpoll::bench {

// What both processes had in memory at one moment; with one process, `acceptor` is empty.
struct FootprintShot {
    const char* when;
    ProcessMemory connector;
    ProcessMemory acceptor;
};

struct Footprint {
    std::size_t connections = 0;
    std::size_t timed = 0;     // connects and closes whose time was taken
    std::size_t receives = 0;  // posted on each connection
    bool one_process = false;
    bool tcp = false;  // whether kernel TCP was asked for

    std::vector<FootprintShot> shots;  // before, started, 1 connection, few (the same one), many
    // Nanoseconds of each connect and close, beside one and beside all connections.
    std::vector<std::uint64_t> connect_few;
    std::vector<std::uint64_t> connect_many;
    std::vector<std::uint64_t> close_few;
    std::vector<std::uint64_t> close_many;
    double closing_all_ms = 0;
    std::optional<double>
        tcp_bytes;  // of the kernel's objects, an end; nothing where it does not tell

    // Bytes that each connection has cost the process. Needs all shots.
    [[nodiscard]] double each(ProcessMemory FootprintShot::*process) const;
};

void print(const Footprint& footprint);
nlohmann::json json_of(const Footprint& footprint);

}  // namespace sanpoll::bench
