// Sockets that have left this process and wait for the next one to fetch them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>

#include "engine/fabric/shm/descriptor.hpp"
#include "engine/fabric/shm/exported_state.hpp"
#include "engine/status.hpp"

namespace sanpoll::engine::shm {

class ShmFabric;

/// A token is the name of an abstract listening socket, which only one process can have: so it is unique
/// among all processes of the system, and nothing of it is left behind. Who connects and is the process that
/// the token was issued for gets the state and what goes along, once; anybody else is turned away and the
/// token stays good. What is not fetched in time is given up, also when that process or this engine ends.
/// Control thread only.
class Exports {
public:
    explicit Exports(ShmFabric& fabric) : fabric_(fabric) {}
    Exports(const Exports&) = delete;
    Exports& operator=(const Exports&) = delete;

    /// Enters it. `carried`: the connection's lifeline or the listening socket. kUnreachable (there is no such
    /// process), kNoMemory or kNoDescriptors: nothing was entered and `carried` is unchanged.
    [[nodiscard]] Status add(const ExportedState& state, Descriptor& carried, pid_t process,
                             std::uint32_t& token);
    /// Takes it back, if nobody has fetched it.
    void give_up(std::uint32_t token);
    void give_up_all();

private:
    struct Export {
        pid_t process = 0;
        Descriptor door;  // the listening socket that is the token
        Descriptor state;
        Descriptor carried;
        Descriptor life;  // of the process; none where the kernel has no such descriptors
        std::uint64_t timer = 0;
    };

    void knocked(std::uint32_t token);

    ShmFabric& fabric_;
    std::map<std::uint32_t, Export> list_;
};

}  // namespace sanpoll::engine::shm
