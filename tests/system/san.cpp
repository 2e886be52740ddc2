#include "tests/system/san.hpp"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "tests/system/scale.hpp"

namespace sanpoll::system_test {
namespace {

constexpr int kBacklog = 1024;
constexpr std::uint16_t kConnectorPort = 40000;  // its number matters to nobody

sockaddr_in here(std::uint16_t port) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    const char* const address = std::getenv("SANPOLL_TEST_ADDRESS");
    if (::inet_pton(AF_INET, address != nullptr ? address : "127.0.0.1", &where.sin_addr) != 1) {
        throw std::runtime_error("SANPOLL_TEST_ADDRESS is not an IPv4 address");
    }
    return where;
}

SOCKET bound_socket(const Provider& provider, std::uint16_t port, ProviderSocket& socket) {
    socket = provider.socket();
    if (!socket) {
        fail("WSPSocket", socket.error);
    }
    const sockaddr_in where = here(port);
    int error = 0;
    if (provider.table().lpWSPBind(socket.descriptor, reinterpret_cast<const sockaddr*>(&where),
                                   sizeof(where), &error) != 0) {
        fail("WSPBind", error);
    }
    return socket.descriptor;
}

int WSPAPI accept_all(LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*, DWORD_PTR) {
    return CF_ACCEPT;
}

}  // namespace

void fail(const std::string& step, int error) {
    throw std::runtime_error(step + ": " + sanpoll_switch::wsa_error_name(error));
}

std::unique_ptr<Provider> load_provider() {
    auto loaded = Provider::load();
    if (!loaded) {
        throw std::runtime_error(loaded.error.message);
    }
    return std::move(loaded.provider);
}

std::unique_ptr<Provider> load_provider(
    const std::vector<std::pair<std::string, std::string>>& knobs) {
    for (const auto& [name, value] : knobs) {
        ::setenv(name.c_str(), value.c_str(), 1);
    }
    auto loaded = Provider::load();
    for (const auto& [name, value] : knobs) {
        ::unsetenv(name.c_str());
    }
    if (!loaded) {
        throw std::runtime_error(loaded.error.message);
    }
    return std::move(loaded.provider);
}

Event::Event() : handle_(sanpoll_switch::WSACreateEvent()) {
    if (handle_ == WSA_INVALID_EVENT) {
        fail("WSACreateEvent", sanpoll_switch::WSAGetLastError());
    }
}

Event::~Event() { sanpoll_switch::WSACloseEvent(handle_); }

bool Event::wait() const {
    const auto patience = static_cast<DWORD>(std::chrono::milliseconds(kPatience).count());
    return sanpoll_switch::WSAWaitForMultipleEvents(1, &handle_, FALSE, patience, FALSE) ==
           sanpoll_switch::WSA_WAIT_EVENT_0;
}

bool Event::is_set() const {
    return sanpoll_switch::WSAWaitForMultipleEvents(1, &handle_, FALSE, 0, FALSE) ==
           sanpoll_switch::WSA_WAIT_EVENT_0;
}

Listener::Listener(const Provider& provider) : provider_(provider) {
    tcp_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where = here(0);
    socklen_t length = sizeof(where);
    if (tcp_ < 0 || ::bind(tcp_, reinterpret_cast<sockaddr*>(&where), length) != 0 ||
        ::getsockname(tcp_, reinterpret_cast<sockaddr*>(&where), &length) != 0) {
        throw std::runtime_error("no TCP port to borrow a number from");
    }
    port_ = ntohs(where.sin_port);
    ProviderSocket socket;
    descriptor_ = bound_socket(provider, port_, socket);
    int error = 0;
    if (provider.table().lpWSPListen(descriptor_, kBacklog, &error) != 0) {
        fail("WSPListen", error);
    }
    if (provider.table().lpWSPEventSelect(descriptor_, event_.handle(), FD_ACCEPT, &error) != 0) {
        fail("WSPEventSelect(FD_ACCEPT)", error);
    }
}

Listener::~Listener() {
    provider_.close(descriptor_);
    ::close(tcp_);
}

ProviderSocket Listener::accept() const {
    for (;;) {
        const ProviderSocket accepted = provider_.accept(descriptor_, nullptr, accept_all);
        if (accepted) {
            return accepted;
        }
        if (accepted.error != WSAEWOULDBLOCK) {
            fail("WSPAccept", accepted.error);
        }
        if (!event_.wait()) {
            throw std::runtime_error("no connection request came");
        }
        WSANETWORKEVENTS events{};
        int error = 0;
        if (provider_.table().lpWSPEnumNetworkEvents(descriptor_, event_.handle(), &events,
                                                     &error) != 0) {
            fail("WSPEnumNetworkEvents of a listener", error);
        }
    }
}

Connecting::Connecting(const Provider& provider, std::uint16_t port) : provider_(provider) {
    const SOCKET descriptor = bound_socket(provider, kConnectorPort, socket_);
    int error = 0;
    if (provider.table().lpWSPEventSelect(descriptor, event_.handle(), FD_CONNECT, &error) != 0) {
        fail("WSPEventSelect(FD_CONNECT)", error);
    }
    const sockaddr_in where = here(port);
    if (provider.table().lpWSPConnect(descriptor, reinterpret_cast<const sockaddr*>(&where),
                                      sizeof(where), nullptr, nullptr, nullptr, nullptr,
                                      &error) != 0 &&
        error != WSAEWOULDBLOCK) {
        fail("WSPConnect", error);
    }
}

Connecting::~Connecting() {
    if (socket_) {
        provider_.close(socket_.descriptor);
    }
}

bool Connecting::answered() const { return event_.is_set(); }

int Connecting::answer() {
    for (;;) {
        if (!event_.wait()) {
            throw std::runtime_error("a connect got no answer");
        }
        WSANETWORKEVENTS events{};
        int error = 0;
        if (provider_.table().lpWSPEnumNetworkEvents(socket_.descriptor, event_.handle(), &events,
                                                     &error) != 0) {
            fail("WSPEnumNetworkEvents of a connector", error);
        }
        if ((events.lNetworkEvents & FD_CONNECT) == 0) {
            continue;
        }
        // The event ends with this attempt, so the socket must forget it.
        if (provider_.table().lpWSPEventSelect(socket_.descriptor, nullptr, 0, &error) != 0) {
            fail("WSPEventSelect(0)", error);
        }
        return events.iErrorCode[FD_CONNECT_BIT];
    }
}

ProviderSocket Connecting::finish() {
    if (const int error = answer(); error != 0) {
        fail("WSPConnect", error);
    }
    return release();
}

ProviderSocket connect_to(const Provider& provider, std::uint16_t port) {
    return Connecting(provider, port).finish();
}

std::pair<ProviderSocket, ProviderSocket> connected_pair(const Provider& provider,
                                                         const Listener& listener) {
    Connecting connecting(provider, listener.port());
    const ProviderSocket accepted = listener.accept();
    return {connecting.finish(), accepted};
}

HANDLE register_memory(const Provider& provider, SOCKET socket, void* memory, std::size_t bytes,
                       DWORD access) {
    int error = 0;
    const HANDLE handle = provider.extensions().register_memory(
        socket, memory, static_cast<DWORD>(bytes), access, &error);
    if (handle == nullptr) {
        fail("WSPRegisterMemory", error);
    }
    return handle;
}

}  // namespace sanpoll::system_test
