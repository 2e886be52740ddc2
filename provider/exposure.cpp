// WSPRegisterRdmaMemory and WSPDeregisterRdmaMemory (spec, section 7): memory that is exposed to the peer. It is never
// kept by the registration cache.
#include <sys/random.h>

#include <cstring>

#include "engine/memory/arena.hpp"
#include "provider/engine_stay.hpp"
#include "provider/memory_handle.hpp"
#include "provider/provider.hpp"
#include "provider/rdma_descriptor.hpp"

namespace sanpoll::provider {
namespace {

// Adds to the table of exposed memory on the core that reads it. A socket that is closed keeps nothing:
// the close comes to the core after us, or has changed the generation before.
struct ExposeOp final : engine::ControlOp {
    ExposeOp(Socket& record, std::uint32_t expected) : socket(record), generation(expected) {}
    void run() noexcept override {
        full = false;
        if (!socket.gate.open_for(generation)) {
            return;
        }
        if (socket.remote.full()) {
            socket.remote.adopt(larger);
        }
        full = socket.remote.full();
        capacity = socket.remote.capacity();
        key = socket.remote.add(address, length, access, nonce, shown);
        place = key != 0 ? socket.remote.place_of(key) : 0;
    }
    Socket& socket;
    std::uint32_t generation;
    std::uint64_t address = 0;
    std::uint32_t length = 0;
    std::uint32_t access = 0;
    std::uint64_t nonce = 0;
    bool shown = false;
    engine::RemoteRegions::Table larger;  // in: room for more; out: the old table
    std::uint32_t key = 0;
    std::uint32_t place = 0;  // RemoteRegions::place_of
    bool full = false;
    std::uint32_t capacity = 0;
};

struct ConcealOp final : engine::ControlOp {
    using Removal = engine::RemoteRegions::Removal;
    ConcealOp(Socket& record, std::uint32_t expected, const RdmaDescriptor& what)
        : socket(record), generation(expected), descriptor(what) {}
    void run() noexcept override {
        if (socket.gate.generation() != generation) {
            return;
        }
        if (only_look) {
            known = socket.remote.knows(descriptor.key, descriptor.nonce);
        } else {
            removal = socket.remote.remove(descriptor.key, descriptor.nonce);
        }
    }
    Socket& socket;
    std::uint32_t generation;
    const RdmaDescriptor& descriptor;
    bool only_look = false;
    bool known = false;
    Removal removal = Removal::kUnknown;
};

// Lets the connection's device in, if one does the work. Returns a WSA error or 0.
int expose_to_device(Socket& socket, std::uint32_t generation, const ExposeOp& exposed,
                     RdmaDescriptor& descriptor) {
    if (kind_of(socket) == RdmaDescriptor::Kind::kLookedUp) {
        return 0;
    }
    engine::Status status = engine::Status::kNotOpen;
    engine::DeviceKey key;
    (void)with_registrar(socket, generation, [&](engine::MemoryRegistrar& registrar) {
        status =
            registrar.expose(exposed.key, exposed.address, exposed.length, exposed.access, key);
    });
    if (status == engine::Status::kOk) {
        descriptor.seal(key);
        return 0;
    }
    return wsa_error(status);
}

// Takes the connection's device away from it, before the table forgets it. Returns a WSA error or 0.
int conceal_from_device(Socket& socket, std::uint32_t generation, engine::PollingCore& core,
                        ConcealOp& op) {
    if (kind_of(socket) == RdmaDescriptor::Kind::kLookedUp) {
        return 0;
    }
    op.only_look = true;
    core.run(op);
    op.only_look = false;
    engine::Status status = engine::Status::kBadRegion;
    if (op.known) {
        (void)with_registrar(socket, generation, [&](engine::MemoryRegistrar& registrar) {
            status = registrar.conceal(op.descriptor.key);
        });
    }
    return status == engine::Status::kOk ? 0 : WSAEINVAL;  // unknown, or in use and as it was
}

}  // namespace

int WSPAPI wsp_register_rdma_memory(SOCKET s, PVOID buffer, DWORD length, DWORD flags,
                                    LPVOID descriptor, LPDWORD descriptor_length,
                                    LPINT error_number) {
    return result(
        error_number, guarded([&]() -> int {
            const EngineStay stay;
            SocketTable::Found found;
            if (const int error = stay.up() ? find_socket(s, found) : stay.error(); error != 0) {
                return error;
            }
            if (descriptor_length == nullptr) {
                return WSAEFAULT;
            }
            // Before all else: a switch asks for the size with whatever it has.
            if (descriptor == nullptr || *descriptor_length < sizeof(RdmaDescriptor)) {
                *descriptor_length = sizeof(RdmaDescriptor);
                return WSAEFAULT;
            }
            if (flags != MEM_READ && flags != MEM_WRITE && flags != MEM_READWRITE) {
                return WSAEINVAL;
            }
            Socket& socket = *found.socket;
            engine::PollingCore* core = core_of(socket);
            if (found.view.state != engine::PostGate::State::kOpen || core == nullptr) {
                return WSAENOTCONN;
            }
            if (const int error = range_error(buffer, length, flags); error != 0) {
                return error;
            }
            const auto address = reinterpret_cast<std::uint64_t>(buffer);
            ExposeOp op(socket, found.view.generation);
            op.address = address;
            op.length = length;
            op.access = flags;
            if (::getrandom(&op.nonce, sizeof(op.nonce), 0) != sizeof(op.nonce)) {
                return WSAENOBUFS;  // never guessable instead
            }
            // Of what is shown the peer takes the page faults: it would pay for our pages, and die of those that are
            // not to be had.
            op.shown = kind_of(socket) == RdmaDescriptor::Kind::kLookedUp &&
                       Provider::instance().config().share_arenas != engine::ShareArenas::kOff &&
                       engine::memory::Arenas::of_process().populate(address, length);
            core->run(op);
            while (op.full && op.capacity < engine::RemoteRegions::kMaxRegions) {
                op.larger.assign(op.capacity == 0 ? 16 : op.capacity * 4, {});
                core->run(op);
            }
            if (op.key == 0) {
                if (op.full) {
                    return WSAENOBUFS;
                }
                return socket.gate.generation() != found.view.generation ? WSAENOTSOCK
                                                                         : WSAENOTCONN;
            }
            RdmaDescriptor made{RdmaDescriptor::Kind::kLookedUp,
                                op.key,
                                op.nonce,
                                length,
                                flags,
                                op.place,
                                op.place,
                                0};
            if (const int error = expose_to_device(socket, found.view.generation, op, made);
                error != 0) {
                ConcealOp undo(socket, found.view.generation, made);
                core->run(undo);
                return socket.gate.generation() != found.view.generation ? WSAENOTSOCK : error;
            }
            std::memcpy(descriptor, &made, sizeof(made));
            *descriptor_length = sizeof(made);
            return 0;
        }));
}

int WSPAPI wsp_deregister_rdma_memory(SOCKET s, LPVOID descriptor, DWORD descriptor_length,
                                      LPINT error_number) {
    return result(
        error_number, guarded([&]() -> int {
            const EngineStay stay;
            SocketTable::Found found;
            if (const int error = stay.up() ? find_socket(s, found) : stay.error(); error != 0) {
                return error;
            }
            RdmaDescriptor given;
            Socket& socket = *found.socket;
            engine::PollingCore* core = core_of(socket);
            if (!read_descriptor(descriptor, descriptor_length, kind_of(socket), given) ||
                core == nullptr) {
                return WSAEINVAL;
            }
            ConcealOp op(socket, found.view.generation, given);
            if (const int error = conceal_from_device(socket, found.view.generation, *core, op);
                error != 0) {
                return socket.gate.generation() != found.view.generation ? WSAENOTSOCK : error;
            }
            core->run(op);
            if (op.removal == ConcealOp::Removal::kInUse) {
                // The peer may have said by now that it has read it; that turn was not ours.
                core->run(op);
            }
            if (op.removal == ConcealOp::Removal::kRemoved) {
                return 0;
            }
            // A close ends what was exposed: if the socket was closed meanwhile, that is the answer.
            return socket.gate.generation() != found.view.generation ? WSAENOTSOCK : WSAEINVAL;
        }));
}

}  // namespace sanpoll::provider
