// WSPIoctl: addresses, extension functions.
#include <arpa/inet.h>
#include <sanpoll.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "engine/fabric/fabric_choice.hpp"
#include "engine/memory/registration_cache.hpp"
#include "provider/heap_functions.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

struct Extension {
    GUID id;
    void* function;
};

// The extension functions, by GUID.
const Extension kExtensions[] = {
    {WSAID_REGISTERMEMORY, reinterpret_cast<void*>(&wsp_register_memory)},
    {WSAID_DEREGISTERMEMORY, reinterpret_cast<void*>(&wsp_deregister_memory)},
    {WSAID_REGISTERRDMAMEMORY, reinterpret_cast<void*>(&wsp_register_rdma_memory)},
    {WSAID_DEREGISTERRDMAMEMORY, reinterpret_cast<void*>(&wsp_deregister_rdma_memory)},
    {WSAID_RDMAWRITE, reinterpret_cast<void*>(&wsp_rdma_write)},
    {WSAID_RDMAREAD, reinterpret_cast<void*>(&wsp_rdma_read)},
    {WSAID_MEMORYREGISTRATIONCACHECALLBACK,
     reinterpret_cast<void*>(&wsp_memory_registration_cache_callback)},
};

int extension_pointer(LPVOID in, DWORD in_length, LPVOID out, DWORD out_length, LPDWORD returned) {
    if (in == nullptr || in_length < sizeof(GUID) || out == nullptr || out_length < sizeof(void*) ||
        returned == nullptr) {
        return WSAEFAULT;
    }
    for (const Extension& extension : kExtensions) {
        if (std::memcmp(in, &extension.id, sizeof(GUID)) == 0) {
            if (extension.function ==
                    reinterpret_cast<void*>(&wsp_memory_registration_cache_callback) &&
                !engine::memory::RegistrationCache::of_process().on()) {
                return WSAEOPNOTSUPP;  // whoever asks for it wants to know whether it has to call it
            }
            std::memcpy(out, &extension.function, sizeof(void*));
            *returned = sizeof(void*);
            return 0;
        }
    }
    return WSAEINVAL;
}

// Tables of functions, by GUID. A caller of an earlier header gets as much as it knows of.
int extension_table(LPVOID in, DWORD in_length, LPVOID out, DWORD out_length, LPDWORD returned) {
    constexpr DWORD kFirstSize =
        sizeof(SANPOLL_MEMORY_FUNCTIONS);  // of the first version; never less
    constexpr GUID kMemory = WSAID_SANPOLL_MEMORY;
    if (in == nullptr || in_length < sizeof(GUID) || returned == nullptr) {
        return WSAEFAULT;
    }
    if (std::memcmp(in, &kMemory, sizeof(GUID)) != 0) {
        return WSAEINVAL;
    }
    SANPOLL_MEMORY_FUNCTIONS functions = heap_functions();
    *returned = functions.cbSize;
    if (out == nullptr || out_length < kFirstSize) {
        return WSAEFAULT;
    }
    functions.cbSize = std::min(out_length, functions.cbSize);
    *returned = functions.cbSize;
    std::memcpy(out, &functions, functions.cbSize);
    return 0;
}

int address_list(LPVOID out, DWORD out_length, LPDWORD returned) {
    if (returned == nullptr) {
        return WSAEFAULT;
    }
    const std::vector<std::uint32_t> addresses = Provider::instance().engine().fabric().addresses();
    // The list, then the addresses that its entries point to, in the caller's one buffer.
    const std::size_t entries =
        offsetof(SOCKET_ADDRESS_LIST, Address) + addresses.size() * sizeof(SOCKET_ADDRESS);
    const std::size_t needed = entries + addresses.size() * sizeof(sockaddr_in);
    *returned = static_cast<DWORD>(needed);
    if (out == nullptr || out_length < needed) {
        return WSAEFAULT;
    }
    // By copies, since nothing says that the caller's buffer is aligned.
    auto* const list = static_cast<char*>(out);
    const auto count = static_cast<INT>(addresses.size());
    std::memcpy(list + offsetof(SOCKET_ADDRESS_LIST, iAddressCount), &count, sizeof(count));
    char* entry = list + offsetof(SOCKET_ADDRESS_LIST, Address);
    char* storage = list + entries;
    for (const std::uint32_t ip : addresses) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(ip);
        std::memcpy(storage, &address, sizeof(address));
        SOCKET_ADDRESS described{};
        described.lpSockaddr = reinterpret_cast<LPSOCKADDR>(storage);
        described.iSockaddrLength = sizeof(address);
        std::memcpy(entry, &described, sizeof(described));
        entry += sizeof(described);
        storage += sizeof(address);
    }
    return 0;
}

template <std::size_t kSize>
void copy_text(CHAR (&to)[kSize], std::string_view from) noexcept {
    const std::size_t length = std::min(from.size(), kSize - 1);
    std::fill_n(std::copy_n(from.begin(), length, to), kSize - length, CHAR{0});
}

int fabric_of(Socket& socket, std::uint32_t generation, LPVOID out, DWORD out_length,
              LPDWORD returned) {
    if (returned == nullptr) {
        return WSAEFAULT;
    }
    *returned = sizeof(SANPOLL_FABRIC);
    if (out == nullptr || out_length < sizeof(SANPOLL_FABRIC)) {
        return WSAEFAULT;
    }
    // A close takes the lock before it ends the endpoint, which therefore stays while we look.
    const std::lock_guard lock(socket.mutex);
    const engine::PostGate::View view = socket.gate.view();
    if (view.generation != generation) {
        return WSAENOTSOCK;
    }
    if (socket.state != State::kConnected || view.state == engine::PostGate::State::kShut) {
        return WSAENOTCONN;
    }
    // Pairs with the release that the gate was opened after.
    const engine::Endpoint& endpoint = *socket.endpoint.load(std::memory_order_acquire);
    SANPOLL_FABRIC answer;
    copy_text(answer.fabric, endpoint.port->fabric());
    copy_text(answer.device, endpoint.port->device(endpoint));
    copy_text(answer.reason, engine::to_words(socket.why, Provider::instance().config().fabric));
    copy_text(answer.arenas, endpoint.port->arenas(endpoint));
    std::memcpy(out, &answer, sizeof(answer));
    return 0;
}

// Codes of Winsock that mean something, but not here.
bool known_code(DWORD code) noexcept {
    switch (code) {
        case SIO_ASSOCIATE_HANDLE:
        case SIO_ENABLE_CIRCULAR_QUEUEING:
        case SIO_FIND_ROUTE:
        case SIO_FLUSH:
        case SIO_GET_BROADCAST_ADDRESS:
        case SIO_MULTIPOINT_LOOPBACK:
        case SIO_MULTICAST_SCOPE:
        case SIO_TRANSLATE_HANDLE:
        case SIO_ROUTING_INTERFACE_QUERY:
        case SIO_ROUTING_INTERFACE_CHANGE:
        case SIO_ADDRESS_LIST_CHANGE:
        case SIO_QUERY_TARGET_PNP_HANDLE:
        case SIO_ADDRESS_LIST_SORT:
        case WSP_FIONREAD:
        case WSP_FIONBIO:
        case WSP_FIOASYNC:
        case WSP_SIOCATMARK:
            return true;
        default:
            return false;
    }
}

}  // namespace

int WSPAPI wsp_ioctl(SOCKET s, DWORD code, LPVOID in, DWORD in_length, LPVOID out, DWORD out_length,
                     LPDWORD returned, LPWSAOVERLAPPED overlapped,
                     LPWSAOVERLAPPED_COMPLETION_ROUTINE routine, LPWSATHREADID thread,
                     LPINT error_number) {
    (void)routine;
    (void)thread;
    const int error = guarded([&]() -> int {
        if (const int error = life_error(); error != 0) {
            return error;
        }
        // Before the descriptor is looked at: a switch asks for these with whatever it has.
        if (code == SIO_GET_EXTENSION_FUNCTION_POINTER) {
            return extension_pointer(in, in_length, out, out_length, returned);
        }
        if (code == SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER) {
            return extension_table(in, in_length, out, out_length, returned);
        }
        SocketTable::Found found;
        if (const int error = find_socket(s, found); error != 0) {
            return error;
        }
        const EngineUse use;
        if (!use.up()) {
            return WSANOTINITIALISED;  // since we looked for the socket
        }
        switch (code) {
            case SIO_ADDRESS_LIST_QUERY:
                return address_list(out, out_length, returned);
            case SIO_SANPOLL_FABRIC:
                return fabric_of(*found.socket, found.view.generation, out, out_length, returned);
            case SIO_GET_QOS:
            case SIO_SET_QOS:
            case SIO_GET_GROUP_QOS:
            case SIO_SET_GROUP_QOS:
                return WSAENOPROTOOPT;  // no quality of service
            default:
                return known_code(code) ? WSAEOPNOTSUPP : WSAEINVAL;
        }
    });
    if (error == 0 && overlapped != nullptr) {
        // Every code completes at once; WSPGetOverlappedResult may be asked all the same.
        overlapped->OffsetHigh = 0;
        overlapped->Offset = 0;
        overlapped->InternalHigh = *returned;
        // Pairs with the acquire in wsp_get_overlapped_result.
        std::atomic_ref<ULONG_PTR>(overlapped->Internal).store(0, std::memory_order_release);
    }
    return result(error_number, error);
}

}  // namespace sanpoll::provider
