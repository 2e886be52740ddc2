// WSPRegisterMemory and WSPDeregisterMemory (spec, section 7), and the registration cache's callback.
#include <atomic>

#include "engine/log.hpp"
#include "engine/memory/arena.hpp"
#include "engine/memory/page_rights.hpp"
#include "engine/memory/registration_cache.hpp"
#include "provider/engine_stay.hpp"
#include "provider/memory_handle.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {

namespace memory = engine::memory;

namespace {

// For the person who runs the program, who has nothing but a number otherwise. Once for each cause: what is tried in
// vain is tried again.
void tell(const memory::PageRights& rights, std::uint64_t address, std::uint64_t length) {
    static std::atomic<std::uint32_t> told{0};  // orders nothing
    const std::uint32_t cause = 1U << static_cast<std::uint32_t>(rights.lack);
    const bool first = (told.fetch_or(cause, std::memory_order_relaxed) & cause) == 0;
    const auto level = first ? engine::LogLevel::kWarn : engine::LogLevel::kDebug;
    if (engine::log_enabled(level)) {
        engine::log(level, "memory cannot be registered: {}",
                    memory::to_words(rights, address, length));
    }
}

}  // namespace

int range_error(const void* buffer, DWORD length, DWORD access) {
    const auto address = reinterpret_cast<std::uint64_t>(buffer);
    if (buffer == nullptr || length == 0 || address + length < address) {
        return WSAEFAULT;
    }
    // Arenas stay mapped, to be read and written, as long as the process lives.
    if (memory::Arenas::of_process().find(address, length) != nullptr) {
        return 0;
    }
    memory::PageRights rights;
    const auto fit = [&] {
        rights = memory::page_rights(address, length, access);
        return rights.lack == memory::Lack::kNothing;
    };
    auto& cache = memory::RegistrationCache::of_process();
    if (cache.on() ? cache.known_fit(address, length, access) ||
                         cache.note_fit(address, length, access, fit)
                   : fit()) {
        return 0;
    }
    tell(rights, address, length);
    return rights.lack == memory::Lack::kMemory ? WSAENOBUFS : WSAEFAULT;
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
        if (const int error = range_error(buffer, length, flags); error != 0) {
            return error;
        }
        const auto address = reinterpret_cast<std::uint64_t>(buffer);
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

int WSPAPI wsp_memory_registration_cache_callback(PVOID address, SIZE_T size, LPINT error_number) {
    return result(error_number, guarded([&]() -> int {
                      if (const int error = life_error(); error != 0) {
                          return error;
                      }
                      // Off, it has nothing: 0 as well.
                      return memory::RegistrationCache::of_process().invalidate(
                                 reinterpret_cast<std::uint64_t>(address), size)
                                 ? 0
                                 : WSAEFAULT;
                  }));
}

}  // namespace sanpoll::provider
