// WSPRegisterMemory and WSPDeregisterMemory (spec, section 7).
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/memory/arena.hpp"
#include "engine/memory/registration_cache.hpp"
#include "provider/engine_stay.hpp"
#include "provider/memory_handle.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {

namespace {

bool walk(std::uint64_t address, std::uint64_t length) noexcept {
    const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    constexpr std::uint64_t kPagesAtOnce = 1024;
    unsigned char residence[kPagesAtOnce];
    std::uint64_t at = address & ~(page - 1);
    const std::uint64_t end = address + length;
    while (at < end) {
        const std::uint64_t step = std::min(end - at, kPagesAtOnce * page);
        if (::mincore(reinterpret_cast<void*>(at), step, residence) != 0 && errno != EAGAIN) {
            return false;
        }
        at += step;
    }
    return true;
}

}  // namespace

bool mapped(std::uint64_t address, std::uint64_t length) noexcept {
    // Arenas stay mapped as long as the process lives.
    if (engine::memory::Arenas::of_process().find(address, length) != nullptr) {
        return true;
    }
    auto& cache = engine::memory::RegistrationCache::of_process();
    if (!cache.on()) {
        return walk(address, length);
    }
    return cache.known_mapped(address, length) || cache.note_mapped(address, length, walk);
}

HANDLE WSPAPI wsp_register_memory(SOCKET s, PVOID buffer, DWORD length, DWORD flags,
                                  LPINT error_number) {
    HANDLE handle = nullptr;
    const int error = guarded([&]() -> int {
        SocketTable::Found found;
        if (const int missing = find_socket(s, found); missing != 0) {
            return missing;
        }
        if (flags != MEM_READ && flags != MEM_WRITE && flags != MEM_READWRITE) {
            return WSAEINVAL;
        }
        if (found.view.state != engine::PostGate::State::kOpen) {
            return WSAENOTCONN;
        }
        const auto address = reinterpret_cast<std::uint64_t>(buffer);
        if (buffer == nullptr || length == 0 || address + length < address ||
            !mapped(address, length)) {
            return WSAEFAULT;
        }
        static_assert(MEM_READ == engine::kRead && MEM_WRITE == engine::kWrite);
        // A close drops the registrations; none may be added behind its back. The table sees to that. Only a connection
        // with a device is kept from ending meanwhile as well. Who finds no device here although there was one
        // looks at a record that has been given away since: then the table finds the gate shut.
        Socket& socket = *found.socket;
        std::unique_lock lock(socket.mutex, std::defer_lock);
        if (socket.registrar.load(std::memory_order_acquire) != nullptr) {
            lock.lock();
        }
        engine::RegionRef ref = 0;
        const engine::Status status = socket.regions.add_for(
            socket.gate, found.view.generation, address, length, flags,
            lock.owns_lock() ? socket.registrar.load(std::memory_order_relaxed) : nullptr, ref);
        if (status == engine::Status::kNotOpen &&
            socket.gate.generation() != found.view.generation) {
            return WSAENOTSOCK;
        }
        if (status != engine::Status::kOk) {
            return wsa_error(status);
        }
        handle = to_handle(socket, found.view.generation, ref);
        return 0;
    });
    set_error(error_number, error);
    return handle;
}

int WSPAPI wsp_deregister_memory(SOCKET s, HANDLE handle, LPINT error_number) {
    return result(
        error_number, guarded([&]() -> int {
            const EngineStay stay;
            SocketTable::Found found;
            if (const int error = stay.up() ? find_socket(s, found) : stay.error(); error != 0) {
                return error;
            }
            Socket& socket = *found.socket;
            // A close drops the registrations: if the socket was closed meanwhile, that is the answer.
            const auto refused = [&] {
                return socket.gate.generation() != found.view.generation ? WSAENOTSOCK : WSAEINVAL;
            };
            const engine::RegionRef ref = from_handle(socket, found.view.generation, handle);
            if (ref == 0 || !socket.regions.live(ref)) {
                return refused();
            }
            engine::PollingCore* core = core_of(socket);
            if (core == nullptr) {
                return refused();
            }
            // On the core, in order with the posts: those admitted before have taken effect and hold their
            // regions or are done; those that come later find the reference stale.
            struct RetireOp final : engine::ControlOp {
                RetireOp(Socket& record, std::uint32_t number, engine::RegionRef region)
                    : socket(record), generation(number), ref(region) {}
                void run() noexcept override {
                    // Behind a close there is nothing to do, and the closing thread may be emptying the
                    // table. Whose turn comes after the close's sees the new generation here.
                    if (socket.gate.generation() == generation) {
                        retired = socket.regions.retire(ref);
                    }
                }
                Socket& socket;
                std::uint32_t generation;
                engine::RegionRef ref;
                bool retired = false;
            } op(socket, found.view.generation, ref);
            if (core->run_at_rest(op, socket.gate, found.view.generation, socket.endpoint)) {
                // The usual case: nothing is on its way to the core.
            } else if (const auto sequence = socket.gate.enter_behind(found.view.generation)) {
                core->run(op, socket.endpoint.load(std::memory_order_acquire), *sequence);
            } else {
                core->run(op);  // broken: nothing is pending any more
            }
            if (!op.retired) {
                return refused();  // in use by a transfer, or deregistered by another thread just now
            }
            // The entry is not used again before the device has forgotten it.
            with_registrar(socket, found.view.generation, [&](engine::MemoryRegistrar& registrar) {
                registrar.remove_local(ref);
            });
            socket.regions.remove_from_index(ref);
            return 0;
        }));
}

}  // namespace sanpoll::provider
