// What one process writes down for the next, in an anonymous memory file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/fabric/shm/descriptor.hpp"
#include "engine/fabric/shm/frozen.hpp"

namespace sanpoll::engine::shm {

struct ExportedState {
    bool listening = false;
    std::uint32_t ip = 0;  // listening: where
    std::uint16_t port = 0;
    std::uint64_t engine_id[2] = {};  // of the connection's peer
    std::uint32_t engine_port = 0;    // the port of that engine which has the connection
    std::uint64_t secret[2] = {};     // that the peer knows the next process by
    Frozen frozen;
    std::vector<std::byte> passenger;  // the fabric's user's own, see Fabric
};

/// A memory file with the state; empty when the system refuses (errno says why).
[[nodiscard]] Descriptor write_state(const ExportedState& state);

/// Reads it back. Everything is checked: the file comes from another process. False if it is none.
[[nodiscard]] bool read_state(int fd, ExportedState& state);

}  // namespace sanpoll::engine::shm
